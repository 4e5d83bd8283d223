/**
 * Layer and group normalisation with gradients of their own: recorded, the forward pass is one fused operator of ONNX
 * Runtime; backwards the moments are recomputed from the input, so that nothing else is kept.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { LAYER_NORM, NORMALISE } from "./kernels/fused.ts";
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
