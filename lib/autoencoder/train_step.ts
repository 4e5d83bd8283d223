/**
 * One update of an autoencoder as a pure function of state and batch.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { type HostTensor, isHostTensor, mapTree, type Rng, scalar } from "novae/tensor/mod.ts";
import { imageDinoFromUnit } from "novae/dino/mod.ts";
import { type AdamState, adamW, clipByGlobalNorm, emaUpdate, initAdam, valueAndGrads } from "novae/nn/mod.ts";
import {
  type AdversarialReconstruction,
  adversarialReconstruction,
  type AdversarialSettings,
  type DiscriminatorState,
  discriminatorUpdate,
  expectDiscriminatorImage,
  initDiscriminatorState,
} from "./adversarial/mod.ts";
import type { AutoencoderConfig } from "./config.ts";
import { decodeFeatures } from "./decoder.ts";
import {
  klScale,
  type LossReduction,
  lossScale,
  type PerceptualLoss,
  reconstructionLoss,
  type ReconstructionWeights,
  scaledWeights,
} from "./losses.ts";
import {
  type AutoencoderParams,
  decodeTokens,
  imageSignedFromUnit,
  initAutoencoder,
  tokenGrid,
} from "./model.ts";
import { alignToBatch, encodeResidual, maskResidual } from "./svg/mod.ts";
import { encodePosterior, klDivergence, samplePosterior } from "./vae/mod.ts";

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
  /** The discriminator, in trainings that have one. */
  discriminator?: DiscriminatorState<T>;
}

/** What an update is fed with, randomness included. */
export interface AutoencoderBatch<T = tf.Tensor> {
  /** `[B, H, W, 3]` in [0, 1]. */
  imageUnitBHWC: T;
  /** Frozen features `[B, N, D]`; absent for `vae`. */
  featuresBND?: T;
  /** 1 for images whose residual is masked, `[B]`; for `svg` and `svg-noalign`. */
  maskB?: T;
  /** Standard normal noise `[B, N, Z]`; for `vae`. */
  noiseBNZ?: T;
  /** Step size of this update, a scalar. */
  learningRate: T;
  /** Decay of the moving average in this update, a scalar. */
  emaDecay: T;
  /** Step size of the discriminator in this update, a scalar; in trainings that have one. */
  discriminatorRate?: T;
}

/** Scalars of an update. */
export interface AutoencoderMetrics<T = tf.Tensor> {
  /**
   * Parts of the loss by name; `kl` for `vae`, and once a discriminator has started `adversarialLoss`,
   * `adversarialWeight` and what {@linkcode discriminatorUpdate} measures.
   */
  [name: string]: T;
  /** What is minimised. */
  loss: T;
  /** The loss without the KL divergence and the adversarial term. */
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
  /** Largest norm of the gradients of all parameters together; null for any. */
  readonly maxGradientNorm: number | null;
  /** Whether losses are averaged or summed over an image's values. Default `mean`. */
  readonly reduction?: LossReduction;
  /** Adam's decays of the gradient and of its square. Default {@linkcode DEFAULT_BETAS}. */
  readonly betas?: readonly [number, number];
  /** The discriminator, where one takes part in this update. */
  readonly adversarial?: AdversarialSettings | null;
}

/** One update of a training. */
export type AutoencoderStep = (
  state: AutoencoderState,
  batch: AutoencoderBatch,
) => [AutoencoderState, AutoencoderMetrics];

/**
 * Adam's decays of the gradient and of its square; the latter is shorter than usual, since a training here has only
 * thousands of updates.
 */
export const DEFAULT_BETAS: readonly [number, number] = [0.9, 0.99];

/**
 * The state before the first update.
 *
 * @param adversarial the discriminator that takes part, if there is one; it changes nothing else of the state.
 * @throws ConfigError if the images are too small for the discriminator.
 */
export function initAutoencoderState(
  rng: Rng,
  config: AutoencoderConfig,
  adversarial: AdversarialSettings | null = null,
): AutoencoderState<HostTensor> {
  const params = initAutoencoder(rng, config);
  const ema = mapTree<typeof params>(params, isHostTensor, (leaf) => {
    const { dtype, shape, data } = leaf as HostTensor;
    return { dtype, shape, data: data.slice() };
  });
  const state: AutoencoderState<HostTensor> = { step: scalar(0), params, ema, adam: initAdam(params) };
  if (adversarial) {
    expectDiscriminatorImage(adversarial.discriminator, config.imageSize);
    state.discriminator = initDiscriminatorState(rng.split("discriminator"), adversarial.discriminator);
  }
  return state;
}

/**
 * The training step: reconstruct, differentiate, clip, Adam, moving average; and the same for the discriminator, where
 * one takes part.
 *
 * *Source*: SVG trains decoder, residual encoder and mask token together with Adam, and its discriminator with a
 * second one, on the same reconstructions. *Differs*: gradients can be clipped, the step size can follow a schedule and
 * the average of the weights is kept.
 */
export function autoencoderStep(options: AutoencoderStepOptions): AutoencoderStep {
  const [beta1, beta2] = options.betas ?? DEFAULT_BETAS;
  return (state, batch) => {
    const { loss, aux: { adversarial, ...parts }, grads } = valueAndGrads(
      (params: AutoencoderParams) => autoencoderLoss(params, batch, options, state.discriminator),
      state.params,
    );
    const { grads: clipped, norm } = clipByGlobalNorm(grads, options.maxGradientNorm);
    const step = tf.add(state.step, 1) as tf.Scalar;
    const learningRate = batch.learningRate as tf.Scalar;
    const { params, state: adam } = adamW(state.params, clipped, state.adam, step, {
      learningRate,
      beta1,
      beta2,
    });
    const ema = emaUpdate(state.ema, params, batch.emaDecay as tf.Scalar);
    const next = { step, params, ema, adam }, metrics = { loss, ...parts, gradientNorm: norm };
    if (!adversarial) return [next, metrics];
    const { adversarial: adversarialLoss, adversarialWeight, ...seen } = adversarial;
    const updated = discriminatorUpdate(state.discriminator!, {
      ...seen,
      imageSigned: imageSignedFromUnit(batch.imageUnitBHWC),
      learningRate: batch.discriminatorRate as tf.Scalar,
    }, options.adversarial!);
    return [
      { ...next, discriminator: updated.state },
      { ...metrics, adversarialLoss, adversarialWeight, ...updated.metrics },
    ];
  };
}

/** Parts of the loss of a batch. */
export interface AutoencoderLossParts {
  /** The reconstruction loss. */
  reconstruction: tf.Scalar;
  /** The KL divergence, for `vae`. */
  kl?: tf.Scalar;
  /** The adversarial term, and what the discriminator's update needs of it. */
  adversarial?: Omit<AdversarialReconstruction, "loss" | "reconstruction">;
}

/**
 * The loss of a batch and its parts.
 *
 * @param discriminator needed where `options.adversarial` is set.
 */
export function autoencoderLoss(
  params: AutoencoderParams,
  batch: AutoencoderBatch,
  options: AutoencoderStepOptions,
  discriminator?: DiscriminatorState,
): { loss: tf.Scalar; aux: AutoencoderLossParts } {
  const { config, reduction = "mean" } = options, scale = lossScale(config.imageSize, reduction);
  const compare = reconstructionComparer(params, batch, options, discriminator);
  if (config.vae) {
    const posterior = encodePosterior(imageSignedFromUnit(batch.imageUnitBHWC), params.encoder!);
    const { loss, aux } = compare(samplePosterior(posterior, batch.noiseBNZ!));
    const kl = klDivergence(posterior);
    const weighted = tf.mul(kl, config.vae.klWeight * klScale(config.imageSize) * scale);
    return { loss: tf.add(loss, weighted) as tf.Scalar, aux: { ...aux, kl } };
  }
  return compare(trainingLatents(params, batch, config));
}

/** Decodes latents and compares with the images of the batch, through the discriminator where one takes part. */
function reconstructionComparer(
  { decoder }: AutoencoderParams,
  batch: AutoencoderBatch,
  { config, adversarial: settings, perceptual, ...options }: AutoencoderStepOptions,
  discriminator?: DiscriminatorState,
): (zBNZ: tf.Tensor) => { loss: tf.Scalar; aux: AutoencoderLossParts } {
  const imageSigned = imageSignedFromUnit(batch.imageUnitBHWC);
  const weights = scaledWeights(
    options.reconstruction,
    lossScale(config.imageSize, options.reduction ?? "mean"),
  );
  const distance = (reconstructionSigned: tf.Tensor) =>
    reconstructionLoss(imageSigned, reconstructionSigned, weights, perceptual);
  return (zBNZ) => {
    if (!settings) {
      const reconstruction = distance(decodeTokens(zBNZ, decoder));
      return { loss: reconstruction, aux: { reconstruction } };
    }
    const { loss, reconstruction, ...adversarial } = adversarialReconstruction({
      featuresBCHW: decodeFeatures(tokenGrid(zBNZ), decoder),
      convOut: decoder.convOut,
      discriminator: discriminator!,
      settings,
      reconstructionLoss: distance,
    });
    return { loss, aux: { reconstruction, adversarial } };
  };
}

/** Latents of a batch as the decoder sees them in training: residual masked, and aligned with batch statistics. */
function trainingLatents(
  params: AutoencoderParams,
  batch: AutoencoderBatch,
  config: AutoencoderConfig,
): tf.Tensor {
  const featuresBND = batch.featuresBND!;
  if (!config.residual) return featuresBND;
  const encoded = encodeResidual(
    imageDinoFromUnit(batch.imageUnitBHWC),
    params.residual!,
    config.residual,
  );
  const masked = maskResidual(encoded, params.residual!.maskToken, batch.maskB!);
  const residual = config.space === "svg" ? alignToBatch(masked, featuresBND) : masked;
  return tf.concat([featuresBND, residual], 2);
}
