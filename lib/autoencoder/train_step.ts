/**
 * One update of an autoencoder as a pure function of state and batch.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { type HostTensor, isHostTensor, mapTree, type Rng, scalar } from "novae/tensor/mod.ts";
import { type AdamState, adamW, clipByGlobalNorm, emaUpdate, initAdam } from "novae/nn/mod.ts";
import {
  type DiscriminatorState,
  discriminatorUpdate,
  expectDiscriminatorImage,
  initDiscriminatorState,
} from "./adversarial/mod.ts";
import type { AutoencoderConfig } from "./config.ts";
import { type AutoencoderParams, imageSignedFromUnit, initAutoencoder } from "./model.ts";
import {
  autoencoderGradients,
  type AutoencoderLossBatch,
  type AutoencoderLossOptions,
} from "./training_loss.ts";
import type { AlignmentStats, RunningAlignment } from "./svg/mod.ts";

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
  /** Running statistics of the alignment, in trainings that have them. */
  alignment?: AlignmentStats<T>;
}

/** What an update is fed with, randomness included. */
export interface AutoencoderBatch<T = tf.Tensor> extends AutoencoderLossBatch<T> {
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
   * Parts of the loss by name; `kl` for `vae` and `va-vae`, `matching` and `matchingWeight` for `va-vae`, and once a
   * discriminator has started `adversarialLoss`, `adversarialWeight` and what {@linkcode discriminatorUpdate} measures.
   */
  [name: string]: T;
  /** What is minimised. */
  loss: T;
  /** The loss of the reconstruction alone, without the adversarial term. */
  reconstruction: T;
  /** Norm of all gradients before clipping. */
  gradientNorm: T;
}

/** What a training step is made of, beside the state and the batch. */
export interface AutoencoderStepOptions extends AutoencoderLossOptions {
  /** Largest norm of the gradients of all parameters together; null for any. */
  readonly maxGradientNorm: number | null;
  /** Adam's decays of the gradient and of its square. Default {@linkcode DEFAULT_BETAS}. */
  readonly betas?: readonly [number, number];
  /** Share of the alignment's running statistics that an update keeps; 0 aligns each batch by its own. Default 0. */
  readonly alignmentMomentum?: number;
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
 * @param settings the discriminator that takes part, if there is one, and the momentum of the alignment's statistics;
 * neither changes anything else of the state.
 * @throws ConfigError if the images are too small for the discriminator.
 */
export function initAutoencoderState(
  rng: Rng,
  config: AutoencoderConfig,
  { adversarial, alignmentMomentum = 0 }: Pick<AutoencoderStepOptions, "adversarial" | "alignmentMomentum"> =
    {},
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
  if (alignmentMomentum > 0 && config.space === "svg") {
    const [featureMean, featureStd, residualMean, residualStd] = [0, 0, 0, 0].map((zero) => scalar(zero));
    state.alignment = { featureMean, featureStd, residualMean, residualStd };
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
    const { loss, aux: { adversarial, alignment, ...parts }, grads } = autoencoderGradients(
      state.params,
      batch,
      options,
      { discriminator: state.discriminator, running: runningAlignment(state, options) },
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
    const next = { step, params, ema, adam, ...(alignment && { alignment }) };
    const metrics = { loss, ...parts, gradientNorm: norm };
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

/** What the residual is aligned by; undefined where each batch is aligned by its own statistics. */
function runningAlignment(
  { alignment, step }: AutoencoderState,
  { alignmentMomentum = 0 }: AutoencoderStepOptions,
): RunningAlignment | undefined {
  return alignment && { stats: alignment, momentum: alignmentMomentum, step };
}
