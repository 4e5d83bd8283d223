/**
 * Layer, root-mean-square and group normalisation with gradients of their own: backwards the moments are recomputed
 * from the input, so that nothing else is kept. Recorded, layer normalisation is one fused operator of ONNX Runtime.
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
 * Layer normalisation without learned scale, then scale and shift of each sample, as adaptive transformers use it.
 * Nothing but the input is kept for the gradient.
 *
 * `y = (x − mean) / sqrt(variance + eps) · (1 + scale) + shift`
 *
 * *Source*: `modulate` of facebookresearch/DiT (arXiv 2212.09748).
 *
 * @param xBND tokens [B, N, D].
 * @param shiftB1D [B, 1, D].
 * @param scaleB1D [B, 1, D]; 0 leaves the normalised values as they are.
 * @returns [B, N, D].
 */
export function modulatedLayerNorm(
  xBND: tf.Tensor,
  shiftB1D: tf.Tensor,
  scaleB1D: tf.Tensor,
  eps = 1e-6,
): tf.Tensor {
  const op = tf.customGrad((...args) => {
    const [x, shift, scale, save] = args as unknown as [tf.Tensor, tf.Tensor, tf.Tensor, tf.GradSaveFunc];
    save([x, scale]);
    const { normal } = normalise(x, eps);
    return {
      value: tf.add(tf.mul(normal, tf.add(scale, 1)), shift),
      gradFunc: (dy: tf.Tensor | tf.Tensor[], [kept, keptScale]: tf.Tensor[]) =>
        modulatedGradient(dy as tf.Tensor, kept, keptScale, eps),
    };
  });
  return op(xBND, shiftB1D, scaleB1D);
}

function modulatedGradient(dy: tf.Tensor, x: tf.Tensor, scale: tf.Tensor, eps: number): tf.Tensor[] {
  const { normal, invStd } = normalise(x, eps);
  const g = tf.mul(dy, tf.add(scale, 1));
  const projection = tf.mul(normal, tf.mean(tf.mul(g, normal), -1, true));
  const dx = tf.mul(tf.sub(tf.sub(g, projection), tf.mean(g, -1, true)), invStd);
  return [dx, tf.sum(dy, 1, true), tf.sum(tf.mul(dy, normal), 1, true)];
}

/**
 * Scales the last axis to a mean square of 1, then each channel by its weight.
 *
 * `y = x / sqrt(mean(x²) + eps) · weight`
 *
 * *Source*: Zhang & Sennrich, "Root Mean Square Layer Normalization" (arXiv 1910.07467); PyTorch's `rms_norm`.
 *
 * @param xD float32 of any rank, last axis D.
 * @param weight [D], or null for ones.
 * @returns a tensor of x's shape.
 */
export function rmsNorm(xD: tf.Tensor, weight: tf.Tensor | null, eps = 1e-6): tf.Tensor {
  const op = tf.customGrad((...args) => {
    const save = args.pop() as unknown as tf.GradSaveFunc;
    const [x, gain] = args as tf.Tensor[];
    save(gain ? [x, gain] : [x]);
    const normal = tf.mul(x, inverseRms(x, eps));
    return {
      value: gain ? tf.mul(normal, gain) : normal,
      gradFunc: (dy: tf.Tensor | tf.Tensor[], [kept, keptGain]: tf.Tensor[]) =>
        rmsGradient(dy as tf.Tensor, kept, keptGain ?? null, eps),
    };
  });
  return weight ? op(xD, weight) : op(xD);
}

function inverseRms(x: tf.Tensor, eps: number): tf.Tensor {
  return tf.rsqrt(tf.add(tf.mean(tf.square(x), -1, true), eps));
}

/** dx = r · (g − normal · mean(g ∘ normal)) with r = 1 / rms, normal = x · r and g = dy ∘ weight. */
function rmsGradient(dy: tf.Tensor, x: tf.Tensor, weight: tf.Tensor | null, eps: number): tf.Tensor[] {
  const scale = inverseRms(x, eps), normal = tf.mul(x, scale);
  const g = weight ? tf.mul(dy, weight) : dy;
  const dx = tf.mul(tf.sub(g, tf.mul(normal, tf.mean(tf.mul(g, normal), -1, true))), scale);
  const leading = x.shape.slice(0, -1).map((_, axis) => axis);
  return weight ? [dx, tf.sum(tf.mul(dy, normal), leading)] : [dx];
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
