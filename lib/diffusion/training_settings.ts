/**
 * Settings of a diffusion training, with defaults for a short one on a CPU.
 *
 * @module
 */
import { z } from "zod";
import { ConfigError } from "novae/tensor/mod.ts";
import type { TimeDistribution } from "./path.ts";

/** Settings of a diffusion training; all counts are in images. */
export interface DiffusionTrainingSettings {
  /** Training images to see, repetitions counted; rounded up to whole batches. */
  readonly images: number;
  /** Images an update B. Default 64. */
  readonly batchSize: number;
  /** Step size of AdamW after the warm-up. Default 1e-3; the published models use 1e-4. */
  readonly learningRate: number;
  /** Images over which the learning rate rises linearly from zero. Default 1,000. */
  readonly warmupImages: number;
  /** Share of the training, at its end, over which the learning rate falls linearly to zero. Default 0. */
  readonly cooldown: number;
  /** Decay rates of AdamW's means. Default [0.9, 0.999]. */
  readonly betas: readonly [number, number];
  /** Decoupled weight decay of matrices. Default 0. */
  readonly weightDecay: number;
  /** Largest norm of the joint gradient; null to leave it as it is. Default 1. */
  readonly clipNorm: number | null;
  /** Half-life of the moving average of the weights. Default 10,000. */
  readonly emaHalflifeImages: number;
  /** Largest half-life as a share of the images seen so far, so that a young average forgets its start. Default 0.05. */
  readonly emaWarmup: number;
  /** Share of labels replaced by the null label, which guidance needs. Default 0.1. */
  readonly labelDropout: number;
  /** Default `uniform`. */
  readonly timeDistribution: TimeDistribution;
  /** Shift of the training times towards noise (< 1); 0.4 in the published models. Default 1. */
  readonly timestepShift: number;
  /** Decides the initial weights and all batches. Default 0. */
  readonly seed: number;
}

const schema = z.strictObject({
  images: z.int().min(1),
  batchSize: z.int().min(1).default(64),
  learningRate: z.number().positive().default(1e-3),
  warmupImages: z.number().min(0).default(1000),
  cooldown: z.number().min(0).max(1).default(0),
  betas: z.tuple([z.number().min(0).lt(1), z.number().min(0).lt(1)]).default([0.9, 0.999]),
  weightDecay: z.number().min(0).default(0),
  clipNorm: z.number().positive().nullable().default(1),
  emaHalflifeImages: z.number().min(0).default(10_000),
  emaWarmup: z.number().positive().default(0.05),
  labelDropout: z.number().min(0).max(1).default(0.1),
  timeDistribution: z.enum(["uniform", "logitNormal"]).default("uniform"),
  timestepShift: z.number().positive().default(1),
  seed: z.int().default(0),
}).readonly();

/** Settings as a person gives them: all but the number of images have defaults. */
export type DiffusionTrainingInput =
  & Pick<DiffusionTrainingSettings, "images">
  & Partial<DiffusionTrainingSettings>;

/**
 * Fills in defaults and checks all values.
 *
 * @throws ConfigError naming the first value that cannot be used.
 */
export function parseTrainingSettings(input: DiffusionTrainingInput): DiffusionTrainingSettings {
  const parsed = schema.safeParse(input);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const where = issue.path.length > 0 ? ` at "${issue.path.join(".")}"` : "";
  throw new ConfigError(`Cannot use the diffusion training's settings${where}: ${issue.message}`);
}
