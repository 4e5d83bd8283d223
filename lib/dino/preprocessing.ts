/**
 * What happens to pixels before a DINO encoder sees them.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { expectShape } from "novae/tensor/mod.ts";
import type { CropBox } from "novae/data/mod.ts";
import type { PixelSize, ResizeFilter } from "novae/io/mod.ts";
import { resizeImages } from "novae/nn/mod.ts";

/** Mean of red, green and blue over ImageNet, of pixels in [0, 1]. */
export const IMAGENET_MEAN: readonly number[] = [0.485, 0.456, 0.406];

/** Standard deviation of red, green and blue over ImageNet, of pixels in [0, 1]. */
export const IMAGENET_STD: readonly number[] = [0.229, 0.224, 0.225];

/** How images are prepared: resized, cut to the middle, scaled and normalised, in this order. Plain data. */
export interface Preprocessing {
  /** Extents before the crop, or those of the shorter side with the ratio kept; null leaves the size. */
  readonly resize: PixelSize | { readonly shortestEdge: number } | null;
  /** How pixels are averaged; always antialiased. */
  readonly filter: ResizeFilter;
  /** Whether the resize works on bytes, as with Pillow, or on numbers, as with PyTorch's tensors. */
  readonly bytes: boolean;
  /** Extents of the middle part that is kept; null keeps all. */
  readonly crop: PixelSize | null;
  /** What pixels in [0, 1] are multiplied with before they are normalised; 1 for all published encoders. */
  readonly scale: number;
  /** Subtracted from red, green and blue. */
  readonly mean: readonly number[];
  /** What red, green and blue are divided by after that. */
  readonly std: readonly number[];
}

const IMAGENET = { scale: 1, mean: IMAGENET_MEAN, std: IMAGENET_STD } as const;
const CROPPED: Preprocessing = {
  resize: { shortestEdge: 256 },
  filter: "bicubic",
  bytes: true,
  crop: { height: 224, width: 224 },
  ...IMAGENET,
};

/**
 * What the published encoders of each family were evaluated with.
 *
 * *Source*: facebookresearch/dino `eval_knn.py`; Hugging Face's `preprocessor_config.json` of facebook/dinov2-base
 * (`BitImageProcessor`); `DINOv3ViTImageProcessorFast`, which turns images to numbers first and then resizes.
 */
export const PREPROCESSING: Readonly<Record<"dino" | "dinov2" | "dinov3", Preprocessing>> = {
  dino: CROPPED,
  dinov2: CROPPED,
  dinov3: {
    resize: { height: 224, width: 224 },
    filter: "bilinear",
    bytes: false,
    crop: null,
    ...IMAGENET,
  },
};

/**
 * Prepares images as a pure function of tensors, to be compiled with the encoder or alone:
 *
 *     imageDino = (scale · crop(resize(imageUnit)) − mean) / std
 *
 * @example
 * ```ts
 * import { jit } from "novae/engine/mod.ts";
 * import { zeros } from "novae/tensor/mod.ts";
 * import { PREPROCESSING, preprocess } from "novae/dino/mod.ts";
 * const prepare = jit((x) => preprocess(x, PREPROCESSING.dinov3), { device: "cpu" });
 * const imageDino = await prepare(zeros([2, 30, 40, 3]));
 * if (`${imageDino.shape}` !== "2,224,224,3") throw new Error("unexpected shape");
 * ```
 * @param imageUnitBHWC pixels in [0, 1], [B, H, W, 3]; all images of a batch have one size.
 * @returns [B, H', W', 3] with the extents of {@link preparedSize}.
 * @throws TypeError if the images have another shape; RangeError if the crop is larger than the resized image.
 */
export function preprocess(imageUnitBHWC: tf.Tensor, spec: Preprocessing): tf.Tensor4D {
  expectShape("Cannot prepare images", imageUnitBHWC.shape, [null, null, null, 3]);
  const [, height, width] = imageUnitBHWC.shape, { filter, bytes, scale } = spec;
  const resized = resizedSize({ height, width }, spec), crop = centerCrop(resized, spec.crop ?? resized);
  const x = resizeImages(imageUnitBHWC, { ...resized, filter, bytes, crop });
  return normalize(scale === 1 ? x : tf.mul(x, scale), spec.mean, spec.std) as tf.Tensor4D;
}

/**
 * Extents of prepared images.
 *
 * @param from extents of the images before.
 * @throws RangeError if the crop is larger than the resized image.
 */
export function preparedSize(from: PixelSize, spec: Preprocessing): PixelSize {
  const resized = resizedSize(from, spec), { height, width } = centerCrop(resized, spec.crop ?? resized);
  return { height, width };
}

/**
 * ImageNet normalisation, `(x − mean) / std` for each channel.
 *
 * @param imageUnit pixels in [0, 1], [..., 3].
 * @returns the same shape.
 */
export function imageDinoFromUnit(imageUnit: tf.Tensor): tf.Tensor {
  return normalize(imageUnit, IMAGENET_MEAN, IMAGENET_STD);
}

function normalize(x: tf.Tensor, mean: readonly number[], std: readonly number[]): tf.Tensor {
  return tf.div(tf.sub(x, tf.tensor1d([...mean])), tf.tensor1d([...std]));
}

/** torchvision's rule: the longer side's fraction is dropped. */
function resizedSize({ height, width }: PixelSize, { resize }: Preprocessing): PixelSize {
  if (resize === null) return { height, width };
  if (!("shortestEdge" in resize)) return { height: resize.height, width: resize.width };
  const short = resize.shortestEdge;
  if (width <= height) return { height: Math.floor(short * height / width), width: short };
  return { height: short, width: Math.floor(short * width / height) };
}

/** torchvision's rule: half a pixel is rounded to the even side. */
function centerCrop(from: PixelSize, { height, width }: PixelSize): CropBox {
  if (height > from.height || width > from.width) {
    throw new RangeError(
      `Cannot prepare images: the crop of ${width} × ${height} must fit into ${from.width} × ${from.height}; ` +
        "resize to more or crop less",
    );
  }
  return { top: halfToEven(from.height - height), left: halfToEven(from.width - width), height, width };
}

function halfToEven(whole: number): number {
  const half = whole >> 1;
  return whole % 2 === 1 && half % 2 === 1 ? half + 1 : half;
}
