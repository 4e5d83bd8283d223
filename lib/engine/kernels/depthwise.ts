/**
 * Depthwise convolutions, in which each channel has kernels of its own, and their gradients.
 *
 * @module
 */
import type { Value } from "../graph.ts";
import { type Kernel, type Recorder, type Traced, whole } from "../recorder.ts";
import { elementwise } from "./broadcasting.ts";
import {
  type ConvInfo,
  convInfo,
  convNode,
  HWIO_TO_IOHW,
  outputPadding,
  outputShape,
  steps,
} from "./convolution.ts";
import { fusedTail } from "./matmul.ts";
import { reduce } from "./reduction.ts";
import { concatValues, sliceTraced } from "./shape.ts";
import { paddedImage, sumOfWindows, windowPixels, windowPositions } from "./windows.ts";

/** [height, width, channels, multiplier] to ONNX's [channels · multiplier, 1, height, width]. */
function groupedKernel(recorder: Recorder, filter: Traced, info: ConvInfo): Value {
  const ordered = recorder.transpose(recorder.full(filter), HWIO_TO_IOHW);
  return recorder.reshape(ordered, [info.outChannels, 1, info.filterHeight, info.filterWidth]);
}

function convolve(recorder: Recorder, x: Traced, filter: Traced, info: ConvInfo): Traced {
  const kernel = groupedKernel(recorder, filter, info);
  const attributes = { ...steps(info), group: info.inChannels };
  return whole(convNode(recorder, "Conv", recorder.full(x), kernel, outputShape(info), attributes));
}

const depthwiseConv2d: Kernel = (recorder, { x, filter }, attrs) =>
  convolve(recorder, x, filter, convInfo("DepthwiseConv2dNative", x.shape, filter.shape, attrs, true));

const fusedDepthwiseConv2d: Kernel = (recorder, { x, filter, bias, preluActivationWeights }, attrs) => {
  const info = convInfo("FusedDepthwiseConv2D", x.shape, filter.shape, attrs, true);
  const plain = convolve(recorder, x, filter, info);
  return fusedTail(recorder, "FusedDepthwiseConv2D", plain, bias, preluActivationWeights, attrs);
};

const backpropInput: Kernel = (recorder, { dy, filter }, attrs) => {
  const info = convInfo(
    "DepthwiseConv2dNativeBackpropInput",
    attrs.inputShape,
    filter.shape,
    attrs,
    true,
  );
  // The WebGPU provider of ONNX Runtime 1.30 mixes up the groups of a transposed convolution.
  if (!recorder.target.cpuOperators) return inputByPositions(recorder, dy, filter, info);
  const kernel = groupedKernel(recorder, filter, info);
  return whole(convNode(recorder, "ConvTranspose", recorder.full(dy), kernel, info.inShape, {
    ...steps(info),
    group: info.inChannels,
    output_padding: outputPadding(info),
  }));
};

/** For each kernel position what its weights make of the gradients, put back to the pixels that it met. */
function inputByPositions(recorder: Recorder, dy: Traced, filter: Traced, info: ConvInfo): Traced {
  const { batchSize, outHeight, outWidth, inChannels, filterHeight, filterWidth } = info;
  const multiplier = info.outChannels / inChannels;
  const split = [batchSize, outHeight, outWidth, inChannels, multiplier];
  const gradient = whole(recorder.reshape(recorder.full(dy), split));
  const weights = recorder.reshape(recorder.full(filter), [
    filterHeight * filterWidth,
    inChannels,
    multiplier,
  ]);
  const parts = windowPositions(info).map((_, p) => {
    const box = [[p, 0, 0], [p + 1, inChannels, multiplier], [1, 1, 1], [1, inChannels, multiplier]];
    const own = sliceTraced(recorder, whole(weights), box[0], box[1], box[2], box[3]);
    const products = elementwise(recorder, "Mul", [gradient, own]);
    return reduce(recorder, "ReduceSum", products, [4], false);
  });
  return sumOfWindows(recorder, parts, info);
}

/** For each kernel position the pixels that it met, times the gradients of their channel, summed over all places. */
const backpropFilter: Kernel = (recorder, { x, dy }, attrs) => {
  const info = convInfo("DepthwiseConv2dNativeBackpropFilter", x.shape, attrs.filterShape, attrs, true);
  const { batchSize, outHeight, outWidth, inChannels } = info;
  const multiplier = info.outChannels / inChannels, places = [batchSize, outHeight, outWidth, inChannels];
  const padded = paddedImage(recorder, recorder.full(x), info);
  const gradient = whole(recorder.reshape(recorder.full(dy), [...places, multiplier]));
  const parts = windowPositions(info).map((position) => {
    const met = windowPixels(recorder, padded, info, position);
    const products = elementwise(recorder, "Mul", [whole(recorder.reshape(met, [...places, 1])), gradient]);
    const sum = reduce(recorder, "ReduceSum", products, [0, 1, 2], false);
    return recorder.reshape(recorder.full(sum), [1, inChannels, multiplier]);
  });
  return whole(recorder.reshape(concatValues(recorder, parts, 0), info.filterShape));
};

export const DEPTHWISE_KERNELS: Readonly<Record<string, Kernel>> = {
  DepthwiseConv2dNative: depthwiseConv2d,
  DepthwiseConv2dNativeBackpropFilter: backpropFilter,
  DepthwiseConv2dNativeBackpropInput: backpropInput,
  FusedDepthwiseConv2D: fusedDepthwiseConv2d,
};
