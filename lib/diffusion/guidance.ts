/**
 * Classifier-free guidance: a class-conditional velocity is pushed away from the unconditional one.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";

/** A velocity that depends on a label, evaluated for a whole batch. */
export type LabelledVelocity = (zBNZ: tf.Tensor, labelsB: tf.Tensor) => tf.Tensor;

/** How samples are guided. */
export interface Guidance {
  /** Weight w of the conditional velocity; 1 is the conditional model itself. Default 1. */
  readonly cfgScale?: number;
  /** Times [from, to] in which the guidance acts; outside the conditional model is used. Default [0, 1]. */
  readonly cfgInterval?: readonly [from: number, to: number];
}

/**
 * The guided velocity `v_u + w (v_c − v_u)`.
 *
 * *Source*: Ho and Salimans, arXiv 2207.12598, with w as SVG's `cfg` (w = 1 means no guidance).
 */
export function guide(
  conditional: tf.Tensor,
  unconditional: tf.Tensor,
  cfgScale: number | tf.Scalar,
): tf.Tensor {
  return tf.add(unconditional, tf.mul(tf.sub(conditional, unconditional), cfgScale));
}

/**
 * The guided velocity of a batch, with the conditional and the unconditional half in one forward pass.
 *
 * @param velocity evaluated once, on 2·B samples.
 * @param zBNZ latents [B, N, Z].
 * @param labelsB int32 labels [B].
 * @param nullLabel the label that stands for "no class".
 */
export function guidedVelocity(
  velocity: LabelledVelocity,
  zBNZ: tf.Tensor,
  labelsB: tf.Tensor,
  nullLabel: number,
  cfgScale: number | tf.Scalar,
): tf.Tensor {
  const nullsB = tf.fill(labelsB.shape, nullLabel, "int32");
  const both = velocity(tf.concat([zBNZ, zBNZ], 0), tf.concat([labelsB, nullsB], 0));
  const [conditional, unconditional] = tf.split(both, 2, 0);
  return guide(conditional, unconditional, cfgScale);
}

/**
 * Whether guidance acts at a time; where it does not, one conditional forward pass is enough.
 *
 * @throws RangeError if the scale is not a number or the interval is not one within [0, 1].
 */
export function guidesAt(t: number, guidance: Guidance): boolean {
  const { cfgScale = 1, cfgInterval: [from, to] = [0, 1] } = guidance;
  if (!Number.isFinite(cfgScale)) {
    throw new RangeError(`Cannot guide samples: cfgScale must be a finite number, got ${cfgScale}`);
  }
  if (!(from >= 0 && from <= to && to <= 1)) {
    throw new RangeError(
      `Cannot guide samples: interval must lie in order within [0, 1], got [${from}, ${to}]`,
    );
  }
  return cfgScale !== 1 && t >= from && t <= to;
}
