/**
 * The convolutional encoder of the `vae`, which mirrors the decoder.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import type { HostTensor, Rng } from "novae/tensor/mod.ts";
import {
  conv2dCHW,
  type ConvParams,
  initConv,
  initNorm,
  type NormParams,
  spaceToDepth,
} from "novae/nn/mod.ts";
import {
  applyBlocks,
  applyMid,
  type DecoderConfig,
  initLevelAttentions,
  initMid,
  type MidParams,
  TO_CHW,
  TO_HWC,
} from "../decoder.ts";
import {
  initResnetBlock,
  normSilu,
  type ResnetBlockParams,
  type SpatialAttentionParams,
} from "../resnet_block.ts";

/** Parameters of one level of the encoder. */
export interface EncoderLevelParams<T = tf.Tensor> {
  /** Residual blocks, in order. */
  blocks: ResnetBlockParams<T>[];
  /** One attention a residual block, or none at all. */
  attentions: SpatialAttentionParams<T>[];
  /** Convolution of stride 2 to the next level; absent at the last. */
  downsample?: ConvParams<T>;
}

/** Parameters of the encoder; its levels run from the image to the latent grid. */
export interface ConvEncoderParams<T = tf.Tensor> {
  /** First convolution, from three channels a pixel. */
  convIn: ConvParams<T>;
  /** Levels from the image to the latent grid. */
  levels: EncoderLevelParams<T>[];
  /** The middle, on the latent grid. */
  mid: MidParams<T>;
  /** Last normalisation. */
  normOut: NormParams<T>;
  /** Last convolution, to 2·Z channels. */
  convOut: ConvParams<T>;
  /** 1×1 convolution of the 2·Z channels, where the published ones have it. */
  quantConv?: ConvParams<T>;
}

/** What an encoder may have otherwise than the decoder that it mirrors. */
export interface ConvEncoderOptions {
  /** Residual blocks a level; as many as the decoder's if omitted. */
  readonly encoderBlocks?: number;
  /** Whether a 1×1 convolution follows. Default false. */
  readonly quantConvs?: boolean;
}

/** A normal distribution for each latent value: mean and logarithm of the variance, `[B, N, Z]` each. */
export interface Posterior {
  /** Means `[B, N, Z]`. */
  readonly meanBNZ: tf.Tensor;
  /** Logarithms of the variances `[B, N, Z]`. */
  readonly logVarianceBNZ: tf.Tensor;
}

/**
 * Where the log-variances start: near 0, as a plain initialisation has them, the noise of the samples is as large as
 * the means.
 */
const INITIAL_LOG_VARIANCE = -6;

/**
 * A new encoder with the levels of a decoder in the opposite order. Its posterior starts narrow, unless a 1×1
 * convolution follows: then it starts as published.
 *
 * @param latentChannels Z; the encoder gives 2·Z channels.
 */
export function initConvEncoder(
  rng: Rng,
  config: DecoderConfig,
  latentChannels: number,
  { encoderBlocks = config.blocks, quantConvs = false }: ConvEncoderOptions = {},
): ConvEncoderParams<HostTensor> {
  const channels = [...config.channels].reverse();
  const last = channels[channels.length - 1], moments = 2 * latentChannels;
  const convOut = initConv(rng.split("convOut"), 3, last, moments);
  if (!quantConvs) {
    for (let i = latentChannels; i < moments; i++) convOut.bias.data[i] += INITIAL_LOG_VARIANCE;
  }
  return {
    convIn: initConv(rng.split("convIn"), 3, 3 * config.outPatch ** 2, channels[0]),
    levels: channels.map((width, i) => {
      const own = rng.split("level", i), before = channels[Math.max(i - 1, 0)];
      const params: EncoderLevelParams<HostTensor> = {
        blocks: Array.from(
          { length: encoderBlocks },
          (_, k) => initResnetBlock(own.split("block", k), k === 0 ? before : width, width),
        ),
        attentions: initLevelAttentions(own, config, channels.length - 1 - i, encoderBlocks),
      };
      if (i < channels.length - 1) params.downsample = initConv(own.split("downsample"), 3, width, width);
      return params;
    }),
    mid: initMid(rng.split("mid"), config, last),
    normOut: initNorm(last),
    convOut,
    ...(quantConvs && { quantConv: initConv(rng.split("quantConv"), 1, moments, moments) }),
  };
}

/**
 * Encodes images to a normal distribution over latents.
 *
 * *Source*: `Encoder` and `DiagonalGaussianDistribution` of CompVis/latent-diffusion; the log-variance is clipped to
 * [−30, 20], and maps are padded below and to the right before they are halved. *Differs*: with `outPatch` above 1
 * blocks of pixels enter as channels. The project's small sizes have no 1×1 convolutions between encoder, latents and
 * decoder, and as many residual blocks a level as the decoder; those of {@linkcode publishedVae} are as published.
 *
 * @param imageSignedBHWC images in [−1, 1].
 * @param groups of the normalisations, `decoder.groups` of the settings.
 */
export function encodePosterior(
  imageSignedBHWC: tf.Tensor,
  params: ConvEncoderParams,
  groups?: number,
): Posterior {
  const block = Math.sqrt(params.convIn.weight.shape[2]! / 3);
  const pixels = block === 1 ? imageSignedBHWC : spaceToDepth(imageSignedBHWC, block);
  let x: tf.Tensor = conv2dCHW(tf.transpose(pixels, TO_CHW), params.convIn);
  for (const level of params.levels) {
    x = applyBlocks(x, level, groups);
    if (level.downsample) x = conv2dCHW(x, level.downsample, { stride: 2 });
  }
  x = conv2dCHW(normSilu(applyMid(x, params.mid, groups), params.normOut, groups), params.convOut);
  if (params.quantConv) x = conv2dCHW(x, params.quantConv);
  const moments = tf.transpose(x, TO_HWC);
  const [batch, rows, columns, twiceZ] = moments.shape;
  const [mean, logVariance] = tf.split(tf.reshape(moments, [batch, rows * columns, twiceZ]), 2, -1);
  return { meanBNZ: mean, logVarianceBNZ: tf.clipByValue(logVariance, -30, 20) };
}

/**
 * Draws latents: `z = mean + exp(logVariance / 2)·noise`.
 *
 * @param noiseBNZ standard normal noise.
 */
export function samplePosterior(posterior: Posterior, noiseBNZ: tf.Tensor): tf.Tensor {
  return tf.add(
    posterior.meanBNZ,
    tf.mul(tf.exp(tf.mul(posterior.logVarianceBNZ, 0.5)), noiseBNZ),
  );
}

/**
 * Kullback-Leibler divergence from the standard normal distribution, summed over an image's latents and averaged over
 * the batch: `½·Σ(mean² + variance − 1 − logVariance)`.
 */
export function klDivergence(posterior: Posterior): tf.Scalar {
  const { meanBNZ, logVarianceBNZ } = posterior;
  const terms = tf.sub(
    tf.add(tf.square(meanBNZ), tf.exp(logVarianceBNZ)),
    tf.add(logVarianceBNZ, 1),
  );
  return tf.mul(tf.sum(terms), 0.5 / meanBNZ.shape[0]) as tf.Scalar;
}
