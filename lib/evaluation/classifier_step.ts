/**
 * One update of a classifier and the batches that feed it, as pure functions.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import type { Dataset } from "novae/data/mod.ts";
import { softmaxCrossEntropy } from "novae/engine/mod.ts";
import { type AdamState, adamW, cosineSchedule, initAdam, valueAndGrads } from "novae/nn/mod.ts";
import { float32, type HostTensor, Rng, scalar } from "novae/tensor/mod.ts";
import { augmentImages } from "./augmentation.ts";
import {
  classifier,
  type ClassifierConfig,
  type ClassifierParams,
  initClassifier,
} from "./classifier_model.ts";

/** State of a training: what a checkpoint holds. */
export interface ClassifierState<T = tf.Tensor> {
  /** Updates done. */
  step: T;
  /** Weights. */
  params: ClassifierParams<T>;
  /** State of the optimiser. */
  adam: AdamState<ClassifierParams<T>>;
}

/** Inputs of one update. */
export interface ClassifierBatch<T = tf.Tensor> {
  /** Augmented images [B, S, S, 3] in [0, 1]. */
  imageUnitBHWC: T;
  /** Smoothed one-hot labels [B, L]. */
  targetsBL: T;
  /** Scalar. */
  learningRate: T;
}

/** What determines the batches beside the data. */
export interface ClassifierBatchOptions {
  /** Default 64. */
  readonly batchSize?: number;
  /** After a warm-up over a twentieth of the steps; falls to 0 along a cosine. Default 3e-3. */
  readonly learningRate?: number;
  /** Decides initial weights, order of images and augmentation. Default 0. */
  readonly seed?: number;
}

const LABEL_SMOOTHING = 0.05;

/** The state before the first update. */
export function initClassifierState(seed: number, config: ClassifierConfig): ClassifierState<HostTensor> {
  const params = initClassifier(new Rng(seed).split("classifier"), config);
  return { step: scalar(0), params, adam: initAdam(params) };
}

/** One update: cross-entropy to smoothed labels, AdamW. Pure, to be compiled. */
export function classifierStep(
  state: ClassifierState,
  batch: ClassifierBatch,
  config: ClassifierConfig,
  weightDecay: number,
): [ClassifierState, { loss: tf.Tensor; accuracy: tf.Tensor }] {
  const { loss, aux, grads } = valueAndGrads((params: ClassifierParams) => {
    const { logitsBL } = classifier(batch.imageUnitBHWC, params, config);
    const losses = softmaxCrossEntropy(logitsBL, batch.targetsBL);
    return { loss: tf.mean(losses) as tf.Scalar, aux: { logitsBL } };
  }, state.params);
  const step = tf.add(state.step, 1) as tf.Scalar;
  const updated = adamW(state.params, grads, state.adam, step, {
    learningRate: batch.learningRate as tf.Scalar,
    weightDecay,
  });
  // The largest target is the true class; where the logit is largest there too, the answer is right.
  const largest = tf.max(aux.logitsBL, 1, true), trueLogit = tf.greater(batch.targetsBL, 0.5);
  const hits = tf.logicalAnd(trueLogit, tf.greaterEqual(aux.logitsBL, largest));
  const accuracy = tf.mean(tf.sum(tf.cast(hits, "float32"), 1));
  return [{ step, params: updated.params, adam: updated.state }, { loss, accuracy }];
}

/**
 * The batches of a training as a function of the step, counted from 0: images in a new random order each epoch,
 * augmented, with labels and learning rate.
 */
export function classifierBatches(
  dataset: Dataset,
  steps: number,
  options: ClassifierBatchOptions,
): (step: number) => ClassifierBatch<HostTensor> {
  const { batchSize = 64, learningRate = 3e-3, seed = 0 } = options;
  const rng = new Rng(seed).split("classifier-batches"), perEpoch = Math.floor(dataset.size / batchSize);
  const schedule = cosineSchedule({
    base: learningRate,
    final: 0,
    steps,
    warmupSteps: Math.ceil(steps / 20),
  });
  let cached: { epoch: number; order: Int32Array } = { epoch: -1, order: new Int32Array(0) };
  return (step) => {
    const epoch = Math.floor(step / perEpoch), start = (step % perEpoch) * batchSize;
    if (epoch !== cached.epoch) {
      cached = { epoch, order: rng.split("order", epoch).permutation(dataset.size) };
    }
    const indices = cached.order.subarray(start, start + batchSize);
    return {
      imageUnitBHWC: augmentImages(dataset.images(indices), rng.split("augment", step)),
      targetsBL: smoothedTargets(dataset.labels(indices), dataset.classes.length),
      learningRate: scalar(schedule(step)),
    };
  };
}

function smoothedTargets(labels: Int32Array, classes: number): HostTensor {
  const data = new Float32Array(labels.length * classes).fill(LABEL_SMOOTHING / classes);
  labels.forEach((label, i) => data[i * classes + label] += 1 - LABEL_SMOOTHING);
  return float32(data, [labels.length, classes]);
}
