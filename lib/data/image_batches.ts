/**
 * Batches of images for a network, made ready ahead of it.
 *
 * @module
 */
import { float32, type HostTensor } from "novae/tensor/mod.ts";
import type { Dataset } from "./dataset.ts";
import type { Framing } from "./framing.ts";
import { type ImageFiles, isImageFiles } from "./image_files.ts";
import { ImagePool } from "./image_pool.ts";

/** Images by ranges of their numbers. */
export interface ImageBatches extends Disposable {
  /** Whether they are framed already; those of a data set in memory are as it holds them. */
  readonly framed: boolean;
  /** Images a batch. */
  readonly batchSize: number;
  /**
   * Begins with the batches of the images `first` … `last − 1` and gives them one after another at each call: always
   * `batchSize` images [B, H, W, 3], of which those beyond `last` mean nothing.
   */
  of(first: number, last: number): () => Promise<HostTensor>;
  /** Labels of the images `first` … `last − 1`. */
  labels(first: number, last: number): Int32Array;
  /** A hash of what the images are made from; absent if the hash of the data set says it all. */
  readonly inputsOf?: (first: number, last: number) => Promise<string>;
}

/** Options of {@link openImageBatches}. */
export interface ImageBatchesOptions {
  /** Images a batch. */
  readonly batchSize: number;
  /** Threads that decode image files. */
  readonly workers?: number;
}

/**
 * Images of a data set in memory are of one size and come as they are. Image files are of any size: they are decoded,
 * resized and cropped in threads.
 *
 * @throws RangeError if there are image files and the framing leaves them at different sizes.
 */
export function openImageBatches(
  images: Dataset | ImageFiles,
  framing: Framing,
  options: ImageBatchesOptions,
): ImageBatches {
  return isImageFiles(images) ? batchesOfFiles(images, framing, options) : batchesOfDataset(images, options);
}

function batchesOfDataset(images: Dataset, { batchSize }: ImageBatchesOptions): ImageBatches {
  return {
    framed: false,
    batchSize,
    of: (first, last) => {
      let next = first;
      return () => {
        const indices = Int32Array.from({ length: batchSize }, (_, i) => Math.min(next + i, last - 1));
        next += batchSize;
        return Promise.resolve(images.images(indices));
      };
    },
    labels: (first, last) => images.labels(Int32Array.from({ length: last - first }, (_, i) => first + i)),
    [Symbol.dispose]: () => {},
  };
}

function batchesOfFiles(
  files: ImageFiles,
  framing: Framing,
  { batchSize, workers }: ImageBatchesOptions,
): ImageBatches {
  const pool = new ImagePool({ framing, workers });
  // Every thread has work and more waiting, and there is a batch when one is asked for.
  const depth = Math.max(2, Math.ceil(2 * pool.capacity / batchSize));
  const load = async (first: number, last: number): Promise<HostTensor> => {
    const paths = Array.from({ length: last - first }, (_, i) => files.path(first + i));
    return withRows(await pool.load(paths), batchSize);
  };
  return {
    framed: true,
    batchSize,
    of: (first, last) =>
      ahead(Math.ceil((last - first) / batchSize), depth, (batch) => {
        const start = first + batch * batchSize;
        return load(start, Math.min(start + batchSize, last));
      }),
    labels: (first, last) => files.labels(first, last),
    inputsOf: (first, last) => files.contentOf(first, last),
    [Symbol.dispose]: () => pool[Symbol.dispose](),
  };
}

/** Starts pieces of work before they are asked for, `depth` of them at most. */
function ahead<T>(count: number, depth: number, start: (piece: number) => Promise<T>): () => Promise<T> {
  const begun: Promise<T>[] = [];
  let next = 0;
  const fill = () => {
    while (next < count && begun.length < depth) {
      const piece = start(next++);
      piece.catch(() => {}); // told to whoever asks for it
      begun.push(piece);
    }
  };
  fill();
  return () => {
    const piece = begun.shift()!;
    fill();
    return piece;
  };
}

function withRows(images: HostTensor, count: number): HostTensor {
  const [had, ...one] = images.shape;
  if (had === count) return images;
  const data = new Float32Array(images.data.length / had * count);
  data.set(images.data as Float32Array);
  return float32(data, [count, ...one]);
}
