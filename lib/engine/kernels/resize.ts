/**
 * Resizing of images: whole-number enlargement by repetition, everything else as one small matrix an axis, so that
 * tfjs's conventions hold to the pixel and the gradient is the transposed matrix.
 *
 * @module
 */
import type { Value } from "../graph.ts";
import { type Kernel, type Recorder, type Traced, whole } from "../recorder.ts";
import { reduce } from "./reduction.ts";

interface ResizeAttrs {
  alignCorners: boolean;
  halfPixelCenters: boolean;
  size: [number, number];
}

/** Source positions along one axis; tfjs computes them in double precision. */
function positions(from: number, to: number, { alignCorners, halfPixelCenters }: ResizeAttrs): number[] {
  const scale = alignCorners && to > 1 ? (from - 1) / (to - 1) : from / to;
  return Array.from({ length: to }, (_, i) => halfPixelCenters ? scale * (i + 0.5) : scale * i);
}

function nearest(from: number, to: number, attrs: ResizeAttrs): number[] {
  return positions(from, to, attrs).map((position) =>
    Math.min(from - 1, attrs.alignCorners ? Math.round(position) : Math.floor(position))
  );
}

/** The factor if each pixel is repeated equally often, else undefined. */
function repetition(from: number, to: number, attrs: ResizeAttrs): number | undefined {
  const factor = to / from;
  return nearest(from, to, attrs).every((source, i) => source === Math.floor(i / factor)) &&
      Number.isInteger(factor)
    ? factor
    : undefined;
}

type Matrix = Float32Array;

function nearestMatrix(from: number, to: number, attrs: ResizeAttrs): Matrix {
  const matrix = new Float32Array(to * from);
  nearest(from, to, attrs).forEach((source, row) => matrix[row * from + source] = 1);
  return matrix;
}

function bilinearMatrix(from: number, to: number, attrs: ResizeAttrs): Matrix {
  const matrix = new Float32Array(to * from);
  positions(from, to, attrs).forEach((position, row) => {
    const source = attrs.halfPixelCenters ? position - 0.5 : position;
    const low = Math.max(0, Math.floor(source)), high = Math.min(from - 1, Math.ceil(source));
    const fraction = source - low;
    matrix[row * from + low] += 1 - fraction;
    matrix[row * from + high] += fraction;
  });
  return matrix;
}

/** Multiplies rows and then columns of images by matrices [to, from], or their transposes. */
function resample(
  recorder: Recorder,
  x: Value,
  rows: Matrix,
  cols: Matrix,
  size: readonly [number, number],
  transposed: boolean,
): Traced {
  const { graph } = recorder;
  const [batch, height, width, channels] = x.shape;
  const matrix = (data: Matrix, to: number, from: number) =>
    transposed
      ? recorder.transpose(graph.constant(data, [from, to], "float32"), [1, 0])
      : graph.constant(data, [to, from], "float32");
  const wide = recorder.reshape(x, [batch, height, width * channels]);
  const tall = graph.node("MatMul", [matrix(rows, size[0], height), wide], {
    shape: [batch, size[0], width * channels],
    dtype: "float32",
  });
  const lines = recorder.reshape(tall, [batch * size[0], width, channels]);
  const done = graph.node("MatMul", [matrix(cols, size[1], width), lines], {
    shape: [batch * size[0], size[1], channels],
    dtype: "float32",
  });
  return whole(recorder.reshape(done, [batch, ...size, channels]));
}

const resizeNearest: Kernel = (recorder, { images }, attrs: ResizeAttrs) => {
  const [batch, height, width, channels] = images.shape;
  const [toHeight, toWidth] = attrs.size;
  const down = repetition(height, toHeight, attrs), across = repetition(width, toWidth, attrs);
  if (down === undefined || across === undefined) {
    const rows = nearestMatrix(height, toHeight, attrs), cols = nearestMatrix(width, toWidth, attrs);
    return resample(recorder, recorder.full(images), rows, cols, attrs.size, false);
  }
  const value = recorder.reshape(recorder.full(images), [batch, height, 1, width, 1, channels]);
  const repeated = recorder.full({ ...images, value, shape: [batch, height, down, width, across, channels] });
  return whole(recorder.reshape(repeated, [batch, toHeight, toWidth, channels]));
};

const resizeNearestGrad: Kernel = (recorder, { images, dy }, attrs: ResizeAttrs) => {
  const [batch, height, width, channels] = images.shape;
  const size = dy.shape.slice(1, 3) as [number, number];
  const down = repetition(height, size[0], { ...attrs, size });
  const across = repetition(width, size[1], { ...attrs, size });
  if (down === undefined || across === undefined) {
    const rows = nearestMatrix(height, size[0], attrs), cols = nearestMatrix(width, size[1], attrs);
    return resample(recorder, recorder.full(dy), rows, cols, [height, width], true);
  }
  const blocks = whole(
    recorder.reshape(recorder.full(dy), [batch, height, down, width, across, channels]),
  );
  const sums = reduce(recorder, "ReduceSum", reduce(recorder, "ReduceSum", blocks, [2], true), [4], true);
  return whole(recorder.reshape(sums.value, images.shape));
};

const resizeBilinear: Kernel = (recorder, { images }, attrs: ResizeAttrs) => {
  const [, height, width] = images.shape;
  const rows = bilinearMatrix(height, attrs.size[0], attrs);
  const cols = bilinearMatrix(width, attrs.size[1], attrs);
  return resample(recorder, recorder.full(images), rows, cols, attrs.size, false);
};

const resizeBilinearGrad: Kernel = (recorder, { images, dy }, attrs: ResizeAttrs) => {
  const [, height, width] = images.shape;
  const rows = bilinearMatrix(height, dy.shape[1], attrs), cols = bilinearMatrix(width, dy.shape[2], attrs);
  return resample(recorder, recorder.full(dy), rows, cols, [height, width], true);
};

export const RESIZE_KERNELS: Readonly<Record<string, Kernel>> = {
  ResizeBilinear: resizeBilinear,
  ResizeBilinearGrad: resizeBilinearGrad,
  ResizeNearestNeighbor: resizeNearest,
  ResizeNearestNeighborGrad: resizeNearestGrad,
};
