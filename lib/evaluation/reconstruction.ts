/**
 * How well images are reconstructed: peak signal-to-noise ratio and structural similarity.
 *
 * @module
 */
import { expectShape, type HostTensor } from "novae/tensor/mod.ts";

/** A mean over images and the value of each. */
export interface ImageMetric {
  /** Mean over the images. */
  readonly mean: number;
  /** One value an image. */
  readonly values: Float64Array;
  /** Number of images. */
  readonly samples: number;
}

/** Settings of {@linkcode psnr}. */
export interface PsnrOptions {
  /** Compares what an 8-bit file would hold: `round(255·x)`, clamped. Default true. */
  readonly quantize?: boolean;
}

/** Reconstruction quality of a set of images. */
export interface ReconstructionResult {
  /** Mean over the images in dB, on 8-bit values. */
  readonly psnr: number;
  /** Mean over the images, in [−1, 1]. */
  readonly ssim: number;
  /** Number of images. */
  readonly samples: number;
}

/** Window of the structural similarity: 11 values of a Gaussian of width 1.5. */
const WINDOW = gaussianWindow(11, 1.5);
const C1 = 0.01 ** 2, C2 = 0.03 ** 2;

/**
 * Peak signal-to-noise ratio of each image, `10·log₁₀(1 / mean (a − b)²)` over pixels and channels, in dB.
 *
 * The mean is taken over the images' values in dB, as tokenizer papers do, not over their squared errors. An image
 * that is reproduced exactly has the value `Infinity`, and so has the mean then.
 *
 * @param originals `imageUnit` of shape [B, H, W, C] in [0, 1].
 * @param reconstructions the same shape and range.
 * @throws TypeError if the shapes differ.
 */
export function psnr(
  originals: HostTensor,
  reconstructions: HostTensor,
  options: PsnrOptions = {},
): ImageMetric {
  const { quantize = true } = options;
  expectShape("Cannot compare images", reconstructions.shape, originals.shape);
  const [count, ...rest] = originals.shape, size = rest.reduce((a, b) => a * b, 1);
  const level = (v: number) => quantize ? Math.round(255 * Math.min(Math.max(v, 0), 1)) / 255 : v;
  const values = new Float64Array(count);
  for (let b = 0; b < count; b++) {
    let sum = 0;
    for (let i = b * size; i < (b + 1) * size; i++) {
      sum += (level(originals.data[i]) - level(reconstructions.data[i])) ** 2;
    }
    values[b] = -10 * Math.log10(sum / size);
  }
  return summarized(values);
}

/**
 * Structural similarity of each image, the mean over channels and places of
 *
 * `(2μ_aμ_b + C₁)(2σ_ab + C₂) / ((μ_a² + μ_b² + C₁)(σ_a² + σ_b² + C₂))`
 *
 * with moments under a Gaussian window of 11×11 and width 1.5, `C₁ = 0.01²`, `C₂ = 0.03²` for values in [0, 1].
 *
 * *Source*: Wang et al., "Image quality assessment" (2004), as in torchmetrics 1.x: windows that lie wholly within
 * the image, each channel by itself.
 *
 * @param originals `imageUnit` of shape [B, H, W, C] in [0, 1], H and W at least 11.
 * @param reconstructions the same shape and range.
 * @throws TypeError if the shapes differ.
 * @throws RangeError if the images are smaller than the window.
 */
export function ssim(originals: HostTensor, reconstructions: HostTensor): ImageMetric {
  expectShape("Cannot compare images", originals.shape, [null, null, null, null]);
  expectShape("Cannot compare images", reconstructions.shape, originals.shape);
  const [count, height, width, channels] = originals.shape;
  if (Math.min(height, width) < WINDOW.length) {
    throw new RangeError(
      `Cannot compare images: the structural similarity needs at least 11×11 pixels, got ${height}×${width}`,
    );
  }
  const values = new Float64Array(count), size = height * width * channels;
  const a = new Float64Array(height * width), b = new Float64Array(height * width);
  const moments = momentBuffers(height, width);
  for (let i = 0; i < count; i++) {
    for (let c = 0; c < channels; c++) {
      for (let p = 0; p < a.length; p++) {
        a[p] = originals.data[i * size + p * channels + c];
        b[p] = reconstructions.data[i * size + p * channels + c];
      }
      values[i] += planeSsim(a, b, height, width, moments) / channels;
    }
  }
  return summarized(values);
}

/**
 * Peak signal-to-noise ratio (on 8-bit values) and structural similarity of a set of reconstructions.
 *
 * @param originals `imageUnit` of shape [B, H, W, 3] in [0, 1].
 * @param reconstructions the same shape and range.
 */
export function reconstructionMetrics(
  originals: HostTensor,
  reconstructions: HostTensor,
): ReconstructionResult {
  const signal = psnr(originals, reconstructions), structure = ssim(originals, reconstructions);
  return { psnr: signal.mean, ssim: structure.mean, samples: signal.samples };
}

/** Windowed means of a, b, a², b² and ab, after the horizontal and after both passes. */
interface MomentBuffers {
  readonly horizontal: readonly Float64Array[];
  readonly both: readonly Float64Array[];
}

function momentBuffers(height: number, width: number): MomentBuffers {
  const right = width - WINDOW.length + 1, down = height - WINDOW.length + 1;
  const five = (size: number) => Array.from({ length: 5 }, () => new Float64Array(size));
  return { horizontal: five(height * right), both: five(down * right) };
}

function planeSsim(
  a: Float64Array,
  b: Float64Array,
  height: number,
  width: number,
  { horizontal, both }: MomentBuffers,
): number {
  const right = width - WINDOW.length + 1, down = height - WINDOW.length + 1;
  const [hA, hB, hAA, hBB, hAB] = horizontal;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < right; x++) {
      let sA = 0, sB = 0, sAA = 0, sBB = 0, sAB = 0;
      for (let k = 0, p = y * width + x; k < WINDOW.length; k++, p++) {
        const w = WINDOW[k], va = a[p], vb = b[p], wa = w * va, wb = w * vb;
        sA += wa;
        sB += wb;
        sAA += wa * va;
        sBB += wb * vb;
        sAB += wa * vb;
      }
      const o = y * right + x;
      hA[o] = sA;
      hB[o] = sB;
      hAA[o] = sAA;
      hBB[o] = sBB;
      hAB[o] = sAB;
    }
  }
  for (let m = 0; m < 5; m++) verticalPass(horizontal[m], both[m], down, right);
  const [mA, mB, mAA, mBB, mAB] = both;
  let sum = 0;
  for (let o = 0; o < down * right; o++) {
    const va = mAA[o] - mA[o] ** 2, vb = mBB[o] - mB[o] ** 2, vab = mAB[o] - mA[o] * mB[o];
    const luminance = (2 * mA[o] * mB[o] + C1) / (mA[o] ** 2 + mB[o] ** 2 + C1);
    sum += luminance * (2 * vab + C2) / (va + vb + C2);
  }
  return sum / (down * right);
}

function verticalPass(source: Float64Array, target: Float64Array, down: number, right: number): void {
  target.fill(0);
  for (let y = 0; y < down; y++) {
    for (let k = 0; k < WINDOW.length; k++) {
      const w = WINDOW[k], from = (y + k) * right, to = y * right;
      for (let x = 0; x < right; x++) target[to + x] += w * source[from + x];
    }
  }
}

function gaussianWindow(size: number, sigma: number): Float64Array {
  const window = Float64Array.from(
    { length: size },
    (_, i) => Math.exp(-(((i - (size - 1) / 2) / sigma) ** 2) / 2),
  );
  const sum = window.reduce((a, b) => a + b, 0);
  return window.map((v) => v / sum);
}

function summarized(values: Float64Array): ImageMetric {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  return { mean, values, samples: values.length };
}
