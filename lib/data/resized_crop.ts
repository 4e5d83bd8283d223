/**
 * Geometric transforms of images in host memory: resized crops and flips.
 *
 * @module
 */
import { expectShape, type HostTensor, type Rng } from "novae/tensor/mod.ts";

/** A rectangle of whole pixels. */
export interface CropBox {
  /** Pixels left of the box. */
  readonly left: number;
  /** Pixels above the box. */
  readonly top: number;
  /** Pixels a row of the box, 1 or more. */
  readonly width: number;
  /** Rows of the box, 1 or more. */
  readonly height: number;
}

/** For each output place: which inputs it is made of and with what weights. */
interface Taps {
  readonly starts: Int32Array;
  readonly weights: Float32Array;
  /** Weights a place; unused ones are 0. */
  readonly width: number;
}

const tapsCache = new Map<number, Taps>();
let scratch = new Float32Array(0);

/**
 * Draws the box of a random resized crop: area uniform in `scale` of the image's, aspect ratio log-uniform.
 *
 * *Source*: torchvision `RandomResizedCrop.get_params`: ten attempts, then the largest centred box whose ratio is in
 * range.
 *
 * @param scale range of the box's part of the area, within (0, 1].
 * @param ratio range of width / height.
 */
export function sampleCropBox(
  rng: Rng,
  height: number,
  width: number,
  scale: readonly [number, number],
  ratio: readonly [number, number] = [3 / 4, 4 / 3],
): CropBox {
  const [low, high] = [Math.log(ratio[0]), Math.log(ratio[1])];
  for (let attempt = 0; attempt < 10; attempt++) {
    const area = height * width * rng.range(scale[0], scale[1]), aspect = Math.exp(rng.range(low, high));
    const w = Math.round(Math.sqrt(area * aspect)), h = Math.round(Math.sqrt(area / aspect));
    if (w > 0 && w <= width && h > 0 && h <= height) {
      return { left: rng.int(width - w + 1), top: rng.int(height - h + 1), width: w, height: h };
    }
  }
  const w = Math.min(width, Math.round(height * ratio[1])),
    h = Math.min(height, Math.round(width / ratio[0]));
  return { left: (width - w) >> 1, top: (height - h) >> 1, width: w, height: h };
}

/**
 * Cuts a box out of image `index` and resizes it to a square: bilinear when enlarging, a triangle filter as wide as the
 * reduction when shrinking, so that nothing aliases.
 *
 *     out(i) = Σ_j w(i, j) · in(j) / Σ_j w(i, j),  w = max(0, 1 − |j + ½ − (i + ½)·s| / max(s, 1)),  s = box / size
 *
 * *Source*: Pillow's `Image.resize(size, BILINEAR)` of the cropped image. *Differs*: no rounding to bytes.
 *
 * @param imageBHWC float32 [B, H, W, 3], any range.
 * @param size height and width of the result.
 * @param flip whether left and right are swapped afterwards.
 * @returns float32 [size, size, 3].
 * @throws RangeError if the box is not inside the image.
 */
export function resizedCrop(
  imageBHWC: HostTensor,
  index: number,
  box: CropBox,
  size: number,
  flip = false,
): HostTensor {
  expectShape("Cannot crop", imageBHWC.shape, [null, null, null, 3]);
  const [count, height, width] = imageBHWC.shape, data = new Float32Array(size * size * 3);
  const inside = index >= 0 && index < count && box.left >= 0 && box.top >= 0 && box.width >= 1 &&
    box.height >= 1 && box.left + box.width <= width && box.top + box.height <= height;
  if (!inside) {
    throw new RangeError(
      `Cannot crop image ${index}: the box must lie in ${width} × ${height} pixels of ${count} images, got ` +
        `${box.width} × ${box.height} at (${box.left}, ${box.top})`,
    );
  }
  cropInto(imageBHWC.data, index * height * width * 3, width, box, size, flip, data);
  return { dtype: "float32", shape: [size, size, 3], data };
}

/** {@link resizedCrop} without checks, into memory that is there. */
export function cropInto(
  image: ArrayLike<number>,
  offset: number,
  imageWidth: number,
  box: CropBox,
  size: number,
  flip: boolean,
  out: Float32Array,
): void {
  const across = resizeTaps(box.width, size), down = resizeTaps(box.height, size), row = size * 3;
  if (scratch.length < box.height * row) scratch = new Float32Array(box.height * row);
  // Rows first, into [box height, size, 3].
  for (let y = 0; y < box.height; y++) {
    const start = offset + ((box.top + y) * imageWidth + box.left) * 3;
    for (let x = 0; x < size; x++) {
      let r = 0, g = 0, b = 0;
      for (
        let k = 0, w = x * across.width, i = start + 3 * across.starts[x];
        k < across.width;
        k++, w++, i += 3
      ) {
        const weight = across.weights[w];
        if (weight === 0) continue;
        r += weight * image[i];
        g += weight * image[i + 1];
        b += weight * image[i + 2];
      }
      const o = y * row + 3 * (flip ? size - 1 - x : x);
      scratch[o] = r;
      scratch[o + 1] = g;
      scratch[o + 2] = b;
    }
  }
  for (let y = 0; y < size; y++) {
    const line = out.subarray(y * row, (y + 1) * row).fill(0);
    for (let k = 0; k < down.width; k++) {
      const weight = down.weights[y * down.width + k], from = (down.starts[y] + k) * row;
      if (weight === 0) continue;
      for (let x = 0; x < row; x++) line[x] += weight * scratch[from + x];
    }
  }
}

function resizeTaps(from: number, to: number): Taps {
  const key = from * 65536 + to;
  let taps = tapsCache.get(key);
  if (taps === undefined) {
    taps = makeTaps(from, to);
    if (tapsCache.size >= 1024) tapsCache.clear();
    tapsCache.set(key, taps);
  }
  return taps;
}

function makeTaps(from: number, to: number): Taps {
  const step = from / to, reach = Math.max(step, 1), width = Math.min(from, 2 * Math.ceil(reach) + 1);
  const starts = new Int32Array(to), weights = new Float32Array(to * width);
  for (let i = 0; i < to; i++) {
    const centre = (i + 0.5) * step;
    const start = Math.max(0, Math.min(from - width, Math.floor(centre - reach)));
    const weight = (k: number) => Math.max(0, 1 - Math.abs(start + k + 0.5 - centre) / reach);
    let sum = 0;
    for (let k = 0; k < width; k++) sum += weight(k);
    for (let k = 0; k < width; k++) weights[i * width + k] = weight(k) / sum;
    starts[i] = start;
  }
  return { starts, weights, width };
}

/**
 * Swaps left and right of the chosen images.
 *
 * @param imageBHWC float32 [B, H, W, C], any range; not changed.
 * @param flags one a image: non-zero to flip.
 * @returns a new tensor of the same shape.
 */
export function flipHorizontal(imageBHWC: HostTensor, flags: ArrayLike<number>): HostTensor {
  const [count, height, width, channels] = imageBHWC.shape, row = width * channels;
  expectShape("Cannot flip", [flags.length], [count]);
  const data = Float32Array.from(imageBHWC.data);
  for (let b = 0; b < count; b++) {
    if (!flags[b]) continue;
    for (let start = b * height * row; start < (b + 1) * height * row; start += row) {
      for (let x = 0; x < width; x++) {
        const to = start + (width - 1 - x) * channels, from = start + x * channels;
        for (let c = 0; c < channels; c++) data[to + c] = imageBHWC.data[from + c];
      }
    }
  }
  return { dtype: "float32", shape: imageBHWC.shape, data };
}

/** Flips each image with the given probability; image b depends on nothing but the stream and b. */
export function randomFlip(imageBHWC: HostTensor, rng: Rng, probability = 0.5): HostTensor {
  return flipHorizontal(
    imageBHWC,
    Array.from({ length: imageBHWC.shape[0] }, (_, b) => rng.split("flip", b).next() < probability ? 1 : 0),
  );
}
