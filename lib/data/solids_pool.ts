/**
 * Rendering of many `solids` images on all cores.
 *
 * @module
 */
import type { SolidsSplit } from "./solids_factors.ts";
import { type RenderedRange, renderRange, type RenderRequest } from "./solids_render.ts";

/** What {@link renderSolids} makes. */
export interface RenderSolidsOptions {
  readonly seed: number;
  readonly split: SolidsSplit;
  /** Number of images, from index 0 on. */
  readonly count: number;
  /** Height and width in pixels. */
  readonly imageSize: number;
  /** Which picture of each solid; 0 if omitted. */
  readonly view?: number;
  /** Number of worker threads, 0 for none; by default one a core, and none for a few images. */
  readonly workers?: number;
  /** Called as images are finished. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** Pixels, masks and depths of images 0 … count − 1, as in `RenderTarget`. */
export type SolidsImages = Omit<RenderedRange, "start">;

const PIXELS_A_RANGE = 50 * 64 * 64;

/**
 * Renders images 0 … count − 1 of a stream; the result does not depend on the number of workers.
 *
 * @throws Error if a worker fails; all workers are ended in any case.
 */
export async function renderSolids(options: RenderSolidsOptions): Promise<SolidsImages> {
  const { count, imageSize, onProgress } = options, area = imageSize * imageSize;
  const images = {
    pixels: new Uint8Array(count * area * 3),
    mask: new Uint8Array(count * area),
    depth: new Uint16Array(count * area),
  };
  let done = 0;
  const store = ({ start, pixels, mask, depth }: RenderedRange) => {
    images.pixels.set(pixels, start * area * 3);
    images.mask.set(mask, start * area);
    images.depth.set(depth, start * area);
    done += mask.length / area;
    onProgress?.(done, count);
  };
  const ranges = splitRanges(options);
  // A worker takes about 0.1 s to start: as long as two ranges take to render.
  const workers = options.workers ?? (ranges.length <= 2 ? 0 : Math.min(navigator.hardwareConcurrency, 16));
  if (workers === 0) { for (const range of ranges) store(renderRange(range)); }
  else await renderInWorkers(ranges, Math.min(workers, ranges.length), store);
  return images;
}

function splitRanges({ seed, split, count, imageSize, view }: RenderSolidsOptions): RenderRequest[] {
  const step = Math.max(1, Math.floor(PIXELS_A_RANGE / (imageSize * imageSize)));
  return Array.from({ length: Math.ceil(count / step) }, (_, i) => {
    return { seed, split, start: i * step, count: Math.min(step, count - i * step), imageSize, view };
  });
}

/** Hands out ranges until none is left; each worker asks for the next when it has delivered one. */
async function renderInWorkers(
  ranges: readonly RenderRequest[],
  count: number,
  store: (range: RenderedRange) => void,
): Promise<void> {
  const workers = Array.from(
    { length: count },
    () => new Worker(new URL("./solids_worker.ts", import.meta.url), { type: "module" }),
  );
  let next = 0;
  const serve = (worker: Worker) =>
    new Promise<void>((resolve, reject) => {
      const ask = () => next < ranges.length ? worker.postMessage(ranges[next++]) : resolve();
      worker.onmessage = ({ data }: MessageEvent<RenderedRange>) => {
        store(data);
        ask();
      };
      worker.onerror = (event) => {
        event.preventDefault();
        reject(new Error(`Cannot render solids: a worker failed: ${event.message}`));
      };
      ask();
    });
  try {
    await Promise.all(workers.map(serve));
  } finally {
    for (const worker of workers) worker.terminate();
  }
}
