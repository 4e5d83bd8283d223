/**
 * Parameters of normalisations; the normalisations themselves are fused operations of the engine
 * (`layerNorm`, `rmsNorm`, `groupNorm`).
 *
 * @module
 */
import type * as tf from "@tensorflow/tfjs";
import { full, type HostTensor, zeros } from "novae/tensor/mod.ts";
import { layerNorm, rmsNorm } from "novae/engine/mod.ts";

/** Scale and shift of a normalisation: `weight` [dim], `bias` [dim]. */
export interface NormParams<T = tf.Tensor> {
  /** Scale [dim]. */
  weight: T;
  /** Shift [dim]. */
  bias: T;
}

/** Scale of a root-mean-square normalisation, which has no shift: `weight` [dim]. */
export interface RmsNormParams<T = tf.Tensor> {
  /** Scale [dim]. */
  weight: T;
}

/** Initial weights of a normalisation: ones and zeros. */
export function initNorm(dim: number): NormParams<HostTensor> {
  return { weight: full([dim], 1), bias: zeros([dim]) };
}

/**
 * Normalisation over the last axis: with a shift, layer normalisation,
 * `y = (x − mean) / √(variance + eps) · weight + bias`; without, by the root mean square,
 * `y = x / √(mean(x²) + eps) · weight`.
 *
 * @param x [..., dim].
 * @returns the same shape as `x`.
 */
export function norm(x: tf.Tensor, params: NormParams | RmsNormParams, eps: number): tf.Tensor {
  return "bias" in params ? layerNorm(x, params.weight, params.bias, eps) : rmsNorm(x, params.weight, eps);
}
