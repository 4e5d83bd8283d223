/**
 * Configuration of the comparison of latent spaces: what is trained on what, for how long, and how it is scored.
 *
 * @module
 */
import { z } from "zod";
import { ConfigError } from "novae/tensor/mod.ts";
import type { DatasetName } from "novae/data/mod.ts";
import { PAPER_SPACES, type SpaceName } from "novae/autoencoder/mod.ts";
import { applyOverrides, parseWith } from "novae/experiment/mod.ts";
import { defaultStudy } from "./defaults.ts";

/** Everything that determines the result of a study. */
export interface StudyConfig {
  /** The images. */
  data: {
    name: DatasetName;
    /** File or folder of the data set; empty for `solids`, which is rendered. */
    path: string;
    /** Images to train on. */
    train: number;
    /** Held-out images. */
    test: number;
    /** Edge of the square images in pixels. */
    imageSize: number;
  };
  /** The frozen DINO encoder: a file to load, or (with an empty path) one to train on so many images. */
  encoder: { path: string; images: number };
  /** The classifier whose features the Fréchet distances use: a file, or images to train it on. */
  classifier: { path: string; images: number };
  /** The autoencoders: a folder of `ae-<space>-<data>.safetensors`, or (empty) images to train each on. */
  autoencoder: { folder: string; images: number };
  /** The diffusion transformer and its training, the same for each space. */
  diffusion: {
    /** Named size. */
    size: string;
    /** Training images, repetitions counted. */
    images: number;
    batchSize: number;
    learningRate: number;
    warmupImages: number;
    /** Share of the training over which the learning rate falls to zero. */
    cooldown: number;
    emaHalflifeImages: number;
    /** Shift of the training times, 1 for none. */
    timestepShift: number;
    labelDropout: number;
  };
  /** Sampling and its scoring. */
  sampling: {
    /** Samples behind each Fréchet distance. */
    samples: number;
    /** Numbers of Euler steps. */
    steps: number[];
    /** Guidance scale of the guided samples. */
    cfgScale: number;
    /** Shift of the sampling times, 1 for none. */
    timestepShift: number;
    /** Shares of the training after which samples are scored, the last one 1. */
    checkpoints: number[];
    /** Numbers of steps that are scored at the checkpoints before the last. */
    curveSteps: number[];
    /** Whether the checkpoints before the last are scored with guidance too. */
    curveGuided: boolean;
  };
  /** Probes and maps of the latents. */
  analysis: {
    /** Neighbours that vote. */
    neighbours: number;
    /** Held-out images on the map. */
    umapPoints: number;
  };
  /** The spaces to compare. */
  spaces: SpaceName[];
  /** Decides all randomness. */
  seed: number;
  /** Device of all compiled work; `auto` takes a real GPU if there is one. */
  device: string;
}

/** How much a run computes. */
export const SCALES = ["quick", "standard", "full"] as const;

/** Name of a scale. */
export type Scale = typeof SCALES[number];

const count = z.int().positive();
const positive = z.number().positive();

const schema: z.ZodType<StudyConfig> = z.strictObject({
  data: z.strictObject({
    name: z.enum(["solids", "cifar10", "folder"]),
    path: z.string(),
    train: count.min(100),
    test: count.min(20),
    imageSize: count.multipleOf(8),
  }),
  encoder: z.strictObject({ path: z.string(), images: count }),
  classifier: z.strictObject({ path: z.string(), images: count }),
  autoencoder: z.strictObject({ folder: z.string(), images: count }),
  diffusion: z.strictObject({
    size: z.string(),
    images: count,
    batchSize: count,
    learningRate: positive,
    warmupImages: z.int().nonnegative(),
    cooldown: z.number().min(0).max(1),
    emaHalflifeImages: positive,
    timestepShift: positive,
    labelDropout: z.number().min(0).max(1),
  }),
  sampling: z.strictObject({
    samples: count.min(40),
    steps: z.array(count).min(1),
    cfgScale: z.number().gt(1),
    timestepShift: positive,
    checkpoints: z.array(z.number().positive().max(1)).min(1),
    curveSteps: z.array(count),
    curveGuided: z.boolean(),
  }),
  analysis: z.strictObject({ neighbours: count, umapPoints: count.min(20) }),
  spaces: z.array(z.enum(PAPER_SPACES as [SpaceName, ...SpaceName[]])).min(1),
  seed: z.int().nonnegative(),
  device: z.string(),
});

/** What a person chose on the command line. */
export interface StudyChoice {
  /** How much to compute. */
  readonly scale: Scale;
  /** Overrides of the form `key.path=value`. */
  readonly overrides?: readonly string[];
  /** Whether to train everything, shipped models notwithstanding. */
  readonly fromScratch?: boolean;
}

/**
 * The configuration for a choice: the defaults of data set and scale, then the overrides.
 *
 * @throws ConfigError if a key is unknown or a value cannot be used.
 */
export function resolveStudyConfig({ scale, overrides = [], fromScratch = false }: StudyChoice): StudyConfig {
  const named = overrides.findLast((text) => /^data(\.name)?=/.test(text));
  const data = named?.slice(named.indexOf("=") + 1) ?? "solids";
  if (data !== "solids" && data !== "cifar10" && data !== "folder") {
    throw new ConfigError(`Cannot run the study: data must be solids, cifar10 or folder, got ${data}`);
  }
  return parseStudyConfig(applyOverrides(defaultStudy(data, scale, fromScratch), overrides, "the study"));
}

/**
 * Checks a configuration.
 *
 * @throws ConfigError that names the first key at fault.
 */
export function parseStudyConfig(input: unknown): StudyConfig {
  const config = parseWith(schema, input, "Cannot run the study", ConfigError);
  const { checkpoints, steps, curveSteps } = config.sampling;
  if (checkpoints.at(-1) !== 1 || checkpoints.some((share, i) => i > 0 && share <= checkpoints[i - 1])) {
    throw new ConfigError(
      `Cannot run the study: sampling.checkpoints must rise and end at 1, got ${checkpoints.join(", ")}`,
    );
  }
  const extra = curveSteps.find((n) => !steps.includes(n));
  if (extra !== undefined) {
    throw new ConfigError(
      `Cannot run the study: sampling.curveSteps must be among sampling.steps ${
        steps.join(", ")
      }, got ${extra}`,
    );
  }
  return config;
}
