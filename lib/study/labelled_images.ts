/**
 * Labelled images of a data set in batches, with the features of the frozen encoder, which are kept if they fit.
 *
 * @module
 */
import { type HostTensor, rows } from "novae/tensor/mod.ts";
import {
  type Dataset,
  type ImageFiles,
  type ImageViews,
  isImageFiles,
  openImageViews,
} from "novae/data/mod.ts";
import { autoencoderFraming, type FrozenEncoder } from "novae/autoencoder/mod.ts";

/** A batch of labelled images. */
export interface LabelledBatch {
  /** `imageUnit` `[B, S, S, 3]`. */
  readonly images: HostTensor;
  /** Class of each. */
  readonly labels: Int32Array;
  /** Frozen features `[B, N, D]`, if there is an encoder. */
  readonly features?: HostTensor;
}

/** How images are seen. */
export interface LabelledImagesOptions {
  /** Rows and columns of the middle square that is kept. */
  readonly imageSize: number;
  /** Shorter side that image files are brought to before. Default: `imageSize`. */
  readonly resize?: number;
  /** The frozen encoder; not disposed of. */
  readonly encoder?: FrozenEncoder;
  /** The features of the middle of all images, if they are there already; more rows, of mirror images, are left out. */
  readonly features?: HostTensor;
  /** Features that would take more are computed anew each time. Default 1 GiB. */
  readonly maxBytes?: number;
  /** Threads that decode image files. */
  readonly workers?: number;
}

/** Pixels that are in memory as floats at once, those of 500 images of 64 × 64, and the fewest images. */
const BATCH_PIXELS = 500 * 64 ** 2, BATCH_IMAGES = 16;

/** A data set whose batches are gone through as often as needed, in the same order. */
export class LabelledImages implements Disposable {
  /** The images. */
  readonly source: Dataset | ImageFiles;
  /** The frozen encoder. */
  readonly encoder: FrozenEncoder | undefined;
  readonly #views: ImageViews;
  readonly #maxBytes: number;
  readonly #known: HostTensor | undefined;
  readonly #kept = new Map<number, HostTensor>();
  #keptBytes = 0;

  /**
   * Computes nothing yet.
   *
   * @throws ConfigError if the square does not fit into the images.
   */
  constructor(source: Dataset | ImageFiles, options: LabelledImagesOptions) {
    const { imageSize, resize, encoder, maxBytes = 2 ** 30, workers } = options;
    this.source = source;
    this.encoder = encoder;
    this.#views = openImageViews(source, { framing: autoencoderFraming(imageSize, resize), workers });
    this.#maxBytes = maxBytes;
    this.#known = options.features;
  }

  /** Number of images. */
  get size(): number {
    return this.source.size;
  }

  /** Classes of the images from `start` to before `end`; of all if omitted. */
  labels(start = 0, end: number = this.size): Int32Array {
    if (isImageFiles(this.source)) return this.source.labels(start, end);
    return this.source.labels(Int32Array.from({ length: end - start }, (_, i) => start + i));
  }

  /** All images in their order. */
  async *batches(): AsyncGenerator<LabelledBatch> {
    const { size } = this, { imageSize } = this.#views;
    const length = Math.max(Math.floor(BATCH_PIXELS / imageSize ** 2), BATCH_IMAGES);
    for (let start = 0; start < size; start += length) {
      const indices = Array.from({ length: Math.min(length, size - start) }, (_, i) => start + i);
      const images = await this.#views.load(
        indices.map((index) => ({ index, mirrored: false, place: null })),
      );
      const labels = this.labels(start, start + indices.length);
      yield { images, labels, ...(this.encoder && { features: await this.#features(start, images) }) };
    }
  }

  /** Releases the threads that decode image files. */
  [Symbol.dispose](): void {
    this.#views[Symbol.dispose]();
  }

  async #features(start: number, images: HostTensor): Promise<HostTensor> {
    if (this.#known) return rows(this.#known, start, start + images.shape[0]);
    const kept = this.#kept.get(start);
    if (kept) return kept;
    const { patchesBND } = await this.encoder!.features(images);
    if (this.#keptBytes + patchesBND.data.byteLength <= this.#maxBytes) {
      this.#keptBytes += patchesBND.data.byteLength;
      this.#kept.set(start, patchesBND);
    }
    return patchesBND;
  }
}
