/**
 * One update of an autoencoder as a pure function of state and batch.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { type HostTensor, isHostTensor, mapTree, type Rng, scalar } from "novae/tensor/mod.ts";
import { imageDinoFromUnit } from "novae/dino/mod.ts";
import {
  type AdamState,
  adamW,
  clipByGlobalNorm,
  emaUpdate,
  initAdam,
  type LossAndGrads,
  valueAndGrads,
} from "novae/nn/mod.ts";
import type { AutoencoderConfig } from "./config.ts";
import { type PerceptualLoss, reconstructionLoss, type ReconstructionWeights } from "./losses.ts";
import { type AutoencoderParams, decodeTokens, imageSignedFromUnit, initAutoencoder } from "./model.ts";
import { alignToBatch, type DropoutMasks, encodeResidual, hasDropout, maskResidual } from "./svg/mod.ts";
import { type LossWithParts, matchingWeight, vaeLoss, type VaeLossParts, type VaeTerms } from "./vae/mod.ts";

/** What a training carries from update to update. */
export interface AutoencoderState<T = tf.Tensor> {
  /** Updates done, a scalar. */
  step: T;
  /** What is trained. */
  params: AutoencoderParams<T>;
  /** Moving average of the parameters, which is what is used in the end. */
  ema: AutoencoderParams<T>;
  /** Adam's running means. */
  adam: AdamState<AutoencoderParams<T>>;
}

/** What an update is fed with, randomness included. */
export interface AutoencoderBatch<T = tf.Tensor> {
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
  /** Step size of this update, a scalar. */
  learningRate: T;
  /** Decay of the moving average in this update, a scalar. */
  emaDecay: T;
}

/** Scalars of an update. */
export interface AutoencoderMetrics<T = tf.Tensor> {
  /** Parts of the loss by name; `kl` for `vae` and `va-vae`, `matching` and `matchingWeight` for `va-vae`. */
  [name: string]: T;
  /** What is minimised. */
  loss: T;
  /** The loss of the reconstruction alone. */
  reconstruction: T;
  /** Norm of all gradients before clipping. */
  gradientNorm: T;
}

/** What a training step is made of, beside the state and the batch. */
export interface AutoencoderStepOptions {
  /** Settings of the autoencoder. */
  readonly config: AutoencoderConfig;
  /** Weights of the loss's parts. */
  readonly reconstruction: ReconstructionWeights;
  /** Perceptual loss, if there is one. */
  readonly perceptual?: PerceptualLoss;
  /** Largest norm of the gradients of all parameters together. */
  readonly maxGradientNorm: number;
}

/** One update of a training. */
export type AutoencoderStep = (
  state: AutoencoderState,
  batch: AutoencoderBatch,
) => [AutoencoderState, AutoencoderMetrics];

/** Adam's decay of the squared gradient; shorter than usual, since a training here has only thousands of updates. */
const BETA2 = 0.99;

/** The state before the first update. */
export function initAutoencoderState(rng: Rng, config: AutoencoderConfig): AutoencoderState<HostTensor> {
  const params = initAutoencoder(rng, config);
  const ema = mapTree<typeof params>(params, isHostTensor, (leaf) => {
    const { dtype, shape, data } = leaf as HostTensor;
    return { dtype, shape, data: data.slice() };
  });
  return { step: scalar(0), params, ema, adam: initAdam(params) };
}

/**
 * The training step: reconstruct, differentiate, clip, Adam, moving average.
 *
 * *Source*: SVG trains decoder, residual encoder and mask token together with Adam. *Differs*: no adversarial loss;
 * gradients are clipped, the step size follows a schedule and the average of the weights is kept.
 */
export function autoencoderStep(options: AutoencoderStepOptions): AutoencoderStep {
  return (state, batch) => {
    const { loss, aux, grads } = autoencoderGradients(state.params, batch, options);
    const { grads: clipped, norm } = clipByGlobalNorm(grads, options.maxGradientNorm);
    const step = tf.add(state.step, 1) as tf.Scalar;
    const learningRate = batch.learningRate as tf.Scalar;
    const { params, state: adam } = adamW(state.params, clipped, state.adam, step, {
      learningRate,
      beta2: BETA2,
    });
    const ema = emaUpdate(state.ema, params, batch.emaDecay as tf.Scalar);
    return [{ step, params, ema, adam }, { loss, ...aux, gradientNorm: norm }];
  };
}

/** Parts of the loss of a batch; the terms of the `vae` and `va-vae` where they are trained. */
export interface AutoencoderLossParts extends Partial<VaeTerms> {
  /** The reconstruction loss. */
  readonly reconstruction: tf.Scalar;
}

/** The loss of a batch, its parts and its gradients, with the `va-vae`'s adaptive weight. */
export function autoencoderGradients(
  params: AutoencoderParams,
  batch: AutoencoderBatch,
  options: AutoencoderStepOptions,
): LossAndGrads<AutoencoderParams, AutoencoderLossParts> {
  const { vae } = options.config;
  const reconstruction = (zBNZ: tf.Tensor) => reconstructionOf(zBNZ, params, batch, options);
  const matching = vae && matchingWeight(vaeParts(params, batch, options), reconstruction, vae);
  return valueAndGrads((at: AutoencoderParams) => autoencoderLoss(at, batch, options, matching), params);
}

/**
 * The loss of a batch and its parts.
 *
 * @param matching the weight of the `va-vae`'s, see {@linkcode matchingWeight}; that of the settings if omitted.
 */
export function autoencoderLoss(
  params: AutoencoderParams,
  batch: AutoencoderBatch,
  options: AutoencoderStepOptions,
  matching?: tf.Scalar,
): LossWithParts<AutoencoderLossParts> {
  const { config } = options;
  const compare = (zBNZ: tf.Tensor) => {
    const reconstruction = reconstructionOf(zBNZ, params, batch, options);
    return { loss: reconstruction, aux: { reconstruction } };
  };
  if (config.vae) return vaeLoss(vaeParts(params, batch, options), compare, config.vae, matching);
  return compare(trainingLatents(params, batch, config));
}

/** What the decoder makes of latents, compared with the images. */
function reconstructionOf(
  zBNZ: tf.Tensor,
  params: AutoencoderParams,
  batch: AutoencoderBatch,
  { config, reconstruction, perceptual }: AutoencoderStepOptions,
): tf.Scalar {
  const decoded = decodeTokens(zBNZ, params.decoder, config.decoder.groups);
  return reconstructionLoss(imageSignedFromUnit(batch.imageUnitBHWC), decoded, reconstruction, perceptual);
}

/** What the loss of a variational autoencoder is made of. */
function vaeParts(
  params: AutoencoderParams,
  batch: AutoencoderBatch,
  { config }: AutoencoderStepOptions,
): VaeLossParts {
  return {
    encoder: params.encoder!,
    projectionZD: params.projection,
    imageSignedBHWC: imageSignedFromUnit(batch.imageUnitBHWC),
    noiseBNZ: batch.noiseBNZ!,
    featuresBND: batch.featuresBND,
    groups: config.decoder.groups,
  };
}

/**
 * Latents of a batch as the decoder sees them in training: the residual masked, then aligned with batch statistics;
 * noise on all of them if the settings say so.
 *
 * *Source*: noise `z + σ·ε`, σ uniform in [0, τ] for each image, is RAE's (arXiv 2510.11690). *Differs*: RAE's features
 * are normalised to unit variance a token, SVG's have standard deviations of 0.16 to 1.55 a channel, so that the same τ
 * is more noise here.
 */
function trainingLatents(
  params: AutoencoderParams,
  batch: AutoencoderBatch,
  config: AutoencoderConfig,
): tf.Tensor {
  const zBNZ = cleanLatents(params, batch, config);
  if (!config.noiseTau) return zBNZ;
  return tf.add(zBNZ, tf.mul(batch.noiseBNZ!, tf.reshape(batch.noiseStdB!, [-1, 1, 1])));
}

function cleanLatents(
  params: AutoencoderParams,
  batch: AutoencoderBatch,
  config: AutoencoderConfig,
): tf.Tensor {
  const { featuresBND, imageUnitBHWC, dropout, maskB } = batch;
  if (!config.residual) return featuresBND!;
  if (hasDropout(config.residual) && !dropout) {
    throw new TypeError(
      `Cannot train ${config.space}: masks of its dropout are needed in the batch, got none`,
    );
  }
  const imageDino = imageDinoFromUnit(imageUnitBHWC);
  const encoded = encodeResidual(imageDino, params.residual!, config.residual, dropout);
  const masked = maskResidual(encoded, params.residual!.maskToken, maskB!);
  if (!featuresBND) return masked;
  return tf.concat([featuresBND, config.space === "svg" ? alignToBatch(masked, featuresBND) : masked], 2);
}
