/**
 * Loading a data set by name.
 *
 * @module
 */
import { ConfigError } from "novae/tensor/mod.ts";
import { loadCifar10 } from "./cifar10.ts";
import type { Dataset, DatasetSplits, OnDataProgress } from "./dataset.ts";
import { loadImageFolder } from "./image_folder.ts";
import { loadSolids } from "./solids.ts";

/** Data sets by name. */
export type DatasetName = "solids" | "cifar10" | "folder";

/** Which data set is wanted, how much of it, and where from. */
export interface DatasetOptions {
  /** The kind of data set. */
  readonly name: DatasetName;
  /** The file or folder of `cifar10` and `folder`. */
  readonly path?: string;
  /** Number of training images; if omitted, `solids` renders 10,000 and the others take all. */
  readonly train?: number;
  /** Number of held-out images; if omitted, `solids` renders 2,000 and the others take all. */
  readonly test?: number;
  /** Seed of `solids` and of the held-out part of `folder`; 0 if omitted. */
  readonly seed?: number;
  /** Height and width in pixels: 64 if omitted for `solids` and `folder`; `cifar10` has 32. */
  readonly imageSize?: number;
  /** Folder of the cache; `cacheFolder()` if omitted, none if null. */
  readonly cacheDir?: string | null;
  /** Told of rendering and decoding as they go on. */
  readonly onProgress?: OnDataProgress;
}

/**
 * Further pictures of the solids that the training images of `solids` show, one data set a picture.
 *
 * @param options those of {@link loadDataset}.
 * @param count how many further pictures each solid has.
 * @throws ConfigError for a data set that has none.
 */
export async function loadFurtherPictures(options: DatasetOptions, count: number): Promise<Dataset[]> {
  checkOptions(options);
  const { name, train = 10_000, seed, imageSize, cacheDir, onProgress } = options;
  if (name !== "solids" && count > 0) {
    throw new ConfigError(
      `Cannot load further pictures of ${name}: the data set must be solids, got ${name}`,
    );
  }
  const pictures: Dataset[] = [];
  for (let view = 1; view <= count; view++) {
    pictures.push(
      await loadSolids({ split: "train", count: train, seed, imageSize, cacheDir, onProgress, view }),
    );
  }
  return pictures;
}

/**
 * Loads the training and the test part of a data set.
 *
 * @example
 * ```ts
 * import { loadDataset } from "novae/data/mod.ts";
 * const { train } = await loadDataset({ name: "solids", train: 20, test: 10, cacheDir: null });
 * if (train.images([0, 1]).shape.join() !== "2,64,64,3") throw new Error("unexpected shape");
 * ```
 *
 * @throws ConfigError for options that contradict each other or are out of range.
 * @throws DataError if files are missing, damaged or too few.
 */
export async function loadDataset(options: DatasetOptions): Promise<DatasetSplits> {
  checkOptions(options);
  const { name, path, train, test } = options;
  if (name === "solids") {
    const { seed, imageSize, cacheDir, onProgress } = options,
      shared = { seed, imageSize, cacheDir, onProgress };
    return {
      train: await loadSolids({ ...shared, split: "train", count: train ?? 10_000 }),
      test: await loadSolids({ ...shared, split: "test", count: test ?? 2_000 }),
    };
  }
  if (path === undefined) {
    throw new ConfigError(`Cannot load ${name}: path must name its file or folder, got none`);
  }
  if (name === "cifar10") return await loadCifar10({ path, train, test });
  const { seed, imageSize, onProgress } = options;
  return await loadImageFolder({ path, train, test, seed, imageSize, onProgress });
}

function checkOptions({ name, train, test, seed, imageSize }: DatasetOptions): void {
  const fail = (wanted: string, got: unknown) =>
    new ConfigError(`Cannot load data set: ${wanted}, got ${got}`);
  if (!["solids", "cifar10", "folder"].includes(name)) {
    throw fail("name must be solids, cifar10 or folder", name);
  }
  for (const [key, value] of Object.entries({ train, test })) {
    if (value !== undefined && !(Number.isInteger(value) && value >= 1)) {
      throw fail(`${key} must be a whole number of at least 1`, value);
    }
  }
  if (seed !== undefined && !Number.isSafeInteger(seed)) throw fail("seed must be a whole number", seed);
  if (imageSize === undefined) return;
  if (name === "cifar10" && imageSize !== 32) throw fail("imageSize of cifar10 must be 32", imageSize);
  if (!(Number.isInteger(imageSize) && imageSize >= 8 && imageSize <= 1024)) {
    throw fail("imageSize must be a whole number in 8 … 1024", imageSize);
  }
}
