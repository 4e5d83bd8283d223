/**
 * Settings of self-distillation and the values they give each step.
 *
 * @module
 */
import { type HostTensor, scalar } from "novae/tensor/mod.ts";
import type { MultiCropOptions } from "novae/data/mod.ts";
import { cosineSchedule, linearSchedule, type ScheduleEnds } from "novae/nn/mod.ts";
import type { DinoBatch, DinoObjective } from "./distillation_state.ts";
import type { GramObjective } from "./gram.ts";
import type { PatchMasks } from "./patch_masks.ts";
import type { DropPath } from "./stochastic_depth.ts";

/** How views are distorted; `jitter` is complete. */
export type DinoAugmentation =
  & Required<
    Pick<MultiCropOptions, "filter" | "flip" | "colors" | "blur" | "blurKernel" | "blurSigma" | "solarize">
  >
  & { readonly jitter: Required<NonNullable<MultiCropOptions["jitter"]>> };

/** Gram anchoring over the course of a training. */
export interface GramRecipe extends GramObjective {
  /** Side of the undistorted crops that the anchor sees, in pixels; null where it sees the student's. */
  readonly cropSize: number | null;
  /** Weight of the Gram loss at the first step and after `rampShare` of the steps, along a cosine. */
  readonly weight: readonly [number, number];
  /** Steps after which the teacher first becomes the anchor, and steps from then on until it does again. */
  readonly refreshSteps: readonly [number, number];
  /** How often the teacher becomes the anchor at most. */
  readonly refreshes: number;
}

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
  readonly augmentation: DinoAugmentation;
  /** Patches of the global crops that the student does not see; null turns the masked-patch loss off. */
  readonly masks: PatchMasks | null;
  /** Stochastic depth of the student; null for none. */
  readonly dropPath: DropPath | null;
  /** Largest factor by which the student's rotary coordinates are scaled up or down; 1 for none. */
  readonly coordinateScale: number;
  /** Gram anchoring; null for none. */
  readonly gram: GramRecipe | null;
  /** Factor of the pairs with local crops at the first step and after `rampShare` of the steps, along a cosine. */
  readonly localWeight: readonly [number, number];
  /** Share of the steps in which the weights of Gram loss and local crops change. */
  readonly rampShare: number;
  /** Which step has which end of a schedule. */
  readonly scheduleEnds: ScheduleEnds;
  /** Learning rate after the warm-up, before its scaling; it ends at `finalLearningRate` along a cosine. */
  readonly learningRate: number;
  /** How the learning rate grows with the batch: not, as B / 256 (DINO) or as √(B / 1024) (DINOv2). */
  readonly rateScaling: "none" | "linear256" | "sqrt1024";
  /** Learning rate at the last step, not scaled; null for that after the warm-up. */
  readonly finalLearningRate: number | null;
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

/** The part of a batch that schedules give. */
export type DinoScheduleValues = Pick<
  DinoBatch<HostTensor>,
  | "learningRate"
  | "weightDecay"
  | "momentum"
  | "teacherTemperature"
  | "prototypeRate"
  | "localWeight"
  | "gramWeight"
  | "gramRefresh"
>;

/** The learning rate after the warm-up, scaled with the batch. */
export function peakLearningRate({ learningRate, rateScaling, batchSize }: DinoRecipe): number {
  if (rateScaling === "linear256") return learningRate * batchSize / 256;
  return rateScaling === "sqrt1024" ? learningRate * Math.sqrt(batchSize / 1024) : learningRate;
}

/** Steps of a share of a recipe's steps. */
export function stepsOf(share: number, { steps }: Pick<DinoRecipe, "steps">): number {
  return Math.round(share * steps);
}

/** The schedules of a recipe as one function of the step, counted from 0. */
export function dinoSchedules(recipe: DinoRecipe): (step: number) => DinoScheduleValues {
  const { steps, scheduleEnds: ends, localWeight, gram } = recipe, peak = peakLearningRate(recipe);
  const learningRate = cosineSchedule({
    base: peak,
    final: recipe.finalLearningRate ?? peak,
    steps,
    warmupSteps: stepsOf(recipe.warmupShare, recipe),
    ends,
  });
  const alongCosine = ([base, final]: readonly [number, number], cosineSteps?: number) =>
    cosineSchedule({ base, final, steps, cosineSteps, ends });
  const weightDecay = alongCosine(recipe.weightDecay), momentum = alongCosine(recipe.momentum);
  const temperature = temperatureSchedule(recipe), frozenSteps = stepsOf(recipe.freezeShare, recipe);
  const rampSteps = stepsOf(recipe.rampShare, recipe);
  const local = alongCosine(localWeight, rampSteps), gramWeight = gram && alongCosine(gram.weight, rampSteps);
  const weighsLocals = localWeight.some((weight) => weight !== 1);
  return (step) => ({
    learningRate: scalar(learningRate(step)),
    weightDecay: scalar(weightDecay(step)),
    momentum: scalar(momentum(step)),
    teacherTemperature: scalar(temperature(step)),
    prototypeRate: scalar(step < frozenSteps ? 0 : 1),
    ...(weighsLocals && { localWeight: scalar(local(step)) }),
    ...(gram && gramWeight && {
      gramWeight: scalar(gramWeight(step)),
      gramRefresh: scalar(refreshesAfter(step + 1, gram) ? 1 : 0),
    }),
  });
}

function temperatureSchedule(recipe: DinoRecipe): (step: number) => number {
  const [cold, warm] = recipe.teacherTemperature, warmupSteps = stepsOf(recipe.temperatureShare, recipe);
  if (recipe.scheduleEnds !== "dino") return linearSchedule(cold, warm, warmupSteps);
  return cosineSchedule({
    start: cold,
    base: warm,
    final: warm,
    steps: recipe.steps,
    warmupSteps,
    ends: "dino",
  });
}

/** Whether the teacher becomes the Gram anchor after `done` updates. */
function refreshesAfter(done: number, { refreshSteps: [first, every], refreshes }: GramRecipe): boolean {
  const since = done - first;
  return since >= 0 && since % every === 0 && since / every < refreshes;
}
