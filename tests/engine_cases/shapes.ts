/** Changes of shape and order at every rank, axis and side. */
import * as tf from "@tensorflow/tfjs";
import { type Case, integers, normal, truths } from "../engine_harness.ts";
import { axisSets, product, RANKED, show } from "./sizes.ts";

const reversed = (rank: number) => Array.from({ length: rank }, (_, axis) => rank - 1 - axis);
const rotated = (rank: number) => Array.from({ length: rank }, (_, axis) => (axis + 1) % rank);
const swappedLast = (rank: number) =>
  Array.from({ length: rank }, (_, axis) => axis < rank - 2 ? axis : 2 * rank - 3 - axis);
/** Odd axes before even ones. */
const dealt = (
  rank: number,
) => [...reversed(rank).filter((a) => a % 2 === 1), ...rotated(rank).filter((a) => a % 2 === 0)];

function permutations(rank: number): number[][] {
  if (rank === 1) return [[0]];
  return permutations(rank - 1).flatMap((rest) =>
    Array.from({ length: rank }, (_, at) => [...rest.slice(0, at), rank - 1, ...rest.slice(at)])
  );
}

export const transposes: Case[] = [
  ...RANKED.map((shape): Case => {
    const rank = shape.length;
    const orders = rank <= 4
      ? permutations(rank)
      : [reversed, rotated, swappedLast, dealt].map((make) => make(rank));
    return {
      name: `transpose ${show(shape)}`,
      inputs: [normal(...shape)],
      fn: (x) => orders.map((order) => tf.transpose(x, order)),
    };
  }),
  ...[[1, 1], [1, 5], [17, 16], [2, 0, 3]].map((shape): Case => ({
    name: `transpose ${show(shape)}`,
    inputs: [normal(...shape), integers(-9, 9, ...shape), truths(...shape)],
    fn: (...xs: tf.Tensor[]) => xs.map((x) => tf.transpose(x)),
  })),
  {
    name: "transposes that cancel, join and meet broadcasts",
    inputs: [normal(2, 3, 4), normal(1, 5)],
    fn: (x, row) => [
      tf.transpose(tf.transpose(x, [2, 0, 1]), [1, 2, 0]),
      tf.transpose(tf.transpose(x, [2, 0, 1]), [2, 0, 1]),
      tf.transpose(tf.broadcastTo(row, [3, 5])),
      tf.transpose(tf.broadcastTo(row, [2, 3, 5]), [2, 0, 1]),
    ],
  },
];

const reshapes: Case[] = [
  {
    name: "reshape",
    inputs: [normal(2, 3, 4)],
    fn: (x) => [[6, 4], [-1], [1, 2, 1, 12], [2, 3, 4], [4, 3, 2]].map((shape) => tf.reshape(x, shape)),
  },
  {
    name: "reshape of one element and of none",
    inputs: [normal(1), normal(2, 0, 3)],
    fn: (
      one,
      none,
    ) => [tf.reshape(one, []), tf.reshape(one, [1, 1]), tf.reshape(none, [0]), tf.reshape(none, [3, 0])],
  },
  {
    name: "reshape of a broadcast",
    inputs: [normal(3, 1), normal()],
    fn: (x, s) => [
      ...[[12], [3, 1, 4], [1, 3, 4], [2, 6], [3, 4, 1]].map((shape) =>
        tf.reshape(tf.broadcastTo(x, [3, 4]), shape)
      ),
      tf.reshape(tf.broadcastTo(s, [2, 3]), [6]),
    ],
  },
  {
    name: "expandDims and squeeze",
    inputs: [normal(2, 1, 3)],
    fn: (x) => [...[-1, 0, 1, 2, 3].map((axis) => tf.expandDims(x, axis)), tf.squeeze(x), tf.squeeze(x, [1])],
  },
  ...[[[], [2, 2]], [[3], [2, 3]], [[3, 1], [3, 4]], [[1, 5], [3, 5]], [[2, 1, 3], [4, 2, 5, 3]]].map(
    ([from, to]): Case => ({
      name: `broadcastTo ${show(from)} ${show(to)}`,
      inputs: [normal(...from), integers(-9, 9, ...from)],
      fn: (...xs: tf.Tensor[]) => xs.map((x) => tf.broadcastTo(x, to)),
    }),
  ),
];

const joins: Case[] = [
  ...RANKED.map((shape): Case => ({
    name: `concat and stack ${show(shape)}`,
    inputs: [normal(...shape), normal(...shape), normal(...shape)],
    fn: (...xs: tf.Tensor[]) => [
      ...shape.map((_, axis) => tf.concat(xs, axis)),
      tf.concat(xs, -1),
      ...(shape.length < 6 ? [...shape, 0].map((_, axis) => tf.stack(xs, axis)) : []),
    ],
  })),
  {
    name: "concat of one, of different extents and of nothing",
    inputs: [normal(2, 3), normal(2, 1), normal(2, 0)],
    fn: (
      a,
      b,
      none,
    ) => [tf.concat([a], 1), tf.concat([a, b], 1), tf.concat([a, none, b], 1), tf.concat([none, none], 0)],
  },
  {
    name: "concat of int32, bool and constants",
    inputs: [integers(-9, 9, 2, 3), truths(2, 3), normal(2, 3)],
    fn: (
      n,
      t,
      x,
    ) => [tf.concat([n, n]), tf.concat([t, t], 1), tf.concat([x, tf.zeros([2, 2])], 1), tf.stack([n, n], 1)],
  },
  ...RANKED.map((shape): Case => ({
    name: `split and unstack ${show(shape)}`,
    inputs: [normal(...shape)],
    fn: (x) =>
      shape.flatMap((extent, axis) => [
        ...tf.split(x, extent, axis),
        ...tf.split(x, extent > 1 ? [1, extent - 1] : [1], axis),
        ...tf.unstack(x, axis),
      ]),
  })),
  {
    name: "split and unstack into several",
    inputs: [normal(4, 6, 2)],
    fn: (x) => [
      ...[[3, 1], [1, 0], [4, 0], [2, -1]].flatMap(([count, axis]) => tf.split(x, count, axis)),
      ...tf.split(x, [1, 3], 0),
      ...tf.split(x, [2, 1, 3], 1),
      ...[0, 1, 2, -1].flatMap((axis) => tf.unstack(x, axis)),
    ],
  },
];

const slices: Case[] = [
  ...RANKED.map((shape): Case => ({
    name: `slice ${show(shape)}`,
    inputs: [normal(...shape)],
    fn: (x) => [
      tf.slice(x, shape.map(() => 0), shape.map(() => -1)),
      tf.slice(x, shape.map((e) => Math.min(1, e - 1)), shape.map(() => -1)),
      tf.slice(x, shape.map((e) => e - 1), shape.map(() => 1)),
      tf.slice(x, shape.map(() => 0), shape.map((e) => Math.max(1, e - 1))),
      tf.slice(x, shape.map(() => 0), shape.map((e, axis) => axis === 0 ? 0 : e)),
    ],
  })),
  {
    name: "slice of a broadcast, of int32 and of bool",
    inputs: [normal(1, 6), integers(-9, 9, 4, 6), truths(4, 6)],
    fn: (row, n, t) => [
      tf.slice(tf.broadcastTo(row, [4, 6]), [1, 1], [2, 3]),
      tf.slice(n, [1, 2], [2, 3]),
      tf.slice(t, [1, 2], [2, 3]),
    ],
  },
  {
    name: "stridedSlice",
    inputs: [normal(5, 7)],
    fn: (x) => [
      tf.stridedSlice(x, [0, 1], [5, 7], [2, 3]),
      tf.stridedSlice(x, [4, 5], [0, -8], [-1, -2]),
      tf.stridedSlice(x, [-2, -5], [5, -1], [1, 2]),
      tf.stridedSlice(x, [1, 0], [2, 7], [1, 1], 0, 0, 0, 0, 1),
      tf.stridedSlice(x, [1, 0], [2, 7], [1, 1], 0, 0, 0, 1, 0),
      tf.stridedSlice(x, [1, 2], [4, 6], [1, 1]),
      tf.stridedSlice(x, [0, 0], [5, 7], [1, 1]),
      tf.stridedSlice(x, [9, 9], [5, 0], [1, -3], 1, 2),
      tf.stridedSlice(x, [3, 3], [3, 5], [1, 1]),
    ],
  },
  ...RANKED.map((shape): Case => ({
    name: `reverse ${show(shape)}`,
    inputs: [normal(...shape)],
    fn: (
      x,
    ) => [
      tf.reverse(x),
      ...axisSets(Math.min(shape.length, 4)).map((axes) => tf.reverse(x, axes)),
      tf.reverse(x, -1),
    ],
  })),
];

/** Before and after each axis, one axis at a time and all at once. */
function paddings(shape: readonly number[]): [number, number][][] {
  const one = (at: number, pair: [number, number]) =>
    shape.map((_, axis): [number, number] => axis === at ? pair : [0, 0]);
  const each = shape.flatMap((_, axis) => [one(axis, [1, 0]), one(axis, [0, 2])]);
  return [
    ...each,
    shape.map((_, axis): [number, number] => [axis % 3, (axis + 1) % 2]),
    shape.map(() => [0, 0]),
  ];
}

const padding: Case[] = [
  ...RANKED.map((shape): Case => ({
    name: `pad ${show(shape)}`,
    inputs: [normal(...shape), integers(-9, 9, ...shape)],
    fn: (x, n) =>
      paddings(shape).flatMap((pairs) => [tf.pad(x, pairs), tf.pad(x, pairs, 0.5), tf.pad(n, pairs, 3)]),
  })),
  { name: "pad of nothing", inputs: [normal(2, 0)], fn: (x) => tf.pad(x, [[1, 0], [1, 2]], 0.5) },
  ...[[4], [3, 4], [2, 3, 4]].flatMap((shape) =>
    (["reflect", "symmetric"] as const).map((mode): Case => ({
      name: `mirrorPad ${mode} ${show(shape)}`,
      inputs: [normal(...shape)],
      fn: (x) => [
        tf.mirrorPad(x, shape.map((e): [number, number] => [1, e - 1]), mode),
        tf.mirrorPad(x, shape.map((_, axis): [number, number] => [0, axis % 2]), mode),
      ],
    }))
  ),
];

const repeats: Case[] = [
  ...RANKED.map((shape): Case => ({
    name: `tile ${show(shape)}`,
    inputs: [normal(...shape)],
    fn: (x) => [
      ...shape.map((_, at) => tf.tile(x, shape.map((_, axis) => axis === at ? 3 : 1))),
      tf.tile(x, shape.map((_, axis) => axis + 1)),
      tf.tile(x, shape.map(() => 1)),
      tf.tile(x, shape.map((_, axis) => axis === 0 ? 0 : 1)),
    ],
  })),
  {
    name: "tile of axes of extent 1, of int32 and of bool",
    inputs: [normal(2, 1, 3), integers(-9, 9, 2, 3), truths(2, 3)],
    fn: (x, n, t) => [tf.tile(x, [1, 4, 1]), tf.tile(x, [2, 3, 2]), tf.tile(n, [2, 2]), tf.tile(t, [1, 3])],
  },
];

const blocks: Case[] = [
  {
    name: "spaceToBatchND and batchToSpaceND",
    inputs: [normal(2, 4, 6, 3), normal(8, 3, 2, 1)],
    fn: (x, y) => [
      tf.spaceToBatchND(x, [2, 3], [[0, 0], [0, 0]]),
      tf.spaceToBatchND(x, [3, 2], [[1, 1], [2, 0]]),
      tf.spaceToBatchND(x, [2], [[1, 1]]),
      tf.batchToSpaceND(y, [2, 2], [[0, 0], [0, 0]]),
      tf.batchToSpaceND(y, [2, 4], [[1, 0], [1, 2]]),
    ],
  },
  ...product([2, 3], [1, 2]).map(([size, depth]): Case => ({
    name: `depthToSpace ${size} of ${depth}`,
    inputs: [normal(2, 2, 3, size ** 2 * depth)],
    fn: (x) => tf.depthToSpace(x, size, "NHWC"),
  })),
];

export const shapes: Case[] = [
  ...transposes,
  ...reshapes,
  ...joins,
  ...slices,
  ...padding,
  ...repeats,
  ...blocks,
];
