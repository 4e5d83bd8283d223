/**
 * Kernels that make tensors from numbers.
 *
 * @module
 */
import { type Kernel, whole } from "../recorder.ts";
import { elementwise } from "./broadcasting.ts";
import { cast, select } from "./elementwise.ts";

const range: Kernel = (recorder, _, { start, stop, step, dtype = "float32" }) => {
  const count = Math.max(0, Math.ceil((stop - start) / step));
  const values = Array.from({ length: count }, (_, i) => start + i * step);
  const data = dtype === "int32" ? Int32Array.from(values) : Float32Array.from(values);
  return whole(recorder.graph.constant(data, [count], dtype));
};

const linSpace: Kernel = (recorder, _, { start, stop, num }) => {
  const step = (stop - start) / Math.max(num - 1, 1);
  const data = Float32Array.from({ length: num }, (_, i) => start + i * step);
  return whole(recorder.graph.constant(data, [num], "float32"));
};

/** Compares with 0 … depth − 1, so that an index out of range gives a row of `offValue`, as in tfjs. */
const oneHot: Kernel = (recorder, { indices }, { depth, onValue, offValue, dtype = "float32" }) => {
  const column = recorder.reshape(recorder.full(indices), [...indices.shape, 1]);
  const classes = recorder.graph.constant(Int32Array.from({ length: depth }, (_, i) => i), [depth], "int32");
  const hit = elementwise(recorder, "Equal", [whole(column), whole(classes)], "bool");
  if (onValue === 1 && offValue === 0) return cast(recorder, hit, dtype);
  return select(recorder, hit, recorder.fill(onValue, [], dtype), recorder.fill(offValue, [], dtype));
};

export const CREATION_KERNELS: Readonly<Record<string, Kernel>> = {
  Fill: (recorder, _, { shape, value, dtype }) => recorder.fill(value, [...shape], dtype ?? "float32"),
  LinSpace: linSpace,
  OneHot: oneHot,
  OnesLike: (recorder, { x }) => recorder.fill(1, x.shape, x.dtype),
  Range: range,
  ZerosLike: (recorder, { x }) => recorder.fill(0, x.shape, x.dtype),
};
