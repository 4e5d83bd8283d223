/**
 * Self-distillation training of an encoder on unlabelled images.
 *
 * @module
 */
import { type HostTensor, Rng } from "novae/tensor/mod.ts";
import {
  type DeviceName,
  type DeviceTensor,
  disposeTree,
  jit,
  read,
  resolveDevice,
} from "novae/engine/mod.ts";
import { CropPool, type Dataset } from "novae/data/mod.ts";
import { type TrainLogEntry, trainLoop } from "novae/nn/mod.ts";
import { cropWork, dinoBatchMaker } from "./batches.ts";
import { collapseError, type CollapseLimits, watchCollapse } from "./collapse.ts";
import type { VitConfig } from "./config.ts";
import { type DinoBatch, type DinoMetrics, type DinoState, initDinoState } from "./distillation_state.ts";
import { type DinoRecipe, stepsOf } from "./recipe.ts";
import { dinoStep } from "./self_distillation.ts";
import type { VitParams } from "./vit_params.ts";

/** What {@linkcode trainDino} trains, on what, and whom it tells. */
export interface TrainDinoOptions {
  /** Images to learn from; their labels are not used. */
  readonly dataset: Dataset;
  /**
   * Further pictures of what the images show, index by index, e.g. from another side. Each crop of an image is then
   * of another picture, and what they have in common is learned. Default: none.
   */
  readonly pictures?: readonly Dataset[];
  /** Settings of the encoder. */
  readonly vit: VitConfig;
  /** Settings of the training. */
  readonly recipe: DinoRecipe;
  /** Decides initial weights, order of images, crops and masks. */
  readonly seed: number;
  /** Where the training runs; default `auto`. */
  readonly device?: DeviceName;
  /** State to go on from; its `step` says where. Default: a new one. */
  readonly state?: DinoState<HostTensor>;
  /** Threads that make crops ahead of the step; they do not change the result. Default {@linkcode defaultCropWorkers}. */
  readonly workers?: number;
  /** When the training counts as collapsed; looked at after the warm-up. */
  readonly collapse?: CollapseLimits;
  /** Whether a collapse ends the training. Default false. */
  readonly stopOnCollapse?: boolean;
  /** Told why a training has collapsed. */
  onCollapse?(reason: string, step: number): void;
  /** Steps between log entries; default 20. */
  readonly logEverySteps?: number;
  /** Receives mean metrics. */
  onLog?(entry: TrainLogEntry): void | Promise<void>;
  /** Steps between checkpoints, beside the last. */
  readonly checkpointEverySteps?: number;
  /** Receives all that is needed to go on. */
  onCheckpoint?(state: DinoState<HostTensor>, step: number): void | Promise<void>;
  /** Steps after which `onEvaluate` is called. */
  readonly evaluateAtSteps?: readonly number[];
  /** Receives the teacher's weights, the encoder that would be kept if the training ended here. */
  onEvaluate?(encoder: VitParams<HostTensor>, step: number): void | Promise<void>;
  /** When aborted, the training checkpoints after the current step and returns. */
  readonly signal?: AbortSignal;
}

/** Where a training ended. */
export interface TrainDinoResult {
  /** The teacher's weights. */
  readonly encoder: VitParams<HostTensor>;
  /** All that is needed to go on. */
  readonly state: DinoState<HostTensor>;
  /** Updates done. */
  readonly step: number;
  /** Whether it ended because of `signal`, before the last step. */
  readonly stopped: boolean;
}

/**
 * Threads for the crops where nothing else is said: those that the training itself leaves free.
 *
 * A training on the CPU keeps all its cores busy, and crops made beside it take as long from it as they save.
 *
 * @param device where the training runs, resolved.
 */
export function defaultCropWorkers(device: string, cores: number = navigator.hardwareConcurrency): number {
  return Math.min(Math.max(cores - (device === "cpu" ? 2 : 1), 0), 8);
}

/**
 * Trains an encoder by self-distillation. A training that goes on from a checkpoint's state equals one that was never
 * interrupted, and does not depend on the number of workers.
 *
 * @throws ConfigError if the recipe does not fit the encoder or the data.
 * @throws DivergenceError if the loss is not finite, or if the training has collapsed and is to stop then.
 */
export async function trainDino(options: TrainDinoOptions): Promise<TrainDinoResult> {
  const { dataset, vit, recipe, seed, device = "auto" } = options;
  const makeBatch = dinoBatchMaker(dataset, vit, recipe, seed);
  const initial = options.state ?? initDinoState(new Rng(seed).split("weights"), vit, recipe);
  const step = jit(
    (state: DinoState, batch: DinoBatch): [DinoState, DinoMetrics] => dinoStep(state, batch, vit, recipe),
    { device, donate: [0], name: "dino-step" },
  );
  const pool = new CropPool({
    work: cropWork(dataset, recipe, seed, options.pictures),
    steps: recipe.steps,
    workers: options.workers ?? defaultCropWorkers((await resolveDevice(device)).device),
  });
  type OnDevice = DinoState<HostTensor | DeviceTensor>;
  const { onCheckpoint, onEvaluate } = options;
  const fetchState = async (state: OnDevice) => await read(state) as DinoState<HostTensor>;
  try {
    const { onLog, logEverySteps, checkpointEverySteps, evaluateAtSteps, signal } = options;
    const end = await trainLoop<OnDevice, DinoBatch<HostTensor>>({
      state: initial,
      startStep: initial.step.data[0],
      steps: recipe.steps,
      batchSize: recipe.batchSize,
      batch: async (at) => makeBatch(at, await pool.views(at)),
      step: async (state, batch) => await step(state, batch),
      onMetrics: collapseGuard(options),
      logEverySteps,
      onLog,
      checkpointEverySteps,
      onCheckpoint: onCheckpoint && (async (state, at) => await onCheckpoint(await fetchState(state), at)),
      evaluateAtSteps,
      onEvaluate: onEvaluate &&
        (async (state, at) => await onEvaluate((await fetchState(state)).teacher.vit, at)),
      signal,
    });
    const state = await fetchState(end.state);
    disposeTree(end.state);
    return { encoder: state.teacher.vit, state, step: end.step, stopped: end.stopped };
  } finally {
    pool.dispose();
    await step.dispose();
  }
}

/** Tells of a collapse after the warm-up, in which fresh features are still alike. */
function collapseGuard(
  { recipe, collapse, onCollapse, stopOnCollapse }: TrainDinoOptions,
): (metrics: Readonly<Record<string, number>>, step: number) => void {
  const reasonOf = watchCollapse(recipe.head.prototypes, 2 * recipe.batchSize, collapse);
  const warmupSteps = Math.max(stepsOf(recipe.warmupShare, recipe), stepsOf(recipe.freezeShare, recipe));
  return (metrics, step) => {
    if (step <= warmupSteps) return;
    const { featureSpread, usageEntropy, teacherEntropy } = metrics;
    const reason = reasonOf({ featureSpread, usageEntropy, teacherEntropy });
    if (reason === null) return;
    onCollapse?.(reason, step);
    if (stopOnCollapse) throw collapseError(step, reason);
  };
}
