/**
 * Dropout of the residual encoder. Its masks are drawn on the host and are part of a batch, so that an update stays a
 * pure function and a resumed training repeats them bit for bit.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { type HostTensor, type Rng, sizeOf } from "novae/tensor/mod.ts";
import type { ResidualConfig } from "./residual_encoder.ts";

/** Masks of one transformer block: true where a value is kept. T counts the class token too. */
export interface BlockMasks<T = tf.Tensor> {
  /** Attention weights `[B, A, T, T]`. */
  attention?: T;
  /** What the attention adds `[B, T, width]`. */
  attended?: T;
  /** Hidden layer of the perceptron, after its activation `[B, T, mlpRatio·width]`. */
  hidden?: T;
  /** What the perceptron adds `[B, T, width]`. */
  added?: T;
}

/** Masks of a batch, one a place where torchvision's transformer drops values; absent where the share is 0. */
export interface DropoutMasks<T = tf.Tensor> {
  /** Tokens after positions are added `[B, T, width]`. */
  tokens?: T;
  /** One entry a block. */
  blocks: BlockMasks<T>[];
}

/** Whether a residual encoder drops values in training. */
export function hasDropout({ dropout = 0, attentionDropout = 0 }: ResidualConfig): boolean {
  return dropout > 0 || attentionDropout > 0;
}

/**
 * Draws the masks of a batch: each value is dropped by itself, with the probability of the settings in steps of 2⁻¹⁶.
 *
 * The published encoder has 6.7 million places an image, which take a tenth of a second to draw: much beside the rest
 * of an update on a fast device, little beside it on a CPU.
 *
 * @param images number of images B.
 * @param tokens patches N of an image.
 */
export function drawDropout(
  rng: Rng,
  config: ResidualConfig,
  images: number,
  tokens: number,
): DropoutMasks<HostTensor> {
  const { width, heads, depth, mlpRatio, classToken, dropout = 0, attentionDropout = 0 } = config;
  const length = tokens + (classToken ? 1 : 0);
  const draw = (own: Rng, label: string, shape: number[], rate: number) =>
    rate > 0 ? { [label]: drawKept(own.split(label), shape, rate) } : {};
  return {
    ...draw(rng, "tokens", [images, length, width], dropout),
    blocks: Array.from({ length: depth }, (_, i) => {
      const own = rng.split("block", i);
      return {
        ...draw(own, "attention", [images, heads, length, length], attentionDropout),
        ...draw(own, "attended", [images, length, width], dropout),
        ...draw(own, "hidden", [images, length, mlpRatio * width], dropout),
        ...draw(own, "added", [images, length, width], dropout),
      };
    }),
  };
}

/** 1 where a value is kept. Each 32 random bits decide on two values. */
function drawKept(rng: Rng, shape: readonly number[], rate: number): HostTensor {
  const data = new Uint8Array(sizeOf(shape)), limit = Math.round(rate * 2 ** 16);
  for (let i = 0; i < data.length; i += 2) {
    const bits = rng.uint32();
    data[i] = (bits & 0xffff) >= limit ? 1 : 0;
    if (i + 1 < data.length) data[i + 1] = bits >>> 16 >= limit ? 1 : 0;
  }
  return { dtype: "bool", shape, data };
}

/**
 * What dropout multiplies values with: `1 / (1 − rate)` where they are kept, else 0.
 *
 * @param kept a mask.
 */
export function dropoutFactors(kept: tf.Tensor, rate: number): tf.Tensor {
  return tf.mul(tf.cast(kept, "float32"), 1 / (1 - rate));
}

/** Drops values where there is a mask, else leaves them. */
export function dropValues(x: tf.Tensor, kept: tf.Tensor | undefined, rate: number): tf.Tensor {
  return kept ? tf.mul(x, dropoutFactors(kept, rate)) : x;
}
