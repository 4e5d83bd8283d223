/**
 * The networks of the tiny autoencoders of the TAESD family: stacks of residual blocks without attention, which map
 * images to the latents of a large autoencoder and back.
 *
 * *Source*: `taesd.py` of madebyollin/taesd.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import {
  conv2dCHW,
  type ConvParams,
  groupNormSilu,
  type NormParams,
  upsampleConv2dCHW,
} from "novae/nn/mod.ts";
import { TO_CHW, TO_HWC } from "../decoder.ts";

/** Groups and epsilon of the normalisations in the blocks on the latent grid; PyTorch's default epsilon. */
const POOL_GROUPS = 4, POOL_EPS = 1e-5;

/** Latents stay within ±3 on their way into the decoder. */
const CLAMP = 3;

/** What the blocks on the latent grid of TAEF2 have beside the others: it sees the whole image. */
export interface TaesdPoolParams<T = tf.Tensor> {
  /** 1×1 convolution to four times the channels, without bias. */
  expand: T;
  /** Normalisation of the wide map. */
  norm: NormParams<T>;
  /** 1×1 convolution back, without bias. */
  reduce: T;
}

/** A block: three convolutions beside the identity. */
export interface TaesdBlockParams<T = tf.Tensor> {
  /** First convolution. */
  conv1: ConvParams<T>;
  /** Second convolution. */
  conv2: ConvParams<T>;
  /** Third convolution. */
  conv3: ConvParams<T>;
  /** On the latent grid of TAEF2 alone. */
  pool?: TaesdPoolParams<T>;
}

/** Blocks of one resolution. */
export interface TaesdStageParams<T = tf.Tensor> {
  /** 3×3 convolution without bias that halves the resolution, or follows its doubling; absent at the first stage. */
  resample?: T;
  /** Blocks, in order. */
  blocks: TaesdBlockParams<T>[];
}

/** An encoder from the image to the latents, or a decoder back. */
export interface TaesdNetworkParams<T = tf.Tensor> {
  /** First convolution. */
  convIn: ConvParams<T>;
  /** Four stages. */
  stages: TaesdStageParams<T>[];
  /** Last convolution. */
  convOut: ConvParams<T>;
}

/**
 * Latents of images.
 *
 * @param imageUnitBHWC `[B, H, W, 3]` in [0, 1]; 8 divides height and width.
 * @returns `[B, H/8, W/8, Z]`.
 */
export function encodeTaesd(imageUnitBHWC: tf.Tensor, params: TaesdNetworkParams): tf.Tensor4D {
  let x: tf.Tensor = conv2dCHW(tf.transpose(imageUnitBHWC, TO_CHW), params.convIn);
  for (const { resample, blocks } of params.stages) {
    if (resample) x = halve(x, resample);
    x = blocks.reduce(taesdBlock, x);
  }
  return tf.transpose(conv2dCHW(x, params.convOut), TO_HWC);
}

/**
 * Images of latents.
 *
 * @param zBIJZ `[B, I, J, Z]`.
 * @returns `imageUnit` `[B, 8·I, 8·J, 3]`, about [0, 1], not clipped.
 */
export function decodeTaesd(zBIJZ: tf.Tensor, params: TaesdNetworkParams): tf.Tensor4D {
  const clamped = tf.mul(tf.tanh(tf.div(zBIJZ, CLAMP)), CLAMP);
  let x = tf.relu(conv2dCHW(tf.transpose(clamped, TO_CHW), params.convIn)) as tf.Tensor;
  for (const { resample, blocks } of params.stages) {
    if (resample) x = upsampleConv2dCHW(x, unbiased(resample));
    x = blocks.reduce(taesdBlock, x);
  }
  return tf.transpose(conv2dCHW(x, params.convOut), TO_HWC);
}

/** `relu(conv(relu(conv(relu(conv(y))))) + y)`, `y = x + pool(x)` where there is a pool. */
function taesdBlock(x: tf.Tensor, params: TaesdBlockParams): tf.Tensor {
  const y = params.pool ? tf.add(x, pool(x, params.pool)) : x;
  const first = tf.relu(conv2dCHW(y, params.conv1)), second = tf.relu(conv2dCHW(first, params.conv2));
  return tf.relu(tf.add(conv2dCHW(second, params.conv3), y));
}

function pool(x: tf.Tensor, { expand, norm, reduce }: TaesdPoolParams): tf.Tensor {
  const wide = conv2dCHW(x, unbiased(expand));
  const normal = groupNormSilu(wide, POOL_GROUPS, norm.weight, norm.bias, "linear", POOL_EPS);
  return conv2dCHW(tf.relu(normal), unbiased(reduce));
}

/** Stride 2, padded by one on all sides; the row below and the column to the right of even maps are never seen. */
function halve(xBCHW: tf.Tensor, weight: tf.Tensor): tf.Tensor {
  const padded = tf.pad(xBCHW, [[0, 0], [0, 0], [1, 0], [1, 0]]);
  return conv2dCHW(padded, unbiased(weight), { stride: 2, padding: "valid" });
}

function unbiased(weight: tf.Tensor): ConvParams {
  return { weight, bias: tf.zeros([weight.shape[3]!]) };
}
