/**
 * Kernels that change the shape or the order of elements and compute nothing.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { type DType, sizeOf } from "novae/tensor/mod.ts";
import { typedArray, type Value } from "../graph.ts";
import { cannotCompile, type Kernel, type Recorder, sameShape, type Traced, whole } from "../recorder.ts";
import { rejoined, splitValue } from "./pieces.ts";

/** Reads up to the end when stepping backwards. */
const BEFORE_START = -(2 ** 31);

/** Changes the shape; stays broadcast where only axes of extent 1 come or go. */
export function reshapeTraced(recorder: Recorder, x: Traced, shape: readonly number[]): Traced {
  if (sameShape(x.shape, shape)) return x;
  if (sizeOf(x.value.shape) === 1) return { ...x, value: recorder.reshape(x.value, []), shape };
  const real = (s: readonly number[]) => s.filter((extent) => extent !== 1);
  if (sizeOf(x.value.shape) === sizeOf(x.shape) || !sameShape(real(x.shape), real(shape))) {
    return { ...x, value: recorder.reshape(recorder.full(x), shape), shape };
  }
  const extents = recorder.aligned(x).shape.filter((_, axis) => x.shape[axis] !== 1);
  let next = 0;
  const valueShape = shape.map((extent) => extent === 1 ? 1 : extents[next++]);
  return { ...x, value: recorder.reshape(x.value, valueShape), shape };
}

const reshape: Kernel = (recorder, { x }, { shape }) =>
  reshapeTraced(recorder, x, tf.util.inferFromImplicitShape(shape, sizeOf(x.shape)));

const expandDims: Kernel = (recorder, { input }, { dim }) => {
  const shape = [...input.shape];
  shape.splice(dim < 0 ? dim + shape.length + 1 : dim, 0, 1);
  return reshapeTraced(recorder, input, shape);
};

const transpose: Kernel = (recorder, { x }, { perm }) => ({
  value: recorder.transpose(recorder.aligned(x), perm),
  shape: (perm as number[]).map((axis) => x.shape[axis]),
  dtype: x.dtype,
});

const split: Kernel = (recorder, { x }, { numOrSizeSplits, axis }) => {
  const along = tf.util.parseAxisParam(axis, [...x.shape])[0];
  const sizes = tf.backend_util.prepareSplitSize(
    { shape: [...x.shape], dtype: x.dtype } as tf.Tensor,
    numOrSizeSplits,
    along,
  );
  return splitValue(recorder, recorder.full(x), sizes, along).map(whole);
};

const unpack: Kernel = (recorder, { value }, { axis }) => {
  const along = axis < 0 ? axis + value.shape.length : axis;
  const shape = value.shape.filter((_, i) => i !== along);
  return splitValue(recorder, recorder.full(value), Array(value.shape[along]).fill(1), along)
    .map((part) => whole(recorder.reshape(part, shape)));
};

/** Joins values along an axis; parts without elements are left out. */
export function concatValues(recorder: Recorder, values: readonly Value[], axis: number): Value {
  const { dtype } = values[0], shape = [...values[0].shape];
  shape[axis] = values.reduce((sum, value) => sum + value.shape[axis], 0);
  const parts = rejoined(values.filter((value) => sizeOf(value.shape) > 0), axis);
  if (parts.length === 0) return recorder.graph.constant(typedArray(dtype as DType, []), shape, dtype);
  if (parts.length === 1) return parts[0];
  return recorder.graph.node("Concat", parts, { shape, dtype }, { axis });
}

/** Refuses tensors that differ in element type or in an extent, save along `free`. */
function checkAlike(kernel: string, tensors: readonly Traced[], free = -1): void {
  const form = ({ dtype, shape }: Traced) =>
    `${dtype}[${shape.map((extent, i) => i === free ? "*" : extent)}]`;
  const forms = [...new Set(tensors.map(form))];
  if (forms.length > 1) {
    throw cannotCompile(kernel, `tensors must be of one form, got ${forms[0]} and ${forms[1]}`);
  }
}

const concat: Kernel = (recorder, inputs, { axis }) => {
  const tensors = Object.values(inputs);
  const along = tf.util.parseAxisParam(axis, [...tensors[0].shape])[0];
  checkAlike("Concat", tensors, along);
  return whole(concatValues(recorder, tensors.map((x) => recorder.full(x)), along));
};

const pack: Kernel = (recorder, inputs, { axis }) => {
  const tensors = Object.values(inputs);
  checkAlike("Pack", tensors);
  const shape = [...tensors[0].shape];
  const along = axis < 0 ? axis + shape.length + 1 : axis;
  shape.splice(along, 0, 1);
  return whole(
    concatValues(recorder, tensors.map((x) => recorder.reshape(recorder.full(x), shape)), along),
  );
};

/** Takes a strided box; axes along which the value is only broadcast are not read. */
export function sliceTraced(
  recorder: Recorder,
  x: Traced,
  begin: readonly number[],
  end: readonly number[],
  steps: readonly number[],
  shape: readonly number[],
): Traced {
  if (sizeOf(x.value.shape) === 1) return { ...x, shape };
  const value = recorder.aligned(x);
  const axes = value.shape.map((_, axis) => axis)
    .filter((axis) => value.shape[axis] !== 1 && (shape[axis] !== x.shape[axis] || steps[axis] < 0));
  if (axes.length === 0) return { ...x, value, shape };
  const late = axes.some((axis) => steps[axis] < 0 && begin[axis] !== x.shape[axis] - 1);
  if (late && !recorder.target.cpuOperators) return sliceFromEnd(recorder, x, begin, end, steps, shape);
  const { graph } = recorder;
  const pick = (list: readonly number[]) => graph.ints(axes.map((axis) => list[axis]));
  const valueShape = value.shape.map((extent, axis) => axes.includes(axis) ? shape[axis] : extent);
  const inputs = [value, pick(begin), pick(end), graph.ints(axes), pick(steps)];
  return { ...x, value: graph.node("Slice", inputs, { shape: valueShape, dtype: value.dtype }), shape };
}

/** The WebGPU provider of ONNX Runtime 1.30 starts every backward slice at the last element, so cut there first. */
function sliceFromEnd(
  recorder: Recorder,
  x: Traced,
  begin: readonly number[],
  end: readonly number[],
  steps: readonly number[],
  shape: readonly number[],
): Traced {
  const cut = begin.map((start, axis) => steps[axis] < 0 ? start + 1 : x.shape[axis]);
  const zeros = begin.map(() => 0), ones = begin.map(() => 1);
  return sliceTraced(recorder, sliceTraced(recorder, x, zeros, cut, ones, cut), begin, end, steps, shape);
}

const slice: Kernel = (recorder, { x }, { begin, size }) => {
  const like = { shape: [...x.shape], rank: x.shape.length } as tf.Tensor;
  const [start, extent] = tf.slice_util.parseSliceParams(like, begin, size);
  tf.slice_util.assertParamsValid(like, start, extent);
  const ones = Array(x.shape.length).fill(1);
  return sliceTraced(recorder, x, start, start.map((s, i) => s + extent[i]), ones, extent);
};

const stridedSlice: Kernel = (recorder, { x }, attrs) => {
  const { begin, end, strides, finalShape, isIdentity } = tf.slice_util.sliceInfo(
    [...x.shape],
    attrs.begin,
    attrs.end,
    attrs.strides,
    attrs.beginMask,
    attrs.endMask,
    attrs.ellipsisMask,
    attrs.newAxisMask,
    attrs.shrinkAxisMask,
  );
  if (isIdentity) return reshapeTraced(recorder, x, finalShape);
  const shape = tf.slice_util.computeOutShape(begin, end, strides);
  const stop = end.map((e, i) => strides[i] < 0 && e < 0 ? BEFORE_START : e);
  return reshapeTraced(recorder, sliceTraced(recorder, x, begin, stop, strides, shape), finalShape);
};

const reverse: Kernel = (recorder, { x }, { dims }) => {
  const axes = tf.util.parseAxisParam(dims, [...x.shape]);
  const flip = <T>(yes: T[], no: T) => x.shape.map((_, axis) => axes.includes(axis) ? yes[axis] : no);
  return sliceTraced(
    recorder,
    x,
    flip(x.shape.map((extent) => extent - 1), 0),
    x.shape.map((extent, axis) => axes.includes(axis) ? BEFORE_START : extent),
    flip(x.shape.map(() => -1), 1),
    x.shape,
  );
};

const pad: Kernel = (recorder, { x }, { paddings, constantValue }) => {
  const pairs = paddings as [number, number][];
  if (pairs.every(([before, after]) => before === 0 && after === 0)) return x;
  const shape = x.shape.map((extent, axis) => extent + pairs[axis][0] + pairs[axis][1]);
  const pads = recorder.graph.ints([...pairs.map((p) => p[0]), ...pairs.map((p) => p[1])]);
  const inputs = [recorder.full(x), pads, recorder.graph.scalar(constantValue, x.dtype)];
  return whole(recorder.graph.node("Pad", inputs, { shape, dtype: x.dtype }));
};

/** Mirrored indices are gathered axis by axis: ONNX's Pad has no mode that repeats the edge. */
const mirrorPad: Kernel = (recorder, { x }, { paddings, mode }) => {
  const skip = mode === "reflect" ? 1 : 0;
  let value = recorder.full(x);
  (paddings as [number, number][]).forEach(([before, after], axis) => {
    if (before === 0 && after === 0) return;
    const extent = value.shape[axis];
    const indices = [
      ...Array.from({ length: before }, (_, i) => before - 1 - i + skip),
      ...Array.from({ length: extent }, (_, i) => i),
      ...Array.from({ length: after }, (_, i) => extent - 1 - i - skip),
    ];
    const shape = value.shape.map((e, i) => i === axis ? indices.length : e);
    value = recorder.graph.node("Gather", [value, recorder.graph.ints(indices)], { shape, dtype: x.dtype }, {
      axis,
    });
  });
  return whole(value);
};

/** Repeats of an axis of extent 1 are only a broadcast. */
const tile: Kernel = (recorder, { x }, { reps }) => {
  const shape = x.shape.map((extent, axis) => extent * reps[axis]);
  const copied = x.shape.map((extent, axis) => extent !== 1 && reps[axis] !== 1);
  if (!copied.includes(true)) return { ...x, shape };
  const value = recorder.full(x);
  const real = copied.map((copy, axis) => copy ? reps[axis] : 1);
  const spec = { shape: value.shape.map((extent, axis) => extent * real[axis]), dtype: x.dtype };
  return {
    value: recorder.graph.node("Tile", [value, recorder.graph.ints(real)], spec),
    shape,
    dtype: x.dtype,
  };
};

const depthToSpace: Kernel = (recorder, { x }, { blockSize, dataFormat }) => {
  if (dataFormat !== "NHWC") {
    throw cannotCompile("DepthToSpace", `dataFormat must be NHWC, got ${dataFormat}`);
  }
  const [batch, height, width, channels] = x.shape;
  const depth = channels / blockSize ** 2;
  const blocks = recorder.reshape(recorder.full(x), [batch, height, width, blockSize, blockSize, depth]);
  const ordered = recorder.transpose(blocks, [0, 1, 3, 2, 4, 5]);
  return whole(recorder.reshape(ordered, [batch, height * blockSize, width * blockSize, depth]));
};

/** Pads the spatial axes and moves blocks of them into the batch, first block index slowest. */
const spaceToBatch: Kernel = (recorder, { x }, { blockShape, paddings }) => {
  const blocks = blockShape as number[], pairs = paddings as [number, number][];
  const rest = x.shape.slice(1 + blocks.length).map(() => [0, 0]);
  const padded = pad(recorder, { x }, { paddings: [[0, 0], ...pairs, ...rest], constantValue: 0 }) as Traced;
  const [batch, ...extents] = padded.shape;
  const spatial = blocks.map((block, i) => extents[i] / block), inner = extents.slice(blocks.length);
  const split = recorder.reshape(
    recorder.full(padded),
    [batch, ...spatial.flatMap((extent, i) => [extent, blocks[i]]), ...inner],
  );
  const axes = blocks.map((_, i) => 1 + 2 * i);
  const order = [...axes.map((axis) => axis + 1), 0, ...axes];
  const moved = recorder.transpose(split, [...order, ...inner.map((_, i) => order.length + i)]);
  return whole(recorder.reshape(moved, [batch * sizeOf(blocks), ...spatial, ...inner]));
};

/** The inverse of `spaceToBatch`: blocks come back from the batch, then the edges are cut. */
const batchToSpace: Kernel = (recorder, { x }, { blockShape, crops }) => {
  const blocks = blockShape as number[], pairs = crops as [number, number][], count = blocks.length;
  const [all, ...extents] = x.shape, batch = all / sizeOf(blocks);
  const split = recorder.reshape(recorder.full(x), [...blocks, batch, ...extents]);
  const order = [count, ...blocks.flatMap((_, i) => [count + 1 + i, i])];
  const inner = extents.slice(count);
  const moved = recorder.transpose(split, [...order, ...inner.map((_, i) => order.length + i)]);
  const grown = extents.map((extent, i) => i < count ? extent * blocks[i] : extent);
  const joined = whole(recorder.reshape(moved, [batch, ...grown]));
  const begin = [0, ...grown.map((_, i) => i < count ? pairs[i][0] : 0)];
  const end = [batch, ...grown.map((extent, i) => i < count ? extent - pairs[i][1] : extent)];
  return sliceTraced(recorder, joined, begin, end, begin.map(() => 1), end.map((e, i) => e - begin[i]));
};

export const SHAPE_KERNELS: Readonly<Record<string, Kernel>> = {
  BatchToSpaceND: batchToSpace,
  Concat: concat,
  DepthToSpace: depthToSpace,
  ExpandDims: expandDims,
  MirrorPad: mirrorPad,
  Pack: pack,
  PadV2: pad,
  Reshape: reshape,
  Reverse: reverse,
  Slice: slice,
  SpaceToBatchND: spaceToBatch,
  SplitV: split,
  StridedSlice: stridedSlice,
  Tile: tile,
  Transpose: transpose,
  Unpack: unpack,
};
