/**
 * Exponential moving averages of parameters.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { LeafGroups } from "./leaf_groups.ts";

/**
 * One update of a moving average: `ema ← decay·ema + (1 − decay)·params`.
 *
 * @param decay in [0, 1]; a scalar tensor where a schedule feeds it.
 */
export function emaUpdate<P>(ema: P, params: P, decay: number | tf.Scalar): P {
  const groups = new LeafGroups(ema), rate = tf.sub(1, decay);
  const current = groups.gather(params);
  return groups.scatter(
    groups.gather(ema).map((old, i) => tf.add(old, tf.mul(tf.sub(current[i], old), rate))),
  );
}

/**
 * The decay of an average that forgets half of what it holds within `halflifeImages`.
 *
 * With `warmup`, the half-life is at most that share of the images seen so far, so that a young average does not
 * keep the random initialisation.
 *
 * *Source*: EDM's training loop (Karras et al. 2022), whose ramp-up ratio is 0.05.
 *
 * @param imagesSeen images seen before this update.
 * @param warmup largest half-life as a share of `imagesSeen`; Infinity for none.
 */
export function emaDecay(
  batchSize: number,
  halflifeImages: number,
  imagesSeen = Infinity,
  warmup = 0.05,
): number {
  const halflife = Math.min(halflifeImages, Number.isFinite(warmup) ? imagesSeen * warmup : Infinity);
  return 0.5 ** (batchSize / Math.max(halflife, 1e-8));
}
