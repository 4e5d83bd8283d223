import { ConfigError, DataError, type HostTensor } from "novae/tensor/mod.ts";
import {
  type DitConfig,
  ditConfig,
  type DitParams,
  type DitSize,
  loadDiffusion,
  readPublishedDit,
  requireSameConfig,
} from "novae/diffusion/mod.ts";
import { hashFile, readSafetensorsHeader } from "novae/io/mod.ts";
import { applyOverrides } from "novae/experiment/mod.ts";
import { type DiffusionRunSettings, type LatentsRecord, parseRunSettings } from "novae/study/mod.ts";
import type { DiffusionFlags } from "./_diffusion_flags.ts";

/** Weights to start from. */
export interface InitialWeights {
  readonly path: string;
  readonly config: DitConfig;
  readonly params: DitParams<HostTensor>;
  readonly hash: string;
}

/**
 * Reads the weights of `--init`, strictly: a file of this command, or a published transformer.
 *
 * @throws WeightsError if a weight is missing, unexpected or misshapen; CheckpointError if it is of another latent space.
 */
export async function readInitial(
  path: string | undefined,
  { space, autoencoder }: LatentsRecord,
): Promise<InitialWeights | undefined> {
  if (path === undefined) return undefined;
  const own = path.endsWith(".safetensors") &&
    (await readSafetensorsHeader(path)).metadata.format?.startsWith("novae.diffusion");
  const { config, params } = own
    ? await loadDiffusion(path, { space, autoencoder: autoencoder ?? undefined })
    : await readPublishedDit(path);
  return { path, config, params, hash: await hashFile(path) };
}

/**
 * The settings of a training: named size or that of the initial weights, options, and last what `--set` changes.
 *
 * @throws ConfigError if something cannot be used; CheckpointError if the initial weights are of another transformer.
 */
export function settingsOf(
  flags: DiffusionFlags,
  latents: LatentsRecord,
  init: InitialWeights | undefined,
): DiffusionRunSettings {
  const { images = 20_000, batchSize, learningRate, timestepShift, seed, samples } = flags;
  const model = flags.size === undefined && init ? init.config : namedModel(flags, latents);
  const training = defined({ images, batchSize, learningRate, timestepShift, seed });
  const evaluation = { samples, everyImages: flags.evaluateEveryImages };
  // Twice, since intervals that are not given follow from the number of images, which may be changed too.
  const first = changed(parseRunSettings({ model, training, evaluation }), flags.set);
  const settings = changed(
    parseRunSettings({ ...first, evaluation, validation: undefined, keeping: undefined }),
    flags.set,
  );
  if (init) requireSameConfig(init.path, settings.model, init.config);
  return settings;
}

function namedModel(
  { size = "micro" }: DiffusionFlags,
  { tokens, channels, classes }: LatentsRecord,
): DitConfig {
  const grid = Math.sqrt(tokens);
  if (!Number.isInteger(grid)) {
    throw new DataError(`Cannot train on latents: the number of tokens must be a square, got ${tokens}`);
  }
  return ditConfig(size as DitSize, { channels, grid, classes });
}

/** Settings with changes, each key of which must exist: options of the transformer that are at their default do too. */
function changed(settings: DiffusionRunSettings, changes: readonly string[] = []): DiffusionRunSettings {
  const model = {
    ...{ patchSize: 1, norm: "layer", mlp: "gelu", rope: false, timeFeatures: "sinCos" },
    head: { width: null, depth: null, heads: null },
    ...settings.model,
  };
  const result = applyOverrides({ ...settings, model }, changes, "the diffusion training");
  const { head, ...rest } = result.model;
  const none = head === null || Object.values(head).every((value) => value === null);
  return parseRunSettings({ ...result, model: { ...rest, ...(!none && { head }) } as DitConfig });
}

/** Refuses what is no number, which a typing error leaves. */
function defined<T extends Record<string, number | undefined>>(values: T): T {
  for (const [key, value] of Object.entries(values)) {
    if (Number.isNaN(value)) {
      throw new ConfigError(`Cannot train a diffusion transformer: ${key} must be a number`);
    }
  }
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as T;
}

/** The share or folder of `--validation`. */
export function validationOf({ validation }: DiffusionFlags): number | string | undefined {
  if (validation === undefined || validation.trim() === "") return undefined;
  const share = Number(validation);
  return Number.isNaN(share) ? validation : share;
}
