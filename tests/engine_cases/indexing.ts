/** Gathering, scattering, and tensors made inside of a function. */
import * as tf from "@tensorflow/tfjs";
import { type Case, integers, normal, truths, uniform, wholeNumbers } from "../engine_harness.ts";
import { product, RANKED, show } from "./sizes.ts";

const INDEX_SHAPES: readonly number[][] = [[], [1], [7], [2, 2], [0], [3, 1, 2]];

const gathers: Case[] = [
  ...product([[5], [5, 3], [5, 3, 4]], INDEX_SHAPES).map(([shape, picked]): Case => ({
    name: `gather ${show(picked)} of ${show(shape)}`,
    inputs: [normal(...shape), integers(0, 3, ...picked)],
    fn: (x, ids) => [...shape.map((_, axis) => tf.gather(x, ids, axis)), tf.gather(x, ids, -1)],
  })),
  ...RANKED.map((shape): Case => ({
    name: `gather of ${show(shape)}`,
    inputs: [normal(...shape), integers(0, 2, 3)],
    fn: (x, ids) => shape.flatMap((extent, axis) => extent > 1 ? [tf.gather(x, ids, axis)] : []),
  })),
  {
    name: "gather of int32 and of bool",
    inputs: [integers(-9, 9, 4, 3), truths(4, 3), integers(0, 3, 5)],
    fn: (n, t, ids) => [tf.gather(n, ids), tf.gather(t, ids, 1)],
  },
  ...([[[2, 5, 3], [2, 4], 1], [[2, 5, 3], [2, 1], 1], [[3, 2, 5, 4], [3, 2, 3], 2], [[2, 4], [2, 2, 3], 1], [
    [2, 5],
    [2],
    1,
  ]] as [
    number[],
    number[],
    number,
  ][]).map(([shape, picked, batchDims]): Case => ({
    name: `gather with ${batchDims} batch axes ${show(picked)} of ${show(shape)}`,
    inputs: [normal(...shape), integers(0, 3, ...picked)],
    fn: (x, ids) =>
      shape.map((_, axis) => axis).slice(batchDims).map((axis) => tf.gather(x, ids, axis, batchDims)),
  })),
  ...[[3, 1], [3, 2], [1, 2], [2, 3, 2], [2], [3, 3]].map((picked): Case => ({
    name: `gatherND ${show(picked)}`,
    inputs: [normal(4, 5, 4), integers(0, 4, ...picked)],
    fn: (x, ids) => tf.gatherND(x, ids),
  })),
];

/** Indices that repeat add up. */
const scatters: Case[] = [
  {
    name: "scatterND of numbers, rows and planes",
    inputs: [integers(0, 4, 6, 1), normal(6), normal(6, 2), integers(0, 2, 5, 2), normal(5), normal(5, 3)],
    fn: (ids, x, rows, pairs, y, deep) => [
      tf.scatterND(ids, x, [4]),
      tf.scatterND(ids, rows, [4, 2]),
      tf.scatterND(pairs, y, [2, 3]),
      tf.scatterND(pairs, deep, [2, 3, 3]),
    ],
  },
  {
    name: "scatterND of int32 and of one",
    inputs: [integers(0, 4, 6, 1), integers(-9, 9, 6), integers(0, 4, 1, 1), normal(1, 3)],
    fn: (ids, n, one, row) => [tf.scatterND(ids, n, [4]), tf.scatterND(one, row, [4, 3])],
  },
  {
    name: "tensorScatterUpdate",
    inputs: [normal(4, 3), normal(2, 3), normal(3)],
    // Each has a copy: tfjs's CPU kernel writes into its argument.
    fn: (x, rows, values) => [
      tf.tensorScatterUpdate(tf.add(x, 0), tf.tensor2d([[3], [0]], [2, 1], "int32"), rows),
      tf.tensorScatterUpdate(tf.add(x, 0), tf.tensor2d([[0, 2], [3, 1], [1, 0]], [3, 2], "int32"), values),
    ],
    // So the reference is a sum: what is there where nothing is written, and what is written.
    reference: (x, rows, values) => {
      const write = (ids: tf.Tensor, updates: tf.Tensor) => {
        const here = tf.scatterND(ids, tf.onesLike(updates), x.shape);
        return tf.add(tf.mul(x, tf.sub(1, here)), tf.scatterND(ids, updates, x.shape));
      };
      return [
        write(tf.tensor2d([[3], [0]], [2, 1], "int32"), rows),
        write(tf.tensor2d([[0, 2], [3, 1], [1, 0]], [3, 2], "int32"), values),
      ];
    },
  },
  ...[[[5, 3], [5]], [[5], [5]], [[7, 2, 2], [7]], [[17, 3], [17]]].map(([shape, ids]): Case => ({
    name: `unsortedSegmentSum ${show(shape)}`,
    inputs: [normal(...shape), integers(-9, 9, ...shape), integers(0, 4, ...ids)],
    fn: (x, n, segments) => [tf.unsortedSegmentSum(x, segments, 4), tf.unsortedSegmentSum(n, segments, 4)],
    // tfjs's cpu kernel gives float32 for int32.
    reference: (x, n, segments) => [
      tf.unsortedSegmentSum(x, segments, 4),
      tf.cast(tf.unsortedSegmentSum(n, segments, 4), "int32"),
    ],
  })),
];

export const indexing: Case[] = [...gathers, ...scatters];

export const creation: Case[] = [
  {
    name: "fills",
    inputs: [normal(2, 3)],
    fn: (x) => [
      tf.ones([2, 3]),
      tf.zeros([4], "int32"),
      tf.zeros([0]),
      tf.fill([2, 2], 7),
      tf.fill([3], 1, "bool"),
      tf.fill([2, 1, 3], 0.5).add(x.expandDims(1)),
      tf.ones([4, 2, 3]).mul(x),
      tf.linspace(0, 1, 5),
      tf.linspace(2, -1, 1),
      tf.range(0, 7, 2),
      tf.range(0, 6, 2),
      tf.range(5, 0, -2, "int32"),
      tf.eye(3),
      tf.tensor([[1, 2], [3, 4]]),
      tf.scalar(3).add(x),
    ],
  },
  ...[[], [5], [2, 3], [0]].map((shape): Case => ({
    name: `oneHot ${show(shape)}`,
    inputs: [integers(-1, 5, ...shape)],
    fn: (ids) => [
      tf.oneHot(ids, 4),
      tf.oneHot(ids, 2, 0.9, 0.1, "float32"),
      tf.oneHot(ids, 3, 1, 0, "float32"),
      tf.oneHot(ids, 5, 1, 0, "bool"),
      tf.oneHot(ids, 3, 7, -2, "int32"),
    ],
  })),
  { name: "oneHot of edges", inputs: [wholeNumbers([-1, 0, 3, 4])], fn: (ids) => tf.oneHot(ids, 4) },
];

type Normalised = [tf.Tensor4D, tf.Tensor1D, tf.Tensor1D, tf.Tensor1D, tf.Tensor1D];

export const normalizations: Case[] = [[2, 3, 3, 4], [1, 1, 1, 1], [3, 5, 7, 17]].flatMap((shape): Case[] => {
  const channels = shape.at(-1)!;
  const inputs = [
    normal(...shape),
    normal(channels),
    uniform(0.2, 2, channels),
    normal(channels),
    normal(channels),
  ];
  return [{
    name: `batchNorm ${show(shape)}`,
    inputs,
    fn: (x, mean, variance, offset, scale) => [
      tf.batchNorm(x, mean, variance, offset, scale, 1e-3),
      tf.batchNorm(x, mean, variance),
      tf.batchNorm(x, mean, variance, offset),
      tf.batchNorm(x, mean, variance, undefined, scale),
    ],
  }, {
    name: `gradients of batchNorm ${show(shape)}`,
    inputs,
    fn: (...all: tf.Tensor[]) =>
      tf.grads((...xs) => tf.sum(tf.square(tf.batchNorm(...xs as Normalised))))(all),
  }];
});
