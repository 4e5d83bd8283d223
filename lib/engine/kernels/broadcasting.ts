/**
 * Recording of elementwise operations: operands stay as small as they are and only the result's handle has the full
 * shape; operations with neutral constants disappear.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { type DType, sizeOf } from "novae/tensor/mod.ts";
import { constantScalar, type NodeAttribute, type Value } from "../graph.ts";
import { type Recorder, sameShape, type Traced } from "../recorder.ts";

/** The shape to which shapes broadcast together. */
export function broadcastShapes(...shapes: (readonly number[])[]): number[] {
  return shapes.reduce<number[]>(
    (left, right) => tf.broadcast_util.assertAndGetBroadcastShape([...left], [...right]),
    [],
  );
}

/** Records an elementwise operation on tensors that broadcast. */
export function elementwise(
  recorder: Recorder,
  op: string,
  operands: readonly Traced[],
  dtype: DType = operands[0].dtype,
  attributes: Record<string, NodeAttribute> = {},
): Traced {
  const shape = broadcastShapes(...operands.map((operand) => operand.shape));
  const folded = simplify(recorder, op, operands, dtype);
  if (folded) return { ...folded, shape };
  const values = operands.map((operand) => operand.value);
  const valueShape = broadcastShapes(...values.map((v) => v.shape));
  const flat = beforeReshape(recorder, values, valueShape);
  if (flat) {
    const value = recorder.graph.node(op, flat, {
      shape: broadcastShapes(...flat.map((v) => v.shape)),
      dtype,
    }, attributes);
    return { value: recorder.reshape(value, valueShape), shape, dtype };
  }
  return { value: recorder.graph.node(op, values, { shape: valueShape, dtype }, attributes), shape, dtype };
}

/**
 * The operands as they were before all full-sized ones were reshaped alike, or undefined. Working on those keeps
 * `x · W + b` in the two-dimensional form that ONNX Runtime joins into one operation, and lets reshapes cancel.
 */
function beforeReshape(
  recorder: Recorder,
  values: readonly Value[],
  shape: readonly number[],
): Value[] | undefined {
  const main = values.find((value) => value.producer?.op === "Reshape" && sameShape(value.shape, shape));
  const source = main?.producer?.inputs[0];
  if (!source) return undefined;
  const flat: Value[] = [];
  for (const value of values) {
    if (value.producer?.op === "Reshape" && sameShape(value.shape, shape)) {
      if (!sameShape(value.producer.inputs[0]!.shape, source.shape)) return undefined;
      flat.push(value.producer.inputs[0]!);
    } else if (sizeOf(value.shape) === 1) {
      flat.push(recorder.reshape(value, []));
    } else if (sizeOf(value.shape) === value.shape.at(-1) && source.shape.at(-1) === value.shape.at(-1)) {
      flat.push(recorder.reshape(value, value.shape.slice(-1)));
    } else return undefined;
  }
  return flat;
}

/** Records an elementwise operation with a number on its right. */
export function withNumber(recorder: Recorder, op: string, x: Traced, number: number): Traced {
  return elementwise(recorder, op, [x, recorder.fill(number, [], x.dtype)]);
}

/** Arithmetic on float32 constants, done while recording. */
const FOLD: Readonly<Record<string, (a: number, b: number) => number>> = {
  Add: (a, b) => a + b,
  Sub: (a, b) => a - b,
  Mul: (a, b) => a * b,
  Div: (a, b) => a / b,
  Neg: (a) => -a,
};
/** x ∘ n = x. */
const RIGHT_NEUTRAL: Readonly<Record<string, number>> = { Add: 0, Sub: 0, Mul: 1, Div: 1, Pow: 1 };
/** n ∘ x = x. */
const LEFT_NEUTRAL: Readonly<Record<string, number>> = { Add: 0, Mul: 1 };

function simplify(
  recorder: Recorder,
  op: string,
  operands: readonly Traced[],
  dtype: DType,
): Traced | undefined {
  if (dtype !== "float32" || operands.some((operand) => operand.dtype !== dtype)) return undefined;
  const [a, b] = operands;
  const left = constantScalar(a.value), right = b ? constantScalar(b.value) : undefined;
  if (FOLD[op] && operands.every((operand) => constantScalar(operand.value) !== undefined)) {
    return recorder.fill(Math.fround(FOLD[op](left!, right!)), [], dtype);
  }
  if (operands.length !== 2) return undefined;
  if (right !== undefined && right === RIGHT_NEUTRAL[op]) return a;
  if (left !== undefined && left === LEFT_NEUTRAL[op]) return b;
  // x / n costs several times x · (1 / n); exact where n is a power of two, else within one rounding.
  if (op === "Div" && right !== undefined && isPowerOfTwo(right)) {
    return elementwise(recorder, "Mul", [a, recorder.fill(1 / right, [], dtype)]);
  }
  if (op === "Mul") {
    const joined = joinFactors(recorder, a, b);
    if (joined) return joined;
  }
  if (op === "Pow" && right === 2) return elementwise(recorder, "Mul", [a, a]);
  return undefined;
}

/** Factors that neither overflow nor underflow when multiplied with one another first. */
const TAME = (factor: number): boolean => Math.abs(factor) > 1e-6 && Math.abs(factor) < 1e6;

/** (x · s) · c becomes x · (s · c) for a scalar s and a constant c: one pass over x instead of two. */
function joinFactors(recorder: Recorder, a: Traced, b: Traced): Traced | undefined {
  const [x, factor] = constantScalar(a.value) === undefined ? [a, b] : [b, a];
  const inner = x.value.producer;
  const constant = constantScalar(factor.value);
  if (constant === undefined || !TAME(constant) || inner?.op !== "Mul" || sizeOf(x.value.shape) === 1) {
    return undefined;
  }
  const scalar = inner.inputs.find((input) => sizeOf(input!.shape) === 1);
  const rest = inner.inputs.find((input) => input !== scalar);
  if (!scalar || !rest || !sameShape(rest.shape, x.value.shape)) return undefined;
  const known = constantScalar(scalar);
  if (known !== undefined && !TAME(known)) return undefined;
  const both = elementwise(recorder, "Mul", [
    { value: recorder.reshape(scalar, []), shape: [], dtype: x.dtype },
    { value: recorder.reshape(factor.value, []), shape: [], dtype: x.dtype },
  ]);
  return elementwise(recorder, "Mul", [{ value: rest, shape: x.shape, dtype: x.dtype }, both]);
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && Number.isInteger(Math.log2(value)) && Math.abs(Math.log2(value)) < 100;
}
