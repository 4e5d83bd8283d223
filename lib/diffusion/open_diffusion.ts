/**
 * Diffusion transformers for sampling, from files of this toolkit or published ones.
 *
 * @module
 */
import { CheckpointError, ConfigError } from "novae/tensor/mod.ts";
import type { LatentStats } from "novae/autoencoder/mod.ts";
import { openWeights } from "novae/io/mod.ts";
import type { DitConfig } from "./config.ts";
import { type PublishedDit, type PublishedDitOptions, readPublishedDit } from "./published_dit.ts";
import { FIRST_MAP } from "./published_names.ts";
import { type DiffusionModel, type ExpectedDiffusion, loadDiffusion } from "./weights.ts";

/** What a transformer predicts: the velocity of the straight path, which samplers follow, or the noise in a latent. */
export type Prediction = "velocity" | "noise";

/** The latent space in which a transformer is to be sampled, and what a published file does not say. */
export interface OpenDiffusionOptions
  extends Omit<ExpectedDiffusion, "config">, Pick<PublishedDitOptions, "heads" | "network"> {
  /** Name of the latent space; a published file does not say it. */
  readonly space: string;
  /** Shape of its latents. */
  readonly shape: Pick<DitConfig, "channels" | "grid">;
  /** Statistics with which the latents of a published file's training were normalised. */
  readonly latents: LatentStats;
  /** What a published file predicts, where its names leave that open; see {@linkcode knownPrediction}. */
  readonly prediction?: Prediction;
}

/** A transformer that is ready to be sampled. */
export interface OpenedDiffusion extends DiffusionModel {
  /** Whether the file is a published one, which does not say its latent space. */
  readonly published: boolean;
}

/**
 * Opens a transformer for sampling: a file of this toolkit, which says what it was trained on, or a published one,
 * which leaves that to the caller.
 *
 * @throws CheckpointError if it was trained in another space, on latents of another autoencoder or shape; ConfigError
 * if it is not a velocity from noise at t = 0 to data at t = 1; WeightsError if the file cannot be read.
 */
export async function openDiffusion(path: string, options: OpenDiffusionOptions): Promise<OpenedDiffusion> {
  const { metadata, tensors } = await openWeights(path, { foreign: "record" });
  const published = !metadata.format?.startsWith("novae");
  if ([...tensors.keys()].some((name) => name.endsWith(`${FIRST_MAP.rae}.weight`))) {
    throw new ConfigError(
      `Cannot sample with ${path}: t = 0 must be noise and t = 1 data, got weights with RAE's names, whose time runs ` +
        `the other way`,
    );
  }
  const model = published ? await openPublished(path, options) : await loadDiffusion(path, options);
  const { channels, grid } = model.config, { shape } = options;
  if (channels === shape.channels && grid === shape.grid) return { ...model, published };
  throw new CheckpointError(
    `Cannot use diffusion model ${path}: its latents must be [${
      shape.grid ** 2
    }, ${shape.channels}] like those of ` +
      `the autoencoder, got [${grid ** 2}, ${channels}]`,
  );
}

async function openPublished(
  path: string,
  { space, latents, prediction, ...options }: OpenDiffusionOptions,
): Promise<DiffusionModel> {
  const found = await readPublishedDit(path, { ...options, foreign: "record" });
  const what = `Cannot sample with ${path}`;
  const known = knownPrediction(found), predicted = known ?? prediction;
  if (known !== undefined && prediction !== undefined && prediction !== known) {
    throw new ConfigError(`${what}: by its names it predicts the ${known}, got the prediction ${prediction}`);
  }
  if (predicted === undefined) {
    throw new ConfigError(
      `${what}: the weights of SiT, which predict the velocity, and of DiT, which predict noise, look the same: the ` +
        `prediction must be given, got none`,
    );
  }
  if (predicted === "noise") {
    throw new ConfigError(
      `${what}: samplers follow a velocity, got weights that predict noise at 1,000 steps, as DiT's do`,
    );
  }
  const { config, params } = found;
  return { config, params, space, latents };
}

/**
 * What a published transformer predicts, as far as names and shapes tell: those of SVG and LightningDiT, and those of
 * SiT with the projectors of REPA, predict the velocity; those of DiT and of SiT alone have the same names.
 *
 * @returns undefined if it may be either.
 */
export function knownPrediction(
  { naming, config, ignored }: Pick<PublishedDit, "naming" | "config" | "ignored">,
): Prediction | undefined {
  const isLightning = config.mlp === "swiglu" || config.norm === "rms" || config.rope === true;
  const isRepa = ignored.some((name) => /(^|\.)projectors\./.test(name));
  return naming === "svg" || isLightning || isRepa ? "velocity" : undefined;
}

/** How far statistics of one space may differ, as a share of a deviation: what 16-bit storage does to them. */
const STATS_TOLERANCE = 1e-3;

/**
 * Checks that a weaker model can guide another: what both predict must be in the same units.
 *
 * @throws CheckpointError naming the first channel whose mean or deviation differs.
 */
export function requireSameStats(path: string, wanted: LatentStats, got: LatentStats): void {
  for (let c = 0; c < wanted.mean.length; c++) {
    const bound = STATS_TOLERANCE * wanted.std[c];
    for (const key of ["mean", "std"] as const) {
      if (Math.abs(got[key][c] - wanted[key][c]) <= bound) continue;
      throw new CheckpointError(
        `Cannot guide with ${path}: the ${key} of latent channel ${c} must be ${
          wanted[key][c].toPrecision(4)
        } as ` +
          `in the model that it guides, got ${got[key][c].toPrecision(4)}`,
      );
    }
  }
}
