/**
 * How long and how an autoencoder is trained.
 *
 * @module
 */
import { cosineSchedule, emaDecay } from "novae/nn/mod.ts";
import { DEFAULT_RECONSTRUCTION_WEIGHTS, type ReconstructionWeights } from "./losses.ts";
import { type Optimisation, type ResolvedOptimisation, resolveOptimisation } from "./optimisation.ts";
import type { BatchOptions } from "./training_data.ts";
import type { CropMode } from "./training_images.ts";

/** How an autoencoder is trained. Everything here is plain data and part of what a checkpoint belongs to. */
export interface AutoencoderSchedule extends Optimisation {
  /** Training images in all; rounded up to whole batches. */
  readonly images: number;
  /**
   * Images an update. Default 8: with few images in all, many small updates go further. On 4,000 images of `solids`
   * and the space `dino`, batches of 8, 16 and 32 reached 22.2, 21.6 and 20.6 dB at the same cost.
   */
  readonly batchSize?: number;
  /** Step size after the warm-up. Default 1e-3. */
  readonly learningRate?: number;
  /** Step size at the end, as a share of `learningRate`. Default 0.02. */
  readonly finalRate?: number;
  /** Updates of linear warm-up. Default 50. */
  readonly warmupSteps?: number;
  /** Half-life of the weights' moving average as a share of `images`. Default 0.01. */
  readonly emaHalflife?: number;
  /** Weights of the loss's parts. */
  readonly reconstruction?: Partial<ReconstructionWeights>;
  /** Whether each image is mirrored with probability ½ whenever it is seen. Default false. */
  readonly flip?: boolean;
  /**
   * Where the square lies that is cut from images larger than it: in the `center`, or anywhere, `random`, drawn anew
   * whenever an image is seen, as published. Held-out images are always cut from the middle. Default `center`.
   */
  readonly crop?: CropMode;
  /** Shorter side that image files are brought to before the crop; null, the default, for that of the crop. */
  readonly resize?: number | null;
  /** Seed of the initial weights, the order of the images and all noise. Default 0. */
  readonly seed?: number;
}

/** A schedule with every default filled in. */
export type ResolvedSchedule =
  & Required<Omit<AutoencoderSchedule, "reconstruction" | keyof Optimisation>>
  & ResolvedOptimisation
  & { readonly reconstruction: ReconstructionWeights };

/**
 * Fills in the defaults of a schedule.
 *
 * @throws ConfigError if the settings of the optimisers, or of the discriminator, cannot be used.
 */
export function resolveSchedule(schedule: AutoencoderSchedule): ResolvedSchedule {
  return {
    batchSize: 8,
    learningRate: 1e-3,
    finalRate: 0.02,
    warmupSteps: 50,
    emaHalflife: 0.01,
    flip: false,
    crop: "center",
    resize: null,
    seed: 0,
    ...schedule,
    ...resolveOptimisation(schedule),
    reconstruction: { ...DEFAULT_RECONSTRUCTION_WEIGHTS, ...schedule.reconstruction },
  };
}

/** Updates of a schedule. */
export function scheduleSteps(schedule: ResolvedSchedule): number {
  return Math.ceil(schedule.images / schedule.batchSize);
}

/** Step sizes and decay of the moving average, by the number of the update. */
export function stepSchedules(
  schedule: ResolvedSchedule,
  steps: number,
): Pick<BatchOptions, "learningRate" | "discriminatorRate" | "emaDecay"> {
  const { learningRate, finalRate, warmupSteps, batchSize, images, emaHalflife, adversarial } = schedule;
  const cosine = (base: number) =>
    cosineSchedule({
      base,
      final: base * finalRate,
      steps,
      warmupSteps: Math.min(warmupSteps, Math.floor(steps / 4)),
    });
  return {
    learningRate: cosine(learningRate),
    discriminatorRate: adversarial ? cosine(adversarial.learningRate) : undefined,
    emaDecay: (step: number) => emaDecay(batchSize, emaHalflife * images, step * batchSize),
  };
}
