/**
 * Training of the classifier whose features score samples.
 *
 * @module
 */
import type * as tf from "@tensorflow/tfjs";
import { accuracyOf } from "novae/analysis/mod.ts";
import type { Dataset } from "novae/data/mod.ts";
import { type DeviceName, type DeviceTensor, disposeTree, jit, type Jitted, read } from "novae/engine/mod.ts";
import { type TrainLogEntry, trainLoop } from "novae/nn/mod.ts";
import { ConfigError, type HostTensor } from "novae/tensor/mod.ts";
import { type ClassifierRecord, hashClassifier, roundClassifier } from "./classifier_file.ts";
import {
  classifier,
  type ClassifierConfig,
  classifierConfig,
  type ClassifierParams,
} from "./classifier_model.ts";
import {
  type ClassifierBatch,
  classifierBatches,
  type ClassifierBatchOptions,
  type ClassifierState,
  classifierStep,
  initClassifierState,
} from "./classifier_step.ts";

/** What {@linkcode trainFeatureClassifier} trains, on what, and whom it tells. */
export interface TrainClassifierOptions extends ClassifierBatchOptions {
  /** Labelled images to learn from. */
  readonly train: Dataset;
  /** Held-out images to score on. */
  readonly test: Dataset;
  /** Training images in all, repeats counted; rounded up to whole batches. */
  readonly images: number;
  /** Default 0.02. */
  readonly weightDecay?: number;
  /** Channels by stage; default `CLASSIFIER_WIDTHS.small`. */
  readonly widths?: readonly number[];
  /** Where the training runs. Default `auto`. */
  readonly device?: DeviceName;
  /** Threads on the CPU. Default: the number of physical cores. */
  readonly threads?: number;
  /** How often the held-out images are scored, evenly spread, the end included. Default 5. */
  readonly evaluations?: number;
  /** State to go on from; its `step` says where. Default: a new one. */
  readonly state?: ClassifierState<HostTensor>;
  /** Steps between log entries. Default 20. */
  readonly logEverySteps?: number;
  /** Receives mean loss and accuracy on augmented images. */
  onLog?(entry: TrainLogEntry): void | Promise<void>;
  /** Steps between checkpoints, beside the last. */
  readonly checkpointEverySteps?: number;
  /** Receives the state to go on from. */
  onCheckpoint?(state: ClassifierState<HostTensor>, step: number): void | Promise<void>;
  /** Receives each score on the held-out images. */
  onEvaluate?(point: AccuracyPoint): void | Promise<void>;
  /** When aborted, the training checkpoints after the current step and returns. */
  readonly signal?: AbortSignal;
}

/** Accuracy on the held-out images at some time of the training. */
export interface AccuracyPoint {
  /** Updates done. */
  readonly step: number;
  /** Training images seen, repeats counted. */
  readonly imagesSeen: number;
  /** Share of the held-out images that are classified correctly, in [0, 1]. */
  readonly accuracy: number;
}

/** A trained classifier and how the training went. */
export interface TrainClassifierResult {
  /** Settings of the classifier. */
  readonly config: ClassifierConfig;
  /** Weights rounded to float16, the ones that the record's accuracy belongs to. */
  readonly params: ClassifierParams<HostTensor>;
  /** What the file says about the training. */
  readonly record: ClassifierRecord;
  /** See `hashClassifier`. */
  readonly hash: string;
  /** Scores of this call, in order. */
  readonly curve: readonly AccuracyPoint[];
  /** State after the last update. */
  readonly state: ClassifierState<HostTensor>;
  /** Updates done. */
  readonly step: number;
  /** Whether it ended because of `signal`, before the last step. */
  readonly stopped: boolean;
}

type OnDevice = ClassifierState<HostTensor | DeviceTensor>;

/**
 * Trains a classifier on labelled images with light augmentation. A training that goes on from a checkpoint's state
 * equals one that was never interrupted.
 *
 * @throws ConfigError if settings and data do not fit.
 * @throws DivergenceError if the loss is not finite.
 */
export async function trainFeatureClassifier(
  options: TrainClassifierOptions,
): Promise<TrainClassifierResult> {
  const { train, test, batchSize = 64, seed = 0, device = "auto", evaluations = 5 } = options;
  const config = checkedConfig(options), steps = Math.ceil(options.images / batchSize);
  const { weightDecay = 0.02, threads } = options, curve: AccuracyPoint[] = [];
  const step = jit(
    (state: ClassifierState, batch: ClassifierBatch) => classifierStep(state, batch, config, weightDecay),
    { device, threads, donate: [0], name: "classifier-step" },
  );
  const forward: Forward = jit(
    (params: ClassifierParams, imageUnitBHWC: tf.Tensor) =>
      classifier(imageUnitBHWC, params, config).logitsBL,
    { device, threads, name: "classifier-forward" },
  );
  const score = async (state: OnDevice, at: number) => {
    const accuracy = await accuracyOn(test, forward, state.params, batchSize);
    curve.push({ step: at, imagesSeen: at * batchSize, accuracy });
    await options.onEvaluate?.(curve.at(-1)!);
  };
  const fetch = async (state: OnDevice) => await read(state) as ClassifierState<HostTensor>;
  const initial = options.state ?? initClassifierState(seed, config), { onCheckpoint } = options;
  try {
    const end = await trainLoop<OnDevice, ClassifierBatch<HostTensor>>({
      state: initial,
      startStep: initial.step.data[0],
      steps,
      batchSize,
      batch: classifierBatches(train, steps, options),
      step: async (state, batch) => await step(state, batch),
      logEverySteps: options.logEverySteps,
      onLog: options.onLog,
      checkpointEverySteps: options.checkpointEverySteps,
      onCheckpoint: onCheckpoint && (async (state, at) => await onCheckpoint(await fetch(state), at)),
      evaluateAtSteps: scoringSteps(steps, evaluations),
      onEvaluate: score,
      signal: options.signal,
    });
    const state = await fetch(end.state);
    disposeTree(end.state);
    const params = roundClassifier(state.params);
    await score({ ...state, params }, end.step);
    const record = recordOf(options, curve.at(-1)!);
    const hash = hashClassifier(config, params);
    return { config, params, record, hash, curve, state, step: end.step, stopped: end.stopped };
  } finally {
    await step.dispose();
    await forward.dispose();
  }
}

/** Steps after which held-out images are scored, without the last, which is scored on the weights as they are kept. */
function scoringSteps(steps: number, evaluations: number): number[] {
  return Array.from({ length: evaluations - 1 }, (_, i) => Math.round((i + 1) * steps / evaluations))
    .filter((step) => step > 0 && step < steps);
}

function recordOf({ train, test, seed = 0 }: TrainClassifierOptions, last: AccuracyPoint): ClassifierRecord {
  return {
    accuracy: last.accuracy,
    heldOut: test.size,
    imagesSeen: last.imagesSeen,
    dataset: train.name,
    datasetHash: train.hash,
    seed,
  };
}

type Forward = Jitted<(params: ClassifierParams, imageUnitBHWC: tf.Tensor) => tf.Tensor>;

async function accuracyOn(
  dataset: Dataset,
  forward: Forward,
  params: ClassifierParams<HostTensor | DeviceTensor>,
  batchSize: number,
): Promise<number> {
  const predictions = new Int32Array(dataset.size), all = Int32Array.from(predictions.keys());
  for (let start = 0; start < dataset.size; start += batchSize) {
    const logits = await forward(params, dataset.images(all.subarray(start, start + batchSize)));
    const { data, shape } = await logits.read();
    logits.dispose();
    for (let i = 0; i < shape[0]; i++) {
      const row = data.subarray(i * shape[1], (i + 1) * shape[1]);
      predictions[start + i] = row.indexOf(Math.max(...row));
    }
  }
  return accuracyOf(predictions, dataset.labels(all));
}

function checkedConfig(options: TrainClassifierOptions): ClassifierConfig {
  const { train, test, images, batchSize = 64, widths } = options;
  const fail = (wanted: string): never => {
    throw new ConfigError(`Cannot train classifier: ${wanted}`);
  };
  if (!Number.isInteger(images) || images < 1) fail(`images must be a positive whole number, got ${images}`);
  if (!Number.isInteger(batchSize) || batchSize < 1 || batchSize > train.size) {
    fail(`batchSize must be from 1 to the ${train.size} training images, got ${batchSize}`);
  }
  if (test.imageSize !== train.imageSize || `${test.classes}` !== `${train.classes}`) {
    fail("training and held-out images must have the same size and classes");
  }
  const config = { imageSize: train.imageSize, classes: [...train.classes] };
  return classifierConfig(widths ? { ...config, widths: [...widths] } : config);
}
