/**
 * Two-layer perceptrons of transformer blocks, plain and gated.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import type { HostTensor, Rng } from "novae/tensor/mod.ts";
import { gelu, geluErf, silu } from "novae/engine/mod.ts";
import { initLinear, type InitLinearOptions, linear, type LinearParams } from "./linear.ts";

/** Activation functions by name: `gelu` is the tanh approximation, `geluErf` the exact one. */
export type Activation = "gelu" | "geluErf" | "silu";

/** Weights of `fc2(activation(fc1(x)))`. */
export interface MlpParams<T = tf.Tensor> {
  /** Width to hidden width. */
  fc1: LinearParams<T>;
  /** Hidden width to width. */
  fc2: LinearParams<T>;
}

/** Weights of `down(silu(gate(x)) · up(x))`. */
export interface GatedMlpParams<T = tf.Tensor> {
  /** Width to hidden width, before the silu. */
  gate: LinearParams<T>;
  /** Width to hidden width. */
  up: LinearParams<T>;
  /** Hidden width to width. */
  down: LinearParams<T>;
}

/** Applies an activation function by name, element by element. */
export function activate(x: tf.Tensor, activation: Activation): tf.Tensor {
  switch (activation) {
    case "gelu":
      return gelu(x);
    case "geluErf":
      return geluErf(x);
    case "silu":
      return silu(x);
  }
}

/**
 * Initial weights of a two-layer perceptron.
 *
 * @param dim width of input and output.
 * @param hiddenDim width between the layers.
 */
export function initMlp(
  rng: Rng,
  dim: number,
  hiddenDim: number,
  options: InitLinearOptions = {},
): MlpParams<HostTensor> {
  return {
    fc1: initLinear(rng.split("fc1"), dim, hiddenDim, options),
    fc2: initLinear(rng.split("fc2"), hiddenDim, dim, options),
  };
}

/**
 * Two-layer perceptron on the last axis, `fc2(activation(fc1(x)))`.
 *
 * @param x [..., dim].
 * @returns the same shape as `x`.
 */
export function mlp(x: tf.Tensor, params: MlpParams, activation: Activation): tf.Tensor {
  return linear(activate(linear(x, params.fc1), activation), params.fc2);
}

/** Initial weights of a gated perceptron; widths as for {@link initMlp}. */
export function initGatedMlp(
  rng: Rng,
  dim: number,
  hiddenDim: number,
  options: InitLinearOptions = {},
): GatedMlpParams<HostTensor> {
  return {
    gate: initLinear(rng.split("gate"), dim, hiddenDim, options),
    up: initLinear(rng.split("up"), dim, hiddenDim, options),
    down: initLinear(rng.split("down"), hiddenDim, dim, options),
  };
}

/**
 * Gated perceptron on the last axis, `down(silu(gate(x)) · up(x))`.
 *
 * @param x [..., dim].
 * @returns the same shape as `x`.
 */
export function gatedMlp(x: tf.Tensor, params: GatedMlpParams): tf.Tensor {
  return linear(tf.mul(silu(linear(x, params.gate)), linear(x, params.up)), params.down);
}
