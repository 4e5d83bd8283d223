/** Gradients that tfjs writes, recorded and compiled, against the same run eagerly. */
import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import { jit } from "novae/engine/mod.ts";
import { rows } from "novae/tensor/mod.ts";
import { assertCompiles, type Case, gradients, integers, normal, truths, uniform } from "./engine_harness.ts";

const unaryOps: [(x: tf.Tensor) => tf.Tensor, number, number][] = [
  [tf.abs, -3, 3],
  [(x) => tf.clipByValue(x, -1, 1), -3, 3],
  [tf.cos, -3, 3],
  [tf.elu, -3, 3],
  [tf.erf, -2, 2],
  [tf.exp, -2, 2],
  [tf.expm1, -2, 2],
  [(x) => tf.leakyRelu(x, 0.1), -3, 3],
  [tf.log, 0.2, 5],
  [tf.log1p, -0.5, 5],
  [tf.neg, -3, 3],
  [tf.reciprocal, 0.2, 3],
  [tf.relu, -3, 3],
  [(x) => tf.relu6(x), -3, 9],
  [tf.rsqrt, 0.2, 5],
  [tf.selu, -3, 3],
  [tf.sigmoid, -4, 4],
  [tf.sin, -3, 3],
  [tf.softplus, -4, 4],
  [tf.sqrt, 0.2, 5],
  [tf.square, -3, 3],
  [tf.tan, -1, 1],
  [tf.tanh, -3, 3],
  [(x) => tf.pow(x, 3), 0.5, 2],
];

const unary = unaryOps.flatMap(([fn, low, high], i) =>
  [[], [1], [3, 5]].map((shape) =>
    gradients(`unary ${i} ${fn.name} [${shape}]`, [uniform(low, high, ...shape)], fn)
  )
);

const PAIRS = [[[3], [3]], [[3, 5], [5]], [[5], [3, 5]], [[2, 1, 3], [4, 1]], [[], [2, 3]]];

const binary = [tf.add, tf.sub, tf.mul, tf.div, tf.pow].flatMap(
  (
    fn,
  ) =>
    PAIRS.map(([a, b]) =>
      gradients(`${fn.name} [${a}] [${b}]`, [uniform(0.5, 2, ...a), uniform(0.5, 2, ...b)], fn)
    ),
);

const products = [false, true].flatMap((transposeA) =>
  [false, true].map((transposeB) =>
    gradients(
      `matMul ${transposeA} ${transposeB}`,
      [normal(2, ...(transposeA ? [4, 3] : [3, 4])), normal(2, ...(transposeB ? [5, 4] : [4, 5]))],
      (a, b) => tf.matMul(a, b, transposeA, transposeB),
    )
  )
);

const reductions = [
  gradients("sum", [normal(3, 4)], (x) => [tf.sum(x), tf.sum(x, 0), tf.sum(x, -1, true)]),
  gradients("mean", [normal(3, 4)], (x) => [tf.mean(x), tf.mean(x, 1), tf.mean(x, 0, true)]),
  gradients("max", [normal(3, 4)], (x) => [tf.max(x), tf.max(x, 1)]),
  gradients("min", [normal(3, 4)], (x) => [tf.min(x), tf.min(x, 0)]),
  gradients("prod", [uniform(0.5, 2, 3, 4)], (x) => [tf.prod(x, 1), tf.prod(x)]),
  gradients("moments", [normal(3, 4)], (x) => Object.values(tf.moments(x, -1)) as tf.Tensor[]),
  gradients("cumsum", [normal(3, 4)], (x) => [tf.cumsum(x, 1), tf.cumsum(x, 1, true, true)]),
  gradients("softmax", [normal(3, 4)], (x) => [tf.softmax(x), tf.logSoftmax(x)]),
  gradients("logSumExp", [normal(3, 4)], (x) => tf.logSumExp(x, 1)),
  gradients("norm", [normal(3, 4)], (x) => tf.norm(x)),
  gradients("losses", [normal(3, 4), normal(3, 4)], (x, y) => [
    tf.losses.meanSquaredError(x, y),
    tf.losses.huberLoss(x, y),
  ]),
];

const shapes = [
  gradients("reshape and transpose", [normal(2, 3, 4)], (x) => tf.transpose(tf.reshape(x, [6, 4]), [1, 0])),
  gradients(
    "concat and stack",
    [normal(2, 3), normal(2, 3)],
    (a, b) => [tf.concat([a, b], 1), tf.stack([a, b], 1)],
  ),
  gradients("split", [normal(4, 6)], (x) => tf.split(x, [1, 2, 3], 1).slice(0, 2)),
  gradients("unstack", [normal(3, 4)], (x) => tf.unstack(x, 1).slice(1)),
  gradients("slice", [normal(4, 6)], (x) => tf.slice(x, [1, 2], [2, 3])),
  gradients("pad", [normal(2, 3)], (x) => tf.pad(x, [[1, 0], [2, 1]])),
  gradients("reverse", [normal(2, 3)], (x) => tf.reverse(x, 1)),
  gradients("tile", [normal(2, 1, 3)], (x) => tf.tile(x, [2, 4, 1])),
  gradients("broadcastTo", [normal(3, 1)], (x) => tf.broadcastTo(x, [2, 3, 4])),
  gradients("expandDims and squeeze", [normal(2, 3)], (x) => tf.squeeze(tf.expandDims(x, 1))),
  gradients(
    "depth rearranged",
    [normal(1, 2, 2, 8)],
    (x) => tf.reshape(tf.transpose(tf.reshape(x, [1, 2, 2, 2, 2, 2]), [0, 1, 3, 2, 4, 5]), [1, 4, 4, 2]),
  ),
  gradients("gather", [normal(5, 3)], (x, ids) => [tf.gather(x, ids), tf.gather(x, ids, 1)], [
    integers(0, 3, 4),
  ]),
  gradients("where", [normal(3, 4), normal(3, 4)], (a, b, c) => tf.where(c, a, b), [truths(3, 4)]),
  gradients("step", [normal(3, 4)], (x) => tf.mul(x, tf.step(x))),
];

const convolutions = ([[3, 1, "same"], [3, 2, "same"], [2, 2, "valid"], [1, 1, "valid"], [4, 2, 1]] as const)
  .map(([size, stride, pad]) =>
    gradients(
      `conv2d ${size} ${stride} ${pad}`,
      [normal(2, 6, 6, 3), normal(size, size, 3, 4)],
      (x, w) => tf.conv2d(x, w, stride, pad),
    )
  );

const moreConvolutions = [
  gradients(
    "conv2dTranspose",
    [normal(2, 3, 3, 4), normal(4, 4, 3, 4)],
    (x, w) => tf.conv2dTranspose(x, w, [2, 6, 6, 3], 2, "same"),
  ),
  gradients(
    "fused.conv2d",
    [normal(1, 5, 5, 2), normal(3, 3, 2, 3), normal(3)],
    (x, filter, bias) => tf.fused.conv2d({ x, filter, bias, strides: 1, pad: "same" }),
  ),
  gradients(
    "pools",
    [normal(1, 6, 6, 2)],
    (x) => [tf.maxPool(x, 2, 2, "valid"), tf.avgPool(x, 2, 2, "valid")],
  ),
];

const families: Record<string, Case[]> = {
  "unary functions": unary,
  "arithmetic that broadcasts": binary,
  "matrix products": products,
  reductions,
  "changes of shape and choices": shapes,
  "convolutions and pools": [...convolutions, ...moreConvolutions],
};

for (const [family, cases] of Object.entries(families)) {
  Deno.test(`compiled gradients of ${family} equal eager ones`, () => assertCompiles(cases));
}

Deno.test("second derivatives compile", async () => {
  await assertCompiles([{
    name: "second derivative",
    inputs: [uniform(0.5, 2, 4)],
    fn: (x) => tf.grad((y) => tf.sum(tf.square(tf.grad((z) => tf.sum(tf.mul(z, tf.mul(z, z))))(y))))(x),
  }]);
});

Deno.test("the gradient of a kernel over many large images is the sum of the images' gradients", async () => {
  // Large enough that the shifted images are not joined; each alone is small enough that they are.
  const images = normal(12, 66, 64, 64), weights = normal(12, 66, 64, 48), kernel = normal(3, 3, 64, 48);
  const gradient = jit(
    (x: tf.Tensor, dy: tf.Tensor, w: tf.Tensor) =>
      tf.grad((k) => tf.sum(tf.mul(tf.conv2d(x as tf.Tensor4D, k as tf.Tensor4D, 1, "same"), dy)))(w),
    { device: "cpu" },
  );
  const all = await (await gradient(images, weights, kernel)).read();
  const sum = new Float64Array(all.data.length);
  for (let i = 0; i < 12; i++) {
    const one = await gradient(rows(images, i, i + 1), rows(weights, i, i + 1), kernel);
    (await one.read()).data.forEach((v, j) => sum[j] += v);
    one.dispose();
  }
  // Sums of 50,000 products of which each half cancels: what counts is the error beside their spread.
  const spread = Math.hypot(...sum.subarray(0, 4096)) / 64;
  const error = sum.reduce((most, v, j) => Math.max(most, Math.abs(v - all.data[j])), 0);
  assert.ok(error < 1e-5 * spread, `${error} of ${spread}`);
  await gradient.dispose();
});
