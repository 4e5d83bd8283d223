/**
 * `solids`: a procedural data set of ten kinds of 3-D solids, with factors, segmentation masks and depth maps.
 *
 * @module
 */
import { dirname, join } from "node:path";
import { DataError, type HostTensor } from "novae/tensor/mod.ts";
import { fileError, pathExists } from "novae/io/mod.ts";
import { cacheFolder } from "./cache_folder.ts";
import { contentHash, type Dataset, type OnDataProgress, PackedDataset } from "./dataset.ts";
import { SOLID_KINDS, type SolidsFactors, type SolidsSplit, solidsViewFactors } from "./solids_factors.ts";
import {
  annotationsInFile,
  annotationsInMemory,
  hashSolids,
  readSolidsFile,
  type SolidsAnnotations,
  type SolidsFileConfig,
  type SolidsFileContent,
  solidsLabels,
  writeSolidsFile,
} from "./solids_file.ts";
import { renderSolids } from "./solids_pool.ts";
import { DEPTH_STEP } from "./solids_render.ts";

/** Which images of the `solids` are wanted and where they are kept. */
export interface SolidsOptions {
  /** The stream: training and test images of a seed share nothing. */
  readonly split: SolidsSplit;
  /** Number of images, from index 0 on; at least 1. */
  readonly count: number;
  /** Any integer; 0 if omitted. */
  readonly seed?: number;
  /** Height and width in pixels, 8 to 1024; 64 if omitted. */
  readonly imageSize?: number;
  /**
   * Which picture of each solid: those above 0 show the solid of the image with the same index again, in another pose,
   * paint, light and room; 0 if omitted.
   */
  readonly view?: number;
  /** Folder of the cache; {@link cacheFolder} if omitted, no cache if null. */
  readonly cacheDir?: string | null;
  /** Number of worker threads; one a core if omitted. */
  readonly workers?: number;
  /** Told of rendering as it goes on, and of a cache file that had to be made again. */
  readonly onProgress?: OnDataProgress;
}

/** Rendered solids: a data set that also knows each image's factors, mask and depths. */
export class SolidsDataset extends PackedDataset {
  readonly #config: SolidsFileConfig;
  readonly #annotations: SolidsAnnotations;

  /**
   * Makes a data set of rendered images; {@link loadSolids} does so.
   *
   * @param config what was rendered.
   * @param content pixels, labels and hashes.
   * @param annotations masks and depths.
   */
  constructor(config: SolidsFileConfig, content: SolidsFileContent, annotations: SolidsAnnotations) {
    const classes = SOLID_KINDS, { imageSize } = config, { pixels, labels, hashes } = content;
    super(
      { name: solidsName(config), classes, imageSize, pixels, labels },
      contentHash({ classes, imageSize }, hashes.pixels, hashes.labels),
    );
    this.#config = config;
    this.#annotations = annotations;
  }

  /** Segmentation masks: int32 [B, H, W] of 0 (wall), 1 (floor) and 2 (solid), by the ray through the pixel's centre. */
  masks(indices: ArrayLike<number>): HostTensor {
    const { imageSize } = this, area = imageSize * imageSize;
    const data = new Int32Array(indices.length * area), one = new Uint8Array(area);
    for (let b = 0; b < indices.length; b++) {
      this.#annotations.mask(this.checkIndex(indices[b]), one);
      data.set(one, b * area);
    }
    return { dtype: "int32", shape: [indices.length, imageSize, imageSize], data };
  }

  /**
   * Depth maps: float32 [B, H, W], the distance of the surface along the camera's axis in world units (the camera is 6
   * away from the point it looks at), in steps of 1/4096.
   */
  depths(indices: ArrayLike<number>): HostTensor {
    const { imageSize } = this, area = imageSize * imageSize;
    const data = new Float32Array(indices.length * area), one = new Uint16Array(area);
    for (let b = 0; b < indices.length; b++) {
      this.#annotations.depth(this.checkIndex(indices[b]), one);
      for (let i = 0; i < area; i++) data[b * area + i] = one[i] * DEPTH_STEP;
    }
    return { dtype: "float32", shape: [indices.length, imageSize, imageSize], data };
  }

  /** The factors that image `index` was rendered from. */
  factors(index: number): SolidsFactors {
    const { seed, split, view } = this.#config;
    return solidsViewFactors(seed, split, this.checkIndex(index), view);
  }
}

/** Whether a data set has masks, depths and factors. */
export function isSolids(dataset: Dataset): dataset is SolidsDataset {
  return dataset instanceof SolidsDataset;
}

/**
 * Renders `solids` or takes them from the cache.
 *
 * Image i of a seed and split is the same whatever the count, the number of workers and the cache. A cache file that
 * is damaged or was made by another version is rendered again, and `onProgress` is told so.
 *
 * @returns the data set; pixels are held in memory (12 KiB an image of 64 × 64), masks and depths stay in the file.
 * @throws RangeError if count, seed or image size is out of range.
 * @throws NovaeError if the cache cannot be written.
 */
export async function loadSolids(options: SolidsOptions): Promise<SolidsDataset> {
  const { split, count, seed = 0, imageSize = 64, view = 0, cacheDir = cacheFolder(), onProgress } = options;
  const config = { seed, split, count, imageSize, view };
  checkConfig(config);
  const task = solidsName(config), stream = view === 0 ? split : `${split}-view${view}`;
  const path = cacheDir === null
    ? null
    : join(cacheDir, "solids", `${stream}-seed${seed}-${count}x${imageSize}px.bin`);
  if (path !== null && await pathExists(path)) {
    try {
      return new SolidsDataset(config, await readSolidsFile(path, config), annotationsInFile(path, config));
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      onProgress?.({ task, done: 0, total: count, note: `${error.message}; rendering it again` });
    }
  }
  const images = await renderSolids({
    ...config,
    workers: options.workers,
    onProgress: (done, total) => onProgress?.({ task, done, total }),
  });
  const labels = solidsLabels(count), hashes = hashSolids(labels, images);
  const content = { labels, pixels: images.pixels, hashes };
  if (path === null) return new SolidsDataset(config, content, annotationsInMemory(images, imageSize));
  await makeFolder(dirname(path));
  await writeSolidsFile(path, config, labels, images, hashes);
  return new SolidsDataset(config, content, annotationsInFile(path, config));
}

function solidsName({ split, view }: SolidsFileConfig): string {
  return view === 0 ? `solids/${split}` : `solids/${split} view ${view}`;
}

function checkConfig({ seed, count, imageSize, view }: SolidsFileConfig): void {
  const need = (fits: boolean, what: string, got: number) => {
    if (!fits) throw new RangeError(`Cannot render solids: ${what}, got ${got}`);
  };
  need(Number.isSafeInteger(seed), "seed must be an integer", seed);
  need(Number.isInteger(count) && count >= 1, "count must be a whole number of at least 1", count);
  need(Number.isInteger(view) && view >= 0, "view must be a whole number of at least 0", view);
  need(
    Number.isInteger(imageSize) && imageSize >= 8 && imageSize <= 1024,
    "imageSize must be a whole number in 8 … 1024",
    imageSize,
  );
}

async function makeFolder(path: string): Promise<void> {
  try {
    await Deno.mkdir(path, { recursive: true });
  } catch (error) {
    throw fileError(`Cannot make folder ${path}`, error);
  }
}
