/**
 * The convolutional decoder, the same for all latent spaces up to its first convolution.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import type { HostTensor, Rng } from "novae/tensor/mod.ts";
import {
  conv2dCHW,
  type ConvParams,
  depthToSpace,
  initConv,
  initNorm,
  type NormParams,
  upsampleConv2dCHW,
} from "novae/nn/mod.ts";
import {
  initResnetBlock,
  initSpatialAttention,
  normSilu,
  resnetBlock,
  type ResnetBlockParams,
  spatialAttention,
  type SpatialAttentionParams,
} from "./resnet_block.ts";

/** Form of the decoder; the encoder of the `vae` mirrors it. */
export interface DecoderConfig {
  /** Channels of each level, from the latent grid to the image; each further level doubles the resolution. */
  readonly channels: readonly number[];
  /** Residual blocks a level. */
  readonly blocks: number;
  /** Whether the middle has attention between its two residual blocks. */
  readonly midAttention: boolean;
  /** Number of levels, counted from the latent grid, with attention after each residual block. */
  readonly attentionLevels: number;
  /** Rows and columns of pixels that one place of the last level stands for; 1 in the published decoder. */
  readonly outPatch: number;
  /**
   * Groups of every normalisation; by the channels if omitted, see `groupCount`. Latent diffusion and SVG always have
   * 32, which the rule gives from 128 channels on.
   */
  readonly groups?: number;
}

/** Parameters of one level of the decoder. */
export interface DecoderLevelParams<T = tf.Tensor> {
  /** Residual blocks, in order. */
  blocks: ResnetBlockParams<T>[];
  /** One attention a residual block, or none at all. */
  attentions: SpatialAttentionParams<T>[];
  /** Convolution after the up-sampling to the next level; absent at the last. */
  upsample?: ConvParams<T>;
}

/** Parameters of the decoder. */
export interface DecoderParams<T = tf.Tensor> {
  /** 1×1 convolution of the latents before the first; only in variational autoencoders as published. */
  postQuantConv?: ConvParams<T>;
  /** First convolution, from Z channels. */
  convIn: ConvParams<T>;
  /** The middle, on the latent grid. */
  mid: MidParams<T>;
  /** Levels from the latent grid to the image. */
  levels: DecoderLevelParams<T>[];
  /** Last normalisation. */
  normOut: NormParams<T>;
  /** Last convolution, to three channels a pixel. */
  convOut: ConvParams<T>;
}

/** Parameters of the middle: residual block, attention, residual block. */
export interface MidParams<T = tf.Tensor> {
  /** First residual block. */
  block1: ResnetBlockParams<T>;
  /** Attention between the blocks, if there is one. */
  attention?: SpatialAttentionParams<T>;
  /** Second residual block. */
  block2: ResnetBlockParams<T>;
}

/** Orders of the axes between channels last and channels first. */
export const TO_CHW = [0, 3, 1, 2], TO_HWC = [0, 2, 3, 1];

/** How many pixels a side one latent token stands for: `2^(levels − 1) · outPatch`. */
export function decoderScale(config: DecoderConfig): number {
  return 2 ** (config.channels.length - 1) * config.outPatch;
}

/** Number of parameters in closed form; 43,076,483 for the published decoder of 392 channels. */
export function countDecoderParams(config: DecoderConfig, latentChannels: number): number {
  const conv = (kernel: number, from: number, to: number) => kernel ** 2 * from * to + to;
  const block = (from: number, to: number) =>
    2 * from + conv(3, from, to) + 2 * to + conv(3, to, to) + (from === to ? 0 : conv(1, from, to));
  const attention = (width: number) => 2 * width + 4 * conv(1, width, width);
  const { channels, blocks, midAttention, attentionLevels, outPatch } = config;
  const first = channels[0], last = channels[channels.length - 1];
  let sum = conv(3, latentChannels, first) + 2 * block(first, first) + (midAttention ? attention(first) : 0);
  channels.forEach((width, level) => {
    sum += block(channels[Math.max(level - 1, 0)], width) + (blocks - 1) * block(width, width);
    if (level < attentionLevels) sum += blocks * attention(width);
    if (level < channels.length - 1) sum += conv(3, width, width);
  });
  return sum + 2 * last + conv(3, last, 3 * outPatch ** 2);
}

/**
 * A new decoder.
 *
 * @param latentChannels Z.
 */
export function initDecoder(
  rng: Rng,
  config: DecoderConfig,
  latentChannels: number,
): DecoderParams<HostTensor> {
  const { channels } = config;
  const last = channels[channels.length - 1];
  return {
    convIn: initConv(rng.split("convIn"), 3, latentChannels, channels[0]),
    mid: initMid(rng.split("mid"), config, channels[0]),
    levels: channels.map((width, level) => {
      const own = rng.split("level", level), before = channels[Math.max(level - 1, 0)];
      const params: DecoderLevelParams<HostTensor> = {
        blocks: Array.from(
          { length: config.blocks },
          (_, i) => initResnetBlock(own.split("block", i), i === 0 ? before : width, width),
        ),
        attentions: initLevelAttentions(own, config, level),
      };
      if (level < channels.length - 1) params.upsample = initConv(own.split("upsample"), 3, width, width);
      return params;
    }),
    normOut: initNorm(last),
    convOut: initConv(rng.split("convOut"), 3, last, 3 * config.outPatch ** 2),
  };
}

/** A new middle of the encoder or decoder. */
export function initMid(rng: Rng, config: DecoderConfig, channels: number): MidParams<HostTensor> {
  const params: MidParams<HostTensor> = {
    block1: initResnetBlock(rng.split("block1"), channels, channels),
    block2: initResnetBlock(rng.split("block2"), channels, channels),
  };
  if (config.midAttention) params.attention = initSpatialAttention(rng.split("attention"), channels);
  return params;
}

/** New attentions of one level, counted from the latent grid: one a residual block, or none. */
export function initLevelAttentions(
  rng: Rng,
  config: DecoderConfig,
  level: number,
  blocks = config.blocks,
): SpatialAttentionParams<HostTensor>[] {
  const count = level < config.attentionLevels ? blocks : 0;
  return Array.from(
    { length: count },
    (_, i) => initSpatialAttention(rng.split("attention", i), config.channels[level]),
  );
}

/** Applies the middle; `groups` as in the settings. */
export function applyMid(xBCHW: tf.Tensor, params: MidParams, groups?: number): tf.Tensor {
  const first = resnetBlock(xBCHW, params.block1, groups);
  const mixed = params.attention ? spatialAttention(first, params.attention, groups) : first;
  return resnetBlock(mixed, params.block2, groups);
}

/** Applies the residual blocks of a level, each followed by its attention if there is one. */
export function applyBlocks(
  xBCHW: tf.Tensor,
  level: { blocks: ResnetBlockParams[]; attentions: SpatialAttentionParams[] },
  groups?: number,
): tf.Tensor {
  return level.blocks.reduce((x, block, i) => {
    const y = resnetBlock(x, block, groups);
    return level.attentions[i] ? spatialAttention(y, level.attentions[i], groups) : y;
  }, xBCHW);
}

/**
 * Decodes a latent grid: convolution, middle (residual, attention, residual), levels of residual blocks with
 * nearest-neighbour up-sampling and a convolution between them, normalisation, SiLU, convolution.
 *
 * *Source*: `Decoder` in `ldm/modules/diffusionmodules/model.py` of CompVis/latent-diffusion, as SVG uses it: latents
 * not normalised, no tanh; the convolution after the quantiser where there is one, which SVG has not. *Differs*: with
 * `outPatch` above 1 the last convolution gives blocks of pixels, which spares the level of the full resolution.
 *
 * @param zBIJZ latents `[B, I, J, Z]`.
 * @param groups as in the settings.
 * @returns `imageSigned` `[B, H, W, 3]`, about [−1, 1], not clipped.
 */
export function decodeLatents(zBIJZ: tf.Tensor, params: DecoderParams, groups?: number): tf.Tensor4D {
  return decodePixels(decodeFeatures(zBIJZ, params, groups), params.convOut);
}

/**
 * {@linkcode decodeLatents} up to its last convolution.
 *
 * @param zBIJZ latents `[B, I, J, Z]`.
 * @param groups as in the settings.
 * @returns channels-first maps `[B, C, H / outPatch, W / outPatch]`.
 */
export function decodeFeatures(
  zBIJZ: tf.Tensor,
  params: Omit<DecoderParams, "convOut">,
  groups?: number,
): tf.Tensor {
  let x: tf.Tensor = tf.transpose(zBIJZ, TO_CHW);
  if (params.postQuantConv) x = conv2dCHW(x, params.postQuantConv);
  x = applyMid(conv2dCHW(x, params.convIn), params.mid, groups);
  for (const level of params.levels) {
    x = applyBlocks(x, level, groups);
    if (level.upsample) x = upsampleConv2dCHW(x, level.upsample);
  }
  return normSilu(x, params.normOut, groups);
}

/**
 * The last convolution of {@linkcode decodeLatents}.
 *
 * @param featuresBCHW what {@linkcode decodeFeatures} gives.
 * @returns `imageSigned` `[B, H, W, 3]`.
 */
export function decodePixels(featuresBCHW: tf.Tensor, convOut: ConvParams): tf.Tensor4D {
  const pixels = tf.transpose(conv2dCHW(featuresBCHW, convOut), TO_HWC) as tf.Tensor4D;
  const block = Math.sqrt(convOut.bias.shape[0] / 3);
  return block === 1 ? pixels : depthToSpace(pixels, block);
}
