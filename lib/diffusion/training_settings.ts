/**
 * Settings of a diffusion training, with defaults for a short one on a CPU.
 *
 * @module
 */
import { z } from "zod";
import { ConfigError } from "novae/tensor/mod.ts";
import type { LogitNormal, TimeDistribution } from "./path.ts";

/**
 * Alignment of intermediate tokens with the features of a frozen encoder, which come with the data.
 *
 * *Source*: REPA (Yu et al., arXiv 2410.06940), there of weight 0.5 and behind the eighth block.
 */
export interface AlignmentSettings {
  /** Factor of the alignment's loss. Default 0.5. */
  readonly weight: number;
  /** Index of the block behind which tokens are aligned, counted from 0 as in its taps: 7 is the eighth. */
  readonly block: number;
  /** Width D of the encoder's features. */
  readonly features: number;
  /** Hidden width of the projector. Default 2048. */
  readonly hidden: number;
}

/**
 * When a loss counts as diverged though it is finite: an average over a window far above an earlier one. A training can
 * only go back to a checkpoint from before that window.
 */
export interface DivergenceSettings {
  /** How many times the lowest average before is too much, above 1. Default 3. */
  readonly factor: number;
  /**
   * Images over which the loss is averaged. Default: a twentieth of the training, but at least 20 updates and at most
   * 10,000 images.
   */
  readonly window: number;
}

/** Settings of a diffusion training; all counts are in images. */
export interface DiffusionTrainingSettings {
  /** Training images to see, repetitions counted; rounded up to whole batches. */
  readonly images: number;
  /** Images an update B. Default 64. */
  readonly batchSize: number;
  /**
   * Parts of a batch whose gradients are taken one after the other and averaged, which needs less memory; divides the
   * batch size. The batch itself stays the same. Default 1.
   */
  readonly accumulation: number;
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
  /** Half-lives of further averages, which are kept at the same time. None by default. */
  readonly moreEmaHalflivesImages: readonly number[];
  /** Share of labels replaced by the null label, which guidance needs. Default 0.1. */
  readonly labelDropout: number;
  /** Default `uniform`. */
  readonly timeDistribution: TimeDistribution;
  /** Which normal `logitNormal` times come from. Default mean 0 and standard deviation 1. */
  readonly logitNormal: Required<LogitNormal>;
  /** Shift of the training times towards noise (< 1); 0.4 in the published models. Default 1. */
  readonly timestepShift: number;
  /** Factor of {@linkcode velocityCosineLoss} beside the squared error; 1 in LightningDiT. Default 0. */
  readonly cosineLossWeight: number;
  /** Alignment with an encoder's features, or null for none. Default null. */
  readonly repa: AlignmentSettings | null;
  /** When a finite loss counts as diverged; null for never. */
  readonly divergence: DivergenceSettings | null;
  /** Decides the initial weights and all batches. Default 0. */
  readonly seed: number;
}

const alignment = z.strictObject({
  weight: z.number().positive().default(0.5),
  block: z.int().min(0),
  features: z.int().min(1),
  hidden: z.int().min(1).default(2048),
}).readonly();

const logitNormal = z.strictObject({
  mean: z.number().default(0),
  std: z.number().positive().default(1),
}).readonly();

const divergence = z.strictObject({
  factor: z.number().gt(1).default(3),
  window: z.number().positive().optional(),
}).readonly();

const schema = z.strictObject({
  images: z.int().min(1),
  batchSize: z.int().min(1).default(64),
  accumulation: z.int().min(1).default(1),
  learningRate: z.number().positive().default(1e-3),
  warmupImages: z.number().min(0).default(1000),
  cooldown: z.number().min(0).max(1).default(0),
  betas: z.tuple([z.number().min(0).lt(1), z.number().min(0).lt(1)]).default([0.9, 0.999]),
  weightDecay: z.number().min(0).default(0),
  clipNorm: z.number().positive().nullable().default(1),
  emaHalflifeImages: z.number().min(0).default(10_000),
  emaWarmup: z.number().positive().default(0.05),
  moreEmaHalflivesImages: z.array(z.number().min(0)).readonly().default([]),
  labelDropout: z.number().min(0).max(1).default(0.1),
  timeDistribution: z.enum(["uniform", "logitNormal"]).default("uniform"),
  logitNormal: logitNormal.prefault({}),
  timestepShift: z.number().positive().default(1),
  cosineLossWeight: z.number().min(0).default(0),
  repa: alignment.nullable().default(null),
  divergence: divergence.nullable().prefault({}),
  seed: z.int().default(0),
}).readonly();

/** Settings as a person gives them: all but the number of images, and what an alignment is made with, have defaults. */
export type DiffusionTrainingInput =
  & Pick<DiffusionTrainingSettings, "images">
  & Partial<Omit<DiffusionTrainingSettings, "logitNormal" | "repa" | "divergence">>
  & {
    /** See {@linkcode DiffusionTrainingSettings.logitNormal}. */
    readonly logitNormal?: LogitNormal;
    /** See {@linkcode DiffusionTrainingSettings.repa}. */
    readonly repa?: Pick<AlignmentSettings, "block" | "features"> & Partial<AlignmentSettings> | null;
    /** See {@linkcode DiffusionTrainingSettings.divergence}. */
    readonly divergence?: Partial<DivergenceSettings> | null;
  };

/**
 * Fills in defaults and checks all values.
 *
 * @throws ConfigError naming the first value that cannot be used.
 */
export function parseTrainingSettings(input: DiffusionTrainingInput): DiffusionTrainingSettings {
  const parsed = schema.safeParse(input);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const where = issue.path.length > 0 ? ` at "${issue.path.join(".")}"` : "";
    throw new ConfigError(`Cannot use the diffusion training's settings${where}: ${issue.message}`);
  }
  const { images, batchSize, accumulation, divergence } = parsed.data;
  if (batchSize % accumulation !== 0) {
    throw new ConfigError(
      `Cannot use the diffusion training's settings: accumulation must divide the batch size ${batchSize}, ` +
        `got ${accumulation}`,
    );
  }
  if (divergence === null) return { ...parsed.data, divergence };
  const window = Math.min(Math.max(images / 20, 20 * batchSize), 10_000);
  return { ...parsed.data, divergence: { window, ...divergence } };
}
