/**
 * The blocks of the convolutional encoder and decoder of latent diffusion.
 *
 * *Source*: `ldm/modules/diffusionmodules/model.py` of CompVis/latent-diffusion (`ResnetBlock`, `AttnBlock`).
 * *Differs*: no dropout, no time embedding; the number of groups of each normalisation follows
 * {@linkcode groupCount}, which gives 32 at the published widths.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import type { HostTensor, Rng } from "novae/tensor/mod.ts";
import { attention } from "novae/engine/mod.ts";
import {
  conv2dCHW,
  type ConvParams,
  groupNormSilu,
  initConv,
  initNorm,
  linear,
  type NormParams,
} from "novae/nn/mod.ts";

/** Parameters of a residual block; `shortcut` where the number of channels changes. */
export interface ResnetBlockParams<T = tf.Tensor> {
  /** Normalisation before the first convolution. */
  norm1: NormParams<T>;
  /** First convolution. */
  conv1: ConvParams<T>;
  /** Normalisation before the second convolution. */
  norm2: NormParams<T>;
  /** Second convolution. */
  conv2: ConvParams<T>;
  /** 1×1 convolution beside the branch. */
  shortcut?: ConvParams<T>;
}

/** Parameters of a one-head self-attention over all places of a feature map. */
export interface SpatialAttentionParams<T = tf.Tensor> {
  /** Normalisation before the attention. */
  norm: NormParams<T>;
  /** 1×1 convolution to queries. */
  query: ConvParams<T>;
  /** 1×1 convolution to keys. */
  key: ConvParams<T>;
  /** 1×1 convolution to values. */
  value: ConvParams<T>;
  /** 1×1 convolution of what was attended to. */
  proj: ConvParams<T>;
}

/**
 * Groups of a normalisation over `channels`: the largest divisor of the channels that is at most 32 and leaves at
 * least four channels a group.
 *
 * With fewer channels a group the normalisation would take the contrast out of single maps.
 */
export function groupCount(channels: number): number {
  let groups = Math.max(Math.min(32, Math.floor(channels / 4)), 1);
  while (channels % groups !== 0) groups--;
  return groups;
}

/**
 * Group normalisation followed by SiLU, which precedes every convolution of a block.
 *
 * @param groups {@linkcode groupCount} of the channels if omitted.
 */
export function normSilu(
  xBCHW: tf.Tensor,
  params: NormParams,
  groups: number = groupCount(xBCHW.shape[1]!),
): tf.Tensor {
  return groupNormSilu(xBCHW, groups, params.weight, params.bias);
}

/** A new residual block. */
export function initResnetBlock(
  rng: Rng,
  inChannels: number,
  outChannels: number,
): ResnetBlockParams<HostTensor> {
  const params: ResnetBlockParams<HostTensor> = {
    norm1: initNorm(inChannels),
    conv1: initConv(rng.split("conv1"), 3, inChannels, outChannels),
    norm2: initNorm(outChannels),
    conv2: initConv(rng.split("conv2"), 3, outChannels, outChannels),
  };
  if (inChannels !== outChannels) {
    params.shortcut = initConv(rng.split("shortcut"), 1, inChannels, outChannels);
  }
  return params;
}

/**
 * Residual block: `shortcut(x) + conv(silu(norm(conv(silu(norm(x))))))`.
 *
 * @param xBCHW `[B, in, H, W]`.
 * @param groups of both normalisations; {@linkcode groupCount} of their channels if omitted.
 * @returns `[B, out, H, W]`.
 */
export function resnetBlock(xBCHW: tf.Tensor, params: ResnetBlockParams, groups?: number): tf.Tensor {
  const inner = conv2dCHW(normSilu(xBCHW, params.norm1, groups), params.conv1);
  const outer = conv2dCHW(normSilu(inner, params.norm2, groups), params.conv2);
  return tf.add(params.shortcut ? conv2dCHW(xBCHW, params.shortcut) : xBCHW, outer);
}

/** A new spatial attention. */
export function initSpatialAttention(rng: Rng, channels: number): SpatialAttentionParams<HostTensor> {
  const conv = (label: string) => initConv(rng.split(label), 1, channels, channels);
  return {
    norm: initNorm(channels),
    query: conv("query"),
    key: conv("key"),
    value: conv("value"),
    proj: conv("proj"),
  };
}

/**
 * Self-attention of one head over all places: `x + proj(softmax(q·kᵀ/√C)·v)`.
 *
 * @param xBCHW `[B, C, H, W]`.
 * @param groups of the normalisation; {@linkcode groupCount} of the channels if omitted.
 * @returns the same shape.
 */
export function spatialAttention(
  xBCHW: tf.Tensor,
  params: SpatialAttentionParams,
  groups: number = groupCount(xBCHW.shape[1]!),
): tf.Tensor {
  const [batch, channels, height, width] = xBCHW.shape;
  const { weight, bias } = params.norm;
  const normed = groupNormSilu(xBCHW, groups, weight, bias, "linear");
  const tokens = tf.transpose(tf.reshape(normed, [batch, channels, height * width]), [0, 2, 1]);
  const map = (x: tf.Tensor, conv: ConvParams) =>
    linear(x, { weight: tf.reshape(conv.weight, [channels, channels]), bias: conv.bias });
  const heads = [params.query, params.key, params.value].map((conv) => tf.expandDims(map(tokens, conv), 1));
  const mixed = tf.squeeze(attention(heads[0], heads[1], heads[2]), [1]);
  const added = tf.transpose(map(mixed, params.proj), [0, 2, 1]);
  return tf.add(xBCHW, tf.reshape(added, xBCHW.shape));
}
