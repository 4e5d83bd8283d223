/**
 * CIFAR-10's binary version.
 *
 * @module
 */
import { DataError, oneLine } from "novae/tensor/mod.ts";
import { type Cifar10Files, openCifar10, type RecordFile } from "./cifar10_files.ts";
import { checkLabelCount, type DatasetSplits, packDataset } from "./dataset.ts";

/** CIFAR-10's classes, in the order of their labels. */
export const CIFAR10_CLASSES: readonly string[] = [
  "airplane",
  "automobile",
  "bird",
  "cat",
  "deer",
  "dog",
  "frog",
  "horse",
  "ship",
  "truck",
];

/** Which images of CIFAR-10 are wanted. */
export interface Cifar10Options {
  /** The archive `cifar-10-binary.tar.gz`, its folder, or a folder with `*_train.bin[.gz]` and `*_test.bin[.gz]`. */
  readonly path: string;
  /** Number of training images to take, from the start of the file; all if omitted. */
  readonly train?: number;
  /** The same for the held-out images. */
  readonly test?: number;
}

/** Bytes of a list of class names. */
const NAMES_LIMIT = 1 << 16;

const SIDE = 32, AREA = SIDE * SIDE, RECORD = 1 + 3 * AREA;

/**
 * Loads CIFAR-10: records of one label byte and 3 × 32 × 32 bytes of red, green and blue planes.
 *
 * *Source*: https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version".
 *
 * @returns 32 × 32 images; names from `batches.meta.txt` or `classes.json`, else {@link CIFAR10_CLASSES}.
 * @throws DataError if a file is missing, cut or damaged, a label is above 9, the class names do not fit the labels, or
 * there are fewer images than asked for.
 */
export async function loadCifar10(options: Cifar10Options): Promise<DatasetSplits> {
  return decodeCifar10(await openCifar10(options.path), options);
}

/** {@link loadCifar10} of files in memory. */
export function decodeCifar10(files: Cifar10Files, options: Cifar10Options): DatasetSplits {
  const classes = files.names === undefined ? CIFAR10_CLASSES : parseNames(files.names);
  for (const file of [...files.train, ...files.test]) checkRecords(file);
  const labels = Uint8Array.from(files.train.flatMap(({ bytes }) => labelsOf(bytes)));
  checkLabelCount(files.names?.source ?? files.train[0].source, classes, labels);
  const make = (part: "train" | "test") => {
    const content = unpack(files[part], options[part], `${part} images from ${options.path}`);
    return packDataset({ name: `cifar10/${part}`, classes, imageSize: SIDE, ...content });
  };
  return { train: make("train"), test: make("test") };
}

function labelsOf(bytes: Uint8Array): number[] {
  return Array.from({ length: bytes.length / RECORD }, (_, i) => bytes[i * RECORD]);
}

function checkRecords({ source, bytes }: RecordFile): void {
  if (bytes.length === 0 || bytes.length % RECORD !== 0) {
    throw new DataError(
      `Cannot read ${source}: its size must be a multiple of ${RECORD} bytes (one label, 32 × 32 × 3 pixels), ` +
        `got ${bytes.length}; it is cut or no CIFAR-10 file, fetch it again`,
    );
  }
  const record = labelsOf(bytes).findIndex((label) => label > 9);
  if (record < 0) return;
  throw new DataError(
    `Cannot read ${source}: labels must be 0 … 9, got ${bytes[record * RECORD]} in record ${record}; ` +
      "it is damaged or no CIFAR-10 file, fetch it again",
  );
}

/** Planes to interleaved pixels, for the first `wanted` records. */
function unpack(
  files: readonly RecordFile[],
  wanted: number | undefined,
  what: string,
): { pixels: Uint8Array; labels: Uint8Array } {
  const held = files.reduce((sum, { bytes }) => sum + bytes.length / RECORD, 0), count = wanted ?? held;
  if (count > held) throw new DataError(`Cannot take ${count} ${what}: it holds ${held}; ask for fewer`);
  const pixels = new Uint8Array(count * AREA * 3), labels = new Uint8Array(count);
  let n = 0;
  for (const { bytes } of files) {
    for (let start = 0; start < bytes.length && n < count; start += RECORD, n++) {
      labels[n] = bytes[start];
      for (let i = 0, o = n * AREA * 3; i < AREA; i++) {
        pixels[o++] = bytes[start + 1 + i];
        pixels[o++] = bytes[start + 1 + AREA + i];
        pixels[o++] = bytes[start + 1 + 2 * AREA + i];
      }
    }
  }
  return { pixels, labels };
}

/** Class names: a JSON list of strings, or one name a line. */
function parseNames({ source, bytes }: RecordFile): string[] {
  if (bytes.length > NAMES_LIMIT) {
    throw new DataError(
      `Cannot read ${source}: names must need at most ${NAMES_LIMIT} bytes, got ${bytes.length}`,
    );
  }
  const text = new TextDecoder().decode(bytes);
  if (!source.endsWith(".json")) {
    return text.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  }
  const fail = (got: string) =>
    new DataError(`Cannot read ${source}: it must be a JSON list of names, got ${got}`);
  let names: unknown;
  try {
    names = JSON.parse(text);
  } catch (error) {
    throw fail(oneLine((error as Error).message));
  }
  if (!Array.isArray(names) || names.some((name) => typeof name !== "string")) {
    throw fail(oneLine(text.trim(), 60));
  }
  return names;
}
