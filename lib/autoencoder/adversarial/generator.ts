/**
 * The generator's side: a reconstruction loss with an adversarial term of adaptive weight.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { type ConvParams, valueAndGrads } from "novae/nn/mod.ts";
import { decodePixels } from "../decoder.ts";
import type { ChannelStatistics } from "./batch_norm.ts";
import { discriminate, type Discriminator } from "./discriminator.ts";
import { adaptiveWeight, generatorLoss } from "./losses.ts";
import type { AdversarialSettings } from "./settings.ts";

/** What is compared, and by what. */
export interface AdversarialInputs {
  /** Input of the decoder's last convolution, `[B, C, H, W]`; gradients flow to it. */
  readonly featuresBCHW: tf.Tensor;
  /** The decoder's last convolution; gradients flow to it. */
  readonly convOut: ConvParams;
  /** The discriminator, which stays as it is. */
  readonly discriminator: Discriminator;
  /** Weight and factor of the adversarial term. */
  readonly settings: Pick<AdversarialSettings, "weight" | "factor">;
  /** Loss of a reconstruction without the adversarial term. */
  reconstructionLoss(reconstructionSigned: tf.Tensor): tf.Scalar;
}

/** A reconstruction and how far it is from what is wanted. */
export interface AdversarialReconstruction {
  /** `reconstruction + weight·factor·adaptive·adversarial`. */
  readonly loss: tf.Scalar;
  /** The loss without the adversarial term. */
  readonly reconstruction: tf.Scalar;
  /** The generator's loss, not weighted. */
  readonly adversarial: tf.Scalar;
  /** What it was weighted with: adaptive weight times `weight`. */
  readonly adversarialWeight: tf.Scalar;
  /** The decoder's image in [−1, 1], `[B, H, W, 3]`. */
  readonly reconstructionSigned: tf.Tensor;
  /** The discriminator's running statistics after this pass. */
  readonly statistics: readonly ChannelStatistics[];
}

/**
 * Decodes the last step and compares, with an adversarial term whose gradient at the decoder's last kernel is made as
 * long as the reconstruction's ({@linkcode adaptiveWeight}); the weight itself is a constant of the gradient.
 *
 * Both gradients are taken at the image; from there one joint gradient goes through the decoder, not two.
 *
 * *Source*: the generator's pass of `LPIPSWithDiscriminator` in CompVis/latent-diffusion.
 */
export function adversarialReconstruction(inputs: AdversarialInputs): AdversarialReconstruction {
  const { featuresBCHW, convOut, discriminator, settings } = inputs;
  const image = decodePixels(featuresBCHW, convOut);
  const plain = valueAndGrads(
    ({ image }: { image: tf.Tensor }) => ({ loss: inputs.reconstructionLoss(image), aux: {} }),
    { image },
  );
  const judged = valueAndGrads(({ image }: { image: tf.Tensor }) => {
    const { logits, statistics } = discriminate(image, discriminator);
    return { loss: generatorLoss(logits), aux: { statistics } };
  }, { image });
  const pixels = (weight: tf.Tensor) => decodePixels(featuresBCHW, { weight, bias: convOut.bias });
  const atLastKernel = (gradient: tf.Tensor) => tf.grad(pixels)(convOut.weight, gradient);
  const adversarialWeight = tf.mul(
    adaptiveWeight(atLastKernel(plain.grads.image), atLastKernel(judged.grads.image)),
    settings.weight,
  ) as tf.Scalar;
  const factor = tf.mul(adversarialWeight, settings.factor);
  const loss = tf.add(plain.loss, tf.mul(judged.loss, factor));
  const gradient = tf.add(plain.grads.image, tf.mul(judged.grads.image, factor));
  return {
    loss: withGradient(image, loss, gradient) as tf.Scalar,
    reconstruction: plain.loss,
    adversarial: judged.loss,
    adversarialWeight,
    reconstructionSigned: image,
    statistics: judged.aux.statistics,
  };
}

/** A function of `x` of which value and gradient are known. */
function withGradient(x: tf.Tensor, value: tf.Tensor, gradient: tf.Tensor): tf.Tensor {
  const op = tf.customGrad((...args) => {
    (args[1] as unknown as tf.GradSaveFunc)([gradient]);
    return {
      value: tf.clone(value),
      gradFunc: (dy: tf.Tensor | tf.Tensor[], [saved]: tf.Tensor[]) => tf.mul(saved, dy as tf.Tensor),
    };
  });
  return op(x);
}
