/**
 * Softmax attention and softmax cross-entropy with gradients of their own.
 *
 * ONNX Runtime's MultiHeadAttention was measured too: on the CPU it is at most a tenth faster than product, softmax and
 * product, and it has no gradient, so it is not used.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { after } from "./checkpoint.ts";
import { SCALED_MATMUL } from "./kernels/fused.ts";
import { isTracing } from "./trace.ts";

/**
 * Softmax attention. Its gradient keeps the weights of short sequences and recomputes those of long ones, which would
 * take more memory than all else.
 *
 * `y = softmax(scale · q kᵀ) v`
 *
 * *Source*: Vaswani et al. (arXiv 1706.03762), equation 1; PyTorch's `scaled_dot_product_attention`.
 *
 * @param qBANK queries [B, A, N, K].
 * @param kBANK keys [B, A, M, K].
 * @param vBANK values [B, A, M, K].
 * @param scale factor of the logits, 1 / sqrt(K) unless given.
 * @returns [B, A, N, K].
 */
export function attention(
  qBANK: tf.Tensor,
  kBANK: tf.Tensor,
  vBANK: tf.Tensor,
  scale: number = 1 / Math.sqrt(qBANK.shape.at(-1)!),
): tf.Tensor {
  const op = tf.customGrad((...args) => {
    const [q, k, v, save] = args as unknown as [tf.Tensor, tf.Tensor, tf.Tensor, tf.GradSaveFunc];
    save([q, k, v]);
    return {
      value: tf.matMul(attentionWeights(q, k, scale), v),
      gradFunc: (dy: tf.Tensor | tf.Tensor[], saved: tf.Tensor[]) =>
        attentionGradient(dy as tf.Tensor, saved[0], saved[1], saved[2], scale),
    };
  });
  return op(qBANK, kBANK, vBANK);
}

/** Above this number of keys for each channel of a head the weights are recomputed instead of kept. */
const KEPT_KEYS_PER_CHANNEL = 4;

function attentionWeights(q: tf.Tensor, k: tf.Tensor, scale: number): tf.Tensor {
  return tf.softmax(scaledMatMul(q, k, scale, false, true));
}

/** With P the weights and dP = dy vᵀ: dS = P ∘ (dP − rowsum(dP ∘ P)). */
function attentionGradient(
  dy: tf.Tensor,
  q: tf.Tensor,
  k: tf.Tensor,
  v: tf.Tensor,
  scale: number,
): tf.Tensor[] {
  const [keys, channels] = k.shape.slice(-2);
  const recomputes = isTracing() && keys > KEPT_KEYS_PER_CHANNEL * channels;
  const weights = attentionWeights(recomputes ? after(dy, q) : q, k, scale);
  const weighted = tf.mul(tf.matMul(dy, v, false, true), weights);
  const dLogits = tf.sub(weighted, tf.mul(weights, tf.sum(weighted, -1, true)));
  return [
    scaledMatMul(dLogits, k, scale, false, false),
    scaledMatMul(dLogits, q, scale, true, false),
    tf.matMul(weights, dy, true, false),
  ];
}

function scaledMatMul(
  a: tf.Tensor,
  b: tf.Tensor,
  scale: number,
  transposeA: boolean,
  transposeB: boolean,
): tf.Tensor {
  if (isTracing()) return tf.engine().runKernel(SCALED_MATMUL, { a, b }, { scale, transposeA, transposeB });
  return tf.mul(tf.matMul(a, b, transposeA, transposeB), scale);
}

/**
 * Cross-entropy of softmax(logits) against target distributions, one loss a row.
 *
 * `loss_b = −Σ_l targets_bl · log softmax(logits_b)_l`
 *
 * Targets need not sum to one; no gradient flows to them.
 *
 * @param logitsBL [B, L].
 * @param targetsBL [B, L].
 * @returns [B].
 */
export function softmaxCrossEntropy(logitsBL: tf.Tensor, targetsBL: tf.Tensor): tf.Tensor {
  const op = tf.customGrad((...args) => {
    const [logits, save] = args as unknown as [tf.Tensor, tf.GradSaveFunc];
    save([logits, targetsBL]);
    return {
      value: tf.neg(tf.sum(tf.mul(targetsBL, logSoftmax(logits)), -1)),
      gradFunc: (dy: tf.Tensor | tf.Tensor[], [logitsSaved, targets]: tf.Tensor[]) => {
        const expected = tf.mul(tf.softmax(logitsSaved), tf.sum(targets, -1, true));
        return tf.mul(tf.expandDims(dy as tf.Tensor, -1), tf.sub(expected, targets));
      },
    };
  });
  return op(logitsBL);
}

function logSoftmax(logits: tf.Tensor): tf.Tensor {
  return isTracing() ? tf.engine().runKernel("LogSoftmax", { logits }) : tf.logSoftmax(logits);
}
