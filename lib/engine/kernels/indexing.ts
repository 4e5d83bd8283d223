/**
 * Gathering and scattering.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { sizeOf } from "novae/tensor/mod.ts";
import type { Value } from "../graph.ts";
import { ELEMENT_TYPE } from "../onnx_model.ts";
import { cannotCompile, type Kernel, type Recorder, type Traced, whole } from "../recorder.ts";
import { elementwise } from "./broadcasting.ts";
import { cast } from "./elementwise.ts";

const gather: Kernel = (recorder, { x, indices }, { axis, batchDims = 0 }) => {
  const along = tf.util.parseAxisParam(axis, [...x.shape])[0];
  const ids = cast(recorder, indices, "int32");
  if (batchDims === 0) return whole(gatherAlong(recorder, recorder.full(x), recorder.full(ids), along));
  return batchedGather(recorder, x, ids, along, batchDims);
};

function gatherAlong(recorder: Recorder, value: Value, indices: Value, axis: number): Value {
  const shape = [...value.shape.slice(0, axis), ...indices.shape, ...value.shape.slice(axis + 1)];
  return recorder.graph.node("Gather", [value, indices], { shape, dtype: value.dtype }, { axis });
}

/** Folds the batch axes into the gathered one: row b's index i becomes b · extent + i. */
function batchedGather(
  recorder: Recorder,
  x: Traced,
  indices: Traced,
  axis: number,
  batchDims: number,
): Traced {
  const batch = x.shape.slice(0, batchDims), outer = x.shape.slice(batchDims, axis);
  const extent = x.shape[axis], inner = x.shape.slice(axis + 1);
  const rows = sizeOf(batch), outerSize = sizeOf(outer), innerSize = sizeOf(inner);
  const picked = indices.shape.slice(batchDims), count = sizeOf(picked);
  const value = recorder.reshape(recorder.full(x), [rows, outerSize, extent, innerSize]);
  const table = recorder.reshape(recorder.transpose(value, [0, 2, 1, 3]), [
    rows * extent,
    outerSize,
    innerSize,
  ]);
  const offsets = Int32Array.from({ length: rows }, (_, row) => row * extent);
  const offset = whole(recorder.graph.constant(offsets, [rows, 1], "int32"));
  const flat = whole(recorder.reshape(recorder.full(indices), [rows, count]));
  const taken = gatherAlong(recorder, table, elementwise(recorder, "Add", [flat, offset]).value, 0);
  const ordered = recorder.transpose(taken, [0, 2, 1, 3]);
  return whole(recorder.reshape(ordered, [...batch, ...outer, ...picked, ...inner]));
}

const gatherNd: Kernel = (recorder, { params, indices }) => {
  const depth = indices.shape.at(-1)!;
  if (depth > params.shape.length) {
    throw cannotCompile("GatherNd", `indices must have at most ${params.shape.length} numbers, got ${depth}`);
  }
  const shape = [...indices.shape.slice(0, -1), ...params.shape.slice(depth)];
  const ids = toInt64(recorder, recorder.full(indices));
  return whole(recorder.graph.node("GatherND", [recorder.full(params), ids], { shape, dtype: params.dtype }));
};

/** Adds updates at indices of zeros; ScatterElements adds duplicates one after the other, in a fixed order. */
const scatterNd: Kernel = (recorder, { indices, updates }, { shape }) => {
  const { graph } = recorder;
  const depth = indices.shape.at(-1)!, inner = (shape as number[]).slice(depth);
  const width = sizeOf(inner), rows = sizeOf((shape as number[]).slice(0, depth));
  const count = sizeOf(indices.shape.slice(0, -1));
  const strides = Array.from({ length: depth }, (_, i) => sizeOf((shape as number[]).slice(i + 1, depth)));
  const factor = whole(graph.constant(Int32Array.from(strides), [depth], "int32"));
  const ids = whole(recorder.reshape(recorder.full(indices), [count, depth]));
  const flat = graph.node(
    "ReduceSum",
    [elementwise(recorder, "Mul", [ids, factor]).value, graph.ints([1])],
    { shape: [count, 1], dtype: "int32" },
    { keepdims: 1 },
  );
  const index = toInt64(recorder, recorder.full({ value: flat, shape: [count, width], dtype: "int32" }));
  const zeros = recorder.full(recorder.fill(0, [rows, width], updates.dtype));
  const spec = { shape: [rows, width], dtype: updates.dtype };
  const source = recorder.reshape(recorder.full(updates), [count, width]);
  const sums = graph.node("ScatterElements", [zeros, index, source], spec, { axis: 0, reduction: "add" });
  return whole(recorder.reshape(sums, shape));
};

/** Overwrites what the indices name; with equal indices the last one stays on the CPU, as in tfjs. */
const tensorScatterUpdate: Kernel = (recorder, { tensor, indices, updates }) => {
  const ids = toInt64(recorder, recorder.full(indices));
  const inputs = [recorder.full(tensor), ids, recorder.full(updates)];
  return whole(recorder.graph.node("ScatterND", inputs, { shape: tensor.shape, dtype: tensor.dtype }));
};

function toInt64(recorder: Recorder, value: Value): Value {
  return recorder.graph.node("Cast", [value], { shape: value.shape, dtype: "int64" }, {
    to: ELEMENT_TYPE.int64,
  });
}

export const INDEXING_KERNELS: Readonly<Record<string, Kernel>> = {
  GatherNd: gatherNd,
  GatherV2: gather,
  ScatterNd: scatterNd,
  TensorScatterUpdate: tensorScatterUpdate,
};
