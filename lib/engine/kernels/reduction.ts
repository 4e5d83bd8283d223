/**
 * Reductions, arg-reductions, running sums, sorting and softmax.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { type DType, sizeOf } from "novae/tensor/mod.ts";
import type { Value } from "../graph.ts";
import { ELEMENT_TYPE } from "../onnx_model.ts";
import { type Kernel, type Recorder, type Traced, whole } from "../recorder.ts";
import { elementwise, withNumber } from "./broadcasting.ts";
import { cast } from "./elementwise.ts";

/** Reduces over axes. Axes along which the value is only broadcast are counted instead of read. */
export function reduce(
  recorder: Recorder,
  op: "ReduceSum" | "ReduceMean" | "ReduceMax" | "ReduceMin" | "ReduceProd",
  x: Traced,
  axes: readonly number[],
  keepDims: boolean,
): Traced {
  const kept = x.shape.map((extent, axis) => axes.includes(axis) ? 1 : extent);
  const shape = keepDims ? kept : x.shape.filter((_, axis) => !axes.includes(axis));
  let value = op === "ReduceProd" ? recorder.full(x) : recorder.aligned(x);
  const aligned = value.shape;
  const real = axes.filter((axis) => value.shape[axis] !== 1 || x.shape[axis] === 0);
  const repeats = sizeOf(axes.filter((axis) => !real.includes(axis)).map((axis) => x.shape[axis]));
  if (real.length > 0) value = reduceValue(recorder, op, value, real);
  if (op === "ReduceSum" && repeats > 1) {
    value = withNumber(recorder, "Mul", { value, shape: value.shape, dtype: x.dtype }, repeats).value;
  }
  const extents = aligned.map((extent, axis) => axes.includes(axis) ? 1 : extent);
  // Extents of 1 that only stand for a reduced or broadcast axis can be dropped with it.
  const squeezed = extents.filter((_, axis) => keepDims || !axes.includes(axis));
  return { value: recorder.reshape(value, squeezed), shape, dtype: x.dtype };
}

function reduceValue(recorder: Recorder, op: string, value: Value, axes: readonly number[]): Value {
  const rows = value.producer?.op === "Reshape" ? value.producer.inputs[0]! : value;
  const allButLast = axes.length === value.shape.length - 1 && !axes.includes(axes.length);
  if (allButLast && rows.shape.length === 2 && rows.shape[1] === value.shape.at(-1) && rows !== value) {
    return reduceValue(recorder, op, rows, [0]);
  }
  const shape = value.shape.map((extent, axis) => axes.includes(axis) ? 1 : extent);
  if (op === "ReduceSum" && sumsManyRows(recorder, value, axes)) {
    const columns = sizeOf(shape), rows = sizeOf(value.shape) / columns;
    const ones = recorder.graph.constant(new Float32Array(rows).fill(1), [1, rows], "float32");
    const matrix = recorder.reshape(value, [rows, columns]);
    const spec = { shape: [1, columns], dtype: "float32" as const };
    return recorder.reshape(recorder.graph.node("MatMul", [ones, matrix], spec), shape);
  }
  return recorder.graph.node(op, [value, recorder.graph.ints(axes)], { shape, dtype: value.dtype }, {
    keepdims: 1,
  });
}

/**
 * Whether a sum is over many rows of a matrix, as in the gradient of a bias: as a product with a row of ones it is two
 * to four times as fast on ONNX Runtime's CPU.
 */
function sumsManyRows(recorder: Recorder, { shape, dtype }: Value, axes: readonly number[]): boolean {
  if (!recorder.target.cpuOperators || dtype !== "float32") return false;
  const long = shape.flatMap((extent, axis) => extent === 1 ? [] : [axes.includes(axis)]);
  if (long.indexOf(false) < long.lastIndexOf(true) || sizeOf(shape) === 0) return false;
  const rows = sizeOf(shape.filter((_, axis) => axes.includes(axis)));
  return rows >= 64 && sizeOf(shape) / rows >= 16;
}

type Attrs = { axis?: number | number[]; reductionIndices?: number | number[]; keepDims?: boolean };

/** Without axes all are reduced, with an empty list none. */
const axesOf = ({ axis, reductionIndices }: Attrs, x: Traced): number[] =>
  tf.util.parseAxisParam((axis ?? reductionIndices) as number[], [...x.shape]);

/** Truth values add and multiply as whole numbers. */
const reduction = (op: "ReduceSum" | "ReduceProd"): Kernel => (recorder, { x }, attrs: Attrs) => {
  const numbers = x.dtype === "bool" ? cast(recorder, x, "int32") : x;
  return reduce(recorder, op, numbers, axesOf(attrs, x), !!attrs.keepDims);
};

/** The extreme of truth values is one. */
const extreme = (op: "ReduceMin" | "ReduceMax"): Kernel => (recorder, { x }, attrs: Attrs) => {
  const numbers = x.dtype === "bool" ? cast(recorder, x, "int32") : x;
  return cast(recorder, reduce(recorder, op, numbers, axesOf(attrs, x), !!attrs.keepDims), x.dtype);
};

const argReduction = (op: "ArgMax" | "ArgMin"): Kernel => (recorder, { x }, attrs: Attrs) => {
  const [axis] = axesOf(attrs, x);
  const shape = x.shape.filter((_, i) => i !== axis);
  const index = recorder.graph.node(op, [recorder.full(x)], { shape, dtype: "int64" }, { axis, keepdims: 0 });
  return whole(toInt32(recorder, index));
};

/** tfjs indices are int32, ONNX's int64. */
export function toInt32(recorder: Recorder, index: Value): Value {
  return recorder.graph.node("Cast", [index], { shape: index.shape, dtype: "int32" }, {
    to: ELEMENT_TYPE.int32,
  });
}

/** Softmax or its logarithm along the last axis. */
const softmax = (op: "Softmax" | "LogSoftmax"): Kernel => (recorder, { logits }) => {
  const spec = { shape: logits.shape, dtype: "float32" as const };
  return whole(recorder.graph.node(op, [recorder.full(logits)], spec, { axis: logits.shape.length - 1 }));
};

const cumsum: Kernel = (recorder, { x }, { axis, exclusive, reverse }) => {
  const direction = { exclusive: Number(exclusive), reverse: Number(reverse) };
  const axisValue = recorder.graph.scalar(axis < 0 ? axis + x.shape.length : axis, "int64");
  const spec = { shape: x.shape, dtype: x.dtype };
  return whole(recorder.graph.node("CumSum", [recorder.full(x), axisValue], spec, direction));
};

/** Running products by doubling: after step k each element is the product of the last 2^k before it. */
const cumprod: Kernel = (recorder, { x }, { axis, exclusive, reverse }) => {
  const along = axis < 0 ? axis + x.shape.length : axis, extent = x.shape[along];
  const shift = (value: Value, by: number) => shiftIn(recorder, value, along, by, reverse);
  let value = exclusive ? shift(recorder.full(x), 1) : recorder.full(x);
  for (let by = 1; by < extent; by *= 2) {
    value = elementwise(recorder, "Mul", [whole(value), whole(shift(value, by))]).value;
  }
  return whole(value);
};

/** Moves elements along an axis (backwards if `reverse`) and fills with ones. */
function shiftIn(recorder: Recorder, value: Value, axis: number, by: number, reverse: boolean): Value {
  const { graph } = recorder;
  const before = value.shape.map((_, i) => i === axis && !reverse ? by : 0);
  const after = value.shape.map((_, i) => i === axis && reverse ? by : 0);
  const shape = value.shape.map((extent, i) => extent + before[i] + after[i]);
  const pads = [value, graph.ints([...before, ...after]), graph.scalar(1, value.dtype as DType)];
  const padded = graph.node("Pad", pads, { shape, dtype: value.dtype });
  const start = reverse ? by : 0;
  const box = [graph.ints([start]), graph.ints([start + value.shape[axis]]), graph.ints([axis])];
  return graph.node("Slice", [padded, ...box], { shape: value.shape, dtype: value.dtype });
}

const topK: Kernel = (recorder, { x }, { k, sorted }) => {
  const shape = [...x.shape.slice(0, -1), k];
  const specs = [{ shape, dtype: x.dtype }, { shape, dtype: "int64" as const }];
  const [values, indices] = recorder.graph.multiNode(
    "TopK",
    [recorder.full(x), recorder.graph.ints([k])],
    specs,
    { axis: x.shape.length - 1, largest: 1, sorted: Number(sorted) },
  );
  return [whole(values), whole(toInt32(recorder, indices))];
};

const mean: Kernel = (recorder, { x }, attrs: Attrs) =>
  reduce(recorder, "ReduceMean", cast(recorder, x, "float32" as DType), axesOf(attrs, x), !!attrs.keepDims);

/** Sums rows of x by segment: one-hot(segmentIds)ᵀ · x, the same order of addition on every run. */
const unsortedSegmentSum: Kernel = (recorder, { x, segmentIds }, { numSegments }) => {
  const { graph } = recorder;
  const count = segmentIds.shape[0], tail = x.shape.slice(1), width = sizeOf(tail);
  const ids = recorder.reshape(recorder.full(segmentIds), [1, count]);
  const segments = graph.constant(Int32Array.from({ length: numSegments }, (_, i) => i), [
    numSegments,
    1,
  ], "int32");
  const oneHot = cast(
    recorder,
    elementwise(recorder, "Equal", [whole(segments), whole(ids)], "bool"),
    "float32",
  );
  const rows = recorder.reshape(recorder.full(cast(recorder, x, "float32")), [count, width]);
  const sums = graph.node("MatMul", [oneHot.value, rows], { shape: [numSegments, width], dtype: "float32" });
  return cast(recorder, whole(recorder.reshape(sums, [numSegments, ...tail])), x.dtype);
};

export const REDUCTION_KERNELS: Readonly<Record<string, Kernel>> = {
  All: extreme("ReduceMin"),
  Any: extreme("ReduceMax"),
  ArgMax: argReduction("ArgMax"),
  ArgMin: argReduction("ArgMin"),
  Cumprod: cumprod,
  Cumsum: cumsum,
  LogSoftmax: softmax("LogSoftmax"),
  Max: extreme("ReduceMax"),
  Mean: mean,
  Min: extreme("ReduceMin"),
  Prod: reduction("ReduceProd"),
  Softmax: softmax("Softmax"),
  Sum: reduction("ReduceSum"),
  TopK: topK,
  UnsortedSegmentSum: unsortedSegmentSum,
};
