/**
 * VA-VAE: losses that make the latents of a variational autoencoder resemble frozen features.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { expectShape, float32, type HostTensor, type Rng } from "novae/tensor/mod.ts";
import { linearNoBias, valueAndGrads } from "novae/nn/mod.ts";

/** How strongly, and up to where, latents are matched to features. */
export interface FeatureMatchingConfig {
  /** Norm of the matching's gradient as a share of the reconstruction's, at the encoder's last convolution. */
  readonly weight: number;
  /** Cosine distance between a projected latent and its feature that costs nothing. */
  readonly cosineMargin: number;
  /** Difference between the cosines of two latents and of their features that costs nothing. */
  readonly distanceMargin: number;
}

/**
 * The published settings of a training in one go, and of the last stage of the released weights, whose first two
 * have margins of 0 and weights of 0.5 and 0.1.
 */
export const PUBLISHED_FEATURE_MATCHING: FeatureMatchingConfig = {
  weight: 0.1,
  cosineMargin: 0.5,
  distanceMargin: 0.25,
};

/** Length below which a vector counts as this long, as in PyTorch's `normalize`. */
const LEAST_NORM = 1e-12;

/** Added to the norm that is divided by in {@linkcode gradientRatio}. */
const RATIO_EPS = 1e-4;

/**
 * A new projection `[Z, D]` of latents to the width of features, uniform in ±1/√Z, PyTorch's default for a 1×1
 * convolution.
 */
export function initProjection(rng: Rng, channels: number, width: number): HostTensor {
  const bound = 1 / Math.sqrt(channels);
  return float32(rng.uniform(channels * width).map((u) => bound * (2 * u - 1)), [channels, width]);
}

/**
 * The two losses of VA-VAE together, with z' = z·W the projected latents and f the features of an image's N places:
 *
 *     mean(relu(1 − margin_c − cos(z'ₙ, fₙ))) + mean(relu(|cos(z'ₙ, z'ₘ) − cos(fₙ, fₘ)| − margin_d))
 *
 * *Source*: Yao et al., "Reconstruction vs. Generation" (arXiv 2501.01423) and its `LPIPSWithDiscriminator` in
 * hustvl/LightningDiT, with the default `reverse_proj`: the latents are projected, without bias, for both losses.
 * *Differs*: none; features come from an encoder that sees images as it was trained to, while the published training
 * feeds it images that are not ImageNet-normalised.
 *
 * @param zBNZ latents as the decoder gets them: sampled, not normalised.
 * @param projectionZD W, trained with the autoencoder.
 * @param featuresBND frozen features of the same places; no gradient flows to them.
 * @throws TypeError if latents, projection and features do not fit each other.
 */
export function featureMatchingLoss(
  zBNZ: tf.Tensor,
  projectionZD: tf.Tensor,
  featuresBND: tf.Tensor,
  config: FeatureMatchingConfig,
): tf.Scalar {
  const [batch, tokens] = zBNZ.shape, width = projectionZD.shape[1]!;
  expectShape("Cannot match latents to features", featuresBND.shape, [batch, tokens, width]);
  const latents = unitVectors(linearNoBias(zBNZ, projectionZD)), features = unitVectors(featuresBND);
  const cosines = tf.sum(tf.mul(latents, features), -1);
  const near = tf.mean(tf.relu(tf.sub(1 - config.cosineMargin, cosines)));
  const own = tf.matMul(latents, latents, false, true), wanted = tf.matMul(features, features, false, true);
  const differences = tf.abs(tf.sub(own, wanted));
  return tf.add(near, tf.mean(tf.relu(tf.sub(differences, config.distanceMargin)))) as tf.Scalar;
}

/**
 * The weight that gives one loss the gradient norm of another at a layer: `‖∂a/∂w‖ / (‖∂b/∂w‖ + 1e-4)`, a constant
 * for the gradient.
 *
 * Compiled in one graph with the gradient of both losses, what they have in common with it is computed once.
 *
 * *Source*: `calculate_adaptive_weight_vf` of hustvl/LightningDiT, clipped to 1e8 as there.
 *
 * @param layer w, the weight at which the gradients are compared.
 * @param reference a as a function of w.
 * @param adapted b as a function of w.
 */
export function gradientRatio(
  layer: tf.Tensor,
  reference: (layer: tf.Tensor) => tf.Scalar,
  adapted: (layer: tf.Tensor) => tf.Scalar,
): tf.Scalar {
  const norm = (loss: (layer: tf.Tensor) => tf.Scalar) => {
    const { grads } = valueAndGrads((at: { layer: tf.Tensor }) => ({ loss: loss(at.layer), aux: {} }), {
      layer,
    });
    return tf.sqrt(tf.sum(tf.square(grads.layer)));
  };
  const ratio = tf.div(norm(reference), tf.add(norm(adapted), RATIO_EPS));
  return tf.clipByValue(ratio, 0, 1e8) as tf.Scalar;
}

/** Vectors of the last axis at length 1; finite, and without a gradient, at 0. */
function unitVectors(x: tf.Tensor): tf.Tensor {
  const squares = tf.maximum(tf.sum(tf.square(x), -1, true), LEAST_NORM ** 2);
  return tf.mul(x, tf.rsqrt(squares));
}
