/**
 * Distribution alignment: a re-parameterisation that gives the residual the features' mean and spread. It is no loss.
 *
 * *Source*: `match_distribution` of SVG, arXiv 2510.15301.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { float32, type HostTensor } from "novae/tensor/mod.ts";
import { ChannelMoments } from "../latent_stats.ts";

/** Added to the residual's standard deviation before the division. */
export const ALIGNMENT_EPS = 1e-6;

/** The four scalars of the alignment: means over channels of the channels' means and standard deviations. */
export interface AlignmentStats {
  /** μₕ, of the frozen features. */
  readonly featureMean: number;
  /** σₕ, of the frozen features. */
  readonly featureStd: number;
  /** μᵣ, of the residual before alignment. */
  readonly residualMean: number;
  /** σᵣ, of the residual before alignment. */
  readonly residualStd: number;
}

/**
 * Aligns a residual with the statistics of its own batch, as in training.
 *
 * `r' = (r − μᵣ) / (σᵣ + 1e-6) · σₕ + μₕ`, where μ and σ are the means over channels of each channel's mean and
 * unbiased standard deviation over batch and tokens. All four are constants for the gradient: `∂L/∂r =
 * ∂L/∂r' · σₕ / (σᵣ + 1e-6)`.
 *
 * *Source*: `match_distribution` of SVG, whose authors mean the whole batch. *Differs*: none on one device; SVG's code
 * runs on eight, each with the statistics of its own 64 images, which are not synchronised.
 *
 * @param residualBNR residual features.
 * @param featuresBND frozen features; no gradient flows to them.
 * @returns `[B, N, R]`.
 */
export function alignToBatch(residualBNR: tf.Tensor, featuresBND: tf.Tensor): tf.Tensor {
  const wanted = scalarMoments(featuresBND);
  // A function of its own for tfjs, so that no gradient is recorded through the statistics.
  const align = tf.customGrad((...args: (tf.Tensor | tf.GradSaveFunc)[]) => {
    const r = args[0] as tf.Tensor, save = args[1] as tf.GradSaveFunc;
    const own = scalarMoments(r);
    const scale = tf.div(wanted.std, tf.add(own.std, ALIGNMENT_EPS));
    save([scale]);
    return {
      value: tf.add(tf.mul(tf.sub(r, own.mean), scale), wanted.mean),
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => tf.mul(dy, saved[0]),
    };
  });
  return align(residualBNR);
}

/**
 * Aligns a residual with statistics measured beforehand, so that an image's latents do not depend on its batch.
 *
 * The formula of {@linkcode alignToBatch}. *Differs*: SVG uses batch statistics in evaluation too, where an image's
 * latents then depend on the images beside it; {@linkcode batchAlignment} gives these.
 *
 * @param residualBNR residual features.
 * @returns a new tensor of the same shape.
 */
export function alignResidual(residualBNR: HostTensor, stats: AlignmentStats): HostTensor {
  const scale = stats.featureStd / (stats.residualStd + ALIGNMENT_EPS);
  const data = new Float32Array(residualBNR.data.length);
  for (let i = 0; i < data.length; i++) {
    data[i] = (residualBNR.data[i] - stats.residualMean) * scale + stats.featureMean;
  }
  return float32(data, residualBNR.shape);
}

/**
 * The alignment's statistics from the moments of features and residuals over a whole data set.
 *
 * @param residuals moments of the residuals before alignment.
 * @throws RangeError if fewer than two tokens were measured.
 */
export function alignmentStats(features: ChannelMoments, residuals: ChannelMoments): AlignmentStats {
  const mean = (values: Float64Array) => values.reduce((a, b) => a + b, 0) / values.length;
  return {
    featureMean: mean(features.mean()),
    featureStd: mean(features.std()),
    residualMean: mean(residuals.mean()),
    residualStd: mean(residuals.std()),
  };
}

/**
 * The alignment's statistics of one batch: with them {@linkcode alignResidual} does what SVG does in evaluation.
 *
 * @param featuresBND frozen features.
 * @param residualBNR residual features before alignment.
 * @throws RangeError if there are fewer than two tokens.
 */
export function batchAlignment(featuresBND: HostTensor, residualBNR: HostTensor): AlignmentStats {
  const [features, residuals] = [featuresBND, residualBNR].map((tensor) => {
    const moments = new ChannelMoments(tensor.shape[tensor.shape.length - 1]);
    moments.add(tensor);
    return moments;
  });
  return alignmentStats(features, residuals);
}

/** Means over channels of the mean and of the unbiased standard deviation over all other axes. */
function scalarMoments(x: tf.Tensor): { mean: tf.Tensor; std: tf.Tensor } {
  const channels = x.shape[x.rank - 1], count = x.size / channels;
  const flat = tf.reshape(x, [count, channels]);
  const mean = tf.mean(flat, 0);
  const variance = tf.div(tf.sum(tf.square(tf.sub(flat, mean)), 0), count - 1);
  return { mean: tf.mean(mean), std: tf.mean(tf.sqrt(variance)) };
}
