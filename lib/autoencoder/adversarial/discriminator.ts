/**
 * PatchGAN: a small convolutional network that says of each patch of an image whether it looks real.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { ConfigError, float32, type HostTensor, type Rng, zeros } from "novae/tensor/mod.ts";
import {
  conv2dCHW,
  convolveCHW,
  type ConvOptions,
  type ConvParams,
  initConv,
  type NormParams,
} from "novae/nn/mod.ts";
import { TO_CHW, TO_HWC } from "../decoder.ts";
import { batchNorm, batchNormBy, type ChannelStatistics, initStatistics } from "./batch_norm.ts";

/** Form of a discriminator. */
export interface DiscriminatorConfig {
  /** Channels of its first map; they double at each layer, up to eight times. 64 in the published one. */
  readonly channels: number;
  /** Convolutions of stride 2, the first included. 3 in the published one. */
  readonly layers: number;
}

/** A convolution without a bias and the batch normalisation behind it. */
export interface DiscriminatorBlockParams<T = tf.Tensor> {
  /** Kernel `[4, 4, in, out]`. */
  kernel: T;
  /** Scale and shift of the normalisation. */
  norm: NormParams<T>;
}

/** Parameters of a discriminator. */
export interface DiscriminatorParams<T = tf.Tensor> {
  /** First convolution, from the image. */
  first: ConvParams<T>;
  /** Convolutions with a normalisation; all but the last have stride 2. */
  blocks: DiscriminatorBlockParams<T>[];
  /** Last convolution, to one logit a place. */
  last: ConvParams<T>;
}

/** A discriminator: what is trained of it, and what it gathers on the way. */
export interface Discriminator<T = tf.Tensor> {
  /** What is trained. */
  params: DiscriminatorParams<T>;
  /** Running statistics of the normalisations; training does not use them. */
  statistics: ChannelStatistics<T>[];
}

/** The discriminator of latent diffusion and SVG: 2,765,633 parameters, patches of 70 pixels. */
export const PUBLISHED_DISCRIMINATOR: DiscriminatorConfig = { channels: 64, layers: 3 };

const KERNEL = 4, PADDING = 1, SLOPE = 0.2, INIT_STD = 0.02;

/** Channels behind the first convolution and behind each block. */
function widths({ channels, layers }: DiscriminatorConfig): number[] {
  return Array.from({ length: layers + 1 }, (_, n) => channels * Math.min(2 ** n, 8));
}

/** Fewest rows and columns of images of which a discriminator has a logit: `3·2^layers`, 24 for the published one. */
export function leastDiscriminatorImage({ layers }: Pick<DiscriminatorConfig, "layers">): number {
  return 3 * 2 ** layers;
}

/**
 * Checks that images are large enough for a discriminator.
 *
 * @throws ConfigError if they are not.
 */
export function expectDiscriminatorImage(config: DiscriminatorConfig, imageSize: number): void {
  const least = leastDiscriminatorImage(config);
  if (imageSize >= least) return;
  throw new ConfigError(
    `Cannot train against a discriminator of ${config.layers} layers: images must have at least ` +
      `${least} × ${least} pixels, got ${imageSize} × ${imageSize}`,
  );
}

/**
 * A new discriminator: kernels normal with spread 0.02, gains of the normalisations normal around 1 with the same,
 * biases of the first and last convolution as PyTorch begins them.
 *
 * *Source*: `NLayerDiscriminator` and `weights_init` in `taming/modules/discriminator/model.py` of
 * CompVis/taming-transformers.
 */
export function initDiscriminator(rng: Rng, config: DiscriminatorConfig): Discriminator<HostTensor> {
  const channels = widths(config);
  const kernel = (label: string, from: number, to: number): HostTensor => {
    const shape = [KERNEL, KERNEL, from, to];
    const data = rng.split(label).normal(KERNEL * KERNEL * from * to).map((v) => INIT_STD * v);
    return float32(data, shape);
  };
  const conv = (label: string, from: number, to: number): ConvParams<HostTensor> => ({
    weight: kernel(label, from, to),
    bias: initConv(rng.split(label, "bias"), KERNEL, from, to).bias,
  });
  const blocks = channels.slice(1).map((to, i): DiscriminatorBlockParams<HostTensor> => ({
    kernel: kernel(`block${i}`, channels[i], to),
    norm: {
      weight: float32(rng.split(`gain${i}`).normal(to).map((v) => 1 + INIT_STD * v), [to]),
      bias: zeros([to]),
    },
  }));
  const params = { first: conv("first", 3, channels[0]), blocks, last: conv("last", channels.at(-1)!, 1) };
  return { params, statistics: channels.slice(1).map(initStatistics) };
}

/**
 * Judges images as in training, by the statistics of the batch.
 *
 * *Source*: `NLayerDiscriminator` (Isola et al., arXiv 1611.07004): 4×4 convolutions with a padding of 1, leaky
 * rectifiers of slope 0.2, batch normalisation behind all but the first and last. *Differs*: no ActNorm.
 *
 * @param imageSignedBHWC images in [−1, 1].
 * @returns logits `[B, I, J, 1]`, large for what looks real, and the running statistics after this batch.
 * @throws TypeError if the images are too small.
 */
export function discriminate(
  imageSignedBHWC: tf.Tensor,
  { params, statistics }: Discriminator,
): { logits: tf.Tensor; statistics: ChannelStatistics[] } {
  const after: ChannelStatistics[] = [];
  const logits = patchLogits(imageSignedBHWC, params, (x, norm, i) => {
    const { y, running } = batchNorm(x, norm, statistics[i]);
    after.push(running);
    return y;
  });
  return { logits, statistics: after };
}

/**
 * Judges images by the running statistics, so that the logits of one do not depend on the others.
 *
 * @param imageSignedBHWC images in [−1, 1].
 * @returns logits `[B, I, J, 1]`.
 * @throws TypeError if the images are too small.
 */
export function judge(imageSignedBHWC: tf.Tensor, { params, statistics }: Discriminator): tf.Tensor {
  return patchLogits(imageSignedBHWC, params, (x, norm, i) => batchNormBy(x, norm, statistics[i]));
}

function patchLogits(
  imageSignedBHWC: tf.Tensor,
  { first, blocks, last }: DiscriminatorParams,
  normalise: (xBCHW: tf.Tensor, norm: NormParams, block: number) => tf.Tensor,
): tf.Tensor {
  const [, height, width] = imageSignedBHWC.shape, least = leastDiscriminatorImage({ layers: blocks.length });
  if (Math.min(height!, width!) < least) {
    throw new TypeError(
      `Cannot judge images: a discriminator of ${blocks.length} layers needs at least ${least} × ${least} pixels, ` +
        `got ${height} × ${width}`,
    );
  }
  const halved: ConvOptions = { stride: 2, padding: PADDING }, same: ConvOptions = { padding: PADDING };
  const start = conv2dCHW(tf.transpose(imageSignedBHWC, TO_CHW), first, halved);
  let x: tf.Tensor = tf.leakyRelu(start, SLOPE);
  blocks.forEach(({ kernel, norm }, i) => {
    const mapped = convolveCHW(x, kernel, i < blocks.length - 1 ? halved : same);
    x = tf.leakyRelu(normalise(mapped, norm, i), SLOPE);
  });
  return tf.transpose(conv2dCHW(x, last, same), TO_HWC);
}
