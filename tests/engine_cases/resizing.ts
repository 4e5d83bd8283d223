/** Resizing of images in every convention that tfjs has, with gradients. */
import * as tf from "@tensorflow/tfjs";
import { type Case, normal } from "../engine_harness.ts";
import { product } from "./sizes.ts";

type Resize = (
  x: tf.Tensor4D,
  size: [number, number],
  alignCorners?: boolean,
  halfPixelCenters?: boolean,
) => tf.Tensor4D;

const METHODS = [["nearest", tf.image.resizeNearestNeighbor], ["bilinear", tf.image.resizeBilinear]] as [
  string,
  Resize,
][];

/** Oblong and square images, one row and one pixel. */
const FROM: [number, number][] = [[3, 4], [4, 4], [1, 5], [1, 1]];
/** Doubled, tripled, the same, a little more, a little less, one axis each way, one pixel. */
const TO: [number, number][] = [[6, 8], [9, 12], [3, 4], [5, 7], [2, 3], [2, 9], [1, 1]];
/** Aligned corners and half-pixel centres exclude each other. */
const CONVENTIONS: [boolean, boolean][] = [[false, false], [true, false], [false, true]];

/**
 * The gradient of a resizing is its transpose: `dx[i] = ⟨resize(e_i), dy⟩` for each pixel's own image e_i. tfjs's cpu
 * kernels are wrong for several images (nearest) and for oblong images (bilinear), and know no half-pixel centres.
 */
function transpose(resize: (x: tf.Tensor4D) => tf.Tensor4D, x: tf.Tensor, dy: tf.Tensor): tf.Tensor {
  const [batch, height, width, channels] = x.shape, pixels = height * width;
  const basis = resize(tf.reshape(tf.eye(pixels), [pixels, height, width, 1]));
  const rows = tf.reshape(basis, [pixels, basis.size / pixels]);
  return tf.reshape(tf.matMul(rows, tf.reshape(dy, [batch, basis.size / pixels, channels])), [
    batch,
    height,
    width,
    channels,
  ]);
}

export const resizing: Case[] = product(METHODS, FROM, TO, CONVENTIONS).flatMap(
  ([[name, method], from, to, [align, half]]): Case[] => {
    const resize = (x: tf.Tensor4D) => method(x, to, align, half);
    const convention = align ? "aligned corners" : half ? "half-pixel centres" : "plain";
    const label = `${name} ${from.join("×")} to ${to.join("×")}, ${convention}`;
    const x = normal(2, ...from, 2), dy = normal(2, ...to, 2);
    return [
      { name: `resize ${label}`, inputs: [x], fn: resize },
      {
        name: `gradient of resize ${label}`,
        inputs: [x, dy],
        fn: (t, g) => tf.grad(resize as never)(t, g),
        reference: (t, g) => transpose(resize, t, g),
      },
    ];
  },
);
