/**
 * Training of the diffusion transformer: one update as a pure function, and the whole training.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import {
  CheckpointError,
  flattenTree,
  type HostTensor,
  isHostTensor,
  Rng,
  scalar,
  unflattenLike,
} from "novae/tensor/mod.ts";
import { type DeviceName, type DeviceTensor, disposeTree, jit, read } from "novae/engine/mod.ts";
import {
  type AdamState,
  adamW,
  clipByGlobalNorm,
  emaUpdate,
  initAdam,
  type TrainLogEntry,
  trainLoop,
  valueAndGrads,
} from "novae/nn/mod.ts";
import type { DitConfig } from "./config.ts";
import { dit, type DitParams, initDit } from "./dit.ts";
import { pathPoint, velocityLoss } from "./path.ts";
import {
  type DiffusionBatch,
  diffusionBatches,
  type LatentData,
  type StoredLatents,
} from "./training_data.ts";
import {
  type DiffusionTrainingInput,
  type DiffusionTrainingSettings,
  parseTrainingSettings,
} from "./training_settings.ts";

/** Everything that changes during a training. */
export interface DiffusionState<T = HostTensor> {
  /** Updates done, a float32 scalar. */
  step: T;
  /** Weights. */
  params: DitParams<T>;
  /** Moving average of `params`, for use. */
  ema: DitParams<T>;
  /** Running means of the optimiser. */
  adam: AdamState<DitParams<T>>;
}

/** Scalars that an update reports. */
export interface DiffusionMetrics<T = tf.Tensor> {
  /** Mean squared error of the velocity. */
  loss: T;
  /** Norm of the joint gradient before clipping. */
  gradNorm: T;
}

/** What {@linkcode trainDiffusion} needs and whom it tells. */
export interface TrainDiffusionOptions {
  /** Shape of the transformer. */
  readonly config: DitConfig;
  /** What it learns to make: latents in memory, or in files that are read as they are needed. */
  readonly data: LatentData | StoredLatents;
  /** How it learns. */
  readonly settings: DiffusionTrainingInput;
  /** Where the updates run. Default `auto`. */
  readonly device?: DeviceName;
  /** Threads of the compiled step on the CPU; those of the engine unless given. */
  readonly threads?: number;
  /** State to go on from; its `step` says how far it is. Default: initial weights. */
  readonly resume?: DiffusionState;
  /** Called with the averaged weights once the given numbers of images have been seen. */
  readonly evaluate?: DiffusionEvaluation;
  /** Images between calls of `onCheckpoint`, beside the one at the end. */
  readonly checkpointEveryImages?: number;
  /** Called with everything that is needed to go on. */
  onCheckpoint?(state: DiffusionState, step: number): void | Promise<void>;
  /** Called with mean metrics and the time left. */
  onProgress?(entry: TrainLogEntry): void | Promise<void>;
  /** Updates between calls of `onProgress`. Default 20. */
  readonly logEverySteps?: number;
  /** When aborted, the training checkpoints and returns. */
  readonly signal?: AbortSignal;
}

/** Evaluations during a training. */
export interface DiffusionEvaluation {
  /** Numbers of images seen, each rounded to the nearest update. */
  readonly at: readonly number[];
  /** Scores the averaged weights. */
  run(ema: DitParams<HostTensor>, progress: { step: number; imagesSeen: number }): void | Promise<void>;
}

/** A training's outcome. */
export interface TrainedDiffusion {
  /** Moving average of the weights, for use. */
  readonly ema: DitParams<HostTensor>;
  /** Final state, for going on. */
  readonly state: DiffusionState;
  /** Updates done. */
  readonly step: number;
  /** Whether it was stopped by `signal` before the last update. */
  readonly stopped: boolean;
}

/** The state before the first update. */
export function initDiffusionState(config: DitConfig, seed: number): DiffusionState {
  const params = initDit(new Rng(seed).split("diffusion-init"), config);
  return { step: scalar(0), params, ema: params, adam: initAdam(params) };
}

/**
 * One update: loss and gradient on a batch, clipping, AdamW, moving average.
 *
 * *Source*: SVG (arXiv 2510.15301) and SiT for path, target and loss. *Differs*: gradients are clipped, learning
 * rate and decay of the average come with the batch.
 *
 * @returns the next state and scalar metrics.
 */
export function diffusionTrainStep(
  state: DiffusionState<tf.Tensor>,
  batch: DiffusionBatch<tf.Tensor>,
  config: DitConfig,
  settings: Pick<DiffusionTrainingSettings, "betas" | "weightDecay" | "clipNorm">,
): [DiffusionState<tf.Tensor>, DiffusionMetrics] {
  const { dataBNZ, noiseBNZ, tB, labelsB } = batch;
  const zBNZ = pathPoint(dataBNZ, noiseBNZ, tB);
  const { loss, grads } = valueAndGrads((params: DitParams) => {
    const { velocityBNZ } = dit(zBNZ, tB, labelsB, params, config);
    return { loss: velocityLoss(velocityBNZ, dataBNZ, noiseBNZ), aux: {} };
  }, state.params);
  const clipped = clipByGlobalNorm(grads, settings.clipNorm ?? 1);
  const step = tf.add(state.step, 1) as tf.Scalar;
  const [beta1, beta2] = settings.betas;
  const updated = adamW(state.params, settings.clipNorm === null ? grads : clipped.grads, state.adam, step, {
    learningRate: batch.learningRate as tf.Scalar,
    weightDecay: settings.weightDecay,
    beta1,
    beta2,
  });
  const ema = emaUpdate(state.ema, updated.params, batch.emaDecay as tf.Scalar);
  return [{ step, params: updated.params, ema, adam: updated.state }, { loss, gradNorm: clipped.norm }];
}

/**
 * Trains a diffusion transformer on latents.
 *
 * On the `cpu` device a training that is resumed from a checkpoint equals an uninterrupted one bit for bit.
 *
 * @throws DivergenceError if the loss stops being finite; ConfigError, DataError or CheckpointError if settings,
 * latents or the state to resume cannot be used.
 */
export async function trainDiffusion(options: TrainDiffusionOptions): Promise<TrainedDiffusion> {
  const { config, evaluate } = options;
  const settings = parseTrainingSettings(options.settings);
  const { batchSize } = settings;
  const steps = Math.ceil(settings.images / batchSize);
  const toStep = (images: number) => Math.min(Math.max(Math.round(images / batchSize), 1), steps);
  const batch = diffusionBatches(config, options.data, settings);
  const { state, startStep } = startingState(options, settings, steps);
  const step = jit(
    (s: DiffusionState<tf.Tensor>, b: DiffusionBatch<tf.Tensor>) =>
      diffusionTrainStep(s, b, config, settings),
    { device: options.device, threads: options.threads, donate: [0], name: "diffusion training step" },
  );
  try {
    const end = await trainLoop<LoopState, DiffusionBatch>({
      state,
      startStep,
      steps,
      batchSize,
      batch,
      step: async (s, b) => {
        const [next, { loss, gradNorm }] = await step(s, b);
        return [next, { loss, gradNorm }];
      },
      logEverySteps: options.logEverySteps,
      onLog: options.onProgress,
      checkpointEverySteps: options.checkpointEveryImages && toStep(options.checkpointEveryImages),
      onCheckpoint: async (s, at) => await options.onCheckpoint?.(await read(s), at),
      evaluateAtSteps: evaluate?.at.map(toStep),
      onEvaluate: async (s, at) =>
        await evaluate?.run(await read(s.ema), { step: at, imagesSeen: at * batchSize }),
      signal: options.signal,
    });
    const final = await read(end.state);
    disposeTree(end.state);
    return { ema: final.ema, state: final, step: end.step, stopped: end.stopped };
  } finally {
    await step.dispose();
  }
}

type LoopState = DiffusionState<HostTensor | DeviceTensor>;

/** Initial weights, or the state to resume after a check of its form. */
function startingState(
  { resume, config }: TrainDiffusionOptions,
  settings: DiffusionTrainingSettings,
  steps: number,
): { state: DiffusionState; startStep: number } {
  const initial = initDiffusionState(config, settings.seed);
  if (!resume) return { state: initial, startStep: 0 };
  const leaves = flattenTree<HostTensor>(resume, isHostTensor);
  const byPath = new Map(leaves.map((leaf) => [leaf.path, leaf.value]));
  for (const { path, value } of flattenTree<HostTensor>(initial, isHostTensor)) {
    const shape = byPath.get(path)?.shape;
    if (shape?.join() === value.shape.join()) continue;
    throw new CheckpointError(
      `Cannot resume diffusion training: "${path}" must be of shape [${value.shape.join(", ")}], got ${
        shape ? `[${shape.join(", ")}]` : "nothing"
      }`,
    );
  }
  const startStep = resume.step.data[0];
  if (!Number.isInteger(startStep) || startStep < 0 || startStep > steps) {
    throw new CheckpointError(
      `Cannot resume diffusion training: its step must be in [0, ${steps}], got ${startStep}`,
    );
  }
  return { state: unflattenLike<DiffusionState>(initial, isHostTensor, byPath), startStep };
}
