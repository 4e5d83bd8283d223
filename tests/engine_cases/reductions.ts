/** Reductions, running sums and sorting over every axis and set of axes. */
import * as tf from "@tensorflow/tfjs";
import { type Case, integers, normal, numbers, truths, uniform } from "../engine_harness.ts";
import { axisSets, product, show } from "./sizes.ts";

type Reduce = (x: tf.Tensor, axis?: number | number[], keepDims?: boolean) => tf.Tensor;

const REDUCTIONS: Readonly<Record<string, Reduce>> = {
  sum: tf.sum,
  mean: tf.mean,
  max: tf.max,
  min: tf.min,
  prod: tf.prod,
};

/** No axes at all is something else than none given. */
const AXES: readonly [number[], (number | number[] | undefined)[]][] = [
  [[4], [0, -1]],
  [[1], [0]],
  [[3, 1, 5], [1, [0, 1], [1, 2], -1]],
  [[3, 4, 5], [...axisSets(3), -1, -2, 0, undefined, []]],
  [[2, 3, 1, 2], [...axisSets(4), undefined]],
  [[257], [0]],
  [[16, 17], [0, 1, undefined]],
  [[17, 65], [0, 1, undefined]],
  [[], [undefined]],
];

const over = (shape: readonly number[], axis: unknown, keepDims: boolean) =>
  `${show(shape)} axis ${JSON.stringify(axis)} keepDims ${keepDims}`;

const onAxes = (make: (...shape: number[]) => Case["inputs"][number], suffix = "") =>
  Object.entries(REDUCTIONS).flatMap(([name, fn]) =>
    AXES.flatMap(([shape, axes]) =>
      product(axes, [false, true]).map(([axis, keepDims]): Case => ({
        name: `${name}${suffix} ${over(shape, axis, keepDims)}`,
        inputs: [make(...shape)],
        fn: (x) => fn(x, axis, keepDims),
      }))
    )
  );

/** A sum of nothing is 0 and a product of nothing 1; of the others tfjs defines nothing. */
const overNothing: Case[] = Object.entries({ sum: tf.sum, prod: tf.prod } as Record<string, Reduce>).flatMap((
  [name, fn],
) =>
  product<[[number[], number], boolean]>([[[0], 0], [[2, 0, 3], 1], [[0, 3], 0], [[2, 0, 3], 2], [
    [2, 0, 3],
    0,
  ]], [false, true])
    .map(([[shape, axis], keepDims]): Case => ({
      name: `${name} ${over(shape, axis, keepDims)}`,
      inputs: [normal(...shape)],
      fn: (x) => fn(x, axis, keepDims),
    }))
);

/** Reductions of something that was only broadcast count instead of adding. */
const ofBroadcast: Case[] = Object.entries(REDUCTIONS).map(([name, fn]) => ({
  name: `${name} of a broadcast`,
  inputs: [normal(3, 1)],
  fn: (x) => [0, 1, 2, [0, 2], [1, 2]].map((axis) => fn(tf.broadcastTo(x, [2, 3, 4]), axis)),
}));

const truthReductions: Case[] = [
  ...product(Object.entries({ any: tf.any, all: tf.all } as Record<string, Reduce>), AXES).flatMap((
    [[name, fn], [shape, axes]],
  ) =>
    product(axes, [false, true]).map(([axis, keepDims]): Case => ({
      name: `${name} ${over(shape, axis, keepDims)}`,
      inputs: [truths(...shape)],
      fn: (x) => fn(x, axis, keepDims),
    }))
  ),
  ...Object.entries(REDUCTIONS).filter(([name]) => name !== "mean").map(([name, fn]): Case => ({
    name: `${name} of bool`,
    inputs: [truths(3, 4)],
    fn: (x) => [fn(x), fn(x, 1)],
  })),
];

export const reductions: Case[] = [
  ...onAxes(normal),
  ...onAxes((...shape) => integers(-3, 4, ...shape), " of int32"),
  ...overNothing,
  ...ofBroadcast,
  ...truthReductions,
];

const EXTREMES: readonly [number[], number[]][] = [[[5], [0]], [[1], [0]], [[3, 5], [0, 1, -1]], [[2, 3, 4], [
  0,
  1,
  2,
]], [[17, 65], [0, 1]]];

export const places: Case[] = [
  ...EXTREMES.flatMap(([shape, axes]) =>
    axes.map((axis): Case => ({
      name: `argMax and argMin ${show(shape)} axis ${axis}`,
      inputs: [normal(...shape), integers(-99, 99, ...shape)],
      fn: (x, n) => [tf.argMax(x, axis), tf.argMin(x, axis), tf.argMax(n, axis), tf.argMin(n, axis)],
    }))
  ),
  { name: "argMax of ties", inputs: [numbers([1, 2, 2, 1])], fn: (x) => [tf.argMax(x), tf.argMin(x)] },
  ...product([[7], [2, 7], [2, 3, 17], [257]], [1, 3, -1]).map(([shape, count]): Case => {
    const k = count < 0 ? shape.at(-1)! : count;
    return {
      name: `topk ${k} of ${show(shape)}`,
      inputs: [normal(...shape)],
      fn: (x) => Object.values(tf.topk(x, k)) as tf.Tensor[],
    };
  }),
  {
    name: "topk of ties and int32",
    inputs: [numbers([1, 3, 3, 2, 3]), integers(-99, 99, 2, 9)],
    fn: (ties, n) => [...Object.values(tf.topk(ties, 4)), ...Object.values(tf.topk(n, 1))] as tf.Tensor[],
  },
];

const DIRECTIONS = product([false, true], [false, true]);

export const running: Case[] =
  ([[[1], [0]], [[7], [0]], [[3, 5], [0, 1, -1]], [[2, 3, 4], [0, 1, 2]], [[257], [0]], [[2, 0, 3], [
    1,
    2,
  ]]] as [
    number[],
    number[],
  ][]).flatMap(([shape, axes]) =>
    product(axes, DIRECTIONS).flatMap(([axis, [exclusive, reverse]]): Case[] => {
      const name = `${show(shape)} axis ${axis} exclusive ${exclusive} reverse ${reverse}`;
      const along = (op: typeof tf.cumsum, at: number) => (...xs: tf.Tensor[]) =>
        xs.map((x) => op(x, at, exclusive, reverse));
      // tfjs's cpu kernels take a negative axis for another one.
      const counted = axis < 0 ? axis + shape.length : axis;
      return [
        {
          name: `cumsum ${name}`,
          inputs: [normal(...shape), integers(-9, 9, ...shape)],
          fn: along(tf.cumsum, axis),
          reference: along(tf.cumsum, counted),
        },
        {
          name: `cumprod ${name}`,
          inputs: [uniform(0.9, 1.1, ...shape)],
          fn: along(tf.cumprod, axis),
          reference: along(tf.cumprod, counted),
        },
      ];
    })
  );

export const softmaxes: Case[] = [
  ...[[1], [7], [3, 5], [3, 1], [2, 3, 17], [2, 257]].map((shape): Case => ({
    name: `softmax ${show(shape)}`,
    inputs: [normal(...shape)],
    fn: (x) => [tf.softmax(x), tf.logSoftmax(x), tf.logSumExp(x, -1), tf.logSumExp(x)],
  })),
  {
    name: "softmax of large logits",
    inputs: [uniform(-300, 300, 2, 9)],
    fn: (x) => [tf.softmax(x), tf.logSoftmax(x)],
  },
  {
    name: "moments and norms",
    inputs: [normal(3, 5)],
    fn: (
      x,
    ) => [
      ...Object.values(tf.moments(x, 0)) as tf.Tensor[],
      tf.norm(x),
      tf.norm(x, 1, 1),
      tf.norm(x, Infinity, 0),
    ],
  },
];
