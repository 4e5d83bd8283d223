/**
 * Elementwise kernels: arithmetic, functions, comparisons, logic, activations.
 *
 * @module
 */
import type { DType } from "novae/tensor/mod.ts";
import { cannotCompile, type Kernel, type Recorder, type Traced } from "../recorder.ts";
import { broadcastShapes, elementwise, withNumber } from "./broadcasting.ts";

/** ONNX codes of element types, for Cast. */
const CAST_CODE: Record<DType, number> = { float32: 1, int32: 6, bool: 9 };
const CAST_FLOAT64 = 11;

/** Converts elements; float to int truncates, to bool tests for not zero. */
export function cast(recorder: Recorder, x: Traced, dtype: DType): Traced {
  if (x.dtype === dtype) return x;
  if (x.value.constant && x.value.constant.length === 1) {
    const number = Number(x.value.constant[0]);
    return recorder.fill(
      dtype === "int32" ? Math.trunc(number) : dtype === "bool" ? Number(number !== 0) : number,
      x.shape,
      dtype,
    );
  }
  return elementwise(recorder, "Cast", [x], dtype, { to: CAST_CODE[dtype] });
}

const binary = (op: string): Kernel => (recorder, { a, b }) => elementwise(recorder, op, [a, b]);
const unary = (op: string): Kernel => (recorder, { x }) => elementwise(recorder, op, [x]);
const comparison = (op: string): Kernel => (recorder, { a, b }) => elementwise(recorder, op, [a, b], "bool");

/** The activations that tfjs's fused kernels know. */
export function activation(
  recorder: Recorder,
  kernel: string,
  x: Traced,
  name: string,
  leakyreluAlpha = 0.2,
): Traced {
  switch (name) {
    case "linear":
      return x;
    case "relu":
      return elementwise(recorder, "Relu", [x]);
    case "relu6":
      return clip(recorder, x, 0, 6);
    case "elu":
      return elementwise(recorder, "Elu", [x]);
    case "sigmoid":
      return elementwise(recorder, "Sigmoid", [x]);
    case "leakyrelu":
      return elementwise(recorder, "LeakyRelu", [x], x.dtype, { alpha: { float: leakyreluAlpha } });
    default:
      throw cannotCompile(
        kernel,
        `activation must be linear, relu, relu6, elu, sigmoid or leakyrelu, got ${name}`,
      );
  }
}

function clip(recorder: Recorder, x: Traced, low: number, high: number): Traced {
  const bound = (value: number) => recorder.fill(value, [], x.dtype);
  return { ...elementwise(recorder, "Clip", [x, bound(low), bound(high)]), shape: x.shape };
}

/** int32, as in tfjs; in double precision, where integers are exact and division by 0 no trap. */
const floorDivide: Kernel = (recorder, { a, b }) => {
  const { graph } = recorder;
  const double = ({ value }: Traced) =>
    graph.node("Cast", [value], { shape: value.shape, dtype: "float64" }, { to: CAST_FLOAT64 });
  const shape = broadcastShapes(a.value.shape, b.value.shape);
  const quotient = graph.node("Div", [double(a), double(b)], { shape, dtype: "float64" });
  const floor = graph.node("Floor", [quotient], { shape, dtype: "float64" });
  const value = graph.node("Cast", [floor], { shape, dtype: "int32" }, { to: CAST_CODE.int32 });
  return { value, shape: broadcastShapes(a.shape, b.shape), dtype: "int32" };
};

/** JavaScript's remainder, moved to the sign of the divisor. */
const modulo: Kernel = (recorder, { a, b }) => {
  const fmod = { fmod: 1 };
  const zero = recorder.fill(0, [], a.dtype);
  const remainder = elementwise(recorder, "Mod", [a, b], a.dtype, fmod);
  const negative = (x: Traced) => elementwise(recorder, "Less", [x, zero], "bool");
  const signsDiffer = elementwise(recorder, "Xor", [negative(a), negative(b)], "bool");
  const moved = elementwise(
    recorder,
    "Mod",
    [elementwise(recorder, "Add", [remainder, b]), b],
    a.dtype,
    fmod,
  );
  return select(recorder, signsDiffer, moved, remainder);
};

/** Chooses by condition. */
export function select(recorder: Recorder, condition: Traced, yes: Traced, no: Traced): Traced {
  return elementwise(recorder, "Where", [condition, yes, no], yes.dtype);
}

/** tfjs passes NaN on and gives alpha where x ≤ 0. */
const step: Kernel = (recorder, { x }, { alpha = 0 }) => {
  const positive = elementwise(recorder, "Greater", [x, recorder.fill(0, [], x.dtype)], "bool");
  if (alpha === 0) return cast(recorder, positive, x.dtype);
  return select(recorder, positive, recorder.fill(1, [], x.dtype), recorder.fill(alpha, [], x.dtype));
};

const rsqrt: Kernel = (recorder, { x }) =>
  elementwise(recorder, "Reciprocal", [elementwise(recorder, "Sqrt", [x])]);

/** exp(x) − 1 = 2 tanh(x / 2) / (1 − tanh(x / 2)) keeps its digits near zero, where the difference loses them. */
const expm1: Kernel = (recorder, { x }) => {
  const half = elementwise(recorder, "Tanh", [withNumber(recorder, "Mul", x, 0.5)]);
  const small = elementwise(recorder, "Div", [
    withNumber(recorder, "Mul", half, 2),
    elementwise(recorder, "Sub", [recorder.fill(1, [], "float32"), half]),
  ]);
  const plain = withNumber(recorder, "Sub", elementwise(recorder, "Exp", [x]), 1);
  const isSmall = elementwise(recorder, "Less", [
    elementwise(recorder, "Abs", [x]),
    recorder.fill(0.5, [], "float32"),
  ], "bool");
  return select(recorder, isSmall, small, plain);
};

/** log(1 + x) = x · log(u) / (u − 1) with u = 1 + x rounded (Kahan), and x where u is 1. */
const log1p: Kernel = (recorder, { x }) => {
  const u = withNumber(recorder, "Add", x, 1);
  const rounded = withNumber(recorder, "Sub", u, 1);
  const isOne = elementwise(recorder, "Equal", [rounded, recorder.fill(0, [], "float32")], "bool");
  const infinite = elementwise(recorder, "Equal", [u, x], "bool");
  const logarithm = elementwise(recorder, "Log", [u]);
  const scaled = elementwise(recorder, "Mul", [logarithm, elementwise(recorder, "Div", [x, rounded])]);
  return select(recorder, isOne, x, select(recorder, infinite, logarithm, scaled));
};

/** The angle of (b, a): atan(a / b), half a turn further where b is negative, and a right angle where it is 0. */
const atan2: Kernel = (recorder, { a, b }) => {
  const zero = recorder.fill(0, [], "float32");
  const turn = (angle: number) =>
    select(
      recorder,
      elementwise(recorder, "Less", [a, zero], "bool"),
      recorder.fill(-angle, [], "float32"),
      recorder.fill(angle, [], "float32"),
    );
  const angle = elementwise(recorder, "Atan", [elementwise(recorder, "Div", [a, b])]);
  const left = elementwise(recorder, "Less", [b, zero], "bool");
  const turned = select(recorder, left, elementwise(recorder, "Add", [angle, turn(Math.PI)]), angle);
  const upright = select(
    recorder,
    elementwise(recorder, "Equal", [a, zero], "bool"),
    zero,
    turn(Math.PI / 2),
  );
  return select(recorder, elementwise(recorder, "Equal", [b, zero], "bool"), upright, turned);
};

const SELU_ALPHA = 1.6732632423543772, SELU_SCALE = 1.0507009873554805;

/** tfjs's gradient of Elu: dy where y ≥ 0, else dy · (y + 1). */
const eluGrad: Kernel = (recorder, { dy, y }) => {
  const positive = elementwise(recorder, "GreaterOrEqual", [y, recorder.fill(0, [], "float32")], "bool");
  const below = elementwise(recorder, "Mul", [dy, withNumber(recorder, "Add", y, 1)]);
  return select(recorder, positive, dy, below);
};

/** Zero for NaN, as tfjs has it. */
const sign: Kernel = (recorder, { x }) => {
  if (x.dtype !== "float32") return elementwise(recorder, "Sign", [x]);
  const zero = recorder.fill(0, [], x.dtype);
  const above = cast(recorder, elementwise(recorder, "Greater", [x, zero], "bool"), x.dtype);
  const below = cast(recorder, elementwise(recorder, "Less", [x, zero], "bool"), x.dtype);
  return elementwise(recorder, "Sub", [above, below]);
};

const addN: Kernel = (recorder, inputs) => {
  const [first, ...rest] = Object.values(inputs);
  return rest.reduce((sum, x) => elementwise(recorder, "Add", [sum, x]), first);
};

const isFinite: Kernel = (recorder, { x }) => {
  const unsafe = elementwise(recorder, "Sub", [x, x]);
  return elementwise(recorder, "Equal", [unsafe, recorder.fill(0, [], x.dtype)], "bool");
};

export const ELEMENTWISE_KERNELS: Readonly<Record<string, Kernel>> = {
  Abs: unary("Abs"),
  Acos: unary("Acos"),
  Acosh: unary("Acosh"),
  Add: binary("Add"),
  AddN: addN,
  Asin: unary("Asin"),
  Asinh: unary("Asinh"),
  Atan: unary("Atan"),
  Atan2: atan2,
  Atanh: unary("Atanh"),
  Cast: (recorder, { x }, { dtype }) => cast(recorder, x, dtype),
  Ceil: unary("Ceil"),
  ClipByValue: (recorder, { x }, { clipValueMin, clipValueMax }) =>
    clip(recorder, x, clipValueMin, clipValueMax),
  Cos: unary("Cos"),
  Cosh: unary("Cosh"),
  Elu: unary("Elu"),
  EluGrad: eluGrad,
  Equal: comparison("Equal"),
  Erf: unary("Erf"),
  Exp: unary("Exp"),
  Expm1: expm1,
  Floor: unary("Floor"),
  FloorDiv: floorDivide,
  Greater: comparison("Greater"),
  GreaterEqual: comparison("GreaterOrEqual"),
  Identity: (_, { x }) => x,
  IsFinite: isFinite,
  IsInf: (recorder, { x }) => elementwise(recorder, "IsInf", [x], "bool"),
  IsNan: (recorder, { x }) => elementwise(recorder, "IsNaN", [x], "bool"),
  LeakyRelu: (recorder, { x }, { alpha }) => activation(recorder, "LeakyRelu", x, "leakyrelu", alpha),
  Less: comparison("Less"),
  LessEqual: comparison("LessOrEqual"),
  Log: unary("Log"),
  Log1p: log1p,
  LogicalAnd: comparison("And"),
  LogicalNot: (recorder, { x }) => elementwise(recorder, "Not", [x], "bool"),
  LogicalOr: comparison("Or"),
  Maximum: binary("Max"),
  Minimum: binary("Min"),
  Mod: modulo,
  Multiply: binary("Mul"),
  Neg: unary("Neg"),
  NotEqual: (recorder, { a, b }) =>
    elementwise(recorder, "Not", [elementwise(recorder, "Equal", [a, b], "bool")], "bool"),
  Pow: binary("Pow"),
  Prelu: (recorder, { x, alpha }) => {
    const zero = recorder.fill(0, [], x.dtype);
    const positive = elementwise(recorder, "GreaterOrEqual", [x, zero], "bool");
    return select(recorder, positive, x, elementwise(recorder, "Mul", [alpha, x]));
  },
  RealDiv: binary("Div"),
  Reciprocal: unary("Reciprocal"),
  Relu: unary("Relu"),
  Relu6: (recorder, { x }) => clip(recorder, x, 0, 6),
  Round: unary("Round"),
  Rsqrt: rsqrt,
  Select: (recorder, { condition, t, e }) => select(recorder, condition, t, e),
  Selu: (recorder, { x }) =>
    elementwise(recorder, "Selu", [x], x.dtype, {
      alpha: { float: SELU_ALPHA },
      gamma: { float: SELU_SCALE },
    }),
  Sigmoid: unary("Sigmoid"),
  Sign: sign,
  Sin: unary("Sin"),
  Sinh: unary("Sinh"),
  Softplus: unary("Softplus"),
  Sqrt: unary("Sqrt"),
  Square: (recorder, { x }) => elementwise(recorder, "Mul", [x, x]),
  SquaredDifference: (recorder, { a, b }) => {
    const difference = elementwise(recorder, "Sub", [a, b]);
    return elementwise(recorder, "Mul", [difference, difference]);
  },
  Step: step,
  Sub: binary("Sub"),
  Tan: unary("Tan"),
  Tanh: unary("Tanh"),
};
