/**
 * Finding CIFAR-10's files: official archive, official folder, or a folder of one training and one test file.
 *
 * @module
 */
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { DataError, oneLine } from "novae/tensor/mod.ts";
import { fileError, readBytes } from "novae/io/mod.ts";
import { readTar } from "./tar.ts";

/** A file of records, on the disk or in an archive, already uncompressed. */
export interface RecordFile {
  /** Where it came from, for messages. */
  readonly source: string;
  readonly bytes: Uint8Array;
}

/** The files of a CIFAR-10 copy. */
export interface Cifar10Files {
  readonly train: readonly RecordFile[];
  readonly test: readonly RecordFile[];
  /** The list of class names, if there is one. */
  readonly names?: RecordFile;
}

const TRAIN = [1, 2, 3, 4, 5].map((i) => `data_batch_${i}.bin`);
const TEST = "test_batch.bin", META = "batches.meta.txt";
const ARCHIVES = ["cifar-10-binary.tar.gz", "cifar-10-binary.tar"], FOLDER = "cifar-10-batches-bin";
/** Pictures do not shrink to a quarter; with what unpacking needs in passing, memory stays below ten times the file. */
const UNPACKED_FACTOR = 4;
const WANTED =
  `the archive ${ARCHIVES[0]}, its folder ${FOLDER}, or a folder with one *_train.bin[.gz] and ` +
  "one *_test.bin[.gz]";

/**
 * Opens a copy of CIFAR-10's binary version.
 *
 * @param path the official archive, its unpacked folder, a folder that holds either, or a folder with `*_train.bin` and
 * `*_test.bin`; any file may be gzipped.
 * @throws DataError naming the file, what was wanted and what to do.
 */
export async function openCifar10(path: string): Promise<Cifar10Files> {
  const status = await Deno.stat(path).catch((error) => {
    throw fileError(`Cannot read CIFAR-10 from ${path}: ${WANTED} is needed`, error, DataError);
  });
  if (!status.isDirectory) return cifar10Archive(path, await readUncompressed(path));
  const names = (await listFolder(path)).sort();
  if (names.includes(FOLDER)) return openCifar10(join(path, FOLDER));
  const official = names.some((name) => TRAIN.includes(plain(name)) || plain(name) === TEST);
  if (official) return fromFolder(path, names);
  const archive = ARCHIVES.find((name) => names.includes(name));
  if (archive !== undefined) return openCifar10(join(path, archive));
  return fromPair(path, names);
}

/**
 * The files of the official archive, uncompressed.
 *
 * @param path named in errors.
 * @throws DataError if it is no tar archive, is cut or lacks a file.
 */
export function cifar10Archive(path: string, bytes: Uint8Array): Cifar10Files {
  const files = readTar(bytes, path);
  const find = (name: string) => [...files].find(([key]) => basename(key) === name)?.[1];
  const need = (name: string): RecordFile => {
    const bytes = find(name);
    if (bytes !== undefined) return { source: `${path}: ${name}`, bytes };
    throw new DataError(`Cannot read ${path}: the archive must hold ${name}; give ${WANTED}`);
  };
  const meta = find(META);
  return {
    train: TRAIN.map(need),
    test: [need(TEST)],
    names: meta && { source: `${path}: ${META}`, bytes: meta },
  };
}

async function fromFolder(path: string, names: readonly string[]): Promise<Cifar10Files> {
  const need = (wanted: string) => {
    const name = names.find((name) => plain(name) === wanted);
    if (name !== undefined) return readRecords(join(path, name));
    throw new DataError(`Cannot read ${path}: the folder must hold ${wanted}; unpack the archive again`);
  };
  const meta = names.includes(META) ? await readRecords(join(path, META)) : undefined;
  return { train: await Promise.all(TRAIN.map(need)), test: [await need(TEST)], names: meta };
}

async function fromPair(path: string, names: readonly string[]): Promise<Cifar10Files> {
  const need = (ending: string) => {
    const found = names.filter((name) => plain(name).endsWith(ending));
    if (found.length === 1) return readRecords(join(path, found[0]));
    const got = found.length === 0 ? "none" : found.join(", ");
    throw new DataError(
      `Cannot read CIFAR-10 from ${path}: one *${ending} is needed, got ${got}; give ${WANTED}`,
    );
  };
  const list = ["classes.json", META].find((name) => names.includes(name));
  return {
    train: [await need("_train.bin")],
    test: [await need("_test.bin")],
    names: list === undefined ? undefined : await readRecords(join(path, list)),
  };
}

async function readRecords(source: string): Promise<RecordFile> {
  return { source, bytes: await readUncompressed(source) };
}

async function readUncompressed(path: string): Promise<Uint8Array> {
  const bytes = await readBytes(path);
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  const maxOutputLength = Math.max(1 << 20, UNPACKED_FACTOR * bytes.length);
  try {
    return await promisify(gunzip)(bytes, { maxOutputLength });
  } catch (error) {
    const { code, message } = error as Error & { code?: string };
    if (code === "ERR_BUFFER_TOO_LARGE") {
      throw new DataError(
        `Cannot unpack ${path}: pictures unpack to at most ${maxOutputLength} bytes, ${UNPACKED_FACTOR} times as ` +
          "many as packed, got more; if it is meant to be so, unpack it and give the folder",
      );
    }
    const reason = oneLine(message);
    throw new DataError(
      `Cannot unpack ${path}: the gzip data must be whole, got "${reason}"; fetch it again`,
    );
  }
}

async function listFolder(path: string): Promise<string[]> {
  try {
    return (await Array.fromAsync(Deno.readDir(path))).map((entry) => entry.name);
  } catch (error) {
    throw fileError(`Cannot list ${path}`, error, DataError);
  }
}

function plain(name: string): string {
  return name.replace(/\.gz$/, "");
}
