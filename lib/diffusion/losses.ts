/**
 * Losses that can be added to the velocity's: of its direction, and of intermediate tokens beside the features of a
 * frozen encoder.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { expectShape, type HostTensor, type Rng } from "novae/tensor/mod.ts";
import { silu } from "novae/engine/mod.ts";
import { initLinear, linear, type LinearParams } from "novae/nn/mod.ts";
import { pathVelocity } from "./path.ts";

/**
 * How far predicted velocities point elsewhere, `mean (1 − cos(v, data − noise))`, with the cosine over the channels of
 * a token; added to `velocityLoss`.
 *
 * *Source*: `use_cosine_loss` of hustvl/LightningDiT (Yao et al., arXiv 2501.01423), where the channels are axis 1.
 */
export function velocityCosineLoss(
  velocityBNZ: tf.Tensor,
  dataBNZ: tf.Tensor,
  noiseBNZ: tf.Tensor,
): tf.Scalar {
  return tf.sub(1, meanCosine(velocityBNZ, pathVelocity(dataBNZ, noiseBNZ))) as tf.Scalar;
}

/**
 * REPA's alignment, `−mean cos(projected, target)` over all tokens; its weight beside the velocity's loss is 0.5.
 *
 * *Source*: Yu et al., arXiv 2410.06940, equation 8, with patch-wise cosine similarity.
 *
 * @param projectedBND tokens of an early block after {@linkcode project}, [B, N, D].
 * @param targetBND patch features of a frozen encoder for the clean images, [B, N, D].
 * @throws TypeError if the shapes differ.
 */
export function alignmentLoss(projectedBND: tf.Tensor, targetBND: tf.Tensor): tf.Scalar {
  expectShape("Cannot align tokens", projectedBND.shape, targetBND.shape);
  return tf.neg(meanCosine(projectedBND, targetBND)) as tf.Scalar;
}

/** Weights of {@linkcode project}: three linear maps. */
export interface ProjectorParams<T = tf.Tensor> {
  /** E to the hidden width. */
  fc1: LinearParams<T>;
  /** Hidden width to hidden width. */
  fc2: LinearParams<T>;
  /** Hidden width to D. */
  fc3: LinearParams<T>;
}

/**
 * Initial weights of a projector.
 *
 * @param width E of the transformer's tokens.
 * @param features D of the encoder's.
 * @param hidden width between; 2048 in REPA.
 */
export function initProjector(
  rng: Rng,
  width: number,
  features: number,
  hidden = 2048,
): ProjectorParams<HostTensor> {
  return {
    fc1: initLinear(rng.split("fc1"), width, hidden),
    fc2: initLinear(rng.split("fc2"), hidden, hidden),
    fc3: initLinear(rng.split("fc3"), hidden, features),
  };
}

/**
 * Takes tokens of the transformer to the width of an encoder's features.
 *
 * `fc3(silu(fc2(silu(fc1(x)))))`. *Source*: `build_mlp` of sihyun-yu/REPA.
 *
 * @param xBNE tokens [B, N, E].
 * @returns [B, N, D].
 */
export function project(xBNE: tf.Tensor, params: ProjectorParams): tf.Tensor {
  return linear(silu(linear(silu(linear(xBNE, params.fc1)), params.fc2)), params.fc3);
}

/** The mean over tokens of the cosine between vectors of the last axis; norms are held at 1e-8 or above. */
function meanCosine(a: tf.Tensor, b: tf.Tensor): tf.Tensor {
  const unit = (x: tf.Tensor) =>
    tf.div(x, tf.sqrt(tf.maximum(tf.sum(tf.square(x), -1, true), NORM_FLOOR ** 2)));
  return tf.mean(tf.sum(tf.mul(unit(a), unit(b)), -1));
}

/** As in `torch.nn.functional.cosine_similarity`. */
const NORM_FLOOR = 1e-8;
