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
}

/** Weights of a projection head. */
export interface DinoHeadParams<T = tf.Tensor> {
  fc1: LinearParams<T>;
  fc2: LinearParams<T>;
  fc3: LinearParams<T>;
  /** [bottleneck, P]; only the direction of each column counts. */
  prototypes: T;
}

/** Initial weights of a head on tokens of width `dim`: normal of standard deviation 0.02, biases zero. */
export function initDinoHead(rng: Rng, dim: number, config: DinoHeadConfig): DinoHeadParams<HostTensor> {
  const { hidden, bottleneck, prototypes } = config;
  const init = { init: "truncNormal", std: 0.02 } as const;
  return {
    fc1: initLinear(rng.split("fc1"), dim, hidden, init),
    fc2: initLinear(rng.split("fc2"), hidden, hidden, init),
    fc3: initLinear(rng.split("fc3"), hidden, bottleneck, init),
    prototypes: float32(rng.split("prototypes").normal(bottleneck * prototypes), [bottleneck, prototypes]),
  };
}

/**
 * Cosine of the projected tokens with each prototype, `normalise(mlp(x)) · normalise(W)`.
 *
 * *Source*: `DINOHead` of facebookresearch/dino with `norm_last_layer` (weight normalisation with gain 1).
 *
 * @param xMD tokens [M, D].
 * @returns [M, P], each in [−1, 1].
 */
export function dinoHead(xMD: tf.Tensor, params: DinoHeadParams): tf.Tensor {
  const hidden = gelu(linear(gelu(linear(xMD, params.fc1)), params.fc2));
  return tf.matMul(l2Normalize(linear(hidden, params.fc3), 1), l2Normalize(params.prototypes, 0));
}

/** Scales vectors along an axis to length 1; `eps` is added to the squared length. */
export function l2Normalize(x: tf.Tensor, axis: number, eps = 1e-12): tf.Tensor {
  return tf.mul(x, tf.rsqrt(tf.add(tf.sum(tf.square(x), axis, true), eps)));
}
