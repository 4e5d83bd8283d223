/**
 * Geometric transforms of images in host memory: resized crops and flips.
 *
 * @module
 */
import { expectShape, type HostTensor, type Rng } from "novae/tensor/mod.ts";
import { type ResizeFilter, resizeFloats } from "novae/io/mod.ts";

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
  filter: ResizeFilter = "bilinear",
): void {
  const area = {
    offset: offset + (box.top * imageWidth + box.left) * 3,
    stride: imageWidth * 3,
    height: box.height,
    width: box.width,
    channels: 3,
  };
  resizeFloats(image, area, { height: size, width: size }, filter, out);
  if (flip) flipRows(out, size, 3);
}

/**
 * Swaps left and right of the chosen images.
 *
 * @param imageBHWC float32 [B, H, W, C], any range; not changed.
 * @param flags one a image: non-zero to flip.
 * @returns a new tensor of the same shape.
 */
export function flipHorizontal(imageBHWC: HostTensor, flags: ArrayLike<number>): HostTensor {
  const [count, height, width, channels] = imageBHWC.shape, size = height * width * channels;
  expectShape("Cannot flip", [flags.length], [count]);
  const data = Float32Array.from(imageBHWC.data);
  for (let b = 0; b < count; b++) {
    if (flags[b]) flipRows(data.subarray(b * size, (b + 1) * size), width, channels);
  }
  return { dtype: "float32", shape: imageBHWC.shape, data };
}

/** Swaps left and right of all rows of an image, in place. */
function flipRows(data: Float32Array, width: number, channels: number): void {
  for (let start = 0; start < data.length; start += width * channels) {
    for (let left = 0, right = width - 1; left < right; left++, right--) {
      for (let c = 0; c < channels; c++) {
        const l = start + left * channels + c, r = start + right * channels + c, value = data[l];
        data[l] = data[r];
        data[r] = value;
      }
    }
  }
}

/** Flips each image with the given probability; image b depends on nothing but the stream and b. */
export function randomFlip(imageBHWC: HostTensor, rng: Rng, probability = 0.5): HostTensor {
  return flipHorizontal(
    imageBHWC,
    Array.from({ length: imageBHWC.shape[0] }, (_, b) => rng.split("flip", b).next() < probability ? 1 : 0),
  );
}
