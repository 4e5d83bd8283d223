/** Functions of single elements: values, special values, whole numbers and truth values. */
import * as tf from "@tensorflow/tfjs";
import { type Case, integers, normal, numbers, truths, uniform, wholeNumbers } from "../engine_harness.ts";
import { PAIRS, SHAPES, show } from "./sizes.ts";

type Unary = (x: tf.Tensor) => tf.Tensor;
type Binary = (a: tf.Tensor, b: tf.Tensor) => tf.Tensor;

/** Functions of float32 with the interval on which they are compared. */
const FUNCTIONS: Readonly<Record<string, [Unary, number, number]>> = {
  abs: [tf.abs, -3, 3],
  acos: [tf.acos, -1, 1],
  acosh: [tf.acosh, 1.01, 9],
  asin: [tf.asin, -1, 1],
  asinh: [tf.asinh, -3, 3],
  atan: [tf.atan, -3, 3],
  atanh: [tf.atanh, -0.95, 0.95],
  ceil: [tf.ceil, -3, 3],
  clip: [(x) => tf.clipByValue(x, -1, 0.5), -3, 3],
  clone: [tf.clone, -3, 3],
  cos: [tf.cos, -10, 10],
  cosh: [tf.cosh, -3, 3],
  elu: [tf.elu, -3, 3],
  erf: [tf.erf, -3, 3],
  exp: [tf.exp, -5, 5],
  expm1: [tf.expm1, -2, 2],
  floor: [tf.floor, -3, 3],
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
  relu6: [tf.relu6, -9, 9],
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

export const unary: Case[] = Object.entries(FUNCTIONS).flatMap(([name, [fn, low, high]]) =>
  SHAPES.map((shape): Case => ({
    name: `${name} ${show(shape)}`,
    inputs: [uniform(low, high, ...shape)],
    fn,
  }))
);

/** Kernels that only gradients use. */
export const gradientsOnly: Case[] = SHAPES.filter((shape) => !shape.includes(0)).map((shape) => ({
  name: `gradient of elu ${show(shape)}`,
  inputs: [normal(...shape), normal(...shape)],
  fn: (x, dy) => tf.grad(tf.elu)(x, dy),
}));

/** Not a number, infinities, both zeros, ties of rounding, and the ends of the range of float32. */
const SPECIAL = [
  ...[NaN, Infinity, -Infinity, 0, -0, 1, -1, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 3.5],
  ...[1e-20, -1e-20, 1e-38, -1e-38, 1e20, -1e20, 3.4e38, -3.4e38, 88, -88, 89, -89, 104, -104, 16777217],
];

export const unarySpecial: Case[] = Object.entries(FUNCTIONS).map(([name, [fn]]) => ({
  name: `${name} of special values`,
  inputs: [numbers(SPECIAL)],
  fn,
}));

const ARITHMETIC: Readonly<Record<string, Binary>> = {
  add: tf.add,
  div: tf.div,
  maximum: tf.maximum,
  minimum: tf.minimum,
  mul: tf.mul,
  squaredDifference: tf.squaredDifference,
  sub: tf.sub,
};
const DIVISION: Readonly<Record<string, Binary>> = { floorDiv: tf.floorDiv, mod: tf.mod };
const COMPARISONS: Readonly<Record<string, Binary>> = {
  equal: tf.equal,
  notEqual: tf.notEqual,
  greater: tf.greater,
  greaterEqual: tf.greaterEqual,
  less: tf.less,
  lessEqual: tf.lessEqual,
};

const onPairs = (name: string, fn: Binary, a: typeof normal, b: typeof normal): Case[] =>
  PAIRS.map(([left, right]) => ({
    name: `${name} ${show(left)} ${show(right)}`,
    inputs: [a(...left), b(...right)],
    fn,
  }));

/** In [0.5, 2) or [−2, −0.5): no quotient is near a whole number's edge by rounding alone. */
const positive = (...shape: number[]) => uniform(0.5, 2, ...shape);
const few = (...shape: number[]) => integers(0, 3, ...shape);

export const binary: Case[] = [
  ...Object.entries({ ...ARITHMETIC, ...DIVISION }).flatMap(([name, fn]) =>
    onPairs(name, fn, normal, positive)
  ),
  ...onPairs("pow", tf.pow, (...shape) => uniform(0.1, 3, ...shape), normal),
  ...onPairs("atan2", tf.atan2, normal, normal),
  ...onPairs("prelu", tf.prelu as Binary, normal, normal).filter(({ inputs: [x, alpha] }) =>
    x.shape.length >= alpha.shape.length &&
    alpha.shape.every((extent, i) =>
      extent === 1 || extent === x.shape[i + x.shape.length - alpha.shape.length]
    )
  ),
];

export const comparisons: Case[] = Object.entries(COMPARISONS).flatMap(([name, fn]) =>
  onPairs(name, fn, few, few)
);

/** An operation on each element of a column with each of a row, from its definition. */
function outer(dtype: "float32" | "int32", operation: (a: number, b: number) => number): Binary {
  return (a, b) => {
    const rows = Array.from(a.dataSync()), cols = Array.from(b.dataSync());
    return tf.tensor(
      rows.flatMap((x) => cols.map((y) => operation(x, y))),
      [rows.length, cols.length],
      dtype,
    );
  };
}

/** Every special value with every other. */
const ROWS = numbers(SPECIAL, SPECIAL.length, 1), COLUMNS = numbers(SPECIAL, 1, SPECIAL.length);
export const binarySpecial: Case[] = [
  ...Object.entries({ ...ARITHMETIC, ...COMPARISONS, atan2: tf.atan2 }).map(([name, fn]): Case => ({
    name: `${name} of special values`,
    inputs: [ROWS, COLUMNS],
    fn,
  })),
  {
    name: "mod of special values",
    inputs: [ROWS, COLUMNS],
    fn: tf.mod,
    // tfjs adds the divisor and divides again, which gives 0 for large divisors and NaN for infinite ones.
    reference: outer("float32", (a, b) => {
      const remainder = a % b;
      return remainder !== 0 && (a < 0) !== (b < 0) ? remainder + b : remainder;
    }),
  },
  {
    name: "pow of special values",
    inputs: [ROWS, COLUMNS],
    fn: tf.pow,
    // IEEE 754 has 1 to the power of anything, and −1 to that of an infinity, as 1; JavaScript as NaN.
    reference: (a, b) => {
      const isOne = tf.logicalOr(tf.equal(a, 1), tf.logicalAnd(tf.equal(a, -1), tf.isInf(b)));
      return tf.where(isOne, tf.onesLike(b), tf.pow(a, b));
    },
  },
];

/** Small numbers of both signs, zero, and the ends of the range. */
const INTEGERS = [0, 1, -1, 2, -2, 3, -3, 7, -7, 2 ** 30, 2 ** 31 - 1, -(2 ** 31)];
const SMALL = INTEGERS.slice(0, 9);
const COLUMN = wholeNumbers(INTEGERS, INTEGERS.length, 1);

/** int32 arithmetic that wraps around; tfjs's goes through JavaScript's doubles, which round large products. */
const WRAPPING: Readonly<Record<string, (a: number, b: number) => number>> = {
  mul: Math.imul,
  squaredDifference: (a, b) => Math.imul(a - b, a - b),
};

const OF_INTEGERS: Readonly<Record<string, Unary>> = {
  clip: (x) => tf.clipByValue(x, -2, 3),
  clone: tf.clone,
  neg: tf.neg,
  onesLike: tf.onesLike,
  relu: tf.relu,
  relu6: tf.relu6,
  round: tf.round,
  sign: tf.sign,
  step: (x) => tf.step(x),
  zerosLike: tf.zerosLike,
};

const DIVISORS = wholeNumbers([...SMALL, 2 ** 31 - 1, -(2 ** 31)]);

export const integerArithmetic: Case[] = [
  ...Object.entries({ ...ARITHMETIC, ...COMPARISONS }).filter(([name]) => name !== "div").map((
    [name, fn],
  ): Case => ({
    name: `${name} of int32`,
    inputs: [COLUMN, wholeNumbers(INTEGERS)],
    fn,
    reference: WRAPPING[name] && outer("int32", WRAPPING[name]),
  })),
  ...Object.entries({ ...DIVISION, div: tf.div }).map(([name, fn]): Case => ({
    name: `${name} of int32`,
    inputs: [COLUMN, DIVISORS],
    fn,
  })),
  {
    name: "pow of int32",
    inputs: [wholeNumbers(SMALL, SMALL.length, 1), wholeNumbers([0, 1, 2, 3])],
    fn: tf.pow,
  },
  ...Object.entries(OF_INTEGERS).map(([name, fn]): Case => ({
    name: `${name} of int32`,
    inputs: [wholeNumbers(INTEGERS)],
    fn,
  })),
  // tfjs's cpu kernel of Abs goes through float32, that of Square through doubles.
  {
    name: "abs and square of int32",
    inputs: [COLUMN],
    fn: (x) => [tf.abs(x), tf.square(x)],
    reference: (x: tf.Tensor) =>
      [Math.abs, (v: number) => Math.imul(v, v)].map((f) =>
        tf.tensor(Int32Array.from(x.dataSync() as Int32Array, f), x.shape, "int32")
      ),
  },
];

export const logic: Case[] = [
  ...Object.entries({ and: tf.logicalAnd, or: tf.logicalOr, xor: tf.logicalXor })
    .flatMap(([name, fn]) => onPairs(name, fn, truths, truths)),
  ...Object.entries(COMPARISONS).map(([name, fn]): Case => ({
    name: `${name} of bool`,
    inputs: [truths(3, 4), truths(4)],
    fn,
  })),
  ...SHAPES.map((shape): Case => ({
    name: `not ${show(shape)}`,
    inputs: [truths(...shape)],
    fn: tf.logicalNot,
  })),
  ...PAIRS.map(([a, b]): Case => ({
    name: `where ${show(a)} ${show(b)}`,
    inputs: [truths(...a), normal(...b), normal(...b)],
    fn: tf.where,
    // tfjs broadcasts an extent of 1 to no 0.
    reference: (condition, yes, no) => {
      const shape = tf.broadcast_util.assertAndGetBroadcastShape(condition.shape, yes.shape);
      return shape.includes(0) ? tf.zeros(shape) : tf.where(condition, yes, no);
    },
  })),
  { name: "where broadcasts all", inputs: [truths(3, 1), normal(1, 4), normal()], fn: tf.where },
  { name: "where of int32", inputs: [truths(5), integers(-9, 9, 5), integers(-9, 9, 5)], fn: tf.where },
  { name: "where of bool", inputs: [truths(5), truths(5), truths(5)], fn: tf.where },
  { name: "addN", inputs: [normal(2, 3), normal(2, 3), normal(2, 3)], fn: (...xs) => tf.addN(xs) },
  { name: "addN of int32", inputs: [integers(-9, 9, 5), integers(-9, 9, 5)], fn: (...xs) => tf.addN(xs) },
];

const TYPES = ["float32", "int32", "bool"] as const;

export const casts: Case[] = [
  ...SHAPES.map((shape): Case => ({
    name: `cast ${show(shape)}`,
    inputs: [uniform(-9, 9, ...shape), integers(-1, 2, ...shape), truths(...shape)],
    fn: (...xs: tf.Tensor[]) => xs.flatMap((x) => TYPES.map((dtype) => tf.cast(x, dtype))),
  })),
  {
    name: "cast of edges",
    inputs: [numbers([0, -0, 0.99, -0.99, 1.9, -1.9, 1e-20, 2147483520, -2147483648, 16777217]), COLUMN],
    fn: (...xs: tf.Tensor[]) => xs.flatMap((x) => TYPES.map((dtype) => tf.cast(x, dtype))),
  },
  {
    name: "cast of NaN and infinities to bool",
    inputs: [numbers([NaN, Infinity, -Infinity])],
    fn: (x) => tf.cast(x, "bool"),
  },
];
