/**
 * Square crops of images, turned and placed as drawn: what a training sees of a data set.
 *
 * @module
 */
import { ConfigError, float32, type HostTensor } from "novae/tensor/mod.ts";
import type { Dataset } from "./dataset.ts";
import { type CropPlace, type Framing, planFrame } from "./framing.ts";
import { type ImageFiles, isImageFiles } from "./image_files.ts";
import { ImagePool } from "./image_pool.ts";
import { flipHorizontal } from "./resized_crop.ts";

/** How one image is seen. Plain data. */
export interface ImageView {
  /** Which image. */
  readonly index: number;
  /** Whether left and right are swapped, after the crop. */
  readonly mirrored: boolean;
  /** Where the crop lies; null for the middle. */
  readonly place: CropPlace | null;
}

/** Images of a data set, loaded as they are to be seen. */
export interface ImageViews extends Disposable {
  /** What the set is called. */
  readonly name: string;
  /** Hash of the data set. */
  readonly hash: string;
  /** Number of images. */
  readonly size: number;
  /** Rows and columns of a view. */
  readonly imageSize: number;
  /** Whether images are larger than their views, so that the place of the crop counts. */
  readonly cropped: boolean;
  /**
   * Loads images.
   *
   * @returns `imageUnit` [B, S, S, 3] in the order of the views; the caller owns it.
   * @throws DataError naming the file if one is missing or does not decode; RangeError for an index that is not there.
   */
  load(views: readonly ImageView[]): Promise<HostTensor>;
}

/** Options of {@link openImageViews}. */
export interface ImageViewsOptions {
  /** How image files are brought to one size; the crop is what is seen. Images in memory are cropped alone. */
  readonly framing: Framing & { readonly crop: { readonly height: number; readonly width: number } };
  /** Threads that decode image files. */
  readonly workers?: number;
}

/**
 * Opens a data set for square crops: one in memory, or image files, which are decoded and resized in threads.
 *
 * @throws ConfigError if the crop is larger than the images in memory, or than what image files are resized to.
 */
export function openImageViews(images: Dataset | ImageFiles, options: ImageViewsOptions): ImageViews {
  const { framing: { crop, resize } } = options;
  const from = isImageFiles(images)
    ? (resize && "shortestEdge" in resize ? resize.shortestEdge : Infinity)
    : images.imageSize;
  if (Math.max(crop.height, crop.width) > from) {
    throw new ConfigError(
      `Cannot crop ${images.name}: the crop of ${crop.width} × ${crop.height} must fit into its images, ` +
        `got a side of ${from} pixels`,
    );
  }
  return isImageFiles(images) ? viewsOfFiles(images, options) : viewsOfDataset(images, crop);
}

function viewsOfFiles(files: ImageFiles, { framing, workers }: ImageViewsOptions): ImageViews {
  const pool = new ImagePool({ framing, workers }), { name, hash, size } = files;
  return {
    name,
    hash,
    size,
    imageSize: framing.crop.height,
    cropped: true, // the longer side is, even where the shorter one is not
    load: async (views) => {
      const paths = views.map(({ index }) => files.path(index));
      return mirroredViews(await pool.load(paths, views.map(({ place }) => place)), views);
    },
    [Symbol.dispose]: () => pool[Symbol.dispose](),
  };
}

function viewsOfDataset(images: Dataset, crop: { height: number; width: number }): ImageViews {
  const { name, hash, size, imageSize: from } = images;
  const load = (views: readonly ImageView[]) => {
    const whole = images.images(views.map(({ index }) => index));
    const cut = from === crop.height ? whole : cropped(whole, crop.height, views);
    return Promise.resolve(mirroredViews(cut, views));
  };
  const cropsAny = from !== crop.height;
  return { name, hash, size, imageSize: crop.height, cropped: cropsAny, load, [Symbol.dispose]: () => {} };
}

function cropped(images: HostTensor, size: number, views: readonly ImageView[]): HostTensor {
  const [count, height, width] = images.shape, row = size * 3;
  const out = new Float32Array(count * size * row), crop = { height: size, width: size };
  views.forEach(({ place }, b) => {
    const { top, left } = planFrame({ height, width }, { resize: null, crop }, place).crop;
    for (let y = 0; y < size; y++) {
      const start = ((b * height + top + y) * width + left) * 3;
      out.set(images.data.subarray(start, start + row) as Float32Array, (b * size + y) * row);
    }
  });
  return float32(out, [count, size, size, 3]);
}

function mirroredViews(images: HostTensor, views: readonly ImageView[]): HostTensor {
  if (!views.some(({ mirrored }) => mirrored)) return images;
  return flipHorizontal(images, views.map(({ mirrored }) => mirrored ? 1 : 0));
}
