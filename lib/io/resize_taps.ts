/**
 * Which pixels an antialiased resize averages and with what weights, along one axis.
 *
 *     out(i) = Σ_j w(i, j) · in(j) / Σ_j w(i, j),   w(i, j) = f((j + ½ − (i + ½)·s) / max(s, 1)),   s = in / out
 *
 * *Source*: `precompute_coeffs` and `normalize_coeffs_8bpc` of Pillow's `Resample.c`. PyTorch's
 * `interpolate(antialias=True)` has the same weights in float32.
 *
 * @module
 */
import type { HostTensor } from "novae/tensor/mod.ts";

/** The function f of an antialiased resize; `bicubic` has a = −½. */
export type ResizeFilter = "box" | "bilinear" | "bicubic" | "lanczos3";

/** For each output place along one axis: which inputs it is made of and with what weights. */
export interface ResizeTaps {
  /** First input of each output. */
  readonly starts: Int32Array;
  /** Number of inputs of each output. */
  readonly counts: Int32Array;
  /** Weights [out, width], row by row; the sum of each row is 1. */
  readonly weights: Float64Array;
  /** Places a row of weights; those beyond an output's count are 0. */
  readonly width: number;
}

interface Kernel {
  /** The function is zero beyond this distance. */
  readonly support: number;
  readonly at: (x: number) => number;
}

const KERNELS: Readonly<Record<ResizeFilter, Kernel>> = {
  box: { support: 0.5, at: (x) => x > -0.5 && x <= 0.5 ? 1 : 0 },
  bilinear: { support: 1, at: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { support: 2, at: cubic },
  lanczos3: { support: 3, at: (x) => x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0 },
};

/** Bits behind the point of the weights for bytes: 32 less 8 for the byte and 2 for overshoot. */
export const PRECISION_BITS: number = 32 - 8 - 2;

/** Weights kept, 32 MB; random crops ask for the same sizes again and again. */
const KEPT_WEIGHTS = 1 << 22;
const kept: Record<ResizeFilter, Map<number, ResizeTaps>> = {
  box: new Map(),
  bilinear: new Map(),
  bicubic: new Map(),
  lanczos3: new Map(),
};
let keptWeights = 0;

/**
 * The taps of a resize along one axis; kept for the next call, so do not change them.
 *
 * @param inSize places before, 1 or more.
 * @param outSize places after, 1 or more.
 * @throws RangeError if a size is no whole number of at least 1.
 */
export function resizeTaps(inSize: number, outSize: number, filter: ResizeFilter): ResizeTaps {
  const key = inSize * 2 ** 26 + outSize, known = kept[filter].get(key);
  if (known !== undefined) return known;
  expectSize(inSize);
  expectSize(outSize);
  const taps = makeTaps(inSize, outSize, KERNELS[filter]);
  keptWeights += taps.weights.length;
  if (keptWeights > KEPT_WEIGHTS) {
    for (const map of Object.values(kept)) map.clear();
    keptWeights = taps.weights.length;
  }
  kept[filter].set(key, taps);
  return taps;
}

/**
 * The taps of some outputs that follow on each other.
 *
 * @throws RangeError if there are no such outputs.
 */
export function partOfTaps(taps: ResizeTaps, first: number, count: number): ResizeTaps {
  const all = taps.starts.length;
  if (first === 0 && count === all) return taps;
  const whole = Number.isInteger(first) && Number.isInteger(count);
  if (!(whole && first >= 0 && count >= 1 && first + count <= all)) {
    throw new RangeError(
      `Cannot crop: ${count} pixels from ${first} on must lie in the ${all} of the resized image`,
    );
  }
  const { starts, counts, weights, width } = taps, end = first + count;
  return {
    starts: starts.subarray(first, end),
    counts: counts.subarray(first, end),
    weights: weights.subarray(first * width, end * width),
    width,
  };
}

/** The weights of taps as whole numbers of `2^−PRECISION_BITS`, rounded half away from zero, for images of bytes. */
export function fixedPointWeights({ weights }: ResizeTaps): Int32Array<ArrayBuffer> {
  const fixed = new Int32Array(weights.length), one = 2 ** PRECISION_BITS;
  // The conversion to integers drops the fraction.
  for (let i = 0; i < weights.length; i++) fixed[i] = weights[i] * one + (weights[i] < 0 ? -0.5 : 0.5);
  return fixed;
}

/**
 * The resize along one axis as a matrix M: `out = M · in`.
 *
 * @example
 * ```ts
 * import { resizeMatrix } from "novae/io/mod.ts";
 * const { data } = resizeMatrix(4, 2, "box");
 * if (`${data}` !== "0.5,0.5,0,0,0,0,0.5,0.5") throw new Error("not the mean of pairs");
 * ```
 * @param inSize places before, 1 or more.
 * @param outSize places after, 1 or more.
 * @param fixedPoint whether weights are rounded to 22 bits behind the point, as Pillow does for images of bytes.
 * @returns float32 [outSize, inSize]; the sum of each row is 1, with fixed point nearly.
 * @throws RangeError if a size is no whole number of at least 1.
 */
export function resizeMatrix(
  inSize: number,
  outSize: number,
  filter: ResizeFilter,
  fixedPoint = false,
): HostTensor {
  const taps = resizeTaps(inSize, outSize, filter), data = new Float32Array(outSize * inSize);
  const weights = fixedPoint ? fixedPointWeights(taps) : taps.weights;
  const unit = fixedPoint ? 2 ** -PRECISION_BITS : 1;
  for (let i = 0; i < outSize; i++) {
    for (let k = 0; k < taps.counts[i]; k++) {
      data[i * inSize + taps.starts[i] + k] = weights[i * taps.width + k] * unit;
    }
  }
  return { dtype: "float32", shape: [outSize, inSize], data };
}

function makeTaps(inSize: number, outSize: number, { support, at }: Kernel): ResizeTaps {
  const step = inSize / outSize, stretch = Math.max(step, 1), reach = support * stretch, narrow = 1 / stretch;
  const width = Math.ceil(reach) * 2 + 1;
  const starts = new Int32Array(outSize), counts = new Int32Array(outSize);
  const weights = new Float64Array(outSize * width);
  for (let i = 0; i < outSize; i++) {
    const centre = (i + 0.5) * step;
    const start = Math.max(0, Math.trunc(centre - reach + 0.5));
    const count = Math.min(inSize, Math.trunc(centre + reach + 0.5)) - start;
    const row = weights.subarray(i * width, i * width + count);
    let sum = 0;
    for (let k = 0; k < count; k++) sum += row[k] = at((k + start - centre + 0.5) * narrow);
    if (sum !== 0) { for (let k = 0; k < count; k++) row[k] /= sum; }
    starts[i] = start;
    counts[i] = count;
  }
  return { starts, counts, weights, width };
}

function cubic(offset: number): number {
  const x = Math.abs(offset), a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

function sinc(x: number): number {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

function expectSize(size: number): void {
  if (Number.isInteger(size) && size >= 1 && size < 2 ** 26) return;
  throw new RangeError(`Cannot resize: sides must be whole and at least 1, got ${size}`);
}
