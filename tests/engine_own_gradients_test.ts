/** Gradients that tfjs lacks or has wrong, against the same function of operations whose gradients tfjs has right. */
import * as tf from "@tensorflow/tfjs";
import {
  assertClose,
  assertCompiles,
  eager,
  gradients,
  integers,
  normal,
  uniform,
} from "./engine_harness.ts";

const PAIRS = [
  [[3], [3]],
  [[3, 5], [5]],
  [[5], [3, 5]],
  [[2, 1, 3], [4, 1]],
  [[3, 1], [1, 4]],
  [[], [2, 3]],
  [
    [2, 3],
    [],
  ],
];

/** A function of operands that are made equal in shape first, as far as tfjs's own gradients go. */
const made = (fn: (a: tf.Tensor, b: tf.Tensor) => tf.Tensor, free = 0) => (a: tf.Tensor, b: tf.Tensor) => {
  const lead = ({ shape }: tf.Tensor) => shape.slice(0, shape.length - free);
  const shape = tf.broadcast_util.assertAndGetBroadcastShape(lead(a), lead(b));
  const wide = (x: tf.Tensor) => tf.broadcastTo(x, [...shape, ...x.shape.slice(x.shape.length - free)]);
  return fn(wide(a), wide(b));
};

const extremes = [tf.maximum, tf.minimum, tf.squaredDifference].flatMap((fn) =>
  PAIRS.map(([a, b]) => gradients(`${fn.name} [${a}] [${b}]`, [normal(...a), normal(...b)], fn, [], made(fn)))
);

const batchedProducts = [[[2], []], [[], [2]], [[2, 1], [3]], [[1], [4]]].flatMap(([a, b]) =>
  [false, true].flatMap((transposeA) =>
    [false, true].map((transposeB) => {
      const product = (x: tf.Tensor, y: tf.Tensor) => tf.matMul(x, y, transposeA, transposeB);
      return gradients(
        `matMul of batches [${a}] and [${b}] ${transposeA} ${transposeB}`,
        [normal(...a, ...(transposeA ? [4, 3] : [3, 4])), normal(...b, ...(transposeB ? [5, 4] : [4, 5]))],
        product,
        [],
        made(product, 2),
      );
    })
  )
);

/** Running sums as products with a triangle of ones; tfjs's own gradient is right along the last axis only. */
const runningSums = [0, 1, 2, -1, -3].flatMap((axis) =>
  [false, true].flatMap((exclusive) =>
    [false, true].map((reverse) => {
      const along = axis < 0 ? axis + 3 : axis, order = [0, 1, 2].filter((a) => a !== along).concat(along);
      const back = [0, 1, 2].map((a) => order.indexOf(a));
      const counts = (from: number, to: number) =>
        reverse ? exclusive ? from > to : from >= to : exclusive ? from < to : from <= to;
      return gradients(
        `cumsum axis ${axis} exclusive ${exclusive} reverse ${reverse}`,
        [normal(2, 3, 4)],
        (x) => tf.cumsum(x, axis, exclusive, reverse),
        [],
        (x) => {
          const extent = x.shape[along];
          const triangle = Array.from(
            { length: extent },
            (_, from) => Array.from({ length: extent }, (_, to) => Number(counts(from, to))),
          );
          const rows = tf.reshape(tf.transpose(x, order), [-1, extent]);
          const sums = tf.matMul(rows, tf.tensor2d(triangle)) as tf.Tensor;
          return tf.transpose(tf.reshape(sums, order.map((a) => x.shape[a])), back);
        },
      );
    })
  )
);

type Operation = (...xs: tf.Tensor[]) => tf.Tensor;

/** What sums of products by index are in other operations. */
const SUMS: [string, number[][], Operation][] = [
  ["ij,jk->ik", [[3, 4], [4, 5]], (a, b) => tf.matMul(a, b)],
  ["ij,kj->ki", [[3, 4], [5, 4]], (a, b) => tf.transpose(tf.matMul(a, b, false, true))],
  ["bij,bjk->bik", [[2, 3, 4], [2, 4, 5]], (a, b) => tf.matMul(a, b)],
  ["i,j->ij", [[3], [4]], (a, b) => tf.mul(tf.reshape(a, [3, 1]), b)],
  ["i,i->", [[5], [5]], (a, b) => tf.sum(tf.mul(a, b))],
  ["ij,ij->i", [[3, 4], [3, 4]], (a, b) => tf.sum(tf.mul(a, b), 1)],
  ["ij,k->k", [[3, 4], [5]], (a, b) => tf.mul(tf.sum(a), b)],
  ["ij->ji", [[3, 4]], (a) => tf.transpose(a)],
  ["bij->j", [[2, 3, 4]], (a) => tf.sum(a, [0, 1])],
  ["ij->", [[3, 4]], (a) => tf.sum(a)],
];

const sumsOfProducts = SUMS.map(([equation, shapes, reference]) =>
  gradients(
    `einsum ${equation}`,
    shapes.map((shape) => normal(...shape)),
    (...xs: tf.Tensor[]) => tf.einsum(equation, ...xs),
    [],
    reference,
  )
);

const chosen = [
  gradients(
    "gatherND",
    [normal(4, 3)],
    (x, ids) => tf.gatherND(x, ids),
    [integers(0, 4, 6, 1)],
    (x, ids) => tf.gather(x, tf.reshape(ids, [6])),
  ),
  gradients(
    "scatterND",
    [normal(6, 3)],
    (x, ids) => tf.scatterND(ids, x, [4, 3]),
    [integers(0, 4, 6, 1)],
    (x, ids) => tf.matMul(tf.cast(tf.oneHot(tf.reshape(ids, [6]), 4), "float32"), x, true),
  ),
  gradients("topk", [normal(3, 7)], (x) => tf.topk(x, 4).values, [], (x: tf.Tensor) => {
    // Read, so that no gradient is asked of them.
    const places = tf.topk(x, 4).indices.dataSync().map((place, i) => place + 7 * Math.floor(i / 4));
    return tf.reshape(tf.gather(tf.reshape(x, [21]), tf.tensor1d(places, "int32")), [3, 4]);
  }),
  ...[0, 1, 2, [0, 2], [-1], [-2, 0]].map((axis) =>
    gradients(`prod axis ${axis}`, [uniform(0.5, 2, 2, 3, 4)], (x) => tf.prod(x, axis), [], (x) => {
      const axes = [axis].flat().map((a) => a < 0 ? a + 3 : a);
      return tf.exp(tf.sum(tf.log(x), axes));
    })
  ),
];

const families = {
  "extremes of operands that broadcast": extremes,
  "products of batches that broadcast": batchedProducts,
  "running sums": runningSums,
  "sums of products by index": sumsOfProducts,
  "elements that are chosen": chosen,
};

/** What tfjs's cpu kernels compute wrongly to begin with. */
const WRONG_EAGERLY = /cumsum axis -|batches \[2,1\] and \[3\]|einsum ij,k->k/;

for (const [family, cases] of Object.entries(families)) {
  Deno.test(`compiled gradients of ${family} are right`, () => assertCompiles(cases));
  Deno.test(`eager gradients of ${family} are right`, async () => {
    for (const { name, inputs, fn, reference } of cases.filter(({ name }) => !WRONG_EAGERLY.test(name))) {
      const actual = await eager({ name, inputs, fn }),
        expected = await eager({ name, inputs, fn: reference! });
      expected.forEach((tensor, i) => assertClose(actual[i], tensor, name));
    }
  });
}
