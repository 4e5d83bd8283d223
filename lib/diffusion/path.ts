/**
 * The probability path from noise (t = 0) to data (t = 1), and the times at which it is trained and followed.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import type { Rng } from "novae/tensor/mod.ts";
import { fillNormal } from "./noise.ts";

/** How training times are drawn before the shift: uniform, or the logistic function of a normal. */
export type TimeDistribution = "uniform" | "logitNormal";

/** Which normal the `logitNormal` times come from. */
export interface LogitNormal {
  /** Its mean; below 0 towards noise. Default 0. */
  readonly mean?: number;
  /** Its standard deviation, above 0. Default 1. */
  readonly std?: number;
}

/**
 * Moves a time towards noise (`shift` < 1) or data (`shift` > 1): `t' = s·t / (1 + (s − 1)·t)`.
 *
 * It fixes 0 and 1 and grows with t; shifting by `1/s` undoes it.
 *
 * *Source*: SVG, `timestep_shift`; s = 0.4 in training and 0.15 in sampling for its published models.
 *
 * @param t in [0, 1].
 * @param shift s > 0; 1 changes nothing.
 * @throws RangeError if the shift is not a positive number.
 */
export function shiftTime(t: number, shift: number): number {
  if (!(shift > 0) || !Number.isFinite(shift)) {
    throw new RangeError(`Cannot shift times: shift must be a positive number, got ${shift}`);
  }
  // The denominator in this form is exact at both ends.
  return shift * t / (1 - t + shift * t);
}

/**
 * The times `0 = t_0 < … < t_S = 1` between which a sampler steps: evenly spaced, then shifted.
 *
 * @param steps S ≥ 1.
 * @param shift see {@linkcode shiftTime}. Default 1.
 * @returns S + 1 times.
 * @throws RangeError if the number of steps is not a positive integer.
 */
export function timeGrid(steps: number, shift = 1): Float64Array {
  if (!Number.isInteger(steps) || steps < 1) {
    throw new RangeError(`Cannot make a time grid: steps must be a positive integer, got ${steps}`);
  }
  return Float64Array.from({ length: steps + 1 }, (_, i) => shiftTime(i / steps, shift));
}

/**
 * Draws training times.
 *
 * `t = shift(u)`, u uniform, or `t = shift(1 / (1 + exp(−(mean + std·x))))`, x standard normal.
 *
 * *Source*: logit-normal times of Stable Diffusion 3 (Esser et al., arXiv 2403.03206, section 3.1).
 *
 * @param count number of times.
 * @returns float32 values in [0, 1].
 * @throws RangeError if the shift, the mean or the deviation cannot be used.
 */
export function sampleTimes(
  rng: Rng,
  count: number,
  distribution: TimeDistribution = "uniform",
  shift = 1,
  { mean = 0, std = 1 }: LogitNormal = {},
): Float32Array {
  if (!Number.isFinite(mean) || !(std > 0 && Number.isFinite(std))) {
    throw new RangeError(
      `Cannot draw times: mean must be a number and std a positive one, got ${mean} and ${std}`,
    );
  }
  const times = distribution === "uniform"
    ? rng.uniform(count)
    : fillNormal(rng, new Float32Array(count)).map((x) => 1 / (1 + Math.exp(-(mean + std * x))));
  return times.map((t) => shiftTime(t, shift));
}

/**
 * A point on the straight path, `z_t = (1 − t)·noise + t·data`.
 *
 * @param dataBNZ latents [B, N, Z].
 * @param noiseBNZ standard normal noise [B, N, Z].
 * @param tB times in [0, 1], [B].
 * @returns [B, N, Z]: `noise` at t = 0 and `data` at t = 1.
 */
export function pathPoint(dataBNZ: tf.Tensor, noiseBNZ: tf.Tensor, tB: tf.Tensor): tf.Tensor {
  const t = tf.reshape(tB, [tB.shape[0], ...dataBNZ.shape.slice(1).map(() => 1)]);
  return tf.add(tf.mul(noiseBNZ, tf.sub(1, t)), tf.mul(dataBNZ, t));
}

/** The velocity of the straight path, the same at all times: `data − noise`. */
export function pathVelocity(dataBNZ: tf.Tensor, noiseBNZ: tf.Tensor): tf.Tensor {
  return tf.sub(dataBNZ, noiseBNZ);
}

/**
 * What a velocity at a point of the path says of its ends: `data = z + (1 − t)·v` and `noise = z − t·v`.
 *
 * @param zBNZ points [B, N, Z].
 * @param velocityBNZ velocities there.
 * @param tB times in [0, 1], [B].
 */
export function pathEnds(
  zBNZ: tf.Tensor,
  velocityBNZ: tf.Tensor,
  tB: tf.Tensor,
): { dataBNZ: tf.Tensor; noiseBNZ: tf.Tensor } {
  const t = tf.reshape(tB, [tB.shape[0], ...zBNZ.shape.slice(1).map(() => 1)]);
  return {
    dataBNZ: tf.add(zBNZ, tf.mul(velocityBNZ, tf.sub(1, t))),
    noiseBNZ: tf.sub(zBNZ, tf.mul(velocityBNZ, t)),
  };
}

/** The mean squared error of predicted velocities, `mean (v − (data − noise))²`. */
export function velocityLoss(velocityBNZ: tf.Tensor, dataBNZ: tf.Tensor, noiseBNZ: tf.Tensor): tf.Scalar {
  return tf.mean(tf.square(tf.sub(velocityBNZ, pathVelocity(dataBNZ, noiseBNZ)))) as tf.Scalar;
}

/** {@linkcode velocityLoss} of each sample, [B]. */
export function sampleVelocityLosses(
  velocityBNZ: tf.Tensor,
  dataBNZ: tf.Tensor,
  noiseBNZ: tf.Tensor,
): tf.Tensor {
  return tf.mean(tf.square(tf.sub(velocityBNZ, pathVelocity(dataBNZ, noiseBNZ))), [1, 2]);
}
