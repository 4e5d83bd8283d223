/**
 * The discriminator's side: its state and one update.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { type HostTensor, type Rng, scalar } from "novae/tensor/mod.ts";
import { type AdamState, adamW, clipByGlobalNorm, initAdam, valueAndGrads } from "novae/nn/mod.ts";
import type { ChannelStatistics } from "./batch_norm.ts";
import {
  discriminate,
  type Discriminator,
  type DiscriminatorConfig,
  type DiscriminatorParams,
  initDiscriminator,
} from "./discriminator.ts";
import { discriminatorLoss } from "./losses.ts";
import type { AdversarialSettings } from "./settings.ts";

/** What a training carries of the discriminator. */
export interface DiscriminatorState<T = tf.Tensor> extends Discriminator<T> {
  /** Its own updates done, a scalar. */
  step: T;
  /** Adam's running means. */
  adam: AdamState<DiscriminatorParams<T>>;
}

/** Scalars of an update of the discriminator. */
export interface DiscriminatorMetrics<T = tf.Tensor> {
  /** What it minimises. */
  discriminatorLoss: T;
  /** Mean logit of the images. */
  logitsReal: T;
  /** Mean logit of the reconstructions. */
  logitsFake: T;
  /** Norm of its gradients before clipping. */
  discriminatorGradientNorm: T;
}

/** The state before the first update. */
export function initDiscriminatorState(
  rng: Rng,
  config: DiscriminatorConfig,
): DiscriminatorState<HostTensor> {
  const discriminator = initDiscriminator(rng, config);
  return { step: scalar(0), ...discriminator, adam: initAdam(discriminator.params) };
}

/** What the discriminator is shown. */
export interface DiscriminatorInputs {
  /** Images in [−1, 1], `[B, H, W, 3]`. */
  readonly imageSigned: tf.Tensor;
  /** Their reconstructions; no gradient flows back to them. */
  readonly reconstructionSigned: tf.Tensor;
  /** Running statistics after the generator's pass, in which the discriminator saw the reconstructions already. */
  readonly statistics: readonly ChannelStatistics[];
  /** Step size of this update. */
  readonly learningRate: tf.Scalar;
}

/**
 * One update of the discriminator: judge images, then reconstructions, each by the statistics of its own batch, and
 * take a step of Adam.
 *
 * *Source*: the discriminator's pass of `LPIPSWithDiscriminator` in CompVis/latent-diffusion. As in SVG the
 * reconstructions are those of the generator before its update; latent diffusion makes them anew after it. *Differs*:
 * Adam counts the discriminator's own updates. There it has also counted those before the start, whose gradients were
 * zero, so that its first steps are longer: 1.6 times the step size, not once.
 */
export function discriminatorUpdate(
  state: DiscriminatorState,
  { imageSigned, reconstructionSigned, statistics, learningRate }: DiscriminatorInputs,
  settings: AdversarialSettings,
): { state: DiscriminatorState; metrics: DiscriminatorMetrics } {
  const { loss, aux, grads } = valueAndGrads((params: DiscriminatorParams) => {
    const real = discriminate(imageSigned, { params, statistics: [...statistics] });
    const fake = discriminate(reconstructionSigned, { params, statistics: real.statistics });
    const loss = tf.mul(discriminatorLoss(settings.loss, real.logits, fake.logits), settings.factor);
    const aux = {
      statistics: fake.statistics,
      logitsReal: tf.mean(real.logits),
      logitsFake: tf.mean(fake.logits),
    };
    return { loss: loss as tf.Scalar, aux };
  }, state.params);
  const { statistics: seen, ...logits } = aux;
  const clipped = clipByGlobalNorm(grads, settings.maxGradientNorm);
  const step = tf.add(state.step, 1) as tf.Scalar, [beta1, beta2] = settings.betas;
  const { params, state: adam } = adamW(state.params, clipped.grads, state.adam, step, {
    learningRate,
    beta1,
    beta2,
  });
  return {
    state: { step, params, statistics: seen, adam },
    metrics: { discriminatorLoss: loss, ...logits, discriminatorGradientNorm: clipped.norm },
  };
}
