/**
 * The projection head of self-distillation: a perceptron, a normalised bottleneck and prototypes of unit length.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { float32, type HostTensor, type Rng } from "novae/tensor/mod.ts";
import { gelu } from "novae/engine/mod.ts";
import { initLinear, linear, type LinearParams } from "novae/nn/mod.ts";

/** Widths of a projection head. */
export interface DinoHeadConfig {
  /** Width of the two hidden layers. */
  readonly hidden: number;
  /** Width of the normalised bottleneck. */
  readonly bottleneck: number;
  /** P, number of prototypes. */
  readonly prototypes: number;
  /**
   * Whether each layer's outputs are standardised over the batch. Features of a fresh network are nearly alike; with
   * this, crops are told apart from the first step on, which shortens short trainings a lot.
   */
  readonly batchNorm: boolean;
}

/** Weights of a projection head. */
export interface DinoHeadParams<T = tf.Tensor> {
  /** Width D to the hidden width. */
  fc1: LinearParams<T>;
  /** Hidden to hidden width. */
  fc2: LinearParams<T>;
  /** Hidden width to the bottleneck. */
  fc3: LinearParams<T>;
  /** [bottleneck, P]; only the direction of each column counts. */
  prototypes: T;
}

/** Initial weights of a head on tokens of width `dim`: uniform by Xavier's rule, biases zero, prototypes normal. */
export function initDinoHead(rng: Rng, dim: number, config: DinoHeadConfig): DinoHeadParams<HostTensor> {
  const { hidden, bottleneck, prototypes } = config;
  return {
    fc1: initLinear(rng.split("fc1"), dim, hidden),
    fc2: initLinear(rng.split("fc2"), hidden, hidden),
    fc3: initLinear(rng.split("fc3"), hidden, bottleneck),
    prototypes: float32(rng.split("prototypes").normal(bottleneck * prototypes), [bottleneck, prototypes]),
  };
}

/**
 * Cosine of the projected tokens with each prototype, `normalise(mlp(x)) · normalise(W)`.
 *
 * *Source*: `DINOHead` of facebookresearch/dino with `norm_last_layer` (weight normalisation with gain 1) and
 * `use_bn`. *Differs*: `batchNorm` has no learned gain and shift, always takes the statistics of the batch, and
 * standardises the bottleneck too.
 *
 * @param xMD tokens [M, D].
 * @returns [M, P], each in [−1, 1].
 */
export function dinoHead(xMD: tf.Tensor, params: DinoHeadParams, config: DinoHeadConfig): tf.Tensor {
  const settle = (x: tf.Tensor) => config.batchNorm ? standardize(x) : x;
  let x = gelu(settle(linear(xMD, params.fc1)));
  x = gelu(settle(linear(x, params.fc2)));
  x = settle(linear(x, params.fc3));
  return tf.matMul(l2Normalize(x, 1), l2Normalize(params.prototypes, 0));
}

/** Mean 0 and variance 1 of each column. */
function standardize(xMD: tf.Tensor): tf.Tensor {
  const centred = tf.sub(xMD, tf.mean(xMD, 0, true));
  return tf.mul(centred, tf.rsqrt(tf.add(tf.mean(tf.square(centred), 0, true), 1e-5)));
}

/** Scales vectors along an axis to length 1; `eps` is added to the squared length. */
export function l2Normalize(x: tf.Tensor, axis: number, eps = 1e-12): tf.Tensor {
  return tf.mul(x, tf.rsqrt(tf.add(tf.sum(tf.square(x), axis, true), eps)));
}
