/**
 * Average and maximum pooling with their gradients.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { sizeOf } from "novae/tensor/mod.ts";
import type { Value } from "../graph.ts";
import { type Kernel, type Recorder, type Traced, whole } from "../recorder.ts";
import { elementwise, withNumber } from "./broadcasting.ts";
import { type ConvInfo, outputPadding, tilesImage, TO_NCHW, TO_NHWC } from "./convolution.ts";
import { select } from "./elementwise.ts";
import { toInt32 } from "./reduction.ts";
import { paddedImage, sumOfWindows, windowPixels, windowPositions } from "./windows.ts";

interface PoolAttrs {
  filterSize: [number, number] | number;
  strides: [number, number] | number;
  pad: "valid" | "same" | number | tf.backend_util.ExplicitPadding;
  dimRoundingMode?: "floor" | "round" | "ceil";
}

const poolInfo = (shape: readonly number[], attrs: PoolAttrs): ConvInfo =>
  tf.backend_util.computePool2DInfo(
    shape as [number, number, number, number],
    attrs.filterSize,
    attrs.strides,
    1,
    attrs.pad,
    attrs.dimRoundingMode,
  );

function poolAttributes(info: ConvInfo): Record<string, number[]> {
  const { top, left, bottom, right } = info.padInfo;
  return {
    kernel_shape: [info.filterHeight, info.filterWidth],
    strides: [info.strideHeight, info.strideWidth],
    pads: [top, left, bottom, right],
  };
}

const channelsFirst = (shape: readonly number[]): number[] => TO_NCHW.map((axis) => shape[axis]);

const pool = (op: "AveragePool" | "MaxPool"): Kernel => (recorder, { x }, attrs: PoolAttrs) => {
  const info = poolInfo(x.shape, attrs);
  const input = recorder.transpose(recorder.full(x), TO_NCHW);
  const spec = { shape: channelsFirst(info.outShape), dtype: "float32" as const };
  const node = recorder.graph.node(op, [input], spec, poolAttributes(info));
  return whole(recorder.transpose(node, TO_NHWC));
};

/** Each output's gradient goes in equal parts to the pixels that it is the average of; padding is none of them. */
const avgPoolGrad: Kernel = (recorder, { dy, input }, attrs: PoolAttrs) => {
  const info = poolInfo(input.shape, attrs);
  if (tilesImage(info)) {
    const share = withNumber(recorder, "Mul", dy, 1 / (info.filterHeight * info.filterWidth));
    return spread(recorder, share, info);
  }
  return spreadOverlapping(recorder, elementwise(recorder, "Mul", [dy, shares(recorder, info)]), info);
};

/** 1 / the number of pixels in each window, [outHeight, outWidth, 1]. */
function shares(recorder: Recorder, info: ConvInfo): Traced {
  const rows = pixelsInWindows(
    info.inHeight,
    info.outHeight,
    info.strideHeight,
    info.filterHeight,
    info.padInfo.top,
  );
  const cols = pixelsInWindows(
    info.inWidth,
    info.outWidth,
    info.strideWidth,
    info.filterWidth,
    info.padInfo.left,
  );
  const data = Float32Array.from(rows.flatMap((height) => cols.map((width) => 1 / (height * width))));
  return whole(recorder.graph.constant(data, [info.outHeight, info.outWidth, 1], "float32"));
}

/** How much of each window lies on the image along one axis. */
function pixelsInWindows(
  extent: number,
  out: number,
  stride: number,
  size: number,
  before: number,
): number[] {
  return Array.from({ length: out }, (_, i) => {
    const start = i * stride - before;
    return Math.min(start + size, extent) - Math.max(start, 0);
  });
}

/** Repeats each output pixel over its window. */
function spread(recorder: Recorder, share: Traced, info: ConvInfo): Traced {
  const { batchSize, outHeight, outWidth, filterHeight, filterWidth, inChannels } = info;
  const value = recorder.reshape(recorder.full(share), [batchSize, outHeight, 1, outWidth, 1, inChannels]);
  const shape = [batchSize, outHeight, filterHeight, outWidth, filterWidth, inChannels];
  const repeated = recorder.full({ value, shape, dtype: share.dtype });
  return whole(recorder.reshape(repeated, info.inShape));
}

function spreadOverlapping(recorder: Recorder, share: Traced, info: ConvInfo): Traced {
  const ones = recorder.fill(1, [info.inChannels, 1, info.filterHeight, info.filterWidth], "float32");
  const node = recorder.graph.node(
    "ConvTranspose",
    [recorder.transpose(recorder.full(share), TO_NCHW), recorder.full(ones)],
    { shape: channelsFirst(info.inShape), dtype: "float32" },
    {
      ...poolAttributes(info),
      group: info.inChannels,
      output_padding: outputPadding(info),
    },
  );
  return whole(recorder.transpose(node, TO_NHWC));
}

/** dy goes to the first largest pixel of its window. */
const maxPoolGrad: Kernel = (recorder, { dy, input }, attrs: PoolAttrs) => {
  const info = poolInfo(input.shape, attrs);
  const route = tilesImage(info)
    ? routeInTiles
    : recorder.target.cpuOperators
    ? routeByIndex
    : routeByComparison;
  return route(recorder, recorder.full(dy), recorder.full(input), info);
};

function routeInTiles(recorder: Recorder, dy: Value, x: Value, info: ConvInfo): Traced {
  const { batchSize, outHeight, outWidth, filterHeight, filterWidth, inChannels } = info;
  const area = filterHeight * filterWidth;
  const split = [batchSize, outHeight, filterHeight, outWidth, filterWidth, inChannels];
  const ordered = recorder.transpose(recorder.reshape(x, split), [0, 1, 3, 2, 4, 5]);
  const windows = recorder.reshape(ordered, [batchSize, outHeight, outWidth, area, inChannels]);
  const one = [batchSize, outHeight, outWidth, 1, inChannels];
  const best = recorder.graph.node("ArgMax", [windows], { shape: one, dtype: "int64" }, {
    axis: 3,
    keepdims: 1,
  });
  const place = whole(toInt32(recorder, best));
  const places = recorder.graph.constant(Int32Array.from({ length: area }, (_, i) => i), [area, 1], "int32");
  const hit = elementwise(recorder, "Equal", [place, whole(places)], "bool");
  const gradient = whole(recorder.reshape(dy, one));
  const routed = select(recorder, hit, gradient, recorder.fill(0, [], "float32"));
  const blocks = recorder.reshape(routed.value, [
    batchSize,
    outHeight,
    outWidth,
    filterHeight,
    filterWidth,
    inChannels,
  ]);
  return whole(recorder.reshape(recorder.transpose(blocks, [0, 1, 3, 2, 4, 5]), info.inShape));
}

/** Overlapping windows: MaxPool's own indices into the channels-first input, then an ordered scatter. */
function routeByIndex(recorder: Recorder, dy: Value, x: Value, info: ConvInfo): Traced {
  const { graph } = recorder;
  const outShape = channelsFirst(info.outShape), inShape = channelsFirst(info.inShape);
  const [, index] = graph.multiNode(
    "MaxPool",
    [recorder.transpose(x, TO_NCHW)],
    [{ shape: outShape, dtype: "float32" }, { shape: outShape, dtype: "int64" }],
    poolAttributes(info),
  );
  const flat = (value: Value) => recorder.reshape(value, [sizeOf(value.shape)]);
  const zeros = recorder.full(recorder.fill(0, [sizeOf(inShape)], "float32"));
  const sums = graph.node(
    "ScatterElements",
    [zeros, flat(index), flat(recorder.transpose(dy, TO_NCHW))],
    { shape: zeros.shape, dtype: "float32" },
    { axis: 0, reduction: "add" },
  );
  return whole(recorder.transpose(recorder.reshape(sums, inShape), TO_NHWC));
}

/** Padding that no pixel is below. */
const LOWEST = -3.4e38;

/**
 * Overlapping windows where indices are not to be had: position by position of the window, the gradient goes to the
 * pixel that is the window's largest if none before it was, and all are put back to where they came from and added.
 */
function routeByComparison(recorder: Recorder, dy: Value, x: Value, info: ConvInfo): Traced {
  const padded = paddedImage(recorder, x, info, LOWEST);
  const pixels = windowPositions(info).map((at) => whole(windowPixels(recorder, padded, info, at)));
  const best = pixels.reduce((a, b) => elementwise(recorder, "Max", [a, b]));
  const zero = recorder.fill(0, [], "float32");
  let left = whole(dy);
  const parts = pixels.map((candidate) => {
    const hit = elementwise(recorder, "Equal", [candidate, best], "bool");
    const part = select(recorder, hit, left, zero);
    left = select(recorder, hit, zero, left);
    return part;
  });
  return sumOfWindows(recorder, parts, info);
}

export const POOLING_KERNELS: Readonly<Record<string, Kernel>> = {
  AvgPool: pool("AveragePool"),
  AvgPoolGrad: avgPoolGrad,
  MaxPool: pool("MaxPool"),
  MaxPoolGrad: maxPoolGrad,
};
