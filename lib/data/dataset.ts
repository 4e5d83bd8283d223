/**
 * Labelled image sets held as bytes in memory.
 *
 * @module
 */
import { DataError, type HostTensor, sizeOf } from "novae/tensor/mod.ts";
import { hashBytes } from "novae/io/mod.ts";

/** A labelled set of square RGB images, addressed by index. */
export interface Dataset {
  /** What the set is called in files and reports, e.g. "solids/train". */
  readonly name: string;
  /** Class names; labels index into them. */
  readonly classes: readonly string[];
  /** Number of images. */
  readonly size: number;
  /** Height and width of each image in pixels. */
  readonly imageSize: number;
  /** SHA-256 of the content (image size, class names, pixels, labels) in hexadecimal. */
  readonly hash: string;
  /** The images with the given indices: float32 `imageUnit` [B, H, W, 3] in [0, 1]; the caller owns the copy. */
  images(indices: ArrayLike<number>): HostTensor;
  /** The labels with the given indices, each in 0 … classes − 1. */
  labels(indices: ArrayLike<number>): Int32Array;
}

/** The images to learn from and those held out. */
export interface DatasetSplits {
  /** The images to learn from. */
  readonly train: Dataset;
  /** The images held out. */
  readonly test: Dataset;
}

/** How far a longer piece of work on data has come. */
export interface DataProgress {
  /** What is being done, e.g. "solids/train". */
  readonly task: string;
  /** Images finished so far. */
  readonly done: number;
  /** Images to be finished in all. */
  readonly total: number;
  /** Something a person should know, e.g. that a cache file was damaged. */
  readonly note?: string;
}

/** Receives progress; called a few times a second at most. */
export type OnDataProgress = (progress: DataProgress) => void;

/** What a packed data set is made of. */
export interface PackedImages {
  /** What the set is called in files and reports. */
  readonly name: string;
  /** Class names; labels index into them. */
  readonly classes: readonly string[];
  /** Height and width of each image in pixels. */
  readonly imageSize: number;
  /** Pixels of all images, row-major [N, H, W, 3]. */
  readonly pixels: Uint8Array;
  /** One label an image, [N]; two bytes each only where there are more than 256 classes. */
  readonly labels: Uint8Array | Uint16Array;
}

const UNIT = Float32Array.from({ length: 256 }, (_, byte) => byte / 255);

/** A data set whose pixels lie in memory as bytes: 3·H·W bytes an image. */
export class PackedDataset implements Dataset {
  readonly name: string;
  readonly classes: readonly string[];
  readonly size: number;
  readonly imageSize: number;
  readonly hash: string;
  readonly #pixels: Uint8Array;
  readonly #labels: Uint8Array | Uint16Array;

  /**
   * Makes a data set of bytes in memory.
   *
   * @param content pixels [N, H, W, 3] and labels [N]; kept, not copied.
   * @param hash the content hash, from {@link contentHash}.
   * @throws TypeError if the number of pixels does not fit the number of labels.
   */
  constructor(content: PackedImages, hash: string) {
    const { name, classes, imageSize, pixels, labels } = content;
    if (pixels.length !== labels.length * imageSize * imageSize * 3) {
      throw new TypeError(
        `Cannot make data set ${name}: ${labels.length} labels need ` +
          `${labels.length * imageSize * imageSize * 3} bytes of pixels, got ${pixels.length}`,
      );
    }
    this.name = name;
    this.classes = classes;
    this.size = labels.length;
    this.imageSize = imageSize;
    this.hash = hash;
    this.#pixels = pixels;
    this.#labels = labels;
  }

  images(indices: ArrayLike<number>): HostTensor {
    const { imageSize } = this, stride = imageSize * imageSize * 3;
    const shape = [indices.length, imageSize, imageSize, 3];
    const data = new Float32Array(sizeOf(shape));
    for (let b = 0, o = 0; b < indices.length; b++) {
      const start = this.checkIndex(indices[b]) * stride;
      for (let i = start; i < start + stride; i++) data[o++] = UNIT[this.#pixels[i]];
    }
    return { dtype: "float32", shape, data };
  }

  labels(indices: ArrayLike<number>): Int32Array {
    const labels = new Int32Array(indices.length);
    for (let b = 0; b < indices.length; b++) labels[b] = this.#labels[this.checkIndex(indices[b])];
    return labels;
  }

  /**
   * Returns the index if it names an image.
   *
   * @throws RangeError otherwise.
   */
  protected checkIndex(index: number): number {
    if (Number.isInteger(index) && index >= 0 && index < this.size) return index;
    throw new RangeError(`Cannot read ${this.name}: index must be in 0 … ${this.size - 1}, got ${index}`);
  }
}

/** Makes a data set of pixels and labels, with its content hash. */
export function packDataset(content: PackedImages): PackedDataset {
  return new PackedDataset(
    content,
    contentHash(content, hashBytes(content.pixels), hashBytes(content.labels)),
  );
}

/**
 * The hash that identifies a data set's content, whatever file or code it came from.
 *
 *     hash = SHA-256(JSON [image size, class names, SHA-256(pixels), SHA-256(labels)])
 *
 * @param pixelHash SHA-256 of the pixels, hexadecimal.
 * @param labelHash SHA-256 of the labels' bytes, hexadecimal.
 */
export function contentHash(
  content: { readonly classes: readonly string[]; readonly imageSize: number },
  pixelHash: string,
  labelHash: string,
): string {
  return hashBytes(JSON.stringify([content.imageSize, content.classes, pixelHash, labelHash]));
}

/**
 * Checks that the labels in use and the class names agree in number: each name has a label and each label a name.
 *
 * @param source the file or folder, for the message.
 * @throws DataError naming the source, the number of names and the labels found.
 */
export function checkLabelCount(source: string, classes: readonly string[], labels: Uint8Array): void {
  const used = new Set(labels);
  let highest = -1;
  for (const label of used) highest = Math.max(highest, label);
  if (highest + 1 === classes.length && used.size === classes.length) return;
  throw new DataError(
    `Cannot read ${source}: ${classes.length} class names need the labels 0 … ${classes.length - 1}, ` +
      `got ${used.size} different labels up to ${highest}; correct the list of class names`,
  );
}
