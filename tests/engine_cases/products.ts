/** Products of matrices in every transposition, around tiles, with batches; sums of products by index. */
import * as tf from "@tensorflow/tfjs";
import { type Case, integers, normal } from "../engine_harness.ts";
import { product, show, TILE } from "./sizes.ts";

const TRANSPOSITIONS = product([false, true], [false, true]);

/** Rows, inner extent and columns: each around the tile, the others not; one inner element, and none of each. */
const EXTENTS: readonly [number, number, number][] = [
  ...TILE.flatMap((
    size,
  ): [number, number, number][] => [[size, 5, 3], [3, size, 5], [5, 3, size], [size, size, size]]),
  [1, 1, 7],
  [7, 1, 1],
  [0, 3, 2],
  [3, 0, 2],
  [3, 2, 0],
];

/** Batch axes: none, equal, one-sided, broadcast both ways, of different rank, without elements. */
const BATCHES: readonly [number[], number[]][] = [
  [[], []],
  [[2], [2]],
  [[2, 3], [2, 3]],
  [[1], [4]],
  [[4], [1]],
  [[], [3]],
  [[3], []],
  [[2, 1], [1, 3]],
  [[3], [2, 1]],
  [[0], [0]],
];

const label = (a: boolean, b: boolean) => `${a ? "aᵀ" : "a"}·${b ? "bᵀ" : "b"}`;

function matMul(
  batches: readonly [number[], number[]],
  [m, k, n]: readonly [number, number, number],
  [transposeA, transposeB]: readonly [boolean, boolean],
): Case {
  const a = [...batches[0], ...(transposeA ? [k, m] : [m, k])];
  const b = [...batches[1], ...(transposeB ? [n, k] : [k, n])];
  const batch = tf.broadcast_util.assertAndGetBroadcastShape([...batches[0]], [...batches[1]]);
  const wide = (x: tf.Tensor) => tf.broadcastTo(x, [...batch, ...x.shape.slice(-2)]);
  return {
    name: `${label(transposeA, transposeB)} ${show(a)} ${show(b)}`,
    inputs: [normal(...a), normal(...b)],
    fn: (x, y) => tf.matMul(x, y, transposeA, transposeB),
    // tfjs's cpu kernel pairs batches wrongly when both operands broadcast.
    reference: (x, y) => tf.matMul(wide(x), wide(y), transposeA, transposeB),
  };
}

export const products: Case[] = [
  ...product(EXTENTS, TRANSPOSITIONS).map(([extents, flags]) => matMul([[], []], extents, flags)),
  ...product(BATCHES, [[3, 5, 4], [1, 5, 1], [3, 1, 4]] as [number, number, number][], TRANSPOSITIONS)
    .map(([batches, extents, flags]) => matMul(batches, extents, flags)),
  ...TRANSPOSITIONS.map(([transposeA, transposeB]): Case => ({
    name: `${label(transposeA, transposeB)} of int32`,
    inputs: [integers(-9, 9, 2, 5, 5), integers(-9, 9, 2, 5, 5)],
    fn: (x, y) => tf.matMul(x, y, transposeA, transposeB),
  })),
  {
    name: "int32 product with one inner element",
    inputs: [integers(-9, 9, 3, 1), integers(-9, 9, 1, 4)],
    fn: tf.matMul,
  },
  {
    name: "dot and outerProduct",
    inputs: [normal(5), normal(5)],
    fn: (a, b) => [tf.dot(a, b), tf.outerProduct(a, b)],
  },
  { name: "matrix times vector", inputs: [normal(3, 5), normal(5)], fn: (a, b) => tf.dot(a, b) },
];

const ACTIVATIONS = ["linear", "relu", "relu6", "elu", "sigmoid", "leakyrelu"] as const;

export const fusedProducts: Case[] = [
  ...TRANSPOSITIONS.map(([transposeA, transposeB]): Case => ({
    name: `fused.matMul ${label(transposeA, transposeB)}`,
    inputs: [normal(5, 5), normal(5, 5), normal(5)],
    fn: (a, b, bias) =>
      ACTIVATIONS.map((activation) => tf.fused.matMul({ a, b, bias, activation, transposeA, transposeB })),
  })),
  {
    name: "fused.matMul without bias",
    inputs: [normal(3, 5), normal(5, 4)],
    fn: (a, b) => tf.fused.matMul({ a, b }),
  },
  {
    name: "fused.matMul with prelu",
    inputs: [normal(3, 5), normal(5, 4), normal(4)],
    fn: (a, b, alpha) => tf.fused.matMul({ a, b, activation: "prelu", preluActivationWeights: alpha }),
  },
];

/** Extents by letter; tfjs knows neither the ellipsis nor repeated letters nor equations without an arrow. */
const EXTENT: Readonly<Record<string, number>> = { a: 4, b: 2, h: 3, i: 3, j: 4, k: 5, q: 1 };

const EQUATIONS = [
  "ij,jk->ik",
  "ij,jk->ki",
  "ij,kj->ik",
  "ji,jk->ik",
  "bij,bjk->bik",
  "bij,jk->bik",
  "bhik,bhjk->bhij",
  "bhij,bhjk->bihk",
  "i,j->ij",
  "i,j->ji",
  "i,i->",
  "ij,ij->",
  "ij,ij->ij",
  "ij,j->i",
  "ij,i->j",
  "ij,i->ij",
  "ij,k->ijk",
  "ij,jk->i",
  "iq,qj->ij",
  "ij->ji",
  "bij->bji",
  "ij->i",
  "ij->",
  "bij->j",
];

export const einsums: Case[] = [
  ...EQUATIONS.map((equation): Case => ({
    name: `einsum ${equation}`,
    inputs: equation.split("->")[0].split(",").map((term) =>
      normal(...[...term].map((axis) => EXTENT[axis]))
    ),
    fn: (...xs) => tf.einsum(equation, ...xs),
  })),
  {
    name: "einsum ij,ab->",
    inputs: [normal(3, 4), normal(4, 2)],
    fn: (x, y) => tf.einsum("ij,ab->", x, y),
    // tfjs's cpu kernel leaves the axes of the second unsummed.
    reference: (x, y) => tf.mul(tf.sum(x), tf.sum(y)),
  },
];
