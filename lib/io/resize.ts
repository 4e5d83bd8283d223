/**
 * Resizing of images in host memory as Pillow does it: antialiased, across first, then down.
 *
 * *Source*: `ImagingResample` of Pillow's `Resample.c`.
 *
 * @module
 */
import {
  fixedPointWeights,
  partOfTaps,
  PRECISION_BITS,
  type ResizeFilter,
  type ResizeTaps,
  resizeTaps,
} from "./resize_taps.ts";

/** Extents of an image. */
export interface PixelSize {
  /** Rows. */
  readonly height: number;
  /** Pixels a row. */
  readonly width: number;
}

/** A rectangle of whole pixels of an image. */
export interface PixelBox extends PixelSize {
  /** Rows above it. */
  readonly top: number;
  /** Pixels left of it. */
  readonly left: number;
}

/** A rectangle of pixels in memory, channels last. */
export interface PixelArea extends PixelSize {
  /** Where its first value is. */
  readonly offset: number;
  /** Values from the start of one row to the start of the next. */
  readonly stride: number;
  /** Values a pixel. */
  readonly channels: number;
}

/**
 * Resizes an image of bytes, bit for bit as Pillow's `Image.resize` does: weights have 22 bits behind the point and
 * each of the two passes rounds to bytes.
 *
 * @param bytes [height, width, channels], row by row.
 * @param from extents of `bytes`.
 * @param to extents of the resized image.
 * @param crop the part of the resized image that is wanted; all of it if omitted. The rest is not computed.
 * @returns new bytes [to.height, to.width, channels], of the crop's extents if there is one.
 * @throws TypeError if the number of bytes does not fit; RangeError if a side is no whole number of at least 1 or the
 * crop does not lie inside the resized image.
 */
export function resizeBytes(
  bytes: Uint8Array,
  from: PixelSize,
  to: PixelSize,
  channels: number,
  filter: ResizeFilter,
  crop: PixelBox = { top: 0, left: 0, ...to },
): Uint8Array<ArrayBuffer> {
  const size = from.height * from.width * channels;
  if (bytes.length !== size) {
    throw new TypeError(
      `Cannot resize: ${from.width} × ${from.height} × ${channels} needs ${size} bytes, got ${bytes.length}`,
    );
  }
  const across = partOfTaps(resizeTaps(from.width, to.width, filter), crop.left, crop.width);
  const all = partOfTaps(resizeTaps(from.height, to.height, filter), crop.top, crop.height);
  const { top, height, down } = to.height === from.height ? { ...crop, down: null } : fromFirstRow(all);
  const row = crop.width * channels, line = from.width * channels;
  const lines = bytes.subarray(top * line, (top + height) * line);
  const sameWidth = to.width === from.width && crop.width === to.width;
  const wide = sameWidth ? lines : new Uint8Array(height * row);
  if (wide !== lines) bytesAcross(lines, { height, width: from.width }, channels, across, wide);
  if (down === null) return wide === lines ? lines.slice() : wide as Uint8Array<ArrayBuffer>;
  const out = new Uint8Array(crop.height * row);
  bytesDown(wide, row, down, out);
  return out;
}

/** The rows that taps are made of, and the taps counted from the first of them. */
function fromFirstRow(taps: ResizeTaps): { top: number; height: number; down: ResizeTaps } {
  const { starts, counts } = taps, last = starts.length - 1, top = starts[0];
  const down = top === 0 ? taps : { ...taps, starts: starts.map((start) => start - top) };
  return { top, height: starts[last] + counts[last] - top, down };
}

/**
 * Resizes a rectangle of an image of numbers into memory that is there, as Pillow does for images of mode "F": sums
 * in double precision, rounded to float32 after each pass. Values may overshoot, nothing is clamped.
 *
 * @param source values of the whole image or batch.
 * @param area where the rectangle lies in `source`.
 * @param to extents of the resized rectangle.
 * @param out receives [to.height, to.width, channels], of the crop's extents if there is one.
 * @param crop the part of the resized rectangle that is wanted; all of it if omitted. The rest is not computed.
 * @throws RangeError if a side is no whole number of at least 1 or the crop does not lie inside the resized rectangle.
 */
export function resizeFloats(
  source: ArrayLike<number>,
  area: PixelArea,
  to: PixelSize,
  filter: ResizeFilter,
  out: Float32Array,
  crop: PixelBox = { top: 0, left: 0, ...to },
): void {
  const across = partOfTaps(resizeTaps(area.width, to.width, filter), crop.left, crop.width);
  const all = partOfTaps(resizeTaps(area.height, to.height, filter), crop.top, crop.height);
  const { top, height, down } = fromFirstRow(all), row = crop.width * area.channels;
  const lines = { ...area, offset: area.offset + top * area.stride, height }, wide = scratchOf(height * row);
  floatsAcross(source, lines, across, wide);
  floatsDown(wide, row, down, out);
}

let scratch = new Float32Array(0);

function scratchOf(size: number): Float32Array {
  if (scratch.length < size) scratch = new Float32Array(size);
  return scratch;
}

const HALF = 1 << (PRECISION_BITS - 1);

function bytesAcross(
  bytes: Uint8Array,
  { height, width }: PixelSize,
  channels: number,
  taps: ResizeTaps,
  out: Uint8Array,
): void {
  if (channels === 3) return byteColorsAcross(bytes, height, width, taps, out);
  const { starts, counts } = taps, weights = fixedPointWeights(taps);
  for (let y = 0, o = 0; y < height; y++) {
    for (let x = 0; x < starts.length; x++) {
      const start = (y * width + starts[x]) * channels, first = x * taps.width, last = first + counts[x];
      for (let c = 0; c < channels; c++) {
        let sum = HALF;
        for (let k = first, i = start + c; k < last; k++, i += channels) {
          sum = sum + Math.imul(bytes[i], weights[k]) | 0;
        }
        out[o++] = toByte(sum);
      }
    }
  }
}

/** {@link bytesAcross} for three channels at once, which takes half the time. */
function byteColorsAcross(
  bytes: Uint8Array,
  height: number,
  width: number,
  taps: ResizeTaps,
  out: Uint8Array,
): void {
  const { starts, counts } = taps, weights = fixedPointWeights(taps);
  for (let y = 0, o = 0; y < height; y++) {
    for (let x = 0; x < starts.length; x++) {
      let red = HALF, green = HALF, blue = HALF;
      const last = x * taps.width + counts[x];
      for (let k = x * taps.width, i = (y * width + starts[x]) * 3; k < last; k++, i += 3) {
        const weight = weights[k];
        red = red + Math.imul(bytes[i], weight) | 0;
        green = green + Math.imul(bytes[i + 1], weight) | 0;
        blue = blue + Math.imul(bytes[i + 2], weight) | 0;
      }
      out[o++] = toByte(red);
      out[o++] = toByte(green);
      out[o++] = toByte(blue);
    }
  }
}

function bytesDown(bytes: Uint8Array, row: number, taps: ResizeTaps, out: Uint8Array): void {
  const { starts, counts } = taps, weights = fixedPointWeights(taps), sums = new Int32Array(row);
  for (let y = 0; y < starts.length; y++) {
    sums.fill(HALF);
    for (let k = 0; k < counts[y]; k++) {
      const weight = weights[y * taps.width + k], start = (starts[y] + k) * row;
      for (let x = 0; x < row; x++) sums[x] += Math.imul(bytes[start + x], weight);
    }
    for (let x = 0, o = y * row; x < row; x++, o++) out[o] = toByte(sums[x]);
  }
}

function toByte(sum: number): number {
  const value = sum >> PRECISION_BITS;
  return value < 0 ? 0 : value > 255 ? 255 : value;
}

function floatsAcross(source: ArrayLike<number>, area: PixelArea, taps: ResizeTaps, out: Float32Array): void {
  if (area.channels === 3) return colorsAcross(source, area, taps, out);
  const { offset, stride, height, channels } = area, { starts, counts, weights } = taps;
  for (let y = 0, o = 0; y < height; y++) {
    for (let x = 0; x < starts.length; x++) {
      const start = offset + y * stride + starts[x] * channels, first = x * taps.width;
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        for (let k = 0, i = start + c; k < counts[x]; k++, i += channels) {
          sum += source[i] * weights[first + k];
        }
        out[o++] = sum;
      }
    }
  }
}

/** {@link floatsAcross} for three channels at once: crops in training wait for it. */
function colorsAcross(source: ArrayLike<number>, area: PixelArea, taps: ResizeTaps, out: Float32Array): void {
  const { offset, stride, height } = area, { starts, counts, weights, width } = taps;
  for (let y = 0, o = 0; y < height; y++) {
    for (let x = 0; x < starts.length; x++) {
      let red = 0, green = 0, blue = 0;
      const last = x * width + counts[x];
      for (let k = x * width, i = offset + y * stride + 3 * starts[x]; k < last; k++, i += 3) {
        const weight = weights[k];
        red += weight * source[i];
        green += weight * source[i + 1];
        blue += weight * source[i + 2];
      }
      out[o++] = red;
      out[o++] = green;
      out[o++] = blue;
    }
  }
}

function floatsDown(source: Float32Array, row: number, taps: ResizeTaps, out: Float32Array): void {
  const { starts, counts, weights } = taps, sums = new Float64Array(row);
  for (let y = 0; y < starts.length; y++) {
    sums.fill(0);
    for (let k = 0; k < counts[y]; k++) {
      const weight = weights[y * taps.width + k], start = (starts[y] + k) * row;
      if (weight === 0) continue;
      for (let x = 0; x < row; x++) sums[x] += weight * source[start + x];
    }
    for (let x = 0, o = y * row; x < row; x++) out[o++] = sums[x];
  }
}
