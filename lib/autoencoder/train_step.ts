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
  /** Running statistics of the alignment, in trainings that have them. */
  alignment?: AlignmentStats<T>;
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
  /** Share of the alignment's running statistics that an update keeps; 0 aligns each batch by its own. */
  readonly alignmentMomentum?: number;
}

/** One update of a training. */
export type AutoencoderStep = (
  state: AutoencoderState,
  batch: AutoencoderBatch,
) => [AutoencoderState, AutoencoderMetrics];

/** Adam's decay of the squared gradient; shorter than usual, since a training here has only thousands of updates. */
const BETA2 = 0.99;

/**
 * The state before the first update.
 *
 * @param alignmentMomentum as the training has it, see {@linkcode AutoencoderStepOptions}.
 */
export function initAutoencoderState(
  rng: Rng,
  config: AutoencoderConfig,
  alignmentMomentum = 0,
): AutoencoderState<HostTensor> {
  const params = initAutoencoder(rng, config);
  const ema = mapTree<typeof params>(params, isHostTensor, (leaf) => {
    const { dtype, shape, data } = leaf as HostTensor;
    return { dtype, shape, data: data.slice() };
  });
  const state: AutoencoderState<HostTensor> = { step: scalar(0), params, ema, adam: initAdam(params) };
  if (!alignmentMomentum || config.space !== "svg") return state;
  const [featureMean, featureStd, residualMean, residualStd] = [scalar(0), scalar(0), scalar(0), scalar(0)];
  return { ...state, alignment: { featureMean, featureStd, residualMean, residualStd } };
}

/**
 * The training step: reconstruct, differentiate, clip, Adam, moving average.
 *
 * *Source*: SVG trains decoder, residual encoder and mask token together with Adam. *Differs*: no adversarial loss;
 * gradients are clipped, the step size follows a schedule and the average of the weights is kept.
 */
export function autoencoderStep(options: AutoencoderStepOptions): AutoencoderStep {
  return (state, batch) => {
    const { loss, aux: { alignment, ...parts }, grads } = autoencoderGradients(state.params, batch, options, {
      running: runningAlignment(state, options),
    });
    const { grads: clipped, norm } = clipByGlobalNorm(grads, options.maxGradientNorm);
    const step = tf.add(state.step, 1) as tf.Scalar;
    const learningRate = batch.learningRate as tf.Scalar;
    const { params, state: adam } = adamW(state.params, clipped, state.adam, step, {
      learningRate,
      beta2: BETA2,
    });
    const ema = emaUpdate(state.ema, params, batch.emaDecay as tf.Scalar);
    const next = { step, params, ema, adam, ...(alignment && { alignment }) };
    return [next, { loss, ...parts, gradientNorm: norm }];
  };
}

/** What the residual is aligned by; undefined where each batch is aligned by its own statistics. */
function runningAlignment(
  { alignment, step }: AutoencoderState,
  { alignmentMomentum }: AutoencoderStepOptions,
): RunningAlignment | undefined {
  return alignment && { stats: alignment, momentum: alignmentMomentum!, step };
}

/** Parts of the loss of a batch; the terms of the `vae` and `va-vae` where they are trained. */
export interface AutoencoderLossParts extends Partial<VaeTerms> {
  /** The reconstruction loss. */
  readonly reconstruction: tf.Scalar;
  /** Statistics that the residual was aligned by, where they run along. */
  readonly alignment?: AlignmentStats<tf.Tensor>;
}

/** What the loss of a batch takes from elsewhere than the batch. */
export interface AutoencoderLossContext {
  /** Weight of the `va-vae`'s matching, see {@linkcode matchingWeight}; that of the settings if omitted. */
  readonly matching?: tf.Scalar;
  /** What the residual is aligned by; the batch's own statistics if omitted. */
  readonly running?: RunningAlignment;
}

/** The loss of a batch, its parts and its gradients, with the `va-vae`'s adaptive weight. */
export function autoencoderGradients(
  params: AutoencoderParams,
  batch: AutoencoderBatch,
  options: AutoencoderStepOptions,
  context: AutoencoderLossContext = {},
): LossAndGrads<AutoencoderParams, AutoencoderLossParts> {
  const { vae } = options.config;
  const reconstruction = (zBNZ: tf.Tensor) => reconstructionOf(zBNZ, params, batch, options);
  const matching = vae && matchingWeight(vaeParts(params, batch, options), reconstruction, vae);
  const given = { matching, ...context };
  return valueAndGrads((at: AutoencoderParams) => autoencoderLoss(at, batch, options, given), params);
}

/** The loss of a batch and its parts. */
export function autoencoderLoss(
  params: AutoencoderParams,
  batch: AutoencoderBatch,
  options: AutoencoderStepOptions,
  { matching, running }: AutoencoderLossContext = {},
): LossWithParts<AutoencoderLossParts> {
  const { config } = options;
  const compare = (zBNZ: tf.Tensor) => {
    const reconstruction = reconstructionOf(zBNZ, params, batch, options);
    return { loss: reconstruction, aux: { reconstruction } };
  };
  if (config.vae) return vaeLoss(vaeParts(params, batch, options), compare, config.vae, matching);
  const { zBNZ, alignment } = trainingLatents(params, batch, config, running);
  const { loss, aux } = compare(zBNZ);
  return { loss, aux: { ...aux, ...(alignment && { alignment }) } };
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
  batch: AutoencoderBatch,
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
  batch: AutoencoderBatch,
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
