/**
 * Multi-head self-attention with optional query-key normalisation and rotary positions.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import type { HostTensor, Rng } from "novae/tensor/mod.ts";
import { attention } from "novae/engine/mod.ts";
import { initLinear, type InitLinearOptions, linear, type LinearParams } from "./linear.ts";
import { initNorm, norm, type NormParams, type RmsNormParams } from "./norm.ts";
import { applyRope, type RopeTable } from "./positions.ts";

/** Weights of self-attention: `qkv` maps D to 3·D (queries, keys, values), `proj` D to D. */
export interface AttentionParams<T = tf.Tensor> {
  /** [D, 3·D]. */
  qkv: LinearParams<T>;
  /** [D, D]. */
  proj: LinearParams<T>;
  /** Normalisation of each query over the head width. */
  qNorm?: NormParams<T> | RmsNormParams<T>;
  /** Normalisation of each key over the head width. */
  kNorm?: NormParams<T> | RmsNormParams<T>;
}

/** Options of {@link initAttention}. */
export interface InitAttentionOptions extends InitLinearOptions {
  /** Whether queries and keys are normalised; default false. */
  qkNorm?: boolean;
}

/** Options of {@link selfAttention}. */
export interface SelfAttentionOptions {
  /** Number of heads A; must divide the width. */
  heads: number;
  /** Rotary positions applied to queries and keys after their normalisation. */
  rope?: RopeTable;
  /** Epsilon of the query-key normalisation; default 1e-5. */
  eps?: number;
  /** Factors of the attention weights [B, A, N, N], such as dropout draws; all weights count fully unless given. */
  weightFactors?: tf.Tensor;
}

/**
 * Initial weights of self-attention.
 *
 * @param dim width D of the tokens.
 * @param heads number of heads A.
 * @throws RangeError if the heads do not divide the width.
 */
export function initAttention(
  rng: Rng,
  dim: number,
  heads: number,
  options: InitAttentionOptions = {},
): AttentionParams<HostTensor> {
  const headDim = headWidth(dim, heads);
  const params: AttentionParams<HostTensor> = {
    qkv: initLinear(rng.split("qkv"), dim, 3 * dim, options),
    proj: initLinear(rng.split("proj"), dim, dim, options),
  };
  if (options.qkNorm) {
    params.qNorm = initNorm(headDim);
    params.kNorm = initNorm(headDim);
  }
  return params;
}

/**
 * Multi-head self-attention, `proj(softmax(q kᵀ / √K) v)` for each head of width K = D / A; with `weightFactors` f,
 * `proj((f ∘ softmax(q kᵀ / √K)) v)`.
 *
 * @param xBND tokens [B, N, D].
 * @returns [B, N, D].
 * @throws TypeError if `xBND` is not of rank 3; RangeError if the heads do not divide the width.
 */
export function selfAttention(
  xBND: tf.Tensor,
  params: AttentionParams,
  options: SelfAttentionOptions,
): tf.Tensor {
  const [qBANK, kBANK, vBANK] = splitHeads(xBND, params, options);
  const { weightFactors } = options;
  const ofHeads = weightFactors
    ? tf.matMul(tf.mul(weightsOf(qBANK, kBANK), weightFactors), vBANK)
    : attention(qBANK, kBANK, vBANK);
  return linear(tf.reshape(tf.transpose(ofHeads, [0, 2, 1, 3]), xBND.shape), params.proj);
}

/**
 * The weights with which {@link selfAttention} mixes values, `softmax(q kᵀ / √K)` for each head.
 *
 * @param xBND tokens [B, N, D].
 * @param queries number of leading tokens whose weights are wanted; all N unless given.
 * @returns [B, A, queries, N]; the last axis sums to 1.
 * @throws TypeError if `xBND` is not of rank 3; RangeError if the heads do not divide the width.
 */
export function selfAttentionWeights(
  xBND: tf.Tensor,
  params: AttentionParams,
  options: SelfAttentionOptions,
  queries: number = xBND.shape[1]!,
): tf.Tensor {
  const [qBANK, kBANK] = splitHeads(xBND, params, options);
  const asking = tf.slice(qBANK, [0, 0, 0, 0], [-1, -1, queries, -1]);
  return weightsOf(asking, kBANK);
}

function weightsOf(qBANK: tf.Tensor, kBANK: tf.Tensor): tf.Tensor {
  const scaled = tf.mul(qBANK, 1 / Math.sqrt(qBANK.shape[3]!));
  return tf.softmax(tf.matMul(scaled, kBANK, false, true));
}

/** Queries, keys and values [B, A, N, K], normalised and rotated where asked for. */
function splitHeads(xBND: tf.Tensor, params: AttentionParams, options: SelfAttentionOptions): tf.Tensor[] {
  if (xBND.rank !== 3) {
    throw new TypeError(`Cannot attend: tokens must be of shape [B, N, D], got [${xBND.shape}]`);
  }
  const [batch, tokens, dim] = xBND.shape;
  const headDim = headWidth(dim, options.heads);
  const split = tf.transpose(
    tf.reshape(linear(xBND, params.qkv), [batch, tokens, 3, options.heads, headDim]),
    [2, 0, 3, 1, 4],
  );
  let [qBANK, kBANK, vBANK] = tf.unstack(split, 0);
  const eps = options.eps ?? 1e-5;
  if (params.qNorm) qBANK = norm(qBANK, params.qNorm, eps);
  if (params.kNorm) kBANK = norm(kBANK, params.kNorm, eps);
  if (options.rope) {
    qBANK = applyRope(qBANK, options.rope);
    kBANK = applyRope(kBANK, options.rope);
  }
  return [qBANK, kBANK, vBANK];
}

function headWidth(dim: number, heads: number): number {
  if (heads < 1 || dim % heads !== 0) {
    throw new RangeError(`Cannot split width ${dim} into ${heads} heads: the heads must divide the width`);
  }
  return dim / heads;
}
