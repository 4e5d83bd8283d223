/**
 * Data sets made of image files in one folder a class.
 *
 * @module
 */
import { join } from "node:path";
import { DataError, Rng } from "novae/tensor/mod.ts";
import { decodeImage, resizeImage } from "novae/io/mod.ts";
import { type DatasetSplits, type OnDataProgress, packDataset, type PackedDataset } from "./dataset.ts";
import { HELD_OUT_FOLDERS, imagesByClass, listFolder } from "./image_files.ts";

/** Which images of a folder are wanted. */
export interface ImageFolderOptions {
  /** Folder of `class/name.jpg|png|webp`, or of `train/class/…` and `test/class/…` (or `val/class/…`). */
  readonly path: string;
  /** Height and width to bring the images to, in pixels; 64 if omitted. */
  readonly imageSize?: number;
  /** Number of images to take from each part, drawn with the seed; all if omitted. */
  readonly train?: number;
  /** The same for the held-out part. */
  readonly test?: number;
  /** Seed of the order and of the held-out images; 0 if omitted. */
  readonly seed?: number;
  /** Part of each class that is held out if the folder has no split of its own, in (0, 1); 0.2 if omitted. */
  readonly testFraction?: number;
  /** Told of decoding as it goes on. */
  readonly onProgress?: OnDataProgress;
}

interface LabelledFile {
  readonly path: string;
  readonly label: number;
}

const AT_ONCE = 4;

/**
 * Loads a folder of images, each scaled until its shorter side is `imageSize` and cut to the middle square.
 *
 * The split is the folder's own if it has `train` and `test` (or `val`); otherwise `testFraction` of each class, drawn
 * with the seed, is held out. Images are in an order drawn with the seed. Files that are no images are left alone.
 *
 * @throws DataError if there are fewer than two classes, a class is empty, parts have different classes, an image does
 * not decode, or there are fewer images than asked for.
 */
export async function loadImageFolder(options: ImageFolderOptions): Promise<DatasetSplits> {
  const { path, seed = 0, imageSize = 64 } = options, rng = new Rng(seed).split("folder");
  const top = (await listFolder(path)).filter((entry) => entry.isDirectory).map((entry) => entry.name);
  const heldOut = HELD_OUT_FOLDERS.find((name) => top.includes(name));
  const { classes, train, test } = top.includes("train") && heldOut !== undefined
    ? await ownSplit(join(path, "train"), join(path, heldOut))
    : await drawnSplit(path, options.testFraction ?? 0.2, rng);
  const load = (part: "train" | "test", files: LabelledFile[]) => {
    const order = rng.split(part).permutation(files.length), count = options[part] ?? files.length;
    if (count > files.length) {
      throw new DataError(
        `Cannot take ${count} ${part} images from ${path}: it holds ${files.length}; ask for fewer`,
      );
    }
    const chosen = Array.from(order.subarray(0, count), (i) => files[i]);
    return decodeAll(`folder/${part}`, classes, chosen, imageSize, options.onProgress);
  };
  return { train: await load("train", train), test: await load("test", test) };
}

interface SplitFiles {
  readonly classes: string[];
  readonly train: LabelledFile[];
  readonly test: LabelledFile[];
}

async function ownSplit(trainPath: string, testPath: string): Promise<SplitFiles> {
  const train = await labelledPaths(trainPath), test = await labelledPaths(testPath);
  const classes = [...train.keys()], others = [...test.keys()];
  if (classes.join("/") !== others.join("/")) {
    const different = [...classes.filter((c) => !test.has(c)), ...others.filter((c) => !train.has(c))];
    throw new DataError(
      `Cannot read ${testPath}: its classes must be those of ${trainPath}, got a difference in ` +
        `${different.join(", ")}; add or remove these folders`,
    );
  }
  return { classes, train: labelled(train), test: labelled(test) };
}

async function drawnSplit(path: string, fraction: number, rng: Rng): Promise<SplitFiles> {
  if (!(fraction > 0 && fraction < 1)) {
    throw new RangeError(`Cannot split ${path}: testFraction must be in (0, 1), got ${fraction}`);
  }
  const byClass = await labelledPaths(path),
    train = new Map<string, string[]>(),
    test = new Map<string, string[]>();
  for (const [name, files] of byClass) {
    if (files.length < 2) {
      throw new DataError(
        `Cannot split ${join(path, name)}: at least 2 images are needed, got ${files.length}; add images`,
      );
    }
    const held = Math.min(files.length - 1, Math.max(1, Math.round(files.length * fraction)));
    const order = rng.split("held out", name).permutation(files.length);
    test.set(name, Array.from(order.subarray(0, held), (i) => files[i]));
    train.set(name, Array.from(order.subarray(held), (i) => files[i]));
  }
  return { classes: [...byClass.keys()], train: labelled(train), test: labelled(test) };
}

function labelled(byClass: Map<string, string[]>): LabelledFile[] {
  return [...byClass.values()].flatMap((files, label) => files.map((path) => ({ path, label })));
}

/** Paths of the image files of each of two or more class folders. */
async function labelledPaths(path: string): Promise<Map<string, string[]>> {
  const classes = await imagesByClass(path);
  if (classes.size < 2) {
    throw new DataError(
      `Cannot read images from ${path}: at least 2 folders, one a class, are needed, got ${classes.size}; ` +
        "arrange the images as class/name.jpg",
    );
  }
  return new Map([...classes].map(([name, files]) => [name, files.map((file) => join(path, name, file))]));
}

async function decodeAll(
  name: string,
  classes: readonly string[],
  files: readonly LabelledFile[],
  imageSize: number,
  onProgress?: OnDataProgress,
): Promise<PackedDataset> {
  const stride = imageSize * imageSize * 3, pixels = new Uint8Array(files.length * stride);
  let next = 0, done = 0;
  const work = async () => {
    while (next < files.length) {
      const i = next++;
      pixels.set(await squareImage(files[i].path, imageSize), i * stride);
      if (++done % 100 === 0 || done === files.length) {
        onProgress?.({ task: name, done, total: files.length });
      }
    }
  };
  try {
    await Promise.all(Array.from({ length: AT_ONCE }, work));
  } finally {
    next = files.length; // the others stop after a failure
  }
  const labels = (classes.length <= 256 ? Uint8Array : Uint16Array).from(files.map((file) => file.label));
  return packDataset({ name, classes, imageSize, pixels, labels });
}

async function squareImage(path: string, size: number): Promise<Uint8Array> {
  const image = await decodeImage(path), scale = size / Math.min(image.width, image.height);
  const width = Math.max(size, Math.round(image.width * scale));
  const height = Math.max(size, Math.round(image.height * scale));
  const resized = width === image.width && height === image.height
    ? image
    : resizeImage(image, width, height);
  const left = (width - size) >> 1, top = (height - size) >> 1, square = new Uint8Array(size * size * 3);
  for (let row = 0; row < size; row++) {
    const start = ((top + row) * width + left) * 3;
    square.set(resized.data.subarray(start, start + size * 3), row * size * 3);
  }
  return square;
}
