/**
 * Images: decoding, encoding, resizing and grids. Pixels are 8-bit RGB, row by row.
 *
 * @module
 */
import type sharpModule from "sharp";
import { DataError, expectShape, type HostTensor } from "novae/tensor/mod.ts";
import { writeFileAtomic } from "./atomic_file.ts";
import { readBytes } from "./read_file.ts";
import { resizeBytes } from "./resize.ts";
import type { ResizeFilter } from "./resize_taps.ts";

/** An image in memory. */
export interface RgbImage {
  /** Pixels a row. */
  readonly width: number;
  /** Rows. */
  readonly height: number;
  /** height · width · 3 bytes: red, green, blue. */
  readonly data: Uint8Array<ArrayBuffer>;
}

/** Layout of {@link imageGrid}. */
export interface ImageGridOptions {
  /** Pixels between images, 0 or more; 2 if omitted. */
  readonly gap?: number;
  /** Side of the square that each pixel becomes, 1 or more; 1 if omitted. */
  readonly scale?: number;
  /** Colour of gaps and empty places, red, green and blue in 0 … 255; white if omitted. */
  readonly background?: readonly [number, number, number];
}

/** The library is loaded on first use: its native part takes longer than most commands. */
async function loadSharp(): Promise<typeof sharpModule> {
  return (await import("sharp")).default;
}

/**
 * Decodes a JPEG, PNG, WebP, GIF, TIFF or AVIF image to RGB. Grey is spread to three channels, transparency is
 * dropped, 16 bits become 8, a colour profile is applied, the orientation tag is not.
 *
 * @param source the file's bytes or its path.
 * @throws DataError if the file is missing or does not decode, also when it is merely truncated.
 */
export async function decodeImage(source: Uint8Array | string): Promise<RgbImage> {
  const bytes = typeof source === "string" ? await readBytes(source) : source;
  const what = typeof source === "string" ? source : `image of ${bytes.length} bytes`;
  if (bytes.length === 0) throw new DataError(`Cannot decode ${what}: the file is empty`);
  const sharp = await loadSharp();
  try {
    const { data, info } = await sharp(bytes, { failOn: "truncated" }).toColourspace("srgb").removeAlpha()
      .raw({ depth: "uchar" }).toBuffer({ resolveWithObject: true });
    if (info.channels !== 3) throw new Error(`3 channels are needed, got ${info.channels}`);
    return { width: info.width, height: info.height, data: new Uint8Array(data) };
  } catch (error) {
    const reason = (error as Error).message.split("\n")[0].replace(/^Input buffer /, "it ");
    throw new DataError(`Cannot decode ${what}: ${reason}`, { cause: error });
  }
}

/** Encodes an image as PNG. */
export async function encodePng(image: RgbImage): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await (await fromRaw(image)).png().toBuffer());
}

/**
 * Writes an image as a PNG file, atomically.
 *
 * @throws NovaeError if the file cannot be written.
 */
export async function writePng(path: string, image: RgbImage): Promise<void> {
  await writeFileAtomic(path, await encodePng(image));
}

/**
 * Resizes an image to exactly `width` × `height`, bit for bit as Pillow's `Image.resize` does.
 *
 * @param filter how pixels are interpolated when enlarging or averaged when shrinking; "lanczos3" if omitted.
 * @throws RangeError if a side is no whole number of at least 1.
 */
export function resizeImage(
  image: RgbImage,
  width: number,
  height: number,
  filter: ResizeFilter = "lanczos3",
): RgbImage {
  return { width, height, data: resizeBytes(image.data, image, { width, height }, 3, filter) };
}

/** Converts one image of a batch to bytes: clamp(round(255 · x), 0, 255). */
export function imageFromUnit(imageUnitBHWC: HostTensor, index = 0): RgbImage {
  expectShape("Cannot convert image", imageUnitBHWC.shape, [null, null, null, 3]);
  const [, height, width] = imageUnitBHWC.shape, size = height * width * 3;
  const pixels = imageUnitBHWC.data.subarray(index * size, (index + 1) * size);
  if (pixels.length !== size) {
    throw new RangeError(`Cannot convert image: index must be below ${imageUnitBHWC.shape[0]}, got ${index}`);
  }
  return { width, height, data: toBytes(pixels) };
}

/** Converts images of one size to a batch of imageUnit [B, H, W, 3] float32: x = byte / 255. */
export function imagesToUnit(images: readonly RgbImage[]): HostTensor {
  if (images.length === 0) {
    throw new RangeError("Cannot make a batch: at least one image is needed, got none");
  }
  const { width, height } = images[0], size = width * height * 3;
  const data = new Float32Array(images.length * size);
  images.forEach((image, b) => {
    if (image.width !== width || image.height !== height) {
      throw new TypeError(
        `Cannot make a batch: image ${b} must be ${width} × ${height}, got ${image.width} × ${image.height}`,
      );
    }
    for (let i = 0; i < size; i++) data[b * size + i] = image.data[i] / 255;
  });
  return { dtype: "float32", shape: [images.length, height, width, 3], data };
}

/**
 * Lays images out in rows of `columns`, in order, on one picture.
 *
 * @param imageUnitBHWC [B, H, W, 3] float32; values outside [0, 1] are clamped.
 * @throws RangeError if `columns`, gap or scale is no whole number in its range.
 */
export function imageGrid(
  imageUnitBHWC: HostTensor,
  columns: number,
  { gap = 2, scale = 1, background = [255, 255, 255] }: ImageGridOptions = {},
): RgbImage {
  expectShape("Cannot lay out images", imageUnitBHWC.shape, [null, null, null, 3]);
  if (!(Number.isInteger(columns) && columns >= 1)) {
    throw new RangeError(`Cannot lay out images: columns must be whole and at least 1, got ${columns}`);
  }
  if (!(Number.isInteger(gap) && gap >= 0 && Number.isInteger(scale) && scale >= 1)) {
    throw new RangeError(
      `Cannot lay out images: gap and scale must be whole numbers, got ${gap} and ${scale}`,
    );
  }
  const [count, rows, cols] = imageUnitBHWC.shape, pixels = toBytes(imageUnitBHWC.data);
  const stepX = cols * scale + gap, stepY = rows * scale + gap;
  const width = Math.max(columns * stepX - gap, 1);
  const height = Math.max(Math.ceil(count / columns) * stepY - gap, 1);
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < data.length; i++) data[i] = background[i % 3];
  for (let b = 0; b < count; b++) {
    const left = (b % columns) * stepX, top = Math.floor(b / columns) * stepY;
    for (let y = 0; y < rows * scale; y++) {
      for (let x = 0; x < cols * scale; x++) {
        const from = ((b * rows + Math.floor(y / scale)) * cols + Math.floor(x / scale)) * 3;
        data.set(pixels.subarray(from, from + 3), ((top + y) * width + left + x) * 3);
      }
    }
  }
  return { width, height, data };
}

function toBytes(values: ArrayLike<number>): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8ClampedArray(values.length); // rounds and clamps; NaN becomes 0
  for (let i = 0; i < values.length; i++) bytes[i] = values[i] * 255;
  return new Uint8Array(bytes.buffer);
}

async function fromRaw({ width, height, data }: RgbImage): Promise<ReturnType<typeof sharpModule>> {
  if (data.length !== width * height * 3) {
    throw new TypeError(
      `Cannot use image: ${width} × ${height} needs ${width * height * 3} bytes, got ${data.length}`,
    );
  }
  return (await loadSharp())(data, { raw: { width, height, channels: 3 } });
}
