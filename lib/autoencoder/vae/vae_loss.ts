/**
 * The training loss of variational autoencoders: reconstruction, KL divergence and, for VA-VAE, matching to features.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { klScale } from "../losses.ts";
import { type ConvEncoderParams, encodePosterior, klDivergence, samplePosterior } from "./conv_encoder.ts";
import { featureMatchingLoss, gradientRatio } from "./feature_matching.ts";
import type { VaeConfig } from "./vae_config.ts";

/** What the loss of a variational autoencoder is made of. */
export interface VaeLossParts {
  /** The encoder. */
  readonly encoder: ConvEncoderParams;
  /** `[Z, D]`; for the `va-vae`. */
  readonly projectionZD?: tf.Tensor;
  /** Images in [−1, 1]. */
  readonly imageSignedBHWC: tf.Tensor;
  /** Standard normal noise. */
  readonly noiseBNZ: tf.Tensor;
  /** Frozen features of the images; for the `va-vae`. */
  readonly featuresBND?: tf.Tensor;
  /** Groups of the normalisations, `decoder.groups` of the settings. */
  readonly groups?: number;
  /** Factor of the comparison beside its mean over all values, which the KL divergence gets too; 1 if omitted. */
  readonly scale?: number;
}

/** A loss and its parts by name. */
export interface LossWithParts<A> {
  /** What is differentiated. */
  readonly loss: tf.Scalar;
  /** Parts of it. */
  readonly aux: A;
}

/** Terms of the loss beside those of the comparison. */
export interface VaeTerms {
  /** The KL divergence. */
  readonly kl: tf.Scalar;
  /** The matching to features, for the `va-vae`. */
  readonly matching?: tf.Scalar;
  /** The weight of the matching, for the `va-vae`. */
  readonly matchingWeight?: tf.Scalar;
}

/**
 * `compare(z) + scale·klWeight·KL / (H·W·3) + matchingWeight·matching`, the last for the `va-vae` alone.
 *
 * *Source*: `LPIPSWithDiscriminator` of CompVis/latent-diffusion and of hustvl/LightningDiT. *Differs*: they sum over
 * an image's values; where the reconstruction here averages, {@linkcode klScale} accounts for it, and where it sums
 * too, `scale` is H·W·3.
 *
 * @param compare decodes latents and compares the result with the images.
 * @param matching the weight of the matching, a constant; that of the settings, unscaled, if omitted.
 * @returns the loss, and beside the parts of `compare` the terms by name.
 */
export function vaeLoss<A>(
  parts: VaeLossParts,
  compare: (zBNZ: tf.Tensor) => LossWithParts<A>,
  { klWeight, featureMatching }: VaeConfig,
  matching?: tf.Scalar,
): LossWithParts<A & VaeTerms> {
  const posterior = encodePosterior(parts.imageSignedBHWC, parts.encoder, parts.groups);
  const zBNZ = samplePosterior(posterior, parts.noiseBNZ), kl = klDivergence(posterior);
  const { loss: compared, aux } = compare(zBNZ);
  const { scale = 1, imageSignedBHWC } = parts;
  const weighted = tf.mul(kl, scale * klWeight * klScale(imageSignedBHWC.shape[1]!));
  const loss = tf.add(compared, weighted) as tf.Scalar;
  if (!featureMatching) return { loss, aux: { ...aux, kl } };
  const distance = featureMatchingLoss(zBNZ, parts.projectionZD!, parts.featuresBND!, featureMatching);
  const weight = matching ?? tf.scalar(featureMatching.weight);
  return {
    loss: tf.add(loss, tf.mul(weight, distance)) as tf.Scalar,
    aux: { ...aux, kl, matching: distance, matchingWeight: weight },
  };
}

/**
 * The weight of the feature matching in an update: that of the settings times the {@linkcode gradientRatio} of
 * reconstruction and matching at the encoder's last 3×3 convolution.
 *
 * It counts as a constant and is computed outside of the loss that is differentiated.
 *
 * @param reconstruction decodes latents and compares the result with the images, without an adversarial term.
 * @returns undefined for a `vae` without matching.
 */
export function matchingWeight(
  parts: VaeLossParts,
  reconstruction: (zBNZ: tf.Tensor) => tf.Scalar,
  { featureMatching }: VaeConfig,
): tf.Scalar | undefined {
  if (!featureMatching) return undefined;
  const { encoder, projectionZD, featuresBND } = parts, { convOut } = encoder;
  const latents = (weight: tf.Tensor) => {
    const changed = { ...encoder, convOut: { ...convOut, weight } };
    return samplePosterior(encodePosterior(parts.imageSignedBHWC, changed, parts.groups), parts.noiseBNZ);
  };
  const ratio = gradientRatio(
    convOut.weight,
    (weight) => reconstruction(latents(weight)),
    (weight) => featureMatchingLoss(latents(weight), projectionZD!, featuresBND!, featureMatching),
  );
  return tf.mul(ratio, featureMatching.weight) as tf.Scalar;
}
