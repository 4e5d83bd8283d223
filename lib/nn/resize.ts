/**
 * Resizing of images as two matrix products, so that it runs compiled and in batches with what comes after it.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { expectShape, float32, type HostTensor, rows } from "novae/tensor/mod.ts";
import { constantTree } from "novae/engine/mod.ts";
import type { CropBox } from "novae/data/mod.ts";
import { type PixelSize, PRECISION_BITS, type ResizeFilter, resizeMatrix } from "novae/io/mod.ts";

/** What {@link resizeImages} makes. */
export interface ResizeOptions extends PixelSize {
  /** How pixels are interpolated when enlarging or averaged when shrinking. */
  readonly filter: ResizeFilter;
  /**
   * Whether pixels in [0, 1] are taken for bytes and rounded to bytes after each pass, as Pillow does with images of
   * bytes; false if omitted.
   */
  readonly bytes?: boolean;
  /** The part of the resized image that is wanted; all of it if omitted. The rest is not computed. */
  readonly crop?: CropBox;
}

/**
 * Resizes images, antialiased, with matrices M of weights for rows and columns:
 *
 *     out = M_rows · in · M_columnsᵀ        (columns first)
 *
 * *Source*: Pillow's `Image.resize`; PyTorch's `interpolate(antialias=True)` is the same without `bytes`.
 *
 * @param imageBHWC [B, H, W, C]; any range, with `bytes` in [0, 1].
 * @returns [B, height, width, C], of the crop's extents if there is one. Without `bytes`, `bicubic` and `lanczos3`
 * may leave the range of the input.
 * @throws TypeError if the images have another rank; RangeError if a side is no whole number of at least 1 or the
 * crop does not lie inside the resized image.
 */
export function resizeImages(imageBHWC: tf.Tensor, options: ResizeOptions): tf.Tensor4D {
  expectShape("Cannot resize", imageBHWC.shape, [null, null, null, null]);
  const { height, width, filter, bytes = false } = options;
  const crop = options.crop ?? { top: 0, left: 0, height, width };
  expectInside(crop, options);
  const [batch, inHeight, inWidth, channels] = imageBHWC.shape;
  let x = bytes ? tf.floor(tf.add(tf.mul(imageBHWC, 255), 0.5)) : imageBHWC;
  if (inWidth !== width) {
    const lines = tf.reshape(tf.transpose(x, [0, 1, 3, 2]), [batch * inHeight * channels, inWidth]);
    const columns = rows(resizeMatrix(inWidth, width, filter, bytes), crop.left, crop.left + crop.width);
    const wide = weigh(columns, bytes, (weights) => tf.matMul(lines, weights, false, true));
    x = tf.transpose(tf.reshape(wide, [batch, inHeight, channels, crop.width]), [0, 1, 3, 2]);
  } else x = part(x, 2, crop.left, crop.width);
  if (inHeight !== height) {
    const flat = tf.reshape(x, [batch, inHeight, crop.width * channels]);
    const lines = rows(resizeMatrix(inHeight, height, filter, bytes), crop.top, crop.top + crop.height);
    const tall = weigh(lines, bytes, (weights) => tf.matMul(weights, flat));
    x = tf.reshape(tall, [batch, crop.height, crop.width, channels]);
  } else x = part(x, 1, crop.top, crop.height);
  return (bytes ? tf.div(x, 255) : x) as tf.Tensor4D;
}

/** Splits a weight of 22 bits behind the point into two numbers of at most 11 bits. */
const SPLIT = 2 ** 12;

/**
 * A product with weights, for bytes rounded as Pillow rounds, halves up. There the weights are whole numbers k of 2^−22
 * and k = high · 2^12 + low, so that all terms and sums of both products are whole numbers that float32 holds exactly
 * (sums of low parts surely up to 32 taps; beyond, an error of 2^−22 levels is possible). The factors are so short that
 * products in TF32 are exact too.
 */
function weigh(matrix: HostTensor, bytes: boolean, product: (weights: tf.Tensor) => tf.Tensor): tf.Tensor {
  if (!bytes) return product(constantTree<tf.Tensor>(matrix));
  const whole = Float32Array.from(matrix.data, (weight) => weight * 2 ** PRECISION_BITS);
  const high = whole.map((weight) => Math.round(weight / SPLIT));
  const low = whole.map((weight, i) => weight - high[i] * SPLIT);
  const [highs, lows] = [high, low].map((data) =>
    product(constantTree<tf.Tensor>(float32(data, matrix.shape)))
  );
  const sum = tf.add(highs, tf.floor(tf.div(lows, SPLIT))), unit = 2 ** PRECISION_BITS / SPLIT;
  return tf.clipByValue(tf.floor(tf.div(tf.add(sum, unit / 2), unit)), 0, 255);
}

function part(x: tf.Tensor, axis: number, first: number, count: number): tf.Tensor {
  if (count === x.shape[axis]) return x;
  const begin = x.shape.map((_, i) => i === axis ? first : 0);
  return tf.slice(x, begin, x.shape.map((extent, i) => i === axis ? count : extent));
}

function expectInside({ top, left, height, width }: CropBox, outer: PixelSize): void {
  const whole = [top, left, height, width].every((value) => Number.isInteger(value) && value >= 0);
  if (whole && height >= 1 && width >= 1 && top + height <= outer.height && left + width <= outer.width) {
    return;
  }
  throw new RangeError(
    `Cannot crop: the rectangle must lie in ${outer.width} × ${outer.height} pixels, got ` +
      `${width} × ${height} at (${left}, ${top})`,
  );
}
