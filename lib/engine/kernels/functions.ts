/**
 * Elementwise functions that ONNX has not, or has in a form that loses digits, made of those that it has.
 *
 * @module
 */
import { ELEMENT_TYPE } from "../onnx_model.ts";
import type { Kernel, Recorder, Traced } from "../recorder.ts";
import { broadcastShapes, elementwise, withNumber } from "./broadcasting.ts";
import { select } from "./elementwise.ts";

const compare = (recorder: Recorder, op: string, a: Traced, b: Traced | number): Traced =>
  elementwise(recorder, op, [a, typeof b === "number" ? recorder.fill(b, [], a.dtype) : b], "bool");

/**
 * int32, as in tfjs, and 0 where the quotient is none. In double precision, where integers are exact and division by
 * 0 no trap; through int64, so that −2³¹ / −1 wraps around.
 */
const floorDivide: Kernel = (recorder, { a, b }) => {
  const { graph } = recorder, shape = broadcastShapes(a.value.shape, b.value.shape);
  const spec = { shape, dtype: "float64" as const };
  const [dividend, divisor] = [a, b].map(({ value }) =>
    graph.node("Cast", [value], { shape: value.shape, dtype: "float64" }, { to: ELEMENT_TYPE.float64 })
  );
  const quotient = graph.node("Floor", [graph.node("Div", [dividend, divisor], spec)], spec);
  const isFinite = graph.node("Equal", [
    graph.node("Sub", [quotient, quotient], spec),
    graph.scalar(0, "float64"),
  ], {
    shape,
    dtype: "bool",
  });
  const finite = graph.node("Where", [isFinite, quotient, graph.scalar(0, "float64")], spec);
  const long = graph.node("Cast", [finite], { shape, dtype: "int64" }, { to: ELEMENT_TYPE.int64 });
  const value = graph.node("Cast", [long], { shape, dtype: "int32" }, { to: ELEMENT_TYPE.int32 });
  return { value, shape: broadcastShapes(a.shape, b.shape), dtype: "int32" };
};

/**
 * The remainder with the sign of the divisor; of integers 0 where the divisor is 0. *Differs* from tfjs, which adds the
 * divisor in double precision and divides again, where it is so large that this gives 0, and where it is infinite.
 */
const modulo: Kernel = (recorder, { a, b }) => {
  const divisor = a.dtype === "float32" ? b : withoutTraps(recorder, b);
  const logical = (op: string, ...xs: Traced[]) => elementwise(recorder, op, xs, "bool");
  const remainder = elementwise(recorder, "Mod", [a, divisor], a.dtype, { fmod: 1 });
  const signsDiffer = logical("Xor", compare(recorder, "Less", a, 0), compare(recorder, "Less", divisor, 0));
  const isMoved = logical("And", signsDiffer, logical("Not", compare(recorder, "Equal", remainder, 0)));
  return select(recorder, isMoved, elementwise(recorder, "Add", [remainder, divisor]), remainder);
};

/** Divisors 0, 1 and −1, of which the first and for −2³¹ the last stop the processor, as 1: the remainder is 0. */
function withoutTraps(recorder: Recorder, divisor: Traced): Traced {
  const isSmall = elementwise(
    recorder,
    "And",
    [compare(recorder, "Less", divisor, 2), compare(recorder, "Greater", divisor, -2)],
    "bool",
  );
  return select(recorder, isSmall, recorder.fill(1, [], "int32"), divisor);
}

/** exp(x) − 1 = 2 tanh(x / 2) / (1 − tanh(x / 2)) keeps its digits near zero, where the difference loses them. */
const expm1: Kernel = (recorder, { x }) => {
  const half = elementwise(recorder, "Tanh", [withNumber(recorder, "Mul", x, 0.5)]);
  const small = elementwise(recorder, "Div", [
    withNumber(recorder, "Mul", half, 2),
    elementwise(recorder, "Sub", [recorder.fill(1, [], "float32"), half]),
  ]);
  const plain = withNumber(recorder, "Sub", elementwise(recorder, "Exp", [x]), 1);
  const isSmall = compare(recorder, "Less", elementwise(recorder, "Abs", [x]), 0.5);
  return select(recorder, isSmall, small, plain);
};

/** log(1 + x) = x · log(u) / (u − 1) with u = 1 + x rounded (Kahan), and x where u is 1. */
const log1p: Kernel = (recorder, { x }) => {
  const u = withNumber(recorder, "Add", x, 1);
  const rounded = withNumber(recorder, "Sub", u, 1);
  const isOne = compare(recorder, "Equal", rounded, 0);
  const infinite = compare(recorder, "Equal", u, x);
  const logarithm = elementwise(recorder, "Log", [u]);
  const scaled = elementwise(recorder, "Mul", [logarithm, elementwise(recorder, "Div", [x, rounded])]);
  return select(recorder, isOne, x, select(recorder, infinite, logarithm, scaled));
};

/** The angle of (b, a): atan |a / b| in the first quadrant, mirrored into that of the signs, those of zeros included. */
const atan2: Kernel = (recorder, { a, b }) => {
  const number = (value: number) => recorder.fill(value, [], "float32");
  const [height, width] = [a, b].map((x) => elementwise(recorder, "Abs", [x]));
  // ∞ / ∞ is taken as 1 and 0 / 0 as 0.
  const equal = select(recorder, compare(recorder, "Equal", height, 0), number(0), number(1));
  const slope = select(
    recorder,
    compare(recorder, "Equal", height, width),
    equal,
    elementwise(recorder, "Div", [height, width]),
  );
  const acute = elementwise(recorder, "Atan", [slope]);
  const obtuse = elementwise(recorder, "Sub", [number(Math.PI), acute]);
  const upper = select(recorder, isNegative(recorder, b), obtuse, acute);
  return select(recorder, isNegative(recorder, a), elementwise(recorder, "Neg", [upper]), upper);
};

/** Whether a number or a zero has a minus sign. */
function isNegative(recorder: Recorder, x: Traced): Traced {
  const isZero = compare(recorder, "Equal", x, 0);
  return compare(recorder, "Less", select(recorder, isZero, elementwise(recorder, "Reciprocal", [x]), x), 0);
}

export const FUNCTION_KERNELS: Readonly<Record<string, Kernel>> = {
  Atan2: atan2,
  Expm1: expm1,
  FloorDiv: floorDivide,
  Log1p: log1p,
  Mod: modulo,
};
