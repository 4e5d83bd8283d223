import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import {
  applyRope,
  axialRopeTable2d,
  fourierFeatures,
  norm,
  patchify,
  unpatchify,
  valueAndGrads,
} from "novae/nn/mod.ts";

await tf.setBackend("cpu");

function assertClose(got: ArrayLike<number>, wanted: ArrayLike<number>): void {
  assert.equal(got.length, wanted.length);
  for (let i = 0; i < got.length; i++) {
    const limit = 1e-5 + 1e-4 * Math.abs(wanted[i]);
    assert.ok(Math.abs(got[i] - wanted[i]) <= limit, `[${i}] wanted ${wanted[i]}, got ${got[i]}`);
  }
}

Deno.test("patches hold squares of places, row by row, and go back to where they came from", () => {
  tf.tidy(() => {
    const image = tf.range(0, 2 * 4 * 6 * 3).reshape([2, 4, 6, 3]), patches = patchify(image, 2);
    assert.deepEqual(patches.shape, [2, 6, 12]);
    const at = (row: number, col: number) => [0, 1, 2].map((channel) => (row * 6 + col) * 3 + channel);
    const second = patches.slice([0, 4, 0], [1, 1, 12]).dataSync(); // second row of patches, second column
    assert.deepEqual([...second], [...at(2, 2), ...at(2, 3), ...at(3, 2), ...at(3, 3)]);
    assert.deepEqual(unpatchify(patches, 2, 3, 2).arraySync(), image.arraySync());
  });
});

Deno.test("rotary positions by number leave products that depend on the distance in rows and columns alone", () => {
  tf.tidy(() => {
    const table = axialRopeTable2d(3, 4, 8);
    const [q, k] = [1, 2].map((seed) =>
      tf.tile(tf.randomNormal([1, 1, 1, 8], 0, 1, "float32", seed), [1, 1, 12, 1])
    );
    const [turnedQ, turnedK] = [applyRope(q, table), applyRope(k, table)];
    const products = tf.matMul(turnedQ, turnedK, false, true).reshape([12, 12]).arraySync() as number[][];
    const place = (row: number, col: number) => 4 * row + col;
    assertClose([products[place(0, 0)][place(1, 2)]], [products[place(1, 1)][place(2, 3)]]);
    assertClose([products[place(2, 3)][place(0, 1)]], [products[place(2, 2)][place(0, 0)]]);
    assert.ok(Math.abs(products[0][place(1, 2)] - products[0][place(2, 1)]) > 1e-3);
    assertClose([table.cos.data[5 * 8], table.sin.data[6 * 8 + 3]], [Math.cos(1), Math.sin(2 / 100)]);
  });
});

Deno.test("random time features are sines and cosines, and no gradient goes back to their frequencies", () => {
  tf.tidy(() => {
    const t = tf.tensor1d([0.25, 0.7]), w = tf.tensor1d([1, -0.5]);
    const turn = (x: number) => 2 * Math.PI * x;
    const wanted = [0.25, 0.7].flatMap((v) => [
      ...[Math.sin(turn(v)), Math.sin(turn(-0.5 * v))],
      ...[Math.cos(turn(v)), Math.cos(turn(-0.5 * v))],
    ]);
    assertClose(fourierFeatures(t, w).dataSync(), wanted);
    const { grads } = valueAndGrads(
      (p: { t: tf.Tensor; w: tf.Tensor }) => ({
        loss: tf.sum(tf.mul(fourierFeatures(p.t, p.w), tf.range(0, 4))) as tf.Scalar,
        aux: {},
      }),
      { t, w },
    );
    assert.deepEqual([...grads.w.dataSync()], [0, 0]);
    const slope = (v: number) =>
      turn(1) * -0.5 * Math.cos(turn(-0.5 * v)) - 2 * turn(1) * Math.sin(turn(v)) +
      3 * turn(1) * 0.5 * Math.sin(turn(-0.5 * v));
    assertClose(grads.t.dataSync(), [slope(0.25), slope(0.7)]);
  });
});

Deno.test("a normalisation without a shift is by the root mean square", () => {
  tf.tidy(() => {
    const x = tf.tensor2d([[3, 4], [0, 2]]), weight = tf.tensor1d([2, 1]);
    const [a, b] = [3 / Math.sqrt(12.5), 4 / Math.sqrt(12.5)];
    assertClose(norm(x, { weight }, 0).dataSync(), [2 * a, b, 0, Math.SQRT2]);
    assertClose(norm(x, { weight, bias: tf.tensor1d([5, 6]) }, 0).dataSync(), [3, 7, 3, 7]);
  });
});
