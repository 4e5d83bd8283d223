/**
 * Images: decoding, encoding, resizing and grids. Pixels are 8-bit RGB, row by row.
 *
 * @module
 */
import type sharpModule from "sharp";
import { DataError, expectShape, type HostTensor, oneLine } from "novae/tensor/mod.ts";
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

/** Pillow's limit, beyond which it takes an image for a decompression bomb. */
const PIXEL_LIMIT = 178_956_970;

/** How the formats that are decoded begin; others that the library knows, such as SVG, may refer to other files. */
const SIGNATURES: readonly RegExp[] = [
  /^\xff\xd8\xff/, // JPEG
  /^\x89PNG\r\n[^]\n/,
  /^RIFF[^]{4}WEBP/,
  /^GIF8[79]a/,
  /^(II[*+]\0|MM\0[*+])/, // TIFF
  /^[^]{4}ftyp(avif|avis|mif1)/,
];

/**
 * Decodes a JPEG, PNG, WebP, GIF, TIFF or AVIF image to RGB, pixel for pixel as the loaders that models are trained with
 * do, which is Pillow's `Image.open(path).convert("RGB")`: grey is spread to three channels, the opacity of pixels is
 * dropped and not composited, 16 bits become their upper 8, CMYK becomes (255 − c) · (255 − k) / 255, colour profiles and
 * the orientation tag are left alone, of an animation the first picture is taken.
 *
 * *Differs*: transparent pixels of GIF are black, for Pillow they have whatever colour the palette gives them.
 *
 * @param source the file's bytes or its path.
 * @throws DataError if the file is missing, is of another format, has more than 178,956,970 pixels, or does not decode,
 * also when it is merely truncated.
 */
export async function decodeImage(source: Uint8Array | string): Promise<RgbImage> {
  const bytes = typeof source === "string" ? await readBytes(source) : source;
  const what = typeof source === "string" ? source : `image of ${bytes.length} bytes`;
  expectImage(bytes, what);
  const sharp = await loadSharp();
  try {
    const { width, height, space } = await sharp(bytes, { limitInputPixels: false }).metadata();
    if (width * height > PIXEL_LIMIT) {
      throw new Error(`it must have at most ${PIXEL_LIMIT} pixels, got ${width} × ${height}`);
    }
    const image = sharp(bytes, { failOn: "truncated", ignoreIcc: true, limitInputPixels: PIXEL_LIMIT });
    const wanted = space === "cmyk"
      ? image.pipelineColourspace("cmyk").toColourspace("cmyk")
      : image.toColourspace("srgb").removeAlpha();
    const { data, info } = await wanted.raw({ depth: "uchar" }).toBuffer({ resolveWithObject: true });
    const pixels = space === "cmyk" ? fromCmyk(data, info.channels) : new Uint8Array(data);
    if (pixels.length !== info.width * info.height * 3) {
      throw new Error(`3 channels are needed, got ${info.channels}`);
    }
    return { width: info.width, height: info.height, data: pixels };
  } catch (error) {
    const reason = (error as Error).message.split("\n")[0].replace(/^Input buffer /, "it ");
    throw new DataError(`Cannot decode ${what}: ${oneLine(reason)}`, { cause: error });
  }
}

function expectImage(bytes: Uint8Array, what: string): void {
  if (bytes.length === 0) throw new DataError(`Cannot decode ${what}: the file is empty`);
  const start = String.fromCharCode(...bytes.subarray(0, 32));
  if (SIGNATURES.some((signature) => signature.test(start))) return;
  const got = /^[\x20-\x7e\s]{2,}$/.test(start) ? `text: ${start.trim()}` : "another format";
  throw new DataError(
    `Cannot decode ${what}: it must be a JPEG, PNG, WebP, GIF, TIFF or AVIF image, got ${oneLine(got)}`,
  );
}

/** The conversion of Pillow, without a profile; channels after the fourth are opacity. */
function fromCmyk(data: Uint8Array, channels: number): Uint8Array<ArrayBuffer> {
  const pixels = new Uint8Array(data.length / channels * 3);
  for (let from = 0, to = 0; from < data.length; from += channels) {
    const light = 255 - data[from + 3];
    for (let c = 0; c < 3; c++) pixels[to++] = light - roundedProduct(data[from + c], light);
  }
  return pixels;
}

/** a · b / 255, rounded as Pillow's MULDIV255 does. */
function roundedProduct(a: number, b: number): number {
  const product = a * b + 128;
  return ((product >> 8) + product) >> 8;
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
