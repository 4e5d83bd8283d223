/**
 * Batch normalisation of channels-first maps with running statistics as state, and a gradient of its own.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { full, type HostTensor, zeros } from "novae/tensor/mod.ts";
import type { NormParams } from "novae/nn/mod.ts";

/** Added to variances, as in PyTorch's `BatchNorm2d`. */
const EPS = 1e-5;
/** Share of a batch's statistics in the running ones, as in PyTorch's `BatchNorm2d`. */
const MOMENTUM = 0.1;

/** Statistics of each channel, `[C]` each. */
export interface ChannelStatistics<T = tf.Tensor> {
  /** Means. */
  mean: T;
  /** Variances. */
  variance: T;
}

/** Running statistics before the first batch: mean 0, variance 1. */
export function initStatistics(channels: number): ChannelStatistics<HostTensor> {
  return { mean: zeros([channels]), variance: full([channels], 1) };
}

/**
 * Normalises each channel by the mean and variance of the batch, then scales and shifts it.
 *
 * `y = (x − mean) / √(variance + 1e-5)·weight + bias`, moments over batch and places; the variance divides by their
 * number here and by one less in the running statistics, `s ← 0.9·s + 0.1·batch`.
 *
 * *Source*: Ioffe and Szegedy (arXiv 1502.03167) in the form of PyTorch's `BatchNorm2d` in training.
 *
 * @param xBCHW `[B, C, H, W]`, more than one value a channel.
 * @returns the normalised maps and the statistics after this batch, through which no gradient flows.
 */
export function batchNorm(
  xBCHW: tf.Tensor,
  params: NormParams,
  running: ChannelStatistics,
): { y: tf.Tensor; running: ChannelStatistics } {
  const count = xBCHW.size / xBCHW.shape[1]!;
  const { mean, variance } = moments(xBCHW);
  const moved = (old: tf.Tensor, batch: tf.Tensor) =>
    tf.add(tf.mul(old, 1 - MOMENTUM), tf.mul(batch, MOMENTUM));
  return {
    y: normaliseBatch(xBCHW, params),
    running: {
      mean: moved(running.mean, tf.reshape(mean, running.mean.shape)),
      variance: moved(
        running.variance,
        tf.mul(tf.reshape(variance, running.variance.shape), count / (count - 1)),
      ),
    },
  };
}

/**
 * {@linkcode batchNorm} by statistics that were gathered before, as PyTorch does in evaluation.
 *
 * @param xBCHW `[B, C, H, W]`.
 */
export function batchNormBy(xBCHW: tf.Tensor, params: NormParams, statistics: ChannelStatistics): tf.Tensor {
  const scale = tf.mul(params.weight, tf.rsqrt(tf.add(statistics.variance, EPS)));
  const shift = tf.sub(params.bias, tf.mul(statistics.mean, scale));
  return tf.add(tf.mul(xBCHW, perChannel(scale)), perChannel(shift));
}

/**
 * With `s₁ = Σ dy`, `s₂ = Σ dy·x̂` over the N values of a channel: `∂bias = s₁`, `∂weight = s₂`,
 * `∂x = weight·invStd·(dy − s₁/N − x̂·s₂/N)`. Only the input is kept.
 */
function normaliseBatch(xBCHW: tf.Tensor, { weight, bias }: NormParams): tf.Tensor {
  const count = xBCHW.size / xBCHW.shape[1]!;
  const op = tf.customGrad((...args) => {
    const [x, w, b, save] = args as unknown as [tf.Tensor, tf.Tensor, tf.Tensor, tf.GradSaveFunc];
    save([x, w]);
    const { centred, invStd } = normalParts(x);
    return {
      value: tf.add(tf.mul(centred, tf.mul(invStd, perChannel(w))), perChannel(b)),
      gradFunc: (dy: tf.Tensor | tf.Tensor[], [saved, gain]: tf.Tensor[]) => {
        const g = dy as tf.Tensor, { centred, invStd } = normalParts(saved);
        const s1 = tf.sum(g, PLACES, true), s2 = tf.mul(tf.sum(tf.mul(g, centred), PLACES, true), invStd);
        const scale = tf.mul(invStd, perChannel(gain));
        const dx = tf.sub(
          tf.mul(tf.sub(g, tf.div(s1, count)), scale),
          tf.mul(centred, tf.mul(tf.div(tf.mul(s2, invStd), count), scale)),
        );
        return [dx, tf.reshape(s2, gain.shape), tf.reshape(s1, gain.shape)];
      },
    };
  });
  return op(xBCHW, weight, bias);
}

/** All axes but that of the channels. */
const PLACES = [0, 2, 3];

function normalParts(x: tf.Tensor): { centred: tf.Tensor; invStd: tf.Tensor } {
  const { centred, variance } = moments(x);
  return { centred, invStd: tf.rsqrt(tf.add(variance, EPS)) };
}

/** Moments of each channel as `[1, C, 1, 1]`, and the input without its means. */
function moments(x: tf.Tensor): { centred: tf.Tensor; mean: tf.Tensor; variance: tf.Tensor } {
  const mean = tf.mean(x, PLACES, true), centred = tf.sub(x, mean);
  return { centred, mean, variance: tf.mean(tf.square(centred), PLACES, true) };
}

function perChannel(values: tf.Tensor): tf.Tensor {
  return tf.reshape(values, [values.size, 1, 1]);
}
