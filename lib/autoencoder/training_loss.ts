/**
 * The loss of an autoencoder's training, of whichever space, and its gradients.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { imageDinoFromUnit } from "novae/dino/mod.ts";
import { type LossAndGrads, valueAndGrads } from "novae/nn/mod.ts";
import {
  type AdversarialReconstruction,
  adversarialReconstruction,
  type AdversarialSettings,
  type Discriminator,
} from "./adversarial/mod.ts";
import type { AutoencoderConfig } from "./config.ts";
import { decodeFeatures } from "./decoder.ts";
import {
  type LossReduction,
  lossScale,
  type PerceptualLoss,
  reconstructionLoss,
  type ReconstructionWeights,
  scaledWeights,
} from "./losses.ts";
import { type AutoencoderParams, decodeTokens, imageSignedFromUnit, tokenGrid } from "./model.ts";
import {
  type AlignmentStats,
  alignToBatch,
  alignToRunning,
  type DropoutMasks,
  encodeResidual,
  hasDropout,
  maskResidual,
  type RunningAlignment,
} from "./svg/mod.ts";
import { type LossWithParts, matchingWeight, vaeLoss, type VaeLossParts, type VaeTerms } from "./vae/mod.ts";

/** What the loss is computed from, randomness included. */
export interface AutoencoderLossBatch<T = tf.Tensor> {
  /** `[B, H, W, 3]` in [0, 1]. */
  imageUnitBHWC: T;
  /** Frozen features `[B, N, D]`; for spaces that have them, and for `va-vae`. */
  featuresBND?: T;
  /** 1 for images whose residual is masked, `[B]`; for spaces with a residual. */
  maskB?: T;
  /** What the residual encoder drops; for those with dropout. */
  dropout?: DropoutMasks<T>;
  /** Standard normal noise `[B, N, Z]`; for `vae` and `va-vae`, and where the decoder is trained with noise. */
  noiseBNZ?: T;
  /** Standard deviation of the noise that is added to each image's latents, `[B]`; with `noiseTau`. */
  noiseStdB?: T;
}

/** Settings of the loss. */
export interface AutoencoderLossOptions {
  /** Settings of the autoencoder. */
  readonly config: AutoencoderConfig;
  /** Weights of the loss's parts. */
  readonly reconstruction: ReconstructionWeights;
  /** Perceptual loss, if there is one. */
  readonly perceptual?: PerceptualLoss;
  /** Whether losses are averaged or summed over an image's values. Default `mean`. */
  readonly reduction?: LossReduction;
  /** The discriminator, where one takes part in this update. */
  readonly adversarial?: AdversarialSettings | null;
}

/** What the loss depends on beside parameters and batch, and no gradient flows to. */
export interface AutoencoderLossConstants {
  /** Needed where `adversarial` is set. */
  readonly discriminator?: Discriminator;
  /** The weight of the `va-vae`'s matching, see {@linkcode matchingWeight}; that of the settings if omitted. */
  readonly matching?: tf.Scalar;
  /** What the residual is aligned by; the batch's own statistics if omitted. */
  readonly running?: RunningAlignment;
}

/** Parts of the loss of a batch; the terms of the `vae` and `va-vae` where they are trained. */
export interface AutoencoderLossParts extends Partial<VaeTerms> {
  /** The reconstruction loss. */
  readonly reconstruction: tf.Scalar;
  /** The adversarial term, and what the discriminator's update needs of it. */
  readonly adversarial?: Omit<AdversarialReconstruction, "loss" | "reconstruction">;
  /** Statistics that the residual was aligned by, where they run along. */
  readonly alignment?: AlignmentStats<tf.Tensor>;
}

/** The loss of a batch, its parts and its gradients, with the `va-vae`'s adaptive weight. */
export function autoencoderGradients(
  params: AutoencoderParams,
  batch: AutoencoderLossBatch,
  options: AutoencoderLossOptions,
  constants: AutoencoderLossConstants = {},
): LossAndGrads<AutoencoderParams, AutoencoderLossParts> {
  const { config: { vae, decoder: { groups } } } = options, distance = imageDistance(batch, options);
  const plain = (zBNZ: tf.Tensor) => distance(decodeTokens(zBNZ, params.decoder, groups));
  const matching = vae && matchingWeight(vaeParts(params, batch, options), plain, vae);
  return valueAndGrads(
    (at: AutoencoderParams) => autoencoderLoss(at, batch, options, { matching, ...constants }),
    params,
  );
}

/**
 * The loss of a batch and its parts.
 *
 * @throws TypeError if the batch lacks masks that the settings ask for, or the discriminator is missing.
 */
export function autoencoderLoss(
  params: AutoencoderParams,
  batch: AutoencoderLossBatch,
  options: AutoencoderLossOptions,
  { discriminator, matching, running }: AutoencoderLossConstants = {},
): LossWithParts<AutoencoderLossParts> {
  const { config } = options;
  const compare = (zBNZ: tf.Tensor) => compareDecoded(zBNZ, params, batch, options, discriminator);
  if (config.vae) return vaeLoss(vaeParts(params, batch, options), compare, config.vae, matching);
  const { zBNZ, alignment } = trainingLatents(params, batch, config, running);
  const { loss, aux } = compare(zBNZ);
  return { loss, aux: { ...aux, ...(alignment && { alignment }) } };
}

/** The reconstruction loss of decoded images, as the settings weight and reduce it. */
function imageDistance(
  { imageUnitBHWC }: AutoencoderLossBatch,
  { config, reconstruction, perceptual, reduction = "mean" }: AutoencoderLossOptions,
): (reconstructionSigned: tf.Tensor) => tf.Scalar {
  const imageSigned = imageSignedFromUnit(imageUnitBHWC);
  const weights = scaledWeights(reconstruction, lossScale(config.imageSize, reduction));
  return (reconstructionSigned) => reconstructionLoss(imageSigned, reconstructionSigned, weights, perceptual);
}

/** Decodes latents and compares with the images of the batch, through the discriminator where one takes part. */
function compareDecoded(
  zBNZ: tf.Tensor,
  { decoder }: AutoencoderParams,
  batch: AutoencoderLossBatch,
  options: AutoencoderLossOptions,
  discriminator: Discriminator | undefined,
): LossWithParts<AutoencoderLossParts> {
  const { config: { space, decoder: { groups } }, adversarial: settings } = options;
  const distance = imageDistance(batch, options);
  if (!settings) {
    const reconstruction = distance(decodeTokens(zBNZ, decoder, groups));
    return { loss: reconstruction, aux: { reconstruction } };
  }
  if (!discriminator) {
    throw new TypeError(`Cannot train ${space}: a discriminator is needed in the state, got none`);
  }
  const { loss, reconstruction, ...adversarial } = adversarialReconstruction({
    featuresBCHW: decodeFeatures(tokenGrid(zBNZ), decoder, groups),
    convOut: decoder.convOut,
    discriminator,
    settings,
    reconstructionLoss: distance,
  });
  return { loss, aux: { reconstruction, adversarial } };
}

/** What the loss of a variational autoencoder is made of. */
function vaeParts(
  params: AutoencoderParams,
  batch: AutoencoderLossBatch,
  { config, reduction = "mean" }: AutoencoderLossOptions,
): VaeLossParts {
  return {
    encoder: params.encoder!,
    projectionZD: params.projection,
    imageSignedBHWC: imageSignedFromUnit(batch.imageUnitBHWC),
    noiseBNZ: batch.noiseBNZ!,
    featuresBND: batch.featuresBND,
    groups: config.decoder.groups,
    scale: lossScale(config.imageSize, reduction),
  };
}

/** Latents in training, and the statistics that the residual was aligned by, where they run along. */
interface TrainingLatents {
  readonly zBNZ: tf.Tensor;
  readonly alignment?: AlignmentStats<tf.Tensor>;
}

/**
 * Latents of a batch as the decoder sees them in training: the residual masked, then aligned; noise on all of them if
 * the settings say so.
 *
 * *Source*: noise `z + σ·ε`, σ uniform in [0, τ] for each image, is RAE's (arXiv 2510.11690). *Differs*: RAE's features
 * are normalised to unit variance a token, SVG's have standard deviations of 0.16 to 1.55 a channel, so that the same τ
 * is more noise here.
 */
function trainingLatents(
  params: AutoencoderParams,
  batch: AutoencoderLossBatch,
  config: AutoencoderConfig,
  running?: RunningAlignment,
): TrainingLatents {
  const clean = cleanLatents(params, batch, config, running);
  if (!config.noiseTau) return clean;
  const noise = tf.mul(batch.noiseBNZ!, tf.reshape(batch.noiseStdB!, [-1, 1, 1]));
  return { ...clean, zBNZ: tf.add(clean.zBNZ, noise) };
}

function cleanLatents(
  params: AutoencoderParams,
  batch: AutoencoderLossBatch,
  config: AutoencoderConfig,
  running?: RunningAlignment,
): TrainingLatents {
  const { featuresBND, imageUnitBHWC, dropout, maskB } = batch;
  if (!config.residual) return { zBNZ: featuresBND! };
  if (hasDropout(config.residual) && !dropout) {
    throw new TypeError(
      `Cannot train ${config.space}: masks of its dropout are needed in the batch, got none`,
    );
  }
  const imageDino = imageDinoFromUnit(imageUnitBHWC);
  const encoded = encodeResidual(imageDino, params.residual!, config.residual, dropout);
  const masked = maskResidual(encoded, params.residual!.maskToken, maskB!);
  if (!featuresBND) return { zBNZ: masked };
  const joined = (residual: tf.Tensor) => tf.concat([featuresBND, residual], 2);
  if (config.space !== "svg") return { zBNZ: joined(masked) };
  if (!running) return { zBNZ: joined(alignToBatch(masked, featuresBND)) };
  const { aligned, stats } = alignToRunning(masked, encoded, featuresBND, running);
  return { zBNZ: joined(aligned), alignment: stats };
}
