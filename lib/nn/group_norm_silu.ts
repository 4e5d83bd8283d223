/**
 * Group normalisation with SiLU on channels-first maps, with a gradient of its own.
 *
 * The convolutional networks spend about as much time here as in their convolutions, since each elementwise pass goes
 * through memory. Channels first, a group is one run of memory: statistics and broadcasts then work on whole rows, and
 * convolutions, which are channels-first in the compiled graph, need no transposes between blocks.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { layerNorm } from "novae/engine/mod.ts";

/** Epsilon of the group normalisations, unless given: that of latent diffusion. */
const EPS = 1e-6;

/**
 * Group normalisation, then SiLU unless `linear`.
 *
 * `u = (x − mean) / √(variance + eps)·weight + bias`, `y = u·σ(u)`; moments over a group's channels and all places.
 *
 * @param xBCHW `[B, C, H, W]`.
 * @param groups divides C.
 * @param weight `[C]`.
 * @param bias `[C]`.
 * @returns the same shape.
 */
export function groupNormSilu(
  xBCHW: tf.Tensor,
  groups: number,
  weight: tf.Tensor,
  bias: tf.Tensor,
  activation: "silu" | "linear" = "silu",
  eps = EPS,
): tf.Tensor {
  const op = tf.customGrad((...args) => {
    const [x, w, b, save] = args as unknown as [tf.Tensor, tf.Tensor, tf.Tensor, tf.GradSaveFunc];
    save([x, w, b]);
    const u = affine(tf.reshape(layerNorm(asRows(x, groups), null, null, eps), x.shape), w, b);
    return {
      value: activation === "silu" ? tf.mul(u, tf.sigmoid(u)) : u,
      gradFunc: (dy: tf.Tensor | tf.Tensor[], saved: tf.Tensor[]) =>
        gradient(dy as tf.Tensor, saved[0], saved[1], saved[2], { groups, activation, eps }),
    };
  });
  return op(xBCHW, weight, bias);
}

/**
 * With `du = dy·silu'(u)` and per channel of each image `s₁ = Σ du`, `s₂ = Σ du·x̂`, where x̂ is the normalised input:
 * `∂bias = Σ s₁`, `∂weight = Σ s₂`, `∂x = invStd·(weight·du − mean(weight·s₁) − x̂·mean(weight·s₂))`, the means over a
 * group. The sums serve parameters and statistics both.
 */
function gradient(
  dy: tf.Tensor,
  x: tf.Tensor,
  weight: tf.Tensor,
  bias: tf.Tensor,
  { groups, activation, eps }: { groups: number; activation: "silu" | "linear"; eps: number },
): tf.Tensor[] {
  const [batch, channels, height, width] = x.shape, places = height * width;
  const rows = asRows(x, groups), size = rows.shape[1]!;
  const centred = tf.sub(rows, tf.mean(rows, 1, true));
  const invStd = tf.rsqrt(tf.add(tf.mean(tf.square(centred), 1, true), eps));
  const normal = tf.reshape(tf.mul(centred, invStd), [batch, channels, places]);
  let du = tf.reshape(dy, [batch, channels, places]);
  if (activation === "silu") du = tf.mul(du, siluSlope(affine(normal, weight, bias)));
  const s1 = tf.sum(du, 2), s2 = tf.sum(tf.mul(du, normal), 2);
  const groupMean = (perChannel: tf.Tensor) => {
    const weighted = tf.reshape(tf.mul(perChannel, weight), [batch * groups, channels / groups]);
    return tf.div(tf.sum(weighted, 1, true), size);
  };
  // weight·invStd of each channel of each image
  const scale = tf.mul(
    tf.reshape(weight, [1, groups, channels / groups]),
    tf.reshape(invStd, [batch, groups, 1]),
  );
  const direct = tf.mul(du, tf.reshape(scale, [batch, channels, 1]));
  const projected = tf.add(
    tf.mul(tf.reshape(normal, rows.shape), tf.mul(groupMean(s2), invStd)),
    tf.mul(groupMean(s1), invStd),
  );
  const dx = tf.sub(tf.reshape(direct, rows.shape), projected);
  return [tf.reshape(dx, x.shape), tf.sum(s2, 0), tf.sum(s1, 0)];
}

/** d(u·σ(u))/du = σ·(1 + u·(1 − σ)). */
function siluSlope(u: tf.Tensor): tf.Tensor {
  const gate = tf.sigmoid(u);
  return tf.mul(gate, tf.add(tf.mul(u, tf.sub(1, gate)), 1));
}

/** Scales and shifts each channel of `[B, C, …]`. */
function affine(x: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor): tf.Tensor {
  const perChannel = [x.shape[1]!, ...x.shape.slice(2).map(() => 1)];
  return tf.add(tf.mul(x, tf.reshape(weight, perChannel)), tf.reshape(bias, perChannel));
}

/** One row a group of an image: `[B·groups, C/groups·H·W]`. */
function asRows(x: tf.Tensor, groups: number): tf.Tensor {
  const rows = x.shape[0] * groups;
  return tf.reshape(x, [rows, x.size / rows]);
}
