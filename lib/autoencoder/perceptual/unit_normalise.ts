/**
 * Feature maps normalised over channels, as perceptual distances compare them.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";

/** Added to each length, as LPIPS has it. */
const EPS = 1e-10;
/** Squared length from which on lengths have a slope; its root is lost beside {@linkcode EPS}. */
const LEAST_SQUARE = 1e-30;

/**
 * Features divided by their length: `x / (√Σx² + 1e-10)`; zeros stay zeros, with a finite gradient.
 *
 * @param axis of the channels.
 */
export function unitNormalise(x: tf.Tensor, axis: number): tf.Tensor {
  const squares = tf.sum(tf.square(x), axis, true);
  return tf.div(x, tf.add(tf.sqrt(tf.maximum(squares, LEAST_SQUARE)), EPS));
}
