/**
 * Windows of an image, one position of the window at a time: what stands there in every window, and the way back.
 *
 * @module
 */
import type { Value } from "../graph.ts";
import { type Recorder, type Traced, whole } from "../recorder.ts";
import { elementwise } from "./broadcasting.ts";
import type { ConvInfo } from "./convolution.ts";
import { sliceTraced } from "./shape.ts";

/** Rows and columns of a window. */
export function windowPositions({ filterHeight, filterWidth }: ConvInfo): [number, number][] {
  return Array.from({ length: filterHeight * filterWidth }, (_, p) => [
    Math.floor(p / filterWidth),
    p % filterWidth,
  ]);
}

/** The image [B, H, W, C] with the padding of a convolution or pooling, filled with `fill`. */
export function paddedImage(recorder: Recorder, x: Value, { padInfo }: ConvInfo, fill = 0): Value {
  const { top, bottom, left, right } = padInfo;
  if (top + bottom + left + right === 0) return x;
  const [batch, height, width, channels] = x.shape;
  const shape = [batch, height + top + bottom, width + left + right, channels];
  const amounts = recorder.graph.ints([0, top, left, 0, 0, bottom, right, 0]);
  return recorder.graph.node("Pad", [x, amounts, recorder.graph.scalar(fill)], { shape, dtype: x.dtype });
}

/** The pixel of each window at position (i, j): [B, H', W', C] of the padded image. */
export function windowPixels(
  recorder: Recorder,
  padded: Value,
  info: ConvInfo,
  [i, j]: readonly [number, number],
): Value {
  const { graph } = recorder;
  const { outHeight, outWidth, strideHeight, strideWidth, dilationHeight, dilationWidth } = info;
  const top = i * dilationHeight, left = j * dilationWidth;
  const ends = [top + (outHeight - 1) * strideHeight + 1, left + (outWidth - 1) * strideWidth + 1];
  const box = [[top, left], ends, [1, 2], [strideHeight, strideWidth]].map((list) => graph.ints(list));
  const shape = [padded.shape[0], outHeight, outWidth, padded.shape[3]];
  return graph.node("Slice", [padded, ...box], { shape, dtype: padded.dtype });
}

/**
 * Adds up what each position of the windows contributes to the image: the transpose of {@linkcode windowPixels}, with
 * the padding cut off.
 *
 * @param parts one [B, H', W', C] for each of `windowPositions(info)`.
 * @returns [B, H, W, C].
 */
export function sumOfWindows(recorder: Recorder, parts: readonly Traced[], info: ConvInfo): Traced {
  const sum = windowPositions(info)
    .map((position, p) => whole(putBack(recorder, recorder.full(parts[p]), info, position)))
    .reduce((a, b) => elementwise(recorder, "Add", [a, b]));
  const { top, left } = info.padInfo, [batch, height, width, channels] = info.inShape;
  const begin = [0, top, left, 0], end = [batch, top + height, left + width, channels];
  return sliceTraced(recorder, sum, begin, end, [1, 1, 1, 1], info.inShape);
}

/** One value a window to position (i, j) of its window in the padded image, zeros elsewhere. */
function putBack(recorder: Recorder, value: Value, info: ConvInfo, [i, j]: readonly [number, number]): Value {
  const { graph } = recorder, { padInfo } = info;
  const [batch, rows, cols, channels] = value.shape;
  const zeros = (source: Value, amounts: number[], shape: number[]) =>
    graph.node("Pad", [source, graph.ints(amounts), graph.scalar(0)], { shape, dtype: "float32" });
  const apart = zeros(
    recorder.reshape(value, [batch, rows, 1, cols, 1, channels]),
    [0, 0, 0, 0, 0, 0, 0, 0, info.strideHeight - 1, 0, info.strideWidth - 1, 0],
    [batch, rows, info.strideHeight, cols, info.strideWidth, channels],
  );
  const top = i * info.dilationHeight, left = j * info.dilationWidth;
  const tall = rows * info.strideHeight, wide = cols * info.strideWidth;
  const height = info.inHeight + padInfo.top + padInfo.bottom;
  const width = info.inWidth + padInfo.left + padInfo.right;
  // What the last stride leaves beyond the image is cut; negative amounts do that in ONNX.
  return zeros(
    recorder.reshape(apart, [batch, tall, wide, channels]),
    [0, top, left, 0, 0, height - top - tall, width - left - wide, 0],
    [batch, height, width, channels],
  );
}
