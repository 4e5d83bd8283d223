/**
 * Settings of self-distillation and the values they give each step.
 *
 * @module
 */
import { ConfigError, type HostTensor, scalar } from "novae/tensor/mod.ts";
import type { MultiCropOptions } from "novae/data/mod.ts";
import { cosineSchedule, linearSchedule } from "novae/nn/mod.ts";
import type { DinoBatch, DinoObjective } from "./self_distillation.ts";

/** Settings of a self-distillation training; shares are of all steps. */
export interface DinoRecipe extends DinoObjective {
  /** B, images a step. */
  readonly batchSize: number;
  /** Steps in all. */
  readonly steps: number;
  /** Side of a global crop in pixels, a multiple of the patch. */
  readonly globalSize: number;
  /** Smallest and largest area of a global crop, as a share of the image. */
  readonly globalScale: readonly [number, number];
  /** Number of local crops of an image. */
  readonly localCrops: number;
  /** Side of a local crop in pixels, a multiple of the patch. */
  readonly localSize: number;
  /** Smallest and largest area of a local crop, as a share of the image. */
  readonly localScale: readonly [number, number];
  /** Flips, colour changes, blur and solarisation of the crops. */
  readonly augmentation: Pick<MultiCropOptions, "flip" | "jitter" | "blur" | "blurSigma" | "solarize">;
  /** Share of the patches of a first global crop that are masked; 0 turns the masked-patch loss off. */
  readonly maskRatio: number;
  /** Learning rate after the warm-up; it ends at `finalLearningRate` along a cosine. */
  readonly learningRate: number;
  /** Learning rate at the last step. */
  readonly finalLearningRate: number;
  /** Share of the steps in which the learning rate rises from 0. */
  readonly warmupShare: number;
  /** Weight decay at the first and the last step, along a cosine. */
  readonly weightDecay: readonly [number, number];
  /** Decay of the teacher's average at the first and the last step, along a cosine. */
  readonly momentum: readonly [number, number];
  /** Teacher's temperature at the first step and after `temperatureShare` of the steps. */
  readonly teacherTemperature: readonly [number, number];
  /** Share of the steps in which the teacher's temperature changes. */
  readonly temperatureShare: number;
  /** Share of the steps in which the prototypes stay as they are. */
  readonly freezeShare: number;
}

/**
 * The recipe of the project's small encoders, for images of 64 pixels on a CPU: colours are turned all round the
 * circle, so that shapes and not hues tell images apart.
 *
 * *Source*: DINO, DINOv2 and iBOT. *Differs*: small batches, few and small crops, few prototypes, colder and shorter
 * schedules and a standardised head, as only some 100,000 images are seen; global crops are smaller than the images,
 * so that objects appear at the scale of whole images.
 */
export const SMALL_RECIPE: DinoRecipe = {
  batchSize: 32,
  steps: 6000,
  globalSize: 48,
  globalScale: [0.55, 1],
  localCrops: 2,
  localSize: 32,
  localScale: [0.3, 0.7],
  augmentation: {
    jitter: { probability: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.5, grayscale: 0.3 },
    blur: [0.2, 0.2, 0.2],
    blurSigma: [0.005, 0.015],
    solarize: 0,
  },
  maskRatio: 0.25,
  head: { hidden: 256, bottleneck: 64, prototypes: 512, batchNorm: true },
  assignment: "sinkhorn",
  studentTemperature: 0.1,
  koleoWeight: 0.1,
  maskWeight: 0.5,
  clipNorm: 3,
  centerMomentum: 0.9,
  learningRate: 1.5e-3,
  finalLearningRate: 1e-5,
  warmupShare: 0.05,
  weightDecay: [0.04, 0.1],
  momentum: [0.98, 1],
  teacherTemperature: [0.03, 0.05],
  temperatureShare: 0.3,
  freezeShare: 0.2,
};

/** The part of a batch that schedules give. */
export type DinoScheduleValues = Pick<
  DinoBatch<HostTensor>,
  "learningRate" | "weightDecay" | "momentum" | "teacherTemperature" | "prototypeRate"
>;

/** The schedules of a recipe as one function of the step, counted from 0. */
export function dinoSchedules(recipe: DinoRecipe): (step: number) => DinoScheduleValues {
  const { steps } = recipe;
  const learningRate = cosineSchedule({
    base: recipe.learningRate,
    final: recipe.finalLearningRate,
    steps,
    warmupSteps: Math.round(recipe.warmupShare * steps),
  });
  const alongCosine = ([base, final]: readonly [number, number]) => cosineSchedule({ base, final, steps });
  const weightDecay = alongCosine(recipe.weightDecay), momentum = alongCosine(recipe.momentum);
  const [cold, warm] = recipe.teacherTemperature;
  const temperature = linearSchedule(cold, warm, Math.round(recipe.temperatureShare * steps));
  const frozenSteps = Math.round(recipe.freezeShare * steps);
  return (step) => ({
    learningRate: scalar(learningRate(step)),
    weightDecay: scalar(weightDecay(step)),
    momentum: scalar(momentum(step)),
    teacherTemperature: scalar(temperature(step)),
    prototypeRate: scalar(step < frozenSteps ? 0 : 1),
  });
}

/**
 * Checks that a recipe fits an encoder and a data set.
 *
 * @throws ConfigError naming the first setting that does not.
 */
export function checkRecipe(recipe: DinoRecipe, patchSize: number, images: number): void {
  const fail = (wanted: string): never => {
    throw new ConfigError(`Cannot train encoder: ${wanted}`);
  };
  const { batchSize, steps, localCrops, maskRatio } = recipe;
  if (!Number.isInteger(batchSize) || batchSize < 2) fail(`batchSize must be at least 2, got ${batchSize}`);
  if (batchSize > images) fail(`batchSize must be at most the ${images} images, got ${batchSize}`);
  if (!Number.isInteger(steps) || steps < 1) fail(`steps must be at least 1, got ${steps}`);
  if (!Number.isInteger(localCrops) || localCrops < 0) {
    fail(`localCrops must be at least 0, got ${localCrops}`);
  }
  for (const key of ["globalSize", "localSize"] as const) {
    const size = recipe[key];
    if (!(size > 0) || size % patchSize !== 0) fail(`${key} must be a multiple of ${patchSize}, got ${size}`);
  }
  for (const key of ["globalScale", "localScale"] as const) {
    const [low, high] = recipe[key];
    if (!(low > 0 && low <= high && high <= 1)) {
      fail(`${key} must be two rising shares of the image in (0, 1], got ${low} and ${high}`);
    }
  }
  if (!(maskRatio >= 0 && maskRatio < 1)) fail(`maskRatio must be in [0, 1), got ${maskRatio}`);
}
