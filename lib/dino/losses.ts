/**
 * Losses of self-distillation and the assignments of the teacher.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { softmaxCrossEntropy } from "novae/engine/mod.ts";
import { l2Normalize } from "./head.ts";

/**
 * Assigns rows to columns with equal shares: `exp(logits / τ)`, columns and rows scaled in turn, so that each row
 * sums to 1 and the columns come near to M / P.
 *
 * *Source*: `sinkhorn_knopp_teacher` of facebookresearch/dinov2. *Differs*: the largest logit is subtracted first,
 * which cancels and keeps the exponentials finite.
 *
 * @param logitsMP [M, P].
 * @param temperature τ; a scalar tensor where a schedule feeds it.
 * @param iterations pairs of scalings; default 3.
 * @returns [M, P], rows sum to 1.
 */
export function sinkhornKnopp(
  logitsMP: tf.Tensor,
  temperature: number | tf.Scalar,
  iterations = 3,
): tf.Tensor {
  const [rows, cols] = logitsMP.shape;
  const scaled = tf.div(logitsMP, temperature);
  let q = tf.exp(tf.sub(scaled, tf.max(scaled)));
  for (let i = 0; i < iterations; i++) {
    // A column that no row comes near would be 0 / 0.
    q = tf.mul(tf.div(q, tf.maximum(tf.sum(q, 0, true), 1e-30)), rows / cols);
    q = tf.div(q, tf.sum(q, 1, true));
  }
  return q;
}

/**
 * Assignments by centering: `softmax((logits − center) / τ)`.
 *
 * @param logitsMP [M, P].
 * @param centerP running mean of the teacher's logits [P].
 * @returns [M, P], rows sum to 1.
 */
export function centeredSoftmax(
  logitsMP: tf.Tensor,
  centerP: tf.Tensor,
  temperature: number | tf.Scalar,
): tf.Tensor {
  return tf.softmax(tf.div(tf.sub(logitsMP, centerP), temperature));
}

/**
 * The DINO loss: mean cross-entropy over all pairs of a global crop seen by the teacher and a different crop seen by
 * the student, `−Σ_p T_p log softmax(S / τ)_p`.
 *
 * *Source*: DINO (arXiv 2104.14294), equation 3.
 *
 * @param targets teacher's assignments of the 2 global crops, [2·B, P], crop after crop; no gradient flows to them.
 * @param globalLogits student's logits of the 2 global crops [2·B, P].
 * @param localLogits student's logits of the local crops [C·B, P], crop after crop; null for none.
 * @param temperature the student's τ.
 * @returns a scalar.
 */
export function dinoLoss(
  targets: tf.Tensor,
  globalLogits: tf.Tensor,
  localLogits: tf.Tensor | null,
  temperature: number,
): tf.Scalar {
  const [first, second] = tf.split(targets, 2, 0);
  const crossed = tf.concat([second, first], 0);
  const globalLoss = tf.mean(softmaxCrossEntropy(tf.div(globalLogits, temperature), crossed));
  if (localLogits === null) return globalLoss as tf.Scalar;
  const locals = localLogits.shape[0] / first.shape[0];
  // A local crop meets both global ones: the cross-entropy is linear in the targets, so with their mean, twice.
  const both = tf.tile(tf.mul(tf.add(first, second), 0.5), [locals, 1]);
  const localLoss = tf.mean(softmaxCrossEntropy(tf.div(localLogits, temperature), both));
  const pairs = 2 + 2 * locals;
  return tf.add(tf.mul(globalLoss, 2 / pairs), tf.mul(localLoss, 2 * locals / pairs));
}

/**
 * The KoLeo regulariser, which spreads features over the sphere: `−mean log ‖x_i − x_nearest(i)‖` of vectors scaled
 * to length 1.
 *
 * *Source*: Sablayrolles et al. (arXiv 1806.03198), as in DINOv2. *Differs*: 1e-8 is added to the squared distance
 * instead of to the difference and to the distance.
 *
 * @param xBD features [B, D], B ≥ 2.
 * @returns a scalar.
 */
export function koleoLoss(xBD: tf.Tensor): tf.Scalar {
  const x = l2Normalize(xBD, 1);
  const squared = tf.sum(tf.square(tf.sub(x, tf.matMul(nearestNeighbours(x), x))), 1);
  return tf.mul(tf.mean(tf.log(tf.add(squared, 1e-8))), -0.5);
}

/** Rows that pick the nearest other vector of each (the mean of equally near ones); no gradient flows through. */
function nearestNeighbours(x: tf.Tensor): tf.Tensor {
  const pick = tf.customGrad((unit) => {
    const vectors = unit as tf.Tensor2D;
    const products = tf.matMul(vectors, vectors, false, true);
    const others = tf.sub(products, tf.mul(tf.eye(vectors.shape[0]), 4));
    const nearest = tf.cast(tf.equal(others, tf.max(others, 1, true)), "float32");
    const value = tf.div(nearest, tf.sum(nearest, 1, true));
    return { value, gradFunc: () => tf.zerosLike(vectors) };
  });
  return pick(x);
}

/** Mean over rows of the entropy `−Σ p log p` of each, in nats. */
export function meanEntropy(pMP: tf.Tensor): tf.Scalar {
  return tf.neg(tf.mean(tf.sum(tf.mul(pMP, tf.log(tf.add(pMP, 1e-12))), 1)));
}

/** Entropy in nats of the mean row: log P if all prototypes are used alike, 0 after a collapse onto one. */
export function marginalEntropy(pMP: tf.Tensor): tf.Scalar {
  return meanEntropy(tf.mean(pMP, 0, true));
}

/**
 * Spread of features: root mean square over channels of the standard deviation over rows of vectors scaled to
 * length 1, times √D; 1 for directions spread evenly, 0 after a collapse.
 */
export function featureSpread(xMD: tf.Tensor): tf.Scalar {
  const x = l2Normalize(xMD, 1);
  const deviation = tf.square(tf.sub(x, tf.mean(x, 0, true)));
  return tf.sqrt(tf.sum(tf.mean(deviation, 0)));
}
