/**
 * The published training as settings of a training here.
 *
 * @module
 */
import { ConfigError } from "novae/tensor/mod.ts";
import { type Lpips, lpipsLoss } from "../perceptual/mod.ts";
import type { AutoencoderSchedule } from "../schedule.ts";
import type { TrainAutoencoderOptions } from "../train.ts";
import type { SvgPreset } from "./presets.ts";

/** What is chosen beside the preset. */
export interface PublishedScheduleOptions {
  /** Number of training images; 1,281,167 in ImageNet. */
  readonly trainImages: number;
  /** Runs through them; as many as the published diffusion transformers' autoencoder had, 41, if omitted. */
  readonly epochs?: number;
  /** Seed of the training. Default 0. */
  readonly seed?: number;
}

/**
 * A published training for `trainAutoencoder`: settings, schedule and perceptual loss. Images, their crops and the
 * frozen encoder are given beside it.
 *
 * @param lpips the perceptual function, by `loadLpips("vgg16", files)`.
 * @throws ConfigError if it has another trunk than the published.
 */
export function svgTraining(
  preset: SvgPreset,
  lpips: Lpips,
  options: PublishedScheduleOptions,
): Pick<TrainAutoencoderOptions, "config" | "schedule" | "perceptual"> {
  const { lpipsTrunk } = preset.training;
  if (lpips.network !== lpipsTrunk) {
    throw new ConfigError(
      `Cannot train as published: the trunk of LPIPS must be ${lpipsTrunk}, got ${lpips.network}`,
    );
  }
  return { config: preset.model, schedule: svgSchedule(preset, options), perceptual: lpipsLoss(lpips) };
}

/**
 * The schedule of a published training. Its weight of LPIPS has no effect without the function, which
 * {@linkcode svgTraining} gives with it.
 *
 * *Differs*: the discriminator and the decoder's adversarial term start with the same update, the published term one
 * update later; the alignment's statistics are those of the whole batch, in the published training of each device's
 * 64 images. With an `emaHalflife` of 0 the averaged weights are the weights themselves.
 *
 * @example
 * ```ts
 * import { svgPreset, svgSchedule } from "novae/autoencoder/mod.ts";
 * const { batchSize, adversarial } = svgSchedule(svgPreset("svg-vits16plus-256"), { trainImages: 1_281_167 });
 * if (batchSize !== 512 || adversarial?.startImages !== 1_280_000) throw new Error("unexpected schedule");
 * ```
 */
export function svgSchedule(
  { training }: SvgPreset,
  { trainImages, epochs = training.releasedEpoch + 1, seed = 0 }: PublishedScheduleOptions,
): AutoencoderSchedule {
  const { discriminator, maxGradientNorm, optimizer: { learningRate, beta1, beta2 } } = training;
  const betas = [beta1, beta2] as const;
  return {
    images: epochs * trainImages,
    batchSize: training.batchSize,
    learningRate,
    finalRate: 1,
    warmupSteps: 0,
    emaHalflife: 0,
    maxGradientNorm,
    betas,
    reduction: "sum",
    alignmentMomentum: 0,
    reconstruction: {
      l1: training.l1Weight,
      mse: 0,
      gradient: 0,
      multiScale: 0,
      perceptual: training.lpipsWeight,
    },
    adversarial: {
      weight: discriminator.weight,
      factor: 1,
      startImages: discriminator.startImages,
      loss: discriminator.loss,
      learningRate,
      betas,
      maxGradientNorm,
      discriminator: { channels: discriminator.channels, layers: discriminator.layers },
    },
    flip: training.augmentation.flip,
    crop: training.augmentation.crop,
    resize: null, // the shorter side becomes that of the crop
    seed,
  };
}
