/**
 * Elementwise kernels: arithmetic, functions, comparisons, logic, activations.
 *
 * @module
 */
import type { DType } from "novae/tensor/mod.ts";
import { ELEMENT_TYPE } from "../onnx_model.ts";
import { cannotCompile, type Kernel, type Recorder, type Traced } from "../recorder.ts";
import { elementwise, withNumber } from "./broadcasting.ts";

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
  return elementwise(recorder, "Cast", [x], dtype, { to: ELEMENT_TYPE[dtype] });
}

/** Refuses truth values, with which tfjs computes as if they were bytes. */
const binary = (kernel: string, op = kernel): Kernel => (recorder, { a, b }) => {
  if (a.dtype === "bool") {
    throw cannotCompile(kernel, "operands must be float32 or int32, got bool; cast them");
  }
  return elementwise(recorder, op, [a, b]);
};

/** A function of float32; tfjs would round the results for int32 to whole numbers. */
const unary = (op: string): Kernel => (recorder, { x }) => {
  if (x.dtype !== "float32") throw cannotCompile(op, `x must be float32, got ${x.dtype}; cast it`);
  return elementwise(recorder, op, [x]);
};

/** A function of float32 or int32. */
const numeric = (op: string): Kernel => (recorder, { x }) => elementwise(recorder, op, [x]);

const comparison = (op: string): Kernel => (recorder, { a, b }) => elementwise(recorder, op, [a, b], "bool");

/** ONNX has no order of truth values. */
const order = (op: string): Kernel => (recorder, { a, b }) => {
  const number = (x: Traced) => x.dtype === "bool" ? cast(recorder, x, "int32") : x;
  return elementwise(recorder, op, [number(a), number(b)], "bool");
};

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

/** Chooses by condition; ONNX Runtime has no choice between truth values. */
export function select(recorder: Recorder, condition: Traced, yes: Traced, no: Traced): Traced {
  if (yes.dtype !== no.dtype) {
    throw cannotCompile(
      "Select",
      `both choices must be of one type, got ${yes.dtype} and ${no.dtype}; cast one`,
    );
  }
  if (yes.dtype !== "bool") return elementwise(recorder, "Where", [condition, yes, no], yes.dtype);
  const number = (x: Traced) => cast(recorder, x, "int32");
  return cast(recorder, select(recorder, condition, number(yes), number(no)), "bool");
}

/** 1 where x > 0, else alpha; NaN stays. */
const step: Kernel = (recorder, { x }, { alpha = 0 }) => {
  if (alpha === 0) return elementwise(recorder, "Relu", [elementwise(recorder, "Sign", [x])]);
  const positive = elementwise(recorder, "Greater", [x, recorder.fill(0, [], x.dtype)], "bool");
  const stepped = select(
    recorder,
    positive,
    recorder.fill(1, [], x.dtype),
    recorder.fill(alpha, [], x.dtype),
  );
  if (x.dtype !== "float32") return stepped;
  return select(recorder, elementwise(recorder, "IsNaN", [x], "bool"), x, stepped);
};

const rsqrt: Kernel = (recorder, { x }) =>
  elementwise(recorder, "Reciprocal", [elementwise(recorder, "Sqrt", [x])]);

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
  Abs: numeric("Abs"),
  Acos: unary("Acos"),
  Acosh: unary("Acosh"),
  Add: binary("Add"),
  AddN: addN,
  Asin: unary("Asin"),
  Asinh: unary("Asinh"),
  Atan: unary("Atan"),
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
  Floor: unary("Floor"),
  Greater: order("Greater"),
  GreaterEqual: order("GreaterOrEqual"),
  Identity: (_, { x }) => x,
  IsFinite: isFinite,
  IsInf: (recorder, { x }) => elementwise(recorder, "IsInf", [x], "bool"),
  IsNan: (recorder, { x }) => elementwise(recorder, "IsNaN", [x], "bool"),
  LeakyRelu: (recorder, { x }, { alpha }) => activation(recorder, "LeakyRelu", x, "leakyrelu", alpha),
  Less: order("Less"),
  LessEqual: order("LessOrEqual"),
  Log: unary("Log"),
  LogicalAnd: comparison("And"),
  LogicalNot: (recorder, { x }) => elementwise(recorder, "Not", [x], "bool"),
  LogicalOr: comparison("Or"),
  Maximum: binary("Maximum", "Max"),
  Minimum: binary("Minimum", "Min"),
  Multiply: binary("Multiply", "Mul"),
  Neg: numeric("Neg"),
  NotEqual: (recorder, { a, b }) =>
    elementwise(recorder, "Not", [elementwise(recorder, "Equal", [a, b], "bool")], "bool"),
  Pow: binary("Pow"),
  Prelu: (recorder, { x, alpha }) => {
    const zero = recorder.fill(0, [], x.dtype);
    const positive = elementwise(recorder, "GreaterOrEqual", [x, zero], "bool");
    return select(recorder, positive, x, elementwise(recorder, "Mul", [alpha, x]));
  },
  RealDiv: binary("RealDiv", "Div"),
  Reciprocal: unary("Reciprocal"),
  Relu: numeric("Relu"),
  Relu6: (recorder, { x }) => clip(recorder, x, 0, 6),
  Round: (recorder, { x }) => x.dtype === "float32" ? elementwise(recorder, "Round", [x]) : x,
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
