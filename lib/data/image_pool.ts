/**
 * Reading, decoding and framing of image files in worker threads, ahead of whoever waits for them.
 *
 * @module
 */
import { DataError, float32, type HostTensor } from "novae/tensor/mod.ts";
import type { PixelSize } from "novae/io/mod.ts";
import { type CropPlace, framedSize, type Framing } from "./framing.ts";
import type { FramedImages, FrameRequest } from "./image_worker.ts";

/** Options of {@link ImagePool}. */
export interface ImagePoolOptions {
  /** How images are brought to one size. */
  readonly framing: Framing;
  /** Number of worker threads, 1 or more; one a core, but at most 16, if omitted. */
  readonly workers?: number;
}

/** Images that a worker prepares at a time: few, so that all workers share in a batch. */
const IMAGES_A_REQUEST = 4;

interface Pending {
  readonly resolve: (images: FramedImages) => void;
  readonly reject: (error: Error) => void;
}

/** A thread with the requests that it was sent and has not answered, the oldest first. */
interface Thread {
  readonly worker: Worker;
  readonly pending: Pending[];
}

/**
 * Threads that turn image files into tensors of one size. Requests are sent to them at once and wait there, so that they
 * go on while the thread that asked is busy.
 */
export class ImagePool implements Disposable {
  /** Extents of the images that come out. */
  readonly size: PixelSize;
  readonly #framing: Framing;
  readonly #threads: Thread[];

  /**
   * Starts the threads.
   *
   * @throws RangeError if the framing leaves images at different sizes, or for a number of threads that cannot be.
   */
  constructor({ framing, workers = Math.min(navigator.hardwareConcurrency, 16) }: ImagePoolOptions) {
    const size = framedSize(framing);
    if (size === null) throw new RangeError("Cannot prepare images: the framing must bring all to one size");
    if (!Number.isInteger(workers) || workers < 1) {
      throw new RangeError(
        `Cannot prepare images: workers must be a whole number of at least 1, got ${workers}`,
      );
    }
    this.size = size;
    this.#framing = framing;
    this.#threads = Array.from({ length: workers }, startThread);
  }

  /** Images that all threads together can be busy with. */
  get capacity(): number {
    return this.#threads.length * IMAGES_A_REQUEST;
  }

  /**
   * Reads images.
   *
   * @param places where the crop of each lies, null for the middle; the middle of all if omitted.
   * @returns float32 `imageUnit` [B, H, W, 3], pixels in [0, 1] up to the overshoot of a resize of numbers.
   * @throws DataError naming the file if one is missing, does not decode or is too small for the crop.
   */
  async load(paths: readonly string[], places?: readonly (CropPlace | null)[]): Promise<HostTensor> {
    const { height, width } = this.size, one = height * width * 3;
    const out = new Float32Array(paths.length * one), parts: Promise<void>[] = [];
    for (let first = 0; first < paths.length; first += IMAGES_A_REQUEST) {
      const last = first + IMAGES_A_REQUEST, some = paths.slice(first, last);
      const request = {
        paths: some,
        framing: this.#framing,
        places: places?.slice(first, last),
        values: one,
      };
      parts.push(
        this.#send(request).then((images) => {
          if (images.pixels === null) throw new DataError(images.problem);
          out.set(images.pixels, first * one);
        }),
      );
    }
    await Promise.all(parts);
    return float32(out, [paths.length, height, width, 3]);
  }

  /** Ends the threads; what was asked for and is not there yet never comes. */
  [Symbol.dispose](): void {
    for (const { worker } of this.#threads) worker.terminate();
  }

  #send(request: FrameRequest): Promise<FramedImages> {
    const idle = this.#threads.reduce((best, thread) =>
      thread.pending.length < best.pending.length ? thread : best
    );
    return new Promise((resolve, reject) => {
      idle.pending.push({ resolve, reject });
      idle.worker.postMessage(request);
    });
  }
}

function startThread(): Thread {
  const worker = new Worker(new URL("./image_worker.ts", import.meta.url), { type: "module" });
  const pending: Pending[] = [];
  worker.onmessage = ({ data }: MessageEvent<FramedImages>) => pending.shift()!.resolve(data);
  worker.onerror = (event) => {
    event.preventDefault();
    const error = new Error(`Cannot prepare images: a worker failed: ${event.message}`);
    for (const { reject } of pending.splice(0)) reject(error);
  };
  return { worker, pending };
}
