/** Calls of every recording kernel at sizes around boundaries; run by the tests of kernels and of WebGPU. */
import * as tf from "@tensorflow/tfjs";
import { type Case, integers, normal, numbers, toTf, truths, uniform } from "./engine_harness.ts";

const SPECIAL = numbers([NaN, Infinity, -Infinity, 0, -0, 1, -1, 2.5, -2.5, 1e-20, 3.5, 0.5, -0.5, 1.5]);

const unaryOps: Record<string, [(x: tf.Tensor) => tf.Tensor, number, number]> = {
  abs: [tf.abs, -3, 3],
  acos: [tf.acos, -1, 1],
  acosh: [tf.acosh, 1.01, 9],
  asin: [tf.asin, -1, 1],
  asinh: [tf.asinh, -3, 3],
  atan: [tf.atan, -3, 3],
  atanh: [tf.atanh, -0.95, 0.95],
  ceil: [tf.ceil, -3, 3],
  clip: [(x) => tf.clipByValue(x, -1, 0.5), -3, 3],
  cos: [tf.cos, -10, 10],
  cosh: [tf.cosh, -3, 3],
  elu: [tf.elu, -3, 3],
  erf: [tf.erf, -3, 3],
  exp: [tf.exp, -5, 5],
  expm1: [tf.expm1, -2, 2],
  floor: [tf.floor, -3, 3],
  identity: [tf.clone, -3, 3],
  isFinite: [tf.isFinite, -3, 3],
  isInf: [tf.isInf, -3, 3],
  isNaN: [tf.isNaN, -3, 3],
  leakyRelu: [(x) => tf.leakyRelu(x, 0.1), -3, 3],
  log: [tf.log, 0.01, 9],
  log1p: [tf.log1p, -0.9, 9],
  neg: [tf.neg, -3, 3],
  onesLike: [tf.onesLike, -3, 3],
  reciprocal: [tf.reciprocal, 0.1, 3],
  relu: [tf.relu, -3, 3],
  relu6: [(x) => tf.relu6(x), -9, 9],
  round: [tf.round, -3, 3],
  rsqrt: [tf.rsqrt, 0.1, 9],
  selu: [tf.selu, -3, 3],
  sigmoid: [tf.sigmoid, -5, 5],
  sign: [tf.sign, -3, 3],
  sin: [tf.sin, -10, 10],
  sinh: [tf.sinh, -3, 3],
  softplus: [tf.softplus, -5, 5],
  sqrt: [tf.sqrt, 0, 9],
  square: [tf.square, -3, 3],
  step: [(x) => tf.step(x, 0), -3, 3],
  stepAlpha: [(x) => tf.step(x, 0.25), -3, 3],
  tan: [tf.tan, -1, 1],
  tanh: [tf.tanh, -3, 3],
  zerosLike: [tf.zerosLike, -3, 3],
};

/** Where NaN or infinities are defined alike; tfjs's others differ from IEEE or pass NaN through min and max. */
const SPECIAL_OPS = ["abs", "ceil", "floor", "isFinite", "isInf", "isNaN", "neg", "round", "sign", "square"];

const unary: Case[] = Object.entries(unaryOps).flatMap(([name, [fn, low, high]]) => [
  ...[[1], [], [3, 1, 5]].map((shape): Case => ({
    name: `${name} [${shape}]`,
    inputs: [uniform(low, high, ...shape)],
    fn,
  })),
  ...(SPECIAL_OPS.includes(name) ? [{ name: `${name} of special values`, inputs: [SPECIAL], fn }] : []),
]);

const SHAPE_PAIRS = [[[1], [1]], [[3, 5], [5]], [[5], [3, 5]], [[2, 1, 3], [4, 1]], [[], [2, 3]]];

const binaryOps: Record<string, (a: tf.Tensor, b: tf.Tensor) => tf.Tensor> = {
  add: tf.add,
  div: tf.div,
  floorDiv: tf.floorDiv,
  maximum: tf.maximum,
  minimum: tf.minimum,
  mod: tf.mod,
  mul: tf.mul,
  squaredDifference: tf.squaredDifference,
  sub: tf.sub,
};

const binary: Case[] = Object.entries(binaryOps).flatMap(([name, fn]) => [
  ...SHAPE_PAIRS.map(([a, b]): Case => ({
    name: `${name} [${a}] [${b}]`,
    inputs: [normal(...a), uniform(0.5, 2, ...b)],
    fn,
  })),
  { name: `${name} int32`, inputs: [integers(-9, 9, 2, 7), integers(1, 5, 7)], fn },
  { name: `${name} int32 by negative`, inputs: [integers(-9, 9, 2, 7), integers(-5, -1, 7)], fn },
]);

const powers: Case[] = SHAPE_PAIRS.map(([a, b]) => ({
  name: `pow [${a}] [${b}]`,
  inputs: [uniform(0.1, 3, ...a), normal(...b)],
  fn: tf.pow,
}));

/** All quadrants and both axes. */
const angles: Case[] = [
  ...SHAPE_PAIRS.map(([a, b]): Case => ({
    name: `atan2 [${a}] [${b}]`,
    inputs: [normal(...a), normal(...b)],
    fn: tf.atan2,
  })),
  { name: "atan2 on the axes", inputs: [numbers([1, -1, 0, 0]), numbers([0, 0, 1, -1])], fn: tf.atan2 },
];

const comparisons: Case[] = [
  tf.equal,
  tf.notEqual,
  tf.greater,
  tf.greaterEqual,
  tf.less,
  tf.lessEqual,
].flatMap((fn) => [
  ...SHAPE_PAIRS.map(([a, b]): Case => ({
    name: `${fn.name} [${a}] [${b}]`,
    inputs: [integers(0, 3, ...a), integers(0, 3, ...b)],
    fn,
  })),
  { name: `${fn.name} float32`, inputs: [SPECIAL, numbers([...SPECIAL.data].reverse())], fn },
]);

const logic: Case[] = [
  { name: "and", inputs: [truths(3, 4), truths(4)], fn: tf.logicalAnd },
  { name: "or", inputs: [truths(3, 4), truths(3, 1)], fn: tf.logicalOr },
  { name: "xor", inputs: [truths(3, 4), truths(3, 4)], fn: tf.logicalXor },
  { name: "not", inputs: [truths(5)], fn: tf.logicalNot },
  { name: "where", inputs: [truths(3, 4), normal(3, 4), normal(4)], fn: tf.where },
  { name: "where broadcasts", inputs: [truths(3, 1), normal(1, 4), normal()], fn: tf.where },
  { name: "any", inputs: [truths(3, 4)], fn: (x) => [tf.any(x), tf.any(x, 1), tf.any(x, 0, true)] },
  { name: "all", inputs: [truths(3, 4)], fn: (x) => [tf.all(x), tf.all(x, 1), tf.all(x, 0, true)] },
  {
    name: "cast",
    inputs: [numbers([0, 1.9, -1.9, 3]), integers(-1, 2, 4), truths(4)],
    fn: (...xs: tf.Tensor[]) =>
      xs.flatMap((x) => (["float32", "int32", "bool"] as const).map((dtype) => tf.cast(x, dtype))),
  },
  { name: "prelu", inputs: [normal(2, 3), normal(3)], fn: tf.prelu },
  { name: "addN", inputs: [normal(2, 3), normal(2, 3), normal(2, 3)], fn: (...xs) => tf.addN(xs) },
];

const REDUCED: [number[], number | number[] | undefined][] = [
  [[4], 0],
  [[3, 1, 5], 1],
  [[3, 4, 5], [0, 2]],
  [[3, 4, 5], -1],
  [[2, 3], undefined],
  [[2, 3], []],
];

const reductions: Case[] = [tf.sum, tf.mean, tf.max, tf.min, tf.prod].flatMap((fn) =>
  REDUCED.flatMap(([shape, axis]) =>
    [false, true].map((keepDims): Case => ({
      name: `${fn.name} [${shape}] axis ${axis} keepDims ${keepDims}`,
      inputs: [normal(...shape), integers(-3, 4, ...shape)],
      fn: (x, n) => [x, n].map((t) => fn(t, axis, keepDims)),
    }))
  )
);

const moreReductions: Case[] = [
  { name: "sum of truths", inputs: [truths(3, 4)], fn: (x) => tf.sum(x, 1) },
  { name: "argMax", inputs: [normal(3, 5)], fn: (x) => [tf.argMax(x, 1), tf.argMax(x, 0)] },
  { name: "argMin", inputs: [normal(3, 5)], fn: (x) => [tf.argMin(x, -1), tf.argMin(x, 0)] },
  { name: "argMax of ties", inputs: [numbers([1, 2, 2, 1])], fn: (x) => [tf.argMax(x), tf.argMin(x)] },
  { name: "softmax", inputs: [normal(3, 5)], fn: (x) => [tf.softmax(x), tf.logSoftmax(x)] },
  { name: "softmax of one", inputs: [normal(3, 1)], fn: (x) => [tf.softmax(x), tf.logSoftmax(x)] },
  { name: "softmax of large logits", inputs: [uniform(-300, 300, 2, 9)], fn: (x) => tf.softmax(x) },
  { name: "logSumExp", inputs: [normal(3, 5)], fn: (x) => tf.logSumExp(x, 1) },
  {
    name: "cumsum",
    inputs: [normal(3, 5), integers(-3, 3, 6)],
    fn: (x, n) => [
      tf.cumsum(x, 1),
      tf.cumsum(x, 0, true),
      tf.cumsum(x, 1, false, true),
      tf.cumsum(n, 0, true, true),
    ],
  },
  {
    name: "cumprod",
    inputs: [normal(3, 5)],
    fn: (
      x,
    ) => [
      tf.cumprod(x, 1),
      tf.cumprod(x, 0, true),
      tf.cumprod(x, 1, true, true),
      tf.cumprod(x, 0, false, true),
    ],
  },
  {
    name: "topk",
    inputs: [normal(2, 7), numbers([1, 3, 3, 2])],
    fn: (x, ties) => [...Object.values(tf.topk(x, 3)), ...Object.values(tf.topk(ties, 2))] as tf.Tensor[],
  },
  {
    name: "unsortedSegmentSum",
    inputs: [normal(5, 3), integers(0, 4, 5)],
    fn: (x, ids) => tf.unsortedSegmentSum(x, ids, 4),
  },
];

/** tfjs's cpu kernels only: products of every transposition and batch form. */
const products: Case[] = [false, true].flatMap((transposeA) =>
  [false, true].flatMap((transposeB) =>
    [[[], []], [[2], [2]], [[2, 3], [2, 3]], [[1], [4]], [[4], [1]]].flatMap(([batchA, batchB]) =>
      [[3, 5, 4], [1, 5, 1], [3, 1, 4], [1, 1, 1]].map(([m, k, n]): Case => ({
        name: `matMul ${transposeA} ${transposeB} [${batchA}] [${batchB}] ${m} ${k} ${n}`,
        inputs: [
          normal(...batchA, ...(transposeA ? [k, m] : [m, k])),
          normal(...batchB, ...(transposeB ? [n, k] : [k, n])),
        ],
        fn: (a, b) => tf.matMul(a, b, transposeA, transposeB),
      }))
    )
  )
);

const moreProducts: Case[] = [
  { name: "dot", inputs: [normal(5), normal(5)], fn: tf.dot },
  { name: "einsum", inputs: [normal(2, 3, 4), normal(4, 5)], fn: (a, b) => tf.einsum("bij,jk->bik", a, b) },
  {
    name: "fused.matMul",
    inputs: [normal(3, 5), normal(5, 4), normal(4)],
    fn: (a, b, bias) =>
      (["linear", "relu", "relu6", "elu", "sigmoid", "leakyrelu"] as const).map((activation) =>
        tf.fused.matMul({ a, b, bias, activation })
      ),
  },
  {
    name: "fused.matMul with prelu",
    inputs: [normal(3, 5), normal(5, 4), normal(4)],
    fn: (a, b, alpha) => tf.fused.matMul({ a, b, activation: "prelu", preluActivationWeights: alpha }),
  },
];

const creation: Case[] = [
  {
    name: "fills",
    inputs: [normal(2, 3)],
    fn: (x) => [
      tf.ones([2, 3]),
      tf.zeros([4], "int32"),
      tf.fill([2, 2], 7),
      tf.fill([2, 1, 3], 0.5).add(x.expandDims(1)),
      tf.ones([4, 2, 3]).mul(x),
      tf.linspace(0, 1, 5),
      tf.range(0, 7, 2),
      tf.range(5, 0, -2, "int32"),
      tf.tensor([[1, 2], [3, 4]]),
      tf.scalar(3).add(x),
    ],
  },
  {
    name: "oneHot",
    inputs: [integers(-1, 5, 2, 3)],
    fn: (x) => [tf.oneHot(x, 4), tf.oneHot(x, 4, 0.9, 0.1, "float32"), tf.oneHot(x.flatten(), 2)],
  },
];

const shapes: Case[] = [
  {
    name: "reshape",
    inputs: [normal(2, 3, 4)],
    fn: (x) => [x.reshape([6, 4]), x.reshape([-1]), x.reshape([1, 2, 1, 12]), x.flatten().reshape([4, 6])],
  },
  {
    name: "reshape of a broadcast",
    inputs: [normal(3, 1)],
    fn: (x) => {
      const wide = tf.broadcastTo(x, [3, 4]);
      return [wide.reshape([12]), wide.reshape([3, 1, 4]), wide.expandDims(0), wide.reshape([2, 6])];
    },
  },
  {
    name: "expandDims",
    inputs: [normal(2, 3)],
    fn: (x) => [-1, 0, 1, 2].map((axis) => tf.expandDims(x, axis)),
  },
  {
    name: "transpose",
    inputs: [normal(2, 3, 4), normal(1, 5)],
    fn: (x, row) => [
      tf.transpose(x),
      tf.transpose(x, [0, 2, 1]),
      tf.transpose(tf.transpose(x, [2, 0, 1]), [1, 2, 0]),
      tf.transpose(row),
      tf.transpose(tf.broadcastTo(row, [3, 5])),
    ],
  },
  {
    name: "concat and stack",
    inputs: [normal(2, 3), normal(2, 3)],
    fn: (a, b) => [
      tf.concat([a, b], 0),
      tf.concat([a, b], -1),
      tf.concat([a], 1),
      tf.stack([a, b]),
      tf.stack([a, b], 2),
      tf.concat([a, tf.zeros([2, 2])], 1),
    ],
  },
  {
    name: "split and unstack",
    inputs: [normal(4, 6)],
    fn: (x) => [...tf.split(x, 3, 1), ...tf.split(x, [1, 3], 0), ...tf.split(x, 1), ...tf.unstack(x, 1)],
  },
  {
    name: "slice",
    inputs: [normal(4, 6), normal(1, 6)],
    fn: (x, row) => [
      tf.slice(x, [1, 2], [2, 3]),
      tf.slice(x, [3], [1]),
      tf.slice(x, [0, 0], [-1, -1]),
      tf.slice(tf.broadcastTo(row, [4, 6]), [1, 1], [2, 3]),
    ],
  },
  {
    name: "stridedSlice",
    inputs: [normal(5, 7)],
    fn: (x) => [
      tf.stridedSlice(x, [0, 1], [5, 7], [2, 3]),
      tf.stridedSlice(x, [4, 5], [0, -8], [-1, -2]),
      tf.stridedSlice(x, [1, 0], [2, 7], [1, 1], 0, 0, 0, 0, 1),
      tf.stridedSlice(x, [1, 2], [4, 6], [1, 1]),
      tf.stridedSlice(x, [0, 0], [5, 7], [1, 1]),
      tf.stridedSlice(x, [9, 9], [5, 0], [1, -3], 1, 2),
    ],
  },
  {
    name: "reverse",
    inputs: [normal(3, 4)],
    fn: (x) => [tf.reverse(x), tf.reverse(x, 0), tf.reverse(x, [1])],
  },
  {
    name: "pad",
    inputs: [normal(2, 3)],
    fn: (x) => [tf.pad(x, [[1, 0], [2, 1]]), tf.pad(x, [[0, 0], [0, 2]], 0.5), tf.pad(x, [[0, 0], [0, 0]])],
  },
  {
    name: "mirrorPad",
    inputs: [normal(3, 4)],
    fn: (x) => [
      tf.mirrorPad(x, [[2, 1], [0, 3]], "reflect"),
      tf.mirrorPad(x, [[3, 1], [2, 4]], "symmetric"),
    ],
  },
  {
    name: "tile",
    inputs: [normal(2, 1, 3)],
    fn: (x) => [tf.tile(x, [1, 4, 1]), tf.tile(x, [2, 3, 2]), tf.tile(x, [1, 1, 1])],
  },
  {
    name: "broadcastTo",
    inputs: [normal(3), normal()],
    fn: (x, s) => [tf.broadcastTo(x, [2, 3]), tf.broadcastTo(s, [2, 2])],
  },
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
  { name: "depthToSpace", inputs: [normal(2, 2, 3, 8)], fn: (x) => tf.depthToSpace(x, 2, "NHWC") },
];

const indexing: Case[] = [
  {
    name: "gather",
    inputs: [normal(5, 3, 4), integers(0, 3, 2, 2)],
    fn: (
      x,
      ids,
    ) => [
      tf.gather(x, ids),
      tf.gather(x, ids, 1),
      tf.gather(x, ids, -1),
      tf.gather(x, ids.slice([0, 0], [1, 1]).reshape([]), 2),
    ],
  },
  {
    name: "gather with batch",
    inputs: [normal(2, 5, 3), integers(0, 3, 2, 4)],
    fn: (x, ids) => [tf.gather(x, ids, 1, 1), tf.gather(x, ids, 2, 1)],
  },
  {
    name: "gatherND",
    inputs: [normal(4, 5, 2), integers(0, 4, 3, 2)],
    fn: (x, ids) => [tf.gatherND(x, ids), tf.gatherND(x, ids.slice([0, 0], [3, 1]))],
  },
  {
    name: "scatterND",
    inputs: [integers(0, 3, 6, 1), normal(6, 2), integers(0, 2, 5, 2), normal(5)],
    fn: (ids, x, pairs, y) => [tf.scatterND(ids, x, [4, 2]), tf.scatterND(pairs, y, [2, 3])],
  },
];

const scattering: Case[] = [
  {
    name: "tensorScatterUpdate",
    inputs: [normal(4, 3), normal(2, 3), normal(3)],
    // Each has a copy: tfjs's CPU kernel writes into its argument.
    fn: (x, rows, values) => [
      tf.tensorScatterUpdate(tf.add(x, 0), tf.tensor2d([[3], [0]], [2, 1], "int32"), rows),
      tf.tensorScatterUpdate(tf.add(x, 0), tf.tensor2d([[0, 2], [3, 1], [1, 0]], [3, 2], "int32"), values),
    ],
  },
];

const CONV_FORMS = [
  { size: 3, stride: 1, pad: "same" },
  { size: 3, stride: 2, pad: "same" },
  { size: 3, stride: 2, pad: "valid" },
  { size: 2, stride: 2, pad: "valid" },
  { size: 1, stride: 1, pad: "valid" },
  { size: 1, stride: 2, pad: "same" },
  { size: 4, stride: 2, pad: 1 },
  { size: 5, stride: 1, pad: "valid" },
] as const;

const convolutions: Case[] = CONV_FORMS.flatMap(({ size, stride, pad }) =>
  [[1, 6, 6, 1, 1], [2, 7, 6, 3, 5]].flatMap(([batch, height, width, channels, out]): Case[] => {
    const name =
      `${size}x${size} stride ${stride} pad ${pad} on [${batch}, ${height}, ${width}, ${channels}]`;
    const probe = toTf(normal(batch, height, width, channels)) as tf.Tensor4D;
    const dyShape = tf.conv2d(probe, tf.zeros([size, size, channels, out]), stride, pad).shape;
    return [{
      name: `conv2d ${name}`,
      inputs: [normal(batch, height, width, channels), normal(size, size, channels, out)],
      fn: (x, w) => tf.conv2d(x, w, stride, pad),
    }, {
      name: `conv2dTranspose ${name}`,
      inputs: [normal(...dyShape), normal(size, size, channels, out)],
      fn: (dy, w) => tf.conv2dTranspose(dy, w, [batch, height, width, channels], stride, pad),
    }, {
      name: `gradient of conv2d's kernel ${name}`,
      inputs: [normal(batch, height, width, channels), normal(...dyShape)],
      fn: (x, dy) =>
        tf.engine().runKernel("Conv2DBackpropFilter", { x, dy }, {
          strides: stride,
          pad,
          dataFormat: "NHWC",
          filterShape: [size, size, channels, out],
        }) as tf.Tensor,
    }];
  })
);

/** From 512 places on the gradient of the kernel is computed channels-first; both operands can be the shifted one. */
const largeConvolutions: Case[] = [[2, 17], [17, 2], [16, 17], [17, 16]].flatMap(([channels, out]) =>
  ([[1, "same"], [1, "valid"], [2, "same"]] as const).map(([stride, pad]): Case => {
    const size = stride === 2 ? 46 : 25, shape: [number, number, number, number] = [1, size, size, channels];
    const { outHeight, outWidth } = tf.backend_util.computeConv2DInfo(
      shape,
      [3, 3, channels, out],
      stride,
      1,
      pad,
    );
    return {
      name: `gradient of conv2d's kernel on [${shape}] to ${out}, stride ${stride}, pad ${pad}`,
      inputs: [normal(...shape), normal(1, outHeight, outWidth, out)],
      fn: (x, dy) =>
        tf.engine().runKernel("Conv2DBackpropFilter", { x, dy }, {
          strides: stride,
          pad,
          dataFormat: "NHWC",
          filterShape: [3, 3, channels, out],
        }) as tf.Tensor,
      tolerance: 1e-3,
    };
  })
);

const moreConvolutions: Case[] = [
  {
    name: "gradient of a wide kernel",
    inputs: [normal(1, 5, 5, 17), normal(1, 5, 5, 2)],
    fn: (x, dy) =>
      tf.engine().runKernel("Conv2DBackpropFilter", { x, dy }, {
        strides: 1,
        pad: "same",
        dataFormat: "NHWC",
        filterShape: [3, 3, 17, 2],
      }) as tf.Tensor,
  },
  {
    name: "dilated conv2d",
    inputs: [normal(1, 8, 8, 2), normal(3, 3, 2, 3)],
    fn: (x, w) => tf.conv2d(x, w, 1, "same", "NHWC", 2),
  },
  {
    name: "depthwiseConv2d",
    inputs: [normal(2, 5, 5, 3), normal(3, 3, 3, 2)],
    fn: (x, w) => [
      tf.depthwiseConv2d(x, w, 1, "same"),
      tf.depthwiseConv2d(x, w, 2, "valid"),
      tf.depthwiseConv2d(x, w, 1, "valid", "NHWC", 2),
    ],
  },
  {
    name: "fused.depthwiseConv2d",
    inputs: [normal(2, 5, 5, 3), normal(3, 3, 3, 2), normal(6)],
    fn: (x, filter, bias) =>
      tf.fused.depthwiseConv2d({ x, filter, bias, strides: 1, pad: "same", activation: "relu6" }),
  },
  {
    name: "fused.conv2d",
    inputs: [normal(2, 5, 5, 3), normal(3, 3, 3, 2), normal(2)],
    fn: (x, filter, bias) =>
      tf.fused.conv2d({ x, filter, bias, strides: 1, pad: "same", activation: "relu" }),
  },
];

const depthwiseGradients: Case[] = CONV_FORMS.flatMap(({ size, stride, pad }) =>
  [[1, 6, 6, 1, 1], [2, 7, 6, 3, 2]].map(([batch, height, width, channels, multiplier]): Case => {
    const x = normal(batch, height, width, channels), w = normal(size, size, channels, multiplier);
    const forward = (a: tf.Tensor, b: tf.Tensor) =>
      tf.depthwiseConv2d(a as tf.Tensor4D, b as tf.Tensor4D, stride, pad);
    const dy = normal(...tf.tidy(() => forward(toTf(x), toTf(w)).shape));
    return {
      name: `gradients of depthwiseConv2d ${size} stride ${stride} pad ${pad} on [${x.shape}]`,
      inputs: [x, w, dy],
      fn: (a, b, g) => tf.grads(forward)([a, b], g),
    };
  })
);

const normalizations: Case[] = [
  {
    name: "batchNorm",
    inputs: [normal(2, 3, 3, 4), normal(4), uniform(0.2, 2, 4), normal(4), normal(4)],
    fn: (x, mean, variance, offset, scale) => [
      tf.batchNorm(x, mean, variance, offset, scale, 1e-3),
      tf.batchNorm(x, mean, variance),
      tf.batchNorm(x, mean, variance, offset),
    ],
  },
  {
    name: "gradients of batchNorm",
    inputs: [normal(2, 3, 3, 4), normal(4), uniform(0.2, 2, 4), normal(4), normal(4)],
    fn: (...inputs) =>
      tf.grads((x, mean, variance, offset, scale) =>
        tf.sum(tf.square(
          tf.batchNorm(
            x as tf.Tensor4D,
            mean as tf.Tensor1D,
            variance as tf.Tensor1D,
            offset as tf.Tensor1D,
            scale as tf.Tensor1D,
          ),
        ))
      )(inputs),
  },
];

const POOL_FORMS = [[2, 2, "valid"], [3, 2, "same"], [3, 1, "same"], [2, 1, "valid"], [
  3,
  3,
  "valid",
]] as const;

const pooling: Case[] = POOL_FORMS.flatMap(([size, stride, pad]): Case[] => {
  const input = normal(2, 6, 6, 3), probe = toTf(input) as tf.Tensor4D;
  const dy = normal(...tf.maxPool(probe, size, stride, pad).shape);
  const gradient = (pool: (x: tf.Tensor4D) => tf.Tensor) => (x: tf.Tensor, g: tf.Tensor) =>
    tf.grad((t) => pool(t as tf.Tensor4D))(x, g);
  const max = (x: tf.Tensor4D) => tf.maxPool(x, size, stride, pad);
  const avg = (x: tf.Tensor4D) => tf.avgPool(x, size, stride, pad);
  const name = `${size} stride ${stride} pad ${pad}`;
  return [
    { name: `maxPool ${name}`, inputs: [input], fn: max },
    { name: `avgPool ${name}`, inputs: [input], fn: avg },
    { name: `gradient of maxPool ${name}`, inputs: [input, dy], fn: gradient(max) },
    { name: `gradient of avgPool ${name}`, inputs: [input, dy], fn: gradient(avg) },
  ];
});

const RESIZE_FORMS = [[6, 8], [3, 4], [5, 7], [2, 2], [1, 1], [9, 12]] as const;

const resizing: Case[] = RESIZE_FORMS.flatMap(([height, width]) =>
  [[false, false], [true, false], [false, true]].flatMap(([align, half]): Case[] => [
    {
      name: `resizeNearestNeighbor ${height}x${width} ${align} ${half}`,
      inputs: [normal(2, 3, 4, 2)],
      fn: (x) => tf.image.resizeNearestNeighbor(x, [height, width], align, half),
    },
    {
      name: `resizeBilinear ${height}x${width} ${align} ${half}`,
      inputs: [normal(2, 3, 4, 2)],
      fn: (x) => tf.image.resizeBilinear(x, [height, width], align, half),
    },
  ])
);

// tfjs's own gradients are wrong for more than one image (nearest) and for images that are not square (bilinear);
// those cases are in engine_gradients_test.ts, against the definition.
const resizeGradients: Case[] = [[6, 6], [9, 9], [5, 7], [2, 3]].flatMap(([height, width]): Case[] => [
  {
    name: `gradient of resizeNearestNeighbor ${height}x${width}`,
    inputs: [normal(1, 3, 3, 2), normal(1, height, width, 2)],
    fn: (x, dy) => tf.grad((t) => tf.image.resizeNearestNeighbor(t as tf.Tensor4D, [height, width]))(x, dy),
  },
  {
    name: `gradient of resizeBilinear ${height}x${width}`,
    inputs: [normal(2, 3, 3, 2), normal(2, height, width, 2)],
    fn: (x, dy) => tf.grad((t) => tf.image.resizeBilinear(t as tf.Tensor4D, [height, width]))(x, dy),
  },
]);

/** The cases by what they are about. */
export const families: Record<string, Case[]> = {
  "unary functions": unary,
  "arithmetic that broadcasts": [...binary, ...powers, ...angles],
  comparisons,
  logic,
  reductions: [...reductions, ...moreReductions],
  "matrix products": [...products, ...moreProducts],
  "tensors made inside": creation,
  "changes of shape": shapes,
  "gathering and scattering": [...indexing, ...scattering],
  convolutions: [...convolutions, ...largeConvolutions, ...moreConvolutions, ...depthwiseGradients],
  normalizations,
  pooling,
  resizing: [...resizing, ...resizeGradients],
};
