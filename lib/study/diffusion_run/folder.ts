/**
 * The folder of a diffusion training: its configuration, and how it is found again.
 *
 * @module
 */
import { ConfigError } from "novae/tensor/mod.ts";
import { type DeviceChoice, listRuns, RunFolder } from "novae/experiment/mod.ts";
import { type DiffusionRunConfig, parseRunSettings } from "./config.ts";
import type { DiffusionRunOptions } from "./options.ts";

/**
 * The resolved configuration of a run.
 *
 * @throws ConfigError if a setting cannot be used or does not fit the latents.
 */
export function resolveRun(options: DiffusionRunOptions): DiffusionRunConfig {
  const settings = parseRunSettings(options), { latents: { record }, decoder, judge, init } = options;
  const { grid, channels, classes } = settings.model;
  const [got, wanted] = [[grid ** 2, channels, classes], [record.tokens, record.channels, record.classes]];
  if (got.join() !== wanted.join()) {
    throw new ConfigError(
      `Cannot train a diffusion transformer: tokens, channels and classes must be ${
        wanted.join(", ")
      } as those of ` +
        `the latents, got ${got.join(", ")}`,
    );
  }
  if (record.autoencoder !== null && decoder && decoder.hash !== record.autoencoder) {
    throw new ConfigError(
      `Cannot decode samples: the autoencoder must be the one that made the latents, ` +
        `${record.autoencoder.slice(0, 12)}…, got ${decoder.hash.slice(0, 12)}…`,
    );
  }
  return {
    kind: "diffusion",
    ...settings,
    latents: record,
    init: init?.hash ?? null,
    decoder: decoder?.hash ?? null,
    judge: judge?.record ?? null,
  };
}

/** Makes the folder of a new run, or opens that of the one to go on with. */
export async function openRun(
  { root, resume = false, argv, input, latents, name, ...options }: DiffusionRunOptions,
  config: DiffusionRunConfig,
  device: DeviceChoice,
): Promise<RunFolder> {
  const { seed } = config.training, { model, training, evaluation, validation, keeping } = options;
  const configInput = input ?? { model, training, evaluation, validation, keeping };
  const kind = name ?? `dit-${latents.record.space}`;
  return await RunFolder.start({ root, name: kind, resume, config, configInput, argv, seed, device });
}

/** The newest run of any diffusion training under a root; null if there is none. */
export async function newestDiffusionRun(root: string): Promise<string | null> {
  const runs = (await listRuns(root)).filter(({ name }) => name.startsWith("dit-"));
  return runs.length === 0 ? null : await RunFolder.latest(root, runs.at(-1)!.name);
}
