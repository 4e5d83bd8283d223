/**
 * Convolutions and their gradients. ONNX convolves channels-first tensors, so these are wrapped in transposes; what
 * is a matrix product (1×1 kernels, patches that do not overlap, the gradient of the kernel) is written as one and
 * stays channels-last.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { sizeOf } from "novae/tensor/mod.ts";
import type { Value } from "../graph.ts";
import { cannotCompile, type Kernel, type Recorder, type Traced, whole } from "../recorder.ts";
import { kernelGradient } from "./kernel_gradient.ts";
import { fusedTail, matMul } from "./matmul.ts";

/** Axis orders between channels-last and channels-first images. */
export const TO_NCHW = [0, 3, 1, 2], TO_NHWC = [0, 2, 3, 1];
/** [height, width, in, out] kernels to ONNX's [out, in, height, width]. */
const HWIO_TO_OIHW = [3, 2, 0, 1];
export const HWIO_TO_IOHW = [2, 3, 0, 1];

/** The sizes of a convolution or pooling. */
export type ConvInfo = tf.backend_util.Conv2DInfo;

interface ConvAttrs {
  strides: [number, number] | number;
  pad: "valid" | "same" | number | tf.backend_util.ExplicitPadding;
  dataFormat?: "NHWC" | "NCHW";
  dilations?: [number, number] | number;
  dimRoundingMode?: "floor" | "round" | "ceil";
}

export function convInfo(
  kernel: string,
  x: readonly number[],
  filter: readonly number[],
  attrs: ConvAttrs,
  depthwise = false,
): ConvInfo {
  if ((attrs.dataFormat ?? "NHWC") !== "NHWC") {
    throw cannotCompile(kernel, `dataFormat must be NHWC, got ${attrs.dataFormat}`);
  }
  return tf.backend_util.computeConv2DInfo(
    x as [number, number, number, number],
    filter as [number, number, number, number],
    attrs.strides,
    attrs.dilations ?? 1,
    attrs.pad,
    attrs.dimRoundingMode,
    depthwise,
  );
}

/** The shape of the output, channels last. */
export const outputShape = (info: ConvInfo): number[] => [
  info.batchSize,
  info.outHeight,
  info.outWidth,
  info.outChannels,
];

/** Whether the kernel's positions tile the image: then a convolution is one matrix product over patches. */
export function tilesImage(info: ConvInfo): boolean {
  const { top, bottom, left, right } = info.padInfo;
  return top + bottom + left + right === 0 && info.dilationHeight === 1 && info.dilationWidth === 1 &&
    info.strideHeight === info.filterHeight && info.strideWidth === info.filterWidth &&
    info.outHeight * info.filterHeight === info.inHeight &&
    info.outWidth * info.filterWidth === info.inWidth;
}

/** Rows of pixels of each patch: [batch · outHeight · outWidth, filterHeight · filterWidth · channels]. */
function patches(recorder: Recorder, x: Value, info: ConvInfo): Value {
  const { batchSize, outHeight, outWidth, filterHeight, filterWidth, inChannels } = info;
  const split = [batchSize, outHeight, filterHeight, outWidth, filterWidth, inChannels];
  const ordered = recorder.transpose(recorder.reshape(x, split), [0, 1, 3, 2, 4, 5]);
  return recorder.reshape(ordered, [
    batchSize * outHeight * outWidth,
    filterHeight * filterWidth * inChannels,
  ]);
}

/** The inverse of `patches`. */
function unpatch(recorder: Recorder, rows: Value, info: ConvInfo): Value {
  const { batchSize, outHeight, outWidth, filterHeight, filterWidth, inChannels } = info;
  const split = [batchSize, outHeight, outWidth, filterHeight, filterWidth, inChannels];
  return recorder.reshape(
    recorder.transpose(recorder.reshape(rows, split), [0, 1, 3, 2, 4, 5]),
    info.inShape,
  );
}

/** ONNX's attributes of where a kernel is applied. */
export const steps = ({ padInfo, ...info }: ConvInfo): Record<string, number[]> => ({
  strides: [info.strideHeight, info.strideWidth],
  dilations: [info.dilationHeight, info.dilationWidth],
  pads: [padInfo.top, padInfo.left, padInfo.bottom, padInfo.right],
});

function convolve(recorder: Recorder, x: Traced, filter: Traced, info: ConvInfo): Traced {
  const pixels = recorder.full(x), kernel = recorder.full(filter);
  if (tilesImage(info)) {
    const matrix = recorder.reshape(kernel, [sizeOf(kernel.shape.slice(0, 3)), info.outChannels]);
    const rows = matMul(recorder, whole(patches(recorder, pixels, info)), whole(matrix));
    return whole(recorder.reshape(rows.value, outputShape(info)));
  }
  const channelsFirst = recorder.transpose(kernel, HWIO_TO_OIHW);
  return whole(convNode(recorder, "Conv", pixels, channelsFirst, outputShape(info), steps(info)));
}

/** A Conv or ConvTranspose between transposes; `shape` is the result's, channels last. */
export function convNode(
  recorder: Recorder,
  op: "Conv" | "ConvTranspose",
  x: Value,
  kernel: Value,
  shape: readonly number[],
  attributes: Record<string, number[] | number>,
): Value {
  const input = recorder.transpose(x, TO_NCHW);
  const spec = { shape: TO_NCHW.map((axis) => shape[axis]), dtype: "float32" as const };
  const node = recorder.graph.node(op, [input, kernel], spec, {
    ...attributes,
    kernel_shape: kernel.shape.slice(2),
  });
  return recorder.transpose(node, TO_NHWC);
}

const conv2d: Kernel = (recorder, { x, filter }, attrs) =>
  convolve(recorder, x, filter, convInfo("Conv2D", x.shape, filter.shape, attrs));

const fusedConv2d: Kernel = (recorder, { x, filter, bias, preluActivationWeights }, attrs) => {
  const plain = convolve(recorder, x, filter, convInfo("FusedConv2D", x.shape, filter.shape, attrs));
  return fusedTail(recorder, "FusedConv2D", plain, bias, preluActivationWeights, attrs);
};

/** With stride 1 a convolution with the flipped kernel, twice as fast as ConvTranspose. */
const conv2dBackpropInput: Kernel = (recorder, { dy, filter }, attrs) => {
  const info = convInfo("Conv2DBackpropInput", attrs.inputShape, filter.shape, attrs);
  const gradient = recorder.full(dy), kernel = recorder.full(filter);
  if (tilesImage(info)) {
    const rows = recorder.reshape(gradient, [sizeOf(gradient.shape.slice(0, 3)), info.outChannels]);
    const matrix = recorder.reshape(kernel, [sizeOf(kernel.shape.slice(0, 3)), info.outChannels]);
    const product = matMul(recorder, whole(rows), whole(matrix), false, true);
    return whole(unpatch(recorder, product.value, info));
  }
  const { top, bottom, left, right } = info.padInfo;
  const { filterHeight, filterWidth, strideHeight, strideWidth } = info;
  if (strideHeight === 1 && strideWidth === 1 && info.dilationHeight === 1 && info.dilationWidth === 1) {
    const flipped = recorder.transpose(flipKernel(recorder, kernel), HWIO_TO_IOHW);
    const around = [filterHeight - 1 - top, filterWidth - 1 - left].concat(
      [filterHeight - 1 - bottom, filterWidth - 1 - right],
    );
    if (around.every((pad) => pad >= 0)) {
      return whole(convNode(recorder, "Conv", gradient, flipped, info.inShape, { pads: around }));
    }
  }
  const ordered = recorder.transpose(kernel, HWIO_TO_OIHW);
  return whole(convNode(recorder, "ConvTranspose", gradient, ordered, info.inShape, {
    ...steps(info),
    output_padding: outputPadding(info),
  }));
};

/** Reverses both spatial axes; a gather over their product, since kernels are small. */
function flipKernel(recorder: Recorder, kernel: Value): Value {
  const [height, width, inputs, outputs] = kernel.shape;
  const count = height * width;
  if (count === 1) return kernel;
  const flat = recorder.reshape(kernel, [count, inputs, outputs]);
  const order = recorder.graph.ints(Array.from({ length: count }, (_, i) => count - 1 - i));
  const spec = { shape: flat.shape, dtype: "float32" as const };
  return recorder.reshape(recorder.graph.node("Gather", [flat, order], spec, { axis: 0 }), kernel.shape);
}

/** One product of patches where they tile the image, else one for each position of the kernel. */
const conv2dBackpropFilter: Kernel = (recorder, { x, dy }, attrs) => {
  const info = convInfo("Conv2DBackpropFilter", x.shape, attrs.filterShape, attrs);
  const pixels = recorder.full(x), gradient = recorder.full(dy);
  if (tilesImage(info)) {
    const rows = recorder.reshape(gradient, [sizeOf(gradient.shape.slice(0, 3)), info.outChannels]);
    const product = matMul(recorder, whole(patches(recorder, pixels, info)), whole(rows), true, false);
    return whole(recorder.reshape(product.value, info.filterShape));
  }
  return whole(kernelGradient(recorder, pixels, gradient, info));
};

/** What the sizes leave over at the far edge, where a transposed convolution must still write. */
export function outputPadding(info: ConvInfo): [number, number] {
  const { top, bottom, left, right } = info.padInfo;
  const rest = (extent: number, out: number, stride: number, size: number, dilation: number, pad: number) =>
    extent - (stride * (out - 1) + (size - 1) * dilation + 1 - pad);
  return [
    rest(
      info.inHeight,
      info.outHeight,
      info.strideHeight,
      info.filterHeight,
      info.dilationHeight,
      top + bottom,
    ),
    rest(info.inWidth, info.outWidth, info.strideWidth, info.filterWidth, info.dilationWidth, left + right),
  ];
}

export const CONVOLUTION_KERNELS: Readonly<Record<string, Kernel>> = {
  Conv2D: conv2d,
  Conv2DBackpropFilter: conv2dBackpropFilter,
  Conv2DBackpropInput: conv2dBackpropInput,
  FusedConv2D: fusedConv2d,
};
