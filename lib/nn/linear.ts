/**
 * Affine maps on the last axis.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { float32, full, type HostTensor, type Rng, zeros } from "novae/tensor/mod.ts";

/** Weights of an affine map: `weight` [in, out], `bias` [out]. */
export interface LinearParams<T = tf.Tensor> {
  /** [in, out]. */
  weight: T;
  /** [out]. */
  bias: T;
}

/** How a weight matrix is drawn; see {@link initWeight}. */
export type WeightInit = "xavier" | "truncNormal" | "zeros";

/** Options of {@link initLinear}. */
export interface InitLinearOptions {
  /** How the weight is drawn; default `xavier`. */
  init?: WeightInit;
  /** Standard deviation for `truncNormal`; default 0.02. */
  std?: number;
  /** Initial value of all biases; default 0. */
  bias?: number;
}

/**
 * Draws a weight matrix [in, out].
 *
 * `xavier`: uniform in ±√(6 / (in + out)). `truncNormal`: normal of the given standard deviation, values beyond
 * ±2 drawn again (PyTorch's `trunc_normal_` with its default bounds). `zeros`: zeros, and `rng` is not used.
 *
 * @param rng stream that the values are taken from.
 * @param shape [in, out].
 */
export function initWeight(
  rng: Rng,
  shape: readonly [number, number],
  init: WeightInit = "xavier",
  std = 0.02,
): HostTensor {
  const count = shape[0] * shape[1];
  switch (init) {
    case "zeros":
      return zeros(shape);
    case "xavier": {
      const bound = Math.sqrt(6 / (shape[0] + shape[1]));
      return float32(rng.uniform(count).map((u) => bound * (2 * u - 1)), shape);
    }
    case "truncNormal":
      return float32(truncatedNormal(rng, count, std), shape);
  }
}

/**
 * Draws `count` normal values of standard deviation `std`; values beyond ±2 are drawn again.
 *
 * *Source*: the meaning of bounds of PyTorch's `nn.init.trunc_normal_` (absolute, not in standard deviations).
 */
export function truncatedNormal(rng: Rng, count: number, std: number): Float32Array {
  const values = rng.normal(count);
  for (let i = 0; i < count; i++) {
    values[i] *= std;
    while (Math.abs(values[i]) > 2) values[i] = rng.normal(1)[0] * std;
  }
  return values;
}

/**
 * Initial weights of an affine map.
 *
 * @param rng stream that the values are taken from.
 * @param inDim width of the input, ≥ 1.
 * @param outDim width of the output, ≥ 1.
 */
export function initLinear(
  rng: Rng,
  inDim: number,
  outDim: number,
  options: InitLinearOptions = {},
): LinearParams<HostTensor> {
  return {
    weight: initWeight(rng, [inDim, outDim], options.init, options.std),
    bias: full([outDim], options.bias ?? 0),
  };
}

/**
 * An affine map of the last axis, `y = x W + b`.
 *
 * @param x [..., in].
 * @returns [..., out].
 * @throws TypeError if the last axis of `x` does not fit the weight.
 */
export function linear(x: tf.Tensor, params: LinearParams): tf.Tensor {
  return tf.add(linearNoBias(x, params.weight), params.bias);
}

/**
 * A linear map of the last axis, `y = x W`.
 *
 * @param x [..., in].
 * @param weight [in, out].
 * @returns [..., out].
 * @throws TypeError if the last axis of `x` does not fit the weight.
 */
export function linearNoBias(x: tf.Tensor, weight: tf.Tensor): tf.Tensor {
  const [inDim, outDim] = weight.shape;
  if (x.rank === 0 || x.shape[x.rank - 1] !== inDim) {
    throw new TypeError(`Cannot apply a linear map: last dimension must be ${inDim}, got [${x.shape}]`);
  }
  // One 2-D product: the gradient of a broadcast batched product in tfjs does not sum over the batch.
  if (x.rank === 2) return tf.matMul(x, weight);
  const rowsIn = tf.reshape(x, [x.size / inDim, inDim]);
  return tf.reshape(tf.matMul(rowsIn, weight), [...x.shape.slice(0, -1), outDim]);
}
