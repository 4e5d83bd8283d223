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
 * @param options.iterations pairs of scalings; default 3.
 * @param options.presentM 1 for rows that take part, 0 for those that only fill the shape [M]; default all.
 * @returns [M, P], rows sum to 1, absent ones to 0.
 */
export function sinkhornKnopp(
  logitsMP: tf.Tensor,
  temperature: number | tf.Scalar,
  options: { readonly iterations?: number; readonly presentM?: tf.Tensor } = {},
): tf.Tensor {
  const { iterations = 3, presentM } = options;
  const [rows, cols] = logitsMP.shape;
  const scaled = tf.div(logitsMP, temperature);
  let q = tf.exp(tf.sub(scaled, tf.max(scaled)));
  if (presentM) q = tf.mul(q, tf.reshape(presentM, [rows, 1]));
  for (let i = 0; i < iterations; i++) {
    // A column that no row comes near would be 0 / 0.
    q = tf.mul(tf.div(q, tf.maximum(tf.sum(q, 0, true), 1e-30)), rows / cols);
    const sums = tf.sum(q, 1, true);
    q = tf.div(q, presentM ? tf.maximum(sums, 1e-30) : sums);
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
 * @param localWeight factor of the pairs with local crops, as in DINOv3's later stages; default 1.
 * @returns a scalar.
 */
export function dinoLoss(
  targets: tf.Tensor,
  globalLogits: tf.Tensor,
  localLogits: tf.Tensor | null,
  temperature: number,
  localWeight?: tf.Tensor,
): tf.Scalar {
  const [first, second] = tf.split(targets, 2, 0);
  const crossed = tf.concat([second, first], 0);
  const globalLoss = tf.mean(softmaxCrossEntropy(tf.div(globalLogits, temperature), crossed));
  if (localLogits === null) return globalLoss as tf.Scalar;
  const locals = localLogits.shape[0] / first.shape[0];
  // A local crop meets both global ones: the cross-entropy is linear in the targets, so with their mean, twice.
  const both = tf.tile(tf.mul(tf.add(first, second), 0.5), [locals, 1]);
  const localLoss = tf.mean(softmaxCrossEntropy(tf.div(localLogits, temperature), both));
  const pairs = 2 + 2 * locals, localPart = tf.mul(localLoss, 2 * locals / pairs);
  return tf.add(tf.mul(globalLoss, 2 / pairs), localWeight ? tf.mul(localPart, localWeight) : localPart);
}

/**
 * The contrast between images: mean cross-entropy of finding, by a crop's embedding, the other crop of its image among
 * those of the batch, over all pairs of a global crop that is found and a different crop that looks for it,
 * `−log softmax_j(q_i · k_j / τ)_i`. Gradients flow to both.
 *
 * *Source*: InfoNCE (arXiv 1807.03748) as in MoCo v3 (arXiv 2104.02057). *Differs*: both sides are the student's, as in
 * SimCLR; only crops of the same rank in the batch are each other's alternatives.
 *
 * @param globals embeddings of the 2 global crops, rows of length 1 [2·B, K], crop after crop.
 * @param locals embeddings of the local crops [C·B, K], crop after crop; null for none.
 * @param temperature τ.
 * @returns a scalar; log B for embeddings that tell nothing apart.
 */
export function contrastLoss(globals: tf.Tensor, locals: tf.Tensor | null, temperature: number): tf.Scalar {
  const [first, second] = tf.split(globals, 2, 0), count = first.shape[0];
  const searches = (queries: tf.Tensor, keys: tf.Tensor) => {
    const own = tf.tile(tf.eye(count), [queries.shape[0] / count, 1]);
    return tf.sum(softmaxCrossEntropy(tf.div(tf.matMul(queries, keys, false, true), temperature), own));
  };
  const fromFirst = locals ? tf.concat([first, locals], 0) : first;
  const fromSecond = locals ? tf.concat([second, locals], 0) : second;
  const all = tf.add(searches(fromSecond, first), searches(fromFirst, second));
  return tf.div(all, 2 * fromFirst.shape[0]) as tf.Scalar;
}

/**
 * The masked-patch loss of iBOT, `−Σ_m w_m Σ_p T_mp log softmax(S_m / τ)_p`.
 *
 * *Source*: iBOT (arXiv 2111.07832), equation 2; `forward_masked` of facebookresearch/dinov2, where `w` is one through
 * the masked patches of the crop and the number of crops.
 *
 * @param targetsMP teacher's assignments of the masked patches [M, P].
 * @param logitsMP student's logits of the same patches [M, P].
 * @param weightsM `w` [M]; 0 for rows that only fill the shape.
 * @returns a scalar.
 */
export function patchLoss(
  targetsMP: tf.Tensor,
  logitsMP: tf.Tensor,
  weightsM: tf.Tensor,
  temperature: number,
): tf.Scalar {
  const losses = softmaxCrossEntropy(tf.div(logitsMP, temperature), targetsMP);
  return tf.sum(tf.mul(losses, weightsM));
}

/**
 * The KoLeo regulariser, which spreads features over the sphere: `−mean log(‖x_i − x_nearest(i) + ε‖ + ε)` of vectors
 * scaled to length 1, with ε = 1e-8.
 *
 * *Source*: Sablayrolles et al. (arXiv 1806.03198); `KoLeoLoss` of facebookresearch/dinov2, where the first ε is that
 * of `PairwiseDistance`, added to each difference.
 *
 * @param xBD features [B, D], B ≥ 2.
 * @returns a scalar.
 */
export function koleoLoss(xBD: tf.Tensor): tf.Scalar {
  const x = l2Normalize(xBD, 1), eps = 1e-8;
  const apart = tf.add(tf.sub(x, tf.matMul(nearestNeighbours(x), x)), eps);
  const distances = tf.sqrt(tf.sum(tf.square(apart), 1));
  return tf.neg(tf.mean(tf.log(tf.add(distances, eps))));
}

/** One-hot rows that pick the nearest other vector of each, the first of equally near ones; no gradient flows through. */
function nearestNeighbours(x: tf.Tensor): tf.Tensor {
  const pick = tf.customGrad((unit) => {
    const vectors = unit as tf.Tensor2D, count = vectors.shape[0];
    const products = tf.matMul(vectors, vectors, false, true);
    const others = tf.sub(products, tf.mul(tf.eye(count), 4));
    const value = tf.oneHot(tf.argMax(others, 1), count, 1, 0, "float32");
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
