/**
 * Parameters of normalisations; the normalisations themselves are fused operations of the engine
 * (`layerNorm`, `groupNorm`).
 *
 * @module
 */
import type * as tf from "@tensorflow/tfjs";
import { full, type HostTensor, zeros } from "novae/tensor/mod.ts";
import { layerNorm } from "novae/engine/mod.ts";

/** Scale and shift of a normalisation: `weight` [dim], `bias` [dim]. */
export interface NormParams<T = tf.Tensor> {
  /** Scale [dim]. */
  weight: T;
  /** Shift [dim]. */
  bias: T;
}

/** Initial weights of a normalisation: ones and zeros. */
export function initNorm(dim: number): NormParams<HostTensor> {
  return { weight: full([dim], 1), bias: zeros([dim]) };
}

/**
 * Layer normalisation over the last axis with learned scale and shift,
 * `y = (x − mean) / √(variance + eps) · weight + bias`.
 *
 * @param x [..., dim].
 * @returns the same shape as `x`.
 */
export function norm(x: tf.Tensor, params: NormParams, eps: number): tf.Tensor {
  return layerNorm(x, params.weight, params.bias, eps);
}
