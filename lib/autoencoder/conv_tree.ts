/**
 * The weights of the convolutional encoder and decoder as trees of paths and shapes, without values: what a weight file
 * must hold, and how many weights there are.
 *
 * @module
 */
import type { ConvParams, NormParams } from "novae/nn/mod.ts";
import type { DecoderConfig, DecoderParams, MidParams } from "./decoder.ts";
import type { ResnetBlockParams, SpatialAttentionParams } from "./resnet_block.ts";
import type { ConvEncoderParams, VaeConfig } from "./vae/mod.ts";

/** Makes a weight of its path, e.g. `decoder.levels.0.blocks.1.conv1.weight`, and its shape. */
export type WeightOf<T> = (path: string, shape: readonly number[]) => T;

/**
 * The weights of a decoder, below the path `decoder`.
 *
 * @param latentChannels Z.
 * @param postQuantConv whether a 1×1 convolution of the latents comes first.
 */
export function decoderTree<T>(
  config: DecoderConfig,
  latentChannels: number,
  postQuantConv: boolean,
  weight: WeightOf<T>,
): DecoderParams<T> {
  const { channels, blocks } = config, last = channels.length - 1, at = "decoder";
  const { conv, norm, level, mid } = modules(weight);
  return {
    convIn: conv(`${at}.convIn`, 3, latentChannels, channels[0]),
    mid: mid(`${at}.mid`, channels[0], config.midAttention),
    levels: channels.map((width, i) => {
      const path = `${at}.levels.${i}`, attentions = i < config.attentionLevels ? blocks : 0;
      return {
        ...level(path, channels[Math.max(i - 1, 0)], width, blocks, attentions),
        ...(i < last && { upsample: conv(`${path}.upsample`, 3, width, width) }),
      };
    }),
    normOut: norm(`${at}.normOut`, channels[last]),
    convOut: conv(`${at}.convOut`, 3, channels[last], 3 * config.outPatch ** 2),
    ...(postQuantConv && { postQuantConv: conv(`${at}.postQuantConv`, 1, latentChannels, latentChannels) }),
  };
}

/** The weights of the encoder of a variational autoencoder, below the path `encoder`. */
export function convEncoderTree<T>(
  config: DecoderConfig,
  vae: VaeConfig,
  weight: WeightOf<T>,
): ConvEncoderParams<T> {
  const { encoderBlocks = config.blocks, quantConvs = false } = vae, moments = 2 * vae.channels;
  const channels = config.channels.toReversed(), last = channels.length - 1, at = "encoder";
  const { conv, norm, level, mid } = modules(weight);
  return {
    convIn: conv(`${at}.convIn`, 3, 3 * config.outPatch ** 2, channels[0]),
    levels: channels.map((width, i) => {
      const path = `${at}.levels.${i}`, attentions = last - i < config.attentionLevels ? encoderBlocks : 0;
      return {
        ...level(path, channels[Math.max(i - 1, 0)], width, encoderBlocks, attentions),
        ...(i < last && { downsample: conv(`${path}.downsample`, 3, width, width) }),
      };
    }),
    mid: mid(`${at}.mid`, channels[last], config.midAttention),
    normOut: norm(`${at}.normOut`, channels[last]),
    convOut: conv(`${at}.convOut`, 3, channels[last], moments),
    ...(quantConvs && { quantConv: conv(`${at}.quantConv`, 1, moments, moments) }),
  };
}

/** The weights of each kind of module. */
function modules<T>(weight: WeightOf<T>) {
  const conv = (at: string, kernel: number, from: number, to: number): ConvParams<T> => ({
    weight: weight(`${at}.weight`, [kernel, kernel, from, to]),
    bias: weight(`${at}.bias`, [to]),
  });
  const norm = (at: string, width: number): NormParams<T> => ({
    weight: weight(`${at}.weight`, [width]),
    bias: weight(`${at}.bias`, [width]),
  });
  const block = (at: string, from: number, to: number): ResnetBlockParams<T> => ({
    norm1: norm(`${at}.norm1`, from),
    conv1: conv(`${at}.conv1`, 3, from, to),
    norm2: norm(`${at}.norm2`, to),
    conv2: conv(`${at}.conv2`, 3, to, to),
    ...(from !== to && { shortcut: conv(`${at}.shortcut`, 1, from, to) }),
  });
  const attention = (at: string, width: number): SpatialAttentionParams<T> => ({
    norm: norm(`${at}.norm`, width),
    query: conv(`${at}.query`, 1, width, width),
    key: conv(`${at}.key`, 1, width, width),
    value: conv(`${at}.value`, 1, width, width),
    proj: conv(`${at}.proj`, 1, width, width),
  });
  const mid = (at: string, width: number, attends: boolean): MidParams<T> => ({
    block1: block(`${at}.block1`, width, width),
    block2: block(`${at}.block2`, width, width),
    ...(attends && { attention: attention(`${at}.attention`, width) }),
  });
  const level = (at: string, from: number, to: number, blocks: number, attentions: number) => ({
    blocks: Array.from({ length: blocks }, (_, i) => block(`${at}.blocks.${i}`, i === 0 ? from : to, to)),
    attentions: Array.from({ length: attentions }, (_, i) => attention(`${at}.attentions.${i}`, to)),
  });
  return { conv, norm, mid, level };
}
