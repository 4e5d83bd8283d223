/**
 * The residual encoder of SVG: a small vision transformer that adds to the frozen features what they leave out.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { float32, type HostTensor, type Rng, zeros } from "novae/tensor/mod.ts";
import {
  type AttentionParams,
  initAttention,
  initLinear,
  initMlp,
  initNorm,
  linear,
  type LinearParams,
  mlp,
  type MlpParams,
  norm,
  type NormParams,
  selfAttention,
  spaceToDepth,
} from "novae/nn/mod.ts";

/** Epsilon of the layer normalisations: torchvision's default. */
const NORM_EPS = 1e-6;

/** Form of the residual encoder. */
export interface ResidualConfig {
  /** Residual channels R. */
  readonly channels: number;
  /** Width of the transformer. */
  readonly width: number;
  /** Number of transformer blocks. */
  readonly depth: number;
  /** Attention heads; they divide the width. */
  readonly heads: number;
  /** Hidden width of the perceptrons as a multiple of `width`. */
  readonly mlpRatio: number;
  /** `geluErf` (exact, torchvision's) or `gelu` (the tanh approximation, which is faster). */
  readonly activation: "gelu" | "geluErf";
  /** Whether a learned class token takes part in the attention; its output is dropped. */
  readonly classToken: boolean;
  /** Probability that a training image's residual is replaced by the learned mask token. */
  readonly maskProbability: number;
}

/** The published residual encoder, without its dropout of 0.1. */
export const PUBLISHED_RESIDUAL: ResidualConfig = {
  channels: 8,
  width: 384,
  depth: 6,
  heads: 8,
  mlpRatio: 4,
  activation: "geluErf",
  classToken: true,
  maskProbability: 0.1,
};

/** Parameters of one transformer block. */
export interface ResidualBlockParams<T = tf.Tensor> {
  /** Normalisation before the attention. */
  norm1: NormParams<T>;
  /** Self-attention. */
  attention: AttentionParams<T>;
  /** Normalisation before the perceptron. */
  norm2: NormParams<T>;
  /** Perceptron. */
  mlp: MlpParams<T>;
}

/** Parameters of the residual encoder. */
export interface ResidualEncoderParams<T = tf.Tensor> {
  /** Linear map of a patch's pixels. */
  patch: LinearParams<T>;
  /** `[1, N, width]`, one row more with a class token, which comes first. */
  positions: T;
  /** `[1, 1, width]`. */
  classToken?: T;
  /** Transformer blocks, in order. */
  blocks: ResidualBlockParams<T>[];
  /** Last normalisation. */
  norm: NormParams<T>;
  /** Maps each token to R channels. */
  head: MlpParams<T>;
  /** `[1, 1, R]`: stands for the residual of an image whose residual is masked. */
  maskToken: T;
}

/**
 * A new residual encoder.
 *
 * @param patchSize rows and columns of pixels a token.
 * @param tokens number of tokens N of an image.
 */
export function initResidualEncoder(
  rng: Rng,
  config: ResidualConfig,
  patchSize: number,
  tokens: number,
): ResidualEncoderParams<HostTensor> {
  const { width, channels, mlpRatio } = config;
  const normal = (label: string, shape: number[]) =>
    float32(rng.split(label).normal(shape.reduce((a, b) => a * b, 1)).map((v) => 0.02 * v), shape);
  const params: ResidualEncoderParams<HostTensor> = {
    patch: initLinear(rng.split("patch"), 3 * patchSize ** 2, width),
    positions: normal("positions", [1, tokens + (config.classToken ? 1 : 0), width]),
    blocks: Array.from({ length: config.depth }, (_, i) => {
      const own = rng.split("block", i);
      return {
        norm1: initNorm(width),
        attention: initAttention(own.split("attention"), width, config.heads),
        norm2: initNorm(width),
        mlp: initMlp(own.split("mlp"), width, mlpRatio * width),
      };
    }),
    norm: initNorm(width),
    head: {
      fc1: initLinear(rng.split("head1"), width, width),
      fc2: initLinear(rng.split("head2"), width, channels),
    },
    maskToken: normal("maskToken", [1, 1, channels]),
  };
  if (config.classToken) params.classToken = zeros([1, 1, width]);
  return params;
}

/**
 * Residual features of images, before masking and alignment.
 *
 * *Source*: `create_small_vit_s` of SVG, torchvision's `VisionTransformer` (pre-norm blocks, learned positions, exact
 * GELU) with the head Linear, GELU, Linear on each token. *Differs*: no dropout; the class token can be left out,
 * since its output is never used.
 *
 * @param imageDinoBHWC images as the frozen encoder sees them (ImageNet-normalised).
 * @returns `[B, N, R]`.
 */
export function encodeResidual(
  imageDinoBHWC: tf.Tensor,
  params: ResidualEncoderParams,
  config: ResidualConfig,
): tf.Tensor {
  const patchSize = Math.sqrt(params.patch.weight.shape[0] / 3);
  const blocks = spaceToDepth(imageDinoBHWC, patchSize);
  const [batch, rows, columns, depth] = blocks.shape;
  let x = linear(tf.reshape(blocks, [batch, rows * columns, depth]), params.patch);
  if (params.classToken) {
    x = tf.concat([tf.tile(params.classToken, [batch, 1, 1]), x], 1);
  }
  x = tf.add(x, params.positions);
  for (const block of params.blocks) {
    const attended = selfAttention(norm(x, block.norm1, NORM_EPS), block.attention, { heads: config.heads });
    x = tf.add(x, attended);
    x = tf.add(x, mlp(norm(x, block.norm2, NORM_EPS), block.mlp, config.activation));
  }
  if (params.classToken) x = tf.slice(x, [0, 1, 0], [batch, rows * columns, config.width]);
  return mlp(norm(x, params.norm, NORM_EPS), params.head, config.activation);
}

/**
 * Modality dropout: replaces whole residual maps by the learned mask token.
 *
 * `r ← r + mask·(token − r)`
 *
 * @param residualBNR residual features.
 * @param maskB 1 for the images that lose their residual, else 0; drawn by the caller.
 */
export function maskResidual(residualBNR: tf.Tensor, maskToken: tf.Tensor, maskB: tf.Tensor): tf.Tensor {
  const mask = tf.reshape(maskB, [-1, 1, 1]);
  return tf.add(tf.mul(residualBNR, tf.sub(1, mask)), tf.mul(maskToken, mask));
}
