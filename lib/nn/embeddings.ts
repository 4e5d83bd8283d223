/**
 * Embeddings of times and of class labels.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { float32, type HostTensor, type Rng } from "novae/tensor/mod.ts";
import { stopGradient } from "./gradients.ts";
import { truncatedNormal } from "./linear.ts";

/** A table of learned vectors: `table` [count, dim]. */
export interface EmbeddingParams<T = tf.Tensor> {
  /** One row an entry [count, dim]. */
  table: T;
}

/**
 * Sine-cosine features of times, `[cos(t f_i), sin(t f_i)]` with `f_i = maxPeriod^(−i / (dim/2))`.
 *
 * *Source*: `TimestepEmbedder.timestep_embedding` of facebookresearch/DiT. *Differs*: none; as in SVG, a time in
 * [0, 1] is fed without scaling.
 *
 * @param tB times [B].
 * @param dim number of features, even.
 * @returns [B, dim].
 * @throws RangeError if `dim` is odd.
 */
export function timestepFrequencies(tB: tf.Tensor, dim = 256, maxPeriod = 10000): tf.Tensor {
  if (dim < 2 || dim % 2 !== 0) {
    throw new RangeError(`Cannot embed times: number of features must be even, got ${dim}`);
  }
  const half = dim / 2;
  const frequencies = Float32Array.from({ length: half }, (_, i) => maxPeriod ** (-i / half));
  const angles = tf.mul(tf.expandDims(tB, 1), tf.tensor(frequencies, [1, half]));
  return tf.concat([tf.cos(angles), tf.sin(angles)], -1);
}

/**
 * Sine-cosine features of times at random frequencies, `[sin(2π t w_i), cos(2π t w_i)]`. The frequencies are fixed: no
 * gradient goes back to them.
 *
 * *Source*: `GaussianFourierEmbedding` of bytetriper/RAE; random Fourier features (arXiv 2006.10739).
 *
 * @param tB times [B].
 * @param frequenciesF w [F], drawn once from a normal distribution.
 * @returns [B, 2·F].
 */
export function fourierFeatures(tB: tf.Tensor, frequenciesF: tf.Tensor): tf.Tensor {
  const angles = tf.mul(tf.expandDims(tB, 1), tf.mul(stopGradient(frequenciesF), 2 * Math.PI));
  return tf.concat([tf.sin(angles), tf.cos(angles)], -1);
}

/**
 * Initial table of an embedding, normal of standard deviation `std`.
 *
 * @param count number of entries; a table with a null class has one more than there are classes.
 * @param dim width of each vector.
 */
export function initEmbedding(
  rng: Rng,
  count: number,
  dim: number,
  std = 0.02,
): EmbeddingParams<HostTensor> {
  return { table: float32(truncatedNormal(rng, count * dim, std), [count, dim]) };
}

/**
 * Looks labels up in a table, as a product with one-hot rows, whose gradient is a plain product too.
 *
 * @param labelsB int32 [B], each in [0, count); a label outside gives zeros.
 * @returns [B, dim].
 */
export function embedLabels(labelsB: tf.Tensor, params: EmbeddingParams): tf.Tensor {
  const count = params.table.shape[0];
  const labels = tf.cast(labelsB, "int32") as tf.Tensor1D;
  // tf.oneHot needs two columns or more; a table of one row is that of no classes.
  const oneHot = count === 1
    ? tf.reshape(tf.equal(labels, 0), [labels.shape[0], 1])
    : tf.oneHot(labels, count);
  return tf.matMul(tf.cast(oneHot, "float32"), params.table);
}
