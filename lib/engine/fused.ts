/**
 * Operations with gradients of their own. Recorded they become one fused operator of ONNX Runtime, eager they are
 * composed of tfjs operations; backwards they recompute what they need from their inputs instead of keeping it.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { GELU, LAYER_NORM, NORMALISE, SCALED_MATMUL } from "./kernels/fused.ts";
import { isTracing } from "./trace.ts";

/**
 * Normalises the last axis to mean 0 and variance 1, then scales and shifts.
 *
 * `y = (x − mean) / sqrt(variance + eps) · weight + bias`
 *
 * *Source*: Ba et al., "Layer Normalization" (arXiv 1607.06450); same as PyTorch's `layer_norm` (biased variance).
 *
 * @param xD float32 of any rank, last axis D.
 * @param weight [D], or null for ones.
 * @param bias [D], or null for zeros.
 * @returns a tensor of x's shape.
 */
export function layerNorm(
  xD: tf.Tensor,
  weight: tf.Tensor | null,
  bias: tf.Tensor | null,
  eps = 1e-6,
): tf.Tensor {
  const affine = [weight, bias].filter((p) => p !== null);
  const op = tf.customGrad((...args) => {
    const save = args.pop() as unknown as tf.GradSaveFunc;
    const [x, ...rest] = args as tf.Tensor[];
    const scale = weight === null ? null : rest[0], shift = bias === null ? null : rest.at(-1)!;
    save(scale ? [x, scale] : [x]);
    return {
      value: layerNormForward(x, scale, shift, eps),
      gradFunc: (dy: tf.Tensor | tf.Tensor[], saved: tf.Tensor[]) =>
        layerNormGradient(dy as tf.Tensor, saved[0], saved[1] ?? null, bias !== null, eps),
    };
  });
  return op(xD, ...affine);
}

function layerNormForward(
  x: tf.Tensor,
  weight: tf.Tensor | null,
  bias: tf.Tensor | null,
  eps: number,
): tf.Tensor {
  if (isTracing() && weight) {
    return tf.engine().runKernel(LAYER_NORM, bias ? { x, weight, bias } : { x, weight }, { eps });
  }
  const { normal } = normalise(x, eps);
  const scaled = weight ? tf.mul(normal, weight) : normal;
  return bias ? tf.add(scaled, bias) : scaled;
}

function normalise(x: tf.Tensor, eps: number): { normal: tf.Tensor; invStd: tf.Tensor } {
  if (isTracing()) {
    const [normal, invStd] = tf.engine().runKernel(NORMALISE, { x }, { eps }) as unknown as tf.Tensor[];
    return { normal, invStd };
  }
  const centred = tf.sub(x, tf.mean(x, -1, true));
  const invStd = tf.rsqrt(tf.add(tf.mean(tf.square(centred), -1, true), eps));
  return { normal: tf.mul(centred, invStd), invStd };
}

/** dx = invStd · (g − normal · mean(g ∘ normal) − mean(g)) with g = dy ∘ weight; means over the last axis. */
function layerNormGradient(
  dy: tf.Tensor,
  x: tf.Tensor,
  weight: tf.Tensor | null,
  hasBias: boolean,
  eps: number,
): tf.Tensor[] {
  const { normal, invStd } = normalise(x, eps);
  const g = weight ? tf.mul(dy, weight) : dy;
  const product = tf.mul(dy, normal);
  const projection = tf.mul(normal, weightedMean(product, weight));
  const dx = tf.mul(tf.sub(tf.sub(g, projection), weightedMean(dy, weight)), invStd);
  const leading = x.shape.slice(0, -1).map((_, axis) => axis);
  const grads = [dx];
  if (weight) grads.push(tf.sum(product, leading));
  if (hasBias) grads.push(tf.sum(dy, leading));
  return grads;
}

/** mean(x ∘ weight) over the last axis, as a product with a column that never writes x ∘ weight. */
function weightedMean(x: tf.Tensor, weight: tf.Tensor | null): tf.Tensor {
  if (weight === null) return tf.mean(x, -1, true);
  const width = weight.size;
  const column = tf.reshape(tf.mul(weight, 1 / width), [width, 1]);
  return tf.reshape(tf.matMul(tf.reshape(x, [x.size / width, width]), column), [...x.shape.slice(0, -1), 1]);
}

const GELU_LINEAR = 2 * Math.sqrt(2 / Math.PI), GELU_CUBIC = GELU_LINEAR * 0.044715;

/**
 * Gaussian error linear unit, tanh approximation.
 *
 * `y = x / 2 · (1 + tanh(sqrt(2 / π) · (x + 0.044715 x³)))`
 *
 * *Source*: Hendrycks & Gimpel (arXiv 1606.08415); PyTorch's `gelu(approximate="tanh")`.
 */
export function gelu(x: tf.Tensor): tf.Tensor {
  const op = tf.customGrad((...args) => {
    const [value, save] = args as unknown as [tf.Tensor, tf.GradSaveFunc];
    const result = geluForward(value);
    // The result is the input of whatever follows and so kept for its gradient anyway.
    save([value, result]);
    return {
      value: result,
      gradFunc: (dy: tf.Tensor | tf.Tensor[], [kept, y]: tf.Tensor[]) =>
        tf.mul(dy as tf.Tensor, geluDerivative(kept, y)),
    };
  });
  return op(x);
}

function geluForward(x: tf.Tensor): tf.Tensor {
  if (isTracing()) return tf.engine().runKernel(GELU, { x }, { approximate: "tanh" });
  return tf.mul(x, tf.sigmoid(tf.neg(tf.mul(negativeSlope(x), x))));
}

/** −u / x for the tanh form x · σ(u), u = 2·sqrt(2/π)·(x + 0.044715 x³). */
function negativeSlope(x: tf.Tensor): tf.Tensor {
  return tf.sub(tf.mul(tf.square(x), -GELU_CUBIC), GELU_LINEAR);
}

/** With v = 1 − σ(u) and y = x · σ(u): y' = σ + y · v · u' = 1 + v · (y · u' − 1). */
function geluDerivative(x: tf.Tensor, y: tf.Tensor): tf.Tensor {
  const slope = negativeSlope(x);
  const v = tf.sigmoid(tf.mul(slope, x));
  const du = tf.sub(tf.mul(slope, -3), 2 * GELU_LINEAR);
  return tf.add(tf.mul(tf.sub(tf.mul(du, y), 1), v), 1);
}

/**
 * Gaussian error linear unit, exact.
 *
 * `y = x / 2 · (1 + erf(x / sqrt(2)))`
 *
 * *Source*: Hendrycks & Gimpel (arXiv 1606.08415); PyTorch's `gelu`.
 */
export function geluErf(x: tf.Tensor): tf.Tensor {
  return unaryOp(x, (value) => {
    if (isTracing()) return tf.engine().runKernel(GELU, { x: value }, { approximate: "none" });
    return tf.mul(value, normalCdf(value));
  }, (dy, saved) => {
    const density = tf.mul(tf.exp(tf.mul(tf.square(saved), -0.5)), 1 / Math.sqrt(2 * Math.PI));
    return tf.mul(dy, tf.add(normalCdf(saved), tf.mul(saved, density)));
  });
}

function normalCdf(x: tf.Tensor): tf.Tensor {
  return tf.add(tf.mul(tf.erf(tf.mul(x, Math.SQRT1_2)), 0.5), 0.5);
}

/**
 * Sigmoid linear unit, also called swish.
 *
 * `y = x · σ(x)`
 *
 * *Source*: Elfwing et al. (arXiv 1702.03118).
 */
export function silu(x: tf.Tensor): tf.Tensor {
  return unaryOp(x, (value) => tf.mul(value, tf.sigmoid(value)), (dy, saved) => {
    const gate = tf.sigmoid(saved);
    return tf.mul(dy, tf.mul(gate, tf.add(tf.mul(saved, tf.sub(1, gate)), 1)));
  });
}

function unaryOp(
  x: tf.Tensor,
  forward: (x: tf.Tensor) => tf.Tensor,
  gradient: (dy: tf.Tensor, x: tf.Tensor) => tf.Tensor,
): tf.Tensor {
  const op = tf.customGrad((...args) => {
    const [value, save] = args as unknown as [tf.Tensor, tf.GradSaveFunc];
    save([value]);
    return {
      value: forward(value),
      gradFunc: (dy: tf.Tensor | tf.Tensor[], saved: tf.Tensor[]) => gradient(dy as tf.Tensor, saved[0]),
    };
  });
  return op(x);
}

/**
 * Softmax attention.
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

function attentionWeights(q: tf.Tensor, k: tf.Tensor, scale: number): tf.Tensor {
  return tf.softmax(scaledMatMul(q, k, scale, false, true));
}

/** With P the attention weights and dP = dy vᵀ: dS = P ∘ (dP − rowsum(dP ∘ P)). */
function attentionGradient(
  dy: tf.Tensor,
  q: tf.Tensor,
  k: tf.Tensor,
  v: tf.Tensor,
  scale: number,
): tf.Tensor[] {
  const weights = attentionWeights(q, k, scale);
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

/**
 * Normalises groups of channels of each image, then scales and shifts each channel.
 *
 * `y = (x − mean) / sqrt(variance + eps) · weight + bias`, moments over height, width and a group's channels
 *
 * *Source*: Wu & He, "Group Normalization" (arXiv 1803.08494).
 *
 * @param xBHWC images [B, H, W, C].
 * @param groups divides C.
 * @param weight [C].
 * @param bias [C].
 * @returns [B, H, W, C].
 * @throws RangeError if C is not a multiple of `groups`.
 */
export function groupNorm(
  xBHWC: tf.Tensor,
  groups: number,
  weight: tf.Tensor,
  bias: tf.Tensor,
  eps = 1e-6,
): tf.Tensor {
  const [batch, height, width, channels] = xBHWC.shape;
  if (channels % groups !== 0) {
    throw new RangeError(
      `Cannot normalise groups: channels must be a multiple of ${groups} groups, got ${channels}`,
    );
  }
  const grouped = tf.reshape(xBHWC, [batch, height * width, groups, channels / groups]);
  const op = tf.customGrad((...args) => {
    const [x, save] = args as unknown as [tf.Tensor, tf.GradSaveFunc];
    save([x]);
    return {
      value: normaliseGroups(x, eps).normal,
      gradFunc: (dy: tf.Tensor | tf.Tensor[], [saved]: tf.Tensor[]) => {
        const { normal, invStd } = normaliseGroups(saved, eps);
        const g = dy as tf.Tensor;
        const projection = tf.mul(normal, groupMean(tf.mul(g, normal)));
        return tf.mul(tf.sub(tf.sub(g, groupMean(g)), projection), invStd);
      },
    };
  });
  const normal = tf.reshape(op(grouped), [batch, height, width, channels]);
  return tf.add(tf.mul(normal, weight), bias);
}

function normaliseGroups(x: tf.Tensor, eps: number): { normal: tf.Tensor; invStd: tf.Tensor } {
  const centred = tf.sub(x, groupMean(x));
  const invStd = tf.rsqrt(tf.add(groupMean(tf.square(centred)), eps));
  return { normal: tf.mul(centred, invStd), invStd };
}

/** The mean over pixels and then over the channels of a group of [B, H·W, groups, C/groups]. */
function groupMean(x: tf.Tensor): tf.Tensor {
  return tf.mean(tf.mean(x, 1, true), 3, true);
}
