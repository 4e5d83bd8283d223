/**
 * What happens to pixels before a DINO encoder sees them.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { expectShape } from "novae/tensor/mod.ts";
import { type Framing, planFrame } from "novae/data/mod.ts";
import type { PixelSize } from "novae/io/mod.ts";
import { resizeImages } from "novae/nn/mod.ts";

/** Mean of red, green and blue over ImageNet, of pixels in [0, 1]. */
export const IMAGENET_MEAN: readonly number[] = [0.485, 0.456, 0.406];

/** Standard deviation of red, green and blue over ImageNet, of pixels in [0, 1]. */
export const IMAGENET_STD: readonly number[] = [0.229, 0.224, 0.225];

/** How images are prepared: resized, cut to the middle, scaled and normalised, in this order. Plain data. */
export interface Preprocessing extends Framing {
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
  const { resized, crop } = planFrame({ height, width }, spec);
  const x = resizeImages(imageUnitBHWC, { ...resized, filter, bytes, crop });
  return normalize(scale === 1 ? x : tf.mul(x, scale), spec.mean, spec.std) as tf.Tensor4D;
}

/**
 * The same preparation for images of another size; the ratio of resize and crop is kept.
 *
 * @param size height and width of prepared images.
 */
export function preprocessingAt(spec: Preprocessing, size: number): Preprocessing {
  const square = { height: size, width: size }, { resize, crop } = spec;
  if (crop === null) return { ...spec, resize: square };
  const scaled = (side: number) => Math.round(side * size / Math.min(crop.height, crop.width));
  if (resize === null) return { ...spec, resize: { shortestEdge: size }, crop: square };
  if ("shortestEdge" in resize) {
    return { ...spec, resize: { shortestEdge: scaled(resize.shortestEdge) }, crop: square };
  }
  return { ...spec, resize: { height: scaled(resize.height), width: scaled(resize.width) }, crop: square };
}

/**
 * Preparation that leaves the pixels' places alone: what remains to be done with images that were framed before.
 */
export function withoutFraming(spec: Preprocessing): Preprocessing {
  return { ...spec, resize: null, bytes: false, crop: null };
}

/**
 * Extents of prepared images.
 *
 * @param from extents of the images before.
 * @throws RangeError if the crop is larger than the resized image.
 */
export function preparedSize(from: PixelSize, spec: Preprocessing): PixelSize {
  const { height, width } = planFrame(from, spec).crop;
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

/**
 * Preparation for the project's own encoders: the middle square at the size that they were trained on. Images of that
 * size are only normalised.
 */
export function ownPreprocessing(imageSize: number): Preprocessing {
  const crop = { height: imageSize, width: imageSize };
  return { resize: { shortestEdge: imageSize }, filter: "lanczos3", bytes: true, crop, ...IMAGENET };
}
