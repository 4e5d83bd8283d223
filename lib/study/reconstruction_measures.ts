/**
 * What is measured of reconstructions: PSNR, SSIM, LPIPS, and the Fréchet distance by an independent classifier.
 *
 * @module
 */
import { ConfigError, type HostTensor } from "novae/tensor/mod.ts";
import { GaussianStats } from "novae/analysis/mod.ts";
import {
  expectTrunkImage,
  type LpipsMetric,
  type ReconstructionMeasures,
  type SetMeasure,
} from "novae/autoencoder/mod.ts";
import { type FeatureClassifier, frechetDistance, psnr, ssim } from "novae/evaluation/mod.ts";
import { toBytes } from "./feature_extractor.ts";

/** Pixels a side that the window of the structural similarity needs. */
const SSIM_LEAST = 11;

/** Options of {@linkcode reconstructionMeasures}. */
export interface MeasureOptions {
  /** Rows and columns of the images; below 11 there is no SSIM. */
  readonly imageSize: number;
  /** Extracts the features of `rfd`, which is left out without it; not disposed of. */
  readonly classifier?: FeatureClassifier;
  /** Compares each image with its reconstruction for `lpips`, which is left out without it; not disposed of. */
  readonly lpips?: LpipsMetric;
}

/**
 * The measures of tokenizers, by the names `psnr` (dB, on 8-bit values), `ssim`, `lpips`, and `rfd`: the Fréchet distance
 * of the reconstructions, as 8-bit values, to the very images they are of.
 *
 * *Source*: the conventions of LightningDiT's `evaluate_tokenizer.py`. *Differs*: the features are those of the
 * project's classifier and not Inception's, so that values compare with each other alone and `rfd` is no rFID.
 *
 * @throws ConfigError if the classifier was trained on images of another size, or they are too small for LPIPS.
 */
export function reconstructionMeasures(
  { imageSize, classifier, lpips }: MeasureOptions,
): ReconstructionMeasures {
  if (classifier && classifier.config.imageSize !== imageSize) {
    throw new ConfigError(
      `Cannot measure Fréchet distances: the classifier must take images of ${imageSize} pixels, got one of ` +
        `${classifier.config.imageSize}`,
    );
  }
  if (lpips) expectTrunkImage(lpips.network, imageSize);
  return {
    images: {
      psnr: (images, reconstructions) => psnr(images, reconstructions).mean,
      ...(imageSize >= SSIM_LEAST && { ssim: (images, others) => ssim(images, others).mean }),
      ...(lpips && { lpips: (images, others) => lpips.mean(images, others) }),
    },
    sets: classifier ? { rfd: () => new ReconstructionFrechet(classifier) } : {},
  };
}

/** Fréchet distance between images and their reconstructions; memory does not grow with their number. */
class ReconstructionFrechet implements SetMeasure {
  readonly #classifier: FeatureClassifier;
  readonly #images: GaussianStats;
  readonly #reconstructions: GaussianStats;

  constructor(classifier: FeatureClassifier) {
    this.#classifier = classifier;
    this.#images = new GaussianStats(classifier.dims);
    this.#reconstructions = new GaussianStats(classifier.dims);
  }

  async add(imageUnitBHWC: HostTensor, reconstructionUnit: HostTensor): Promise<void> {
    this.#images.add(await this.#classifier.features(toBytes(imageUnitBHWC)));
    this.#reconstructions.add(await this.#classifier.features(toBytes(reconstructionUnit)));
  }

  value(): number {
    return frechetDistance(this.#reconstructions, this.#images);
  }
}
