/**
 * How images of any size are brought to the size that a model takes.
 *
 * @module
 */
import {
  type PixelBox,
  type PixelSize,
  resizeBytes,
  type ResizeFilter,
  resizeFloats,
  type RgbImage,
} from "novae/io/mod.ts";

/** A resize and a crop to the middle, in this order. Plain data. */
export interface Framing {
  /** Extents before the crop, or those of the shorter side with the ratio kept; null leaves the size. */
  readonly resize: PixelSize | { readonly shortestEdge: number } | null;
  /** How pixels are averaged; always antialiased. */
  readonly filter: ResizeFilter;
  /** Whether the resize works on bytes, as with Pillow, or on numbers, as with PyTorch's tensors. */
  readonly bytes: boolean;
  /** Extents of the middle part that is kept; null keeps all. */
  readonly crop: PixelSize | null;
}

/**
 * Where a crop lies: shares in [0, 1) of its possible places, from the left and from the top.
 */
export interface CropPlace {
  /** From the left. */
  readonly x: number;
  /** From the top. */
  readonly y: number;
}

/** What a framing does to an image of a certain size. */
export interface FramePlan {
  /** Extents after the resize. */
  readonly resized: PixelSize;
  /** The part of the resized image that is kept. */
  readonly crop: PixelBox;
}

/**
 * Works out a framing for an image: of a side of which the ratio decides the fraction of a pixel is dropped, and half a
 * pixel in the middle crop is rounded to the even side.
 *
 * *Source*: torchvision's `Resize` and `CenterCrop`.
 *
 * @param from extents of the image.
 * @param place where the crop lies instead of the middle; places drawn uniformly give every crop the same chance.
 * @throws RangeError if the crop is larger than the resized image.
 */
export function planFrame(
  from: PixelSize,
  { resize, crop }: Pick<Framing, "resize" | "crop">,
  place: CropPlace | null = null,
): FramePlan {
  const resized = resizedSize(from, resize), { height, width } = crop ?? resized;
  if (height > resized.height || width > resized.width) {
    throw new RangeError(
      `Cannot prepare images: the crop of ${width} × ${height} must fit into ${resized.width} × ${resized.height}; ` +
        "resize to more or crop less",
    );
  }
  const offset = (rest: number, share: number | undefined) =>
    share === undefined ? halfToEven(rest) : Math.min(Math.floor(share * (rest + 1)), rest);
  const top = offset(resized.height - height, place?.y), left = offset(resized.width - width, place?.x);
  return { resized, crop: { top, left, height, width } };
}

/** The extents that images of all sizes come to; null if those depend on the image. */
export function framedSize({ resize, crop }: Framing): PixelSize | null {
  if (crop !== null) return crop;
  return resize !== null && "height" in resize ? resize : null;
}

/**
 * Resizes and crops an image of bytes into memory that is there. With `bytes` the result is Pillow's, bit for bit.
 *
 * @param out receives `imageUnit` [H', W', 3], with `bytes` in [0, 1], from its start on.
 * @param place where the crop lies; the middle if null or omitted.
 * @throws RangeError if the crop is larger than the resized image; TypeError if `out` has another size.
 */
export function frameImage(
  image: RgbImage,
  framing: Framing,
  out: Float32Array,
  place: CropPlace | null = null,
): void {
  const { resized, crop } = planFrame(image, framing, place), { filter } = framing;
  if (out.length !== crop.height * crop.width * 3) {
    throw new TypeError(
      `Cannot frame image: it needs ${crop.height * crop.width * 3} numbers, got ${out.length}`,
    );
  }
  if (framing.bytes) {
    const bytes = resizeBytes(image.data, image, resized, 3, filter, crop);
    for (let i = 0; i < out.length; i++) out[i] = UNIT[bytes[i]];
    return;
  }
  const area = { offset: 0, stride: image.width * 3, channels: 3, height: image.height, width: image.width };
  resizeFloats(image.data, area, resized, filter, out, crop);
  for (let i = 0; i < out.length; i++) out[i] /= 255;
}

const UNIT = Float32Array.from({ length: 256 }, (_, byte) => byte / 255);

/** torchvision's rule: the longer side's fraction is dropped. */
function resizedSize({ height, width }: PixelSize, resize: Framing["resize"]): PixelSize {
  if (resize === null) return { height, width };
  if (!("shortestEdge" in resize)) return { height: resize.height, width: resize.width };
  const short = resize.shortestEdge;
  if (width <= height) return { height: Math.floor(short * height / width), width: short };
  return { height: short, width: Math.floor(short * width / height) };
}

function halfToEven(whole: number): number {
  const half = whole >> 1;
  return whole % 2 === 1 && half % 2 === 1 ? half + 1 : half;
}
