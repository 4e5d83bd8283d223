/**
 * The projection head of self-distillation: a perceptron, a normalised bottleneck and prototypes.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { float32, full, type HostTensor, type Rng } from "novae/tensor/mod.ts";
import { activate, initLinear, linear, type LinearParams, truncatedNormal } from "novae/nn/mod.ts";

/** Widths and kind of a projection head. */
export interface DinoHeadConfig {
  /** Width of the two hidden layers. */
  readonly hidden: number;
  /** Width of the normalised bottleneck. */
  readonly bottleneck: number;
  /** P, number of prototypes. */
  readonly prototypes: number;
  /** Activation of the hidden layers: `geluErf` as published or its tanh approximation `gelu`. */
  readonly activation: "gelu" | "geluErf";
  /**
   * What a prototype is: a direction of length 1 (`unit`, DINO with `norm_last_layer`), a direction with a learned
   * length (`gain`, DINO without it and DINOv2) or any vector (`free`, DINOv3).
   */
  readonly lastLayer: "unit" | "gain" | "free";
  /** How weights are drawn: uniform by Xavier's rule, or normal of deviation 0.02 as published (`truncNormal`). */
  readonly init: "xavier" | "truncNormal";
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
  /** [bottleneck, P], one prototype a column. */
  prototypes: T;
  /** Lengths of the prototypes [P], where they are learned. */
  gains?: T;
}

/** Initial weights of a head on tokens of width `dim`; biases are zero, learned lengths 1. */
export function initDinoHead(rng: Rng, dim: number, config: DinoHeadConfig): DinoHeadParams<HostTensor> {
  const { hidden, bottleneck, prototypes, init, lastLayer } = config;
  return {
    fc1: initLinear(rng.split("fc1"), dim, hidden, { init }),
    fc2: initLinear(rng.split("fc2"), hidden, hidden, { init }),
    fc3: initLinear(rng.split("fc3"), hidden, bottleneck, { init }),
    prototypes: float32(initPrototypes(rng.split("prototypes"), config), [bottleneck, prototypes]),
    ...(lastLayer === "gain" && { gains: full([prototypes], 1) }),
  };
}

/** With `truncNormal` as published: PyTorch's default for a linear map where only directions count, else 0.02. */
function initPrototypes(rng: Rng, { bottleneck, prototypes, init, lastLayer }: DinoHeadConfig): Float32Array {
  const count = bottleneck * prototypes, bound = 1 / Math.sqrt(bottleneck);
  if (init === "xavier") return rng.normal(count);
  if (lastLayer === "free") return truncatedNormal(rng, count, 0.02);
  return rng.uniform(count).map((u) => bound * (2 * u - 1));
}

/**
 * Products of the projected tokens with each prototype, `normalise(mlp(x)) · W`, the columns of W of length 1 or of
 * learned length unless they are free.
 *
 * *Source*: `DINOHead` of facebookresearch/dino, dinov2 and dinov3. *Differs*: always three layers, as in all their
 * trainings; `batchNorm` has no learned gain and shift, always takes the statistics of the batch, and standardises the
 * bottleneck too.
 *
 * @param xMD tokens [M, D].
 * @returns [M, P]; cosines in [−1, 1] for prototypes of length 1.
 */
export function dinoHead(xMD: tf.Tensor, params: DinoHeadParams, config: DinoHeadConfig): tf.Tensor {
  return prototypeLogits(dinoEmbedding(xMD, params, config), params, config);
}

/**
 * The bottleneck of a head, `normalise(mlp(x))`.
 *
 * @param xMD tokens [M, D].
 * @returns [M, bottleneck], rows of length 1.
 */
export function dinoEmbedding(xMD: tf.Tensor, params: DinoHeadParams, config: DinoHeadConfig): tf.Tensor {
  const settle = (x: tf.Tensor) => config.batchNorm ? standardize(x) : x;
  let x = activate(settle(linear(xMD, params.fc1)), config.activation);
  x = activate(settle(linear(x, params.fc2)), config.activation);
  return l2Normalize(settle(linear(x, params.fc3)), 1);
}

/**
 * Products of embeddings with each prototype.
 *
 * @param xMK rows of {@linkcode dinoEmbedding}.
 * @returns [M, P].
 */
export function prototypeLogits(xMK: tf.Tensor, params: DinoHeadParams, config: DinoHeadConfig): tf.Tensor {
  if (config.lastLayer === "free") return tf.matMul(xMK, params.prototypes);
  const cosines = tf.matMul(xMK, l2Normalize(params.prototypes, 0));
  return params.gains ? tf.mul(cosines, params.gains) : cosines;
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
