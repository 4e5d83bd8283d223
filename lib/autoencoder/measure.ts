/**
 * What is measured of an autoencoder: the statistics stored with it, and how well it reconstructs.
 *
 * @module
 */
import { ChannelMoments, expectShape, type HostTensor, sizeOf } from "novae/tensor/mod.ts";
import type { LatentStats } from "./autoencoder.ts";
import type { CompiledAutoencoder } from "./compiled.ts";
import { hasFeatures } from "./config.ts";
import { latentStats } from "./latent_stats.ts";
import { ALIGNMENT_EPS, type AlignmentStats, alignmentStats } from "./svg/mod.ts";

/** Images, and their frozen features where they are known. */
export interface MeasuredBatch {
  /** `imageUnit` `[B, H, W, 3]`. */
  readonly images: HostTensor;
  /** Frozen features `[B, N, D]`. */
  readonly features?: HostTensor;
}

/** Statistics stored with an autoencoder. */
export interface AutoencoderStats {
  /** Statistics of the latents. */
  readonly stats: LatentStats;
  /** For `svg` alone. */
  readonly alignment?: AlignmentStats;
}

/**
 * Measures an autoencoder on a data set, in one pass and in double precision: the alignment's statistics and those of
 * the latents.
 *
 * The latents of `svg` are an affine function of features and residual, so that their moments follow from the moments
 * before alignment.
 *
 * @throws RangeError if there are fewer than two tokens or a latent channel is constant.
 */
export async function measureAutoencoder(
  autoencoder: CompiledAutoencoder,
  batches: Iterable<MeasuredBatch> | AsyncIterable<MeasuredBatch>,
): Promise<AutoencoderStats> {
  const { config } = autoencoder;
  const own = new ChannelMoments(config.vae?.channels ?? config.residual?.channels ?? 0);
  const frozen = new ChannelMoments(config.featureChannels);
  for await (const { images, features } of batches) {
    const parts = await autoencoder.encodeParts(images, features);
    if (parts.features) frozen.add(parts.features);
    if (parts.mean ?? parts.residual) own.add((parts.mean ?? parts.residual)!);
  }
  if (!hasFeatures(config.space)) return { stats: latentStats([own]) };
  if (!config.residual) return { stats: latentStats([frozen]) };
  if (config.space === "svg-noalign") return { stats: latentStats([frozen, own]) };
  const alignment = alignmentStats(frozen, own);
  const scale = alignment.featureStd / (alignment.residualStd + ALIGNMENT_EPS);
  const shift = alignment.featureMean - alignment.residualMean * scale;
  return { stats: latentStats([frozen, own.affine(scale, shift)]), alignment };
}

/**
 * Peak signal-to-noise ratio in decibels, `10·log₁₀(1 / MSE)`, of each image, averaged over the images.
 *
 * On floats; images stored as bytes differ from it by rounding. An image that is reproduced exactly counts 100 dB.
 *
 * @param imageUnitBHWC images in [0, 1].
 * @param reconstructionUnit the same shape.
 */
export function meanPsnr(imageUnitBHWC: HostTensor, reconstructionUnit: HostTensor): number {
  expectShape("Cannot compare images", reconstructionUnit.shape, imageUnitBHWC.shape);
  const count = imageUnitBHWC.shape[0], stride = sizeOf(imageUnitBHWC.shape.slice(1));
  let sum = 0;
  for (let b = 0; b < count; b++) {
    let squares = 0;
    for (let i = b * stride; i < (b + 1) * stride; i++) {
      squares += (imageUnitBHWC.data[i] - reconstructionUnit.data[i]) ** 2;
    }
    sum += Math.min(10 * Math.log10(stride / squares), 100);
  }
  return sum / count;
}
