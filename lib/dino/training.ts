/**
 * Self-distillation training of an encoder on unlabelled images.
 *
 * @module
 */
import { concatRows, ConfigError, type HostTensor, Rng } from "novae/tensor/mod.ts";
import { type DeviceName, type DeviceTensor, disposeTree, jit, read } from "novae/engine/mod.ts";
import { type Dataset, multiCrop } from "novae/data/mod.ts";
import { type TrainLogEntry, trainLoop } from "novae/nn/mod.ts";
import type { VitConfig } from "./config.ts";
import { checkRecipe, type DinoRecipe, dinoSchedules } from "./recipe.ts";
import {
  type DinoBatch,
  type DinoMetrics,
  type DinoState,
  dinoStep,
  initDinoState,
} from "./self_distillation.ts";
import type { VitParams } from "./vit_params.ts";

/** What {@linkcode trainDino} trains, on what, and whom it tells. */
export interface TrainDinoOptions {
  /** Images to learn from; their labels are not used. */
  readonly dataset: Dataset;
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
 * Trains an encoder by self-distillation. A training that goes on from a checkpoint's state equals one that was never
 * interrupted.
 *
 * @throws ConfigError if the recipe does not fit the encoder or the data.
 * @throws DivergenceError if the loss is not finite.
 */
export async function trainDino(options: TrainDinoOptions): Promise<TrainDinoResult> {
  const { dataset, vit, recipe, seed } = options;
  const batches = dinoBatches(dataset, vit, recipe, seed);
  const initial = options.state ?? initDinoState(new Rng(seed).split("weights"), vit, recipe.head);
  const step = jit(
    (state: DinoState, batch: DinoBatch): [DinoState, DinoMetrics] => dinoStep(state, batch, vit, recipe),
    { device: options.device ?? "auto", donate: [0], name: "dino-step" },
  );
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
      batch: batches,
      step: async (state, batch) => await step(state, batch),
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
    await step.dispose();
  }
}

/**
 * The batches of a training as a function of the step: images in a new random order each epoch, their crops and
 * masks, and the values of the schedules.
 *
 * @returns the batch of a step counted from 0; a pure function of step and arguments.
 * @throws ConfigError if the recipe does not fit the encoder or the data.
 */
export function dinoBatches(
  dataset: Dataset,
  vit: VitConfig,
  recipe: DinoRecipe,
  seed: number,
): (step: number) => DinoBatch<HostTensor> {
  checkRecipe(recipe, vit.patchSize, dataset.size);
  if (recipe.maskRatio > 0 && vit.maskToken === false) {
    throw new ConfigError(
      `Cannot train encoder: maskRatio must be 0 without a mask token, got ${recipe.maskRatio}`,
    );
  }
  const rng = new Rng(seed), schedules = dinoSchedules(recipe);
  const indices = imageOrder(rng.split("order"), dataset.size, recipe.batchSize);
  const patches = (recipe.globalSize / vit.patchSize) ** 2;
  return (step) => {
    const images = dataset.images(indices(step));
    const { globalSize, globalScale, localSize, localScale, localCrops, augmentation } = recipe;
    const crops = { globalSize, globalScale, localSize, localScale, locals: localCrops, ...augmentation };
    const { globals, locals } = multiCrop(images, rng.split("crops", step), crops);
    const batch: DinoBatch<HostTensor> = { globals: concatRows(globals), ...schedules(step) };
    if (locals.length > 0) batch.locals = concatRows(locals);
    const masked = Math.round(recipe.maskRatio * patches);
    if (masked > 0) batch.masked = drawMasks(rng.split("masks", step), recipe.batchSize, masked, patches);
    return batch;
  };
}

/** Indices of the images of a step: each epoch is a permutation; its last, incomplete batch is left out. */
function imageOrder(rng: Rng, size: number, batchSize: number): (step: number) => Int32Array {
  const perEpoch = Math.floor(size / batchSize);
  let cached = -1, order = new Int32Array(0);
  return (step) => {
    const epoch = Math.floor(step / perEpoch), start = (step % perEpoch) * batchSize;
    if (epoch !== cached) {
      order = rng.split(epoch).permutation(size) as Int32Array<ArrayBuffer>;
      cached = epoch;
    }
    return order.slice(start, start + batchSize);
  };
}

/** One-hot rows [B, M, N] of M different patches of each image. */
function drawMasks(rng: Rng, batch: number, masked: number, patches: number): HostTensor {
  const data = new Float32Array(batch * masked * patches);
  for (let b = 0; b < batch; b++) {
    const order = rng.permutation(patches);
    for (let m = 0; m < masked; m++) data[(b * masked + m) * patches + order[m]] = 1;
  }
  return { dtype: "float32", shape: [batch, masked, patches], data };
}
