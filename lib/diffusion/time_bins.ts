/**
 * Losses by the time at which they were measured, in ten bins of equal width.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";

/** Number of bins of the time: the first is [0, 0.1), near noise, the last [0.9, 1]. */
export const TIME_BINS = 10;

/**
 * What the means of losses by time are made of: for each bin the sum of the losses in it and their number, both divided
 * by B, so that the values of several batches can be averaged.
 *
 * @param lossesB losses [B].
 * @param tB times in [0, 1], [B].
 * @returns [2, 10]; see {@linkcode lossByTime}.
 */
export function meansByTime(lossesB: tf.Tensor, tB: tf.Tensor): tf.Tensor {
  const bins = tf.tensor1d(Array.from({ length: TIME_BINS }, (_, i) => i));
  const binsB = tf.minimum(tf.floor(tf.mul(tB, TIME_BINS)), TIME_BINS - 1);
  const fallsBT = tf.cast(tf.equal(tf.expandDims(binsB, 1), tf.expandDims(bins, 0)), "float32");
  return tf.stack([tf.mean(tf.mul(fallsBT, tf.expandDims(lossesB, 1)), 0), tf.mean(fallsBT, 0)]);
}

/**
 * The mean loss in each bin of the time.
 *
 * @param binned [2, 10] as {@linkcode meansByTime} gives it, or a mean of such values.
 * @returns ten means; null where no sample fell.
 */
export function lossByTime(binned: ArrayLike<number>): (number | null)[] {
  return Array.from({ length: TIME_BINS }, (_, i) => {
    const sum = binned[i], share = binned[TIME_BINS + i];
    return share > 0 ? sum / share : null;
  });
}
