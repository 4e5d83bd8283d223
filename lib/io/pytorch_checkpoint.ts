/**
 * Weights in PyTorch's checkpoints (`torch.save`: `.pth`, `.pt`, `.ckpt`, `.bin`), read without running anything of
 * them.
 *
 * The file is a zip archive of a pickle, which is interpreted with the few classes that tensors need, and of storages,
 * which are read when a tensor asks for its part; before PyTorch 1.6 it was a pickle with the storages behind it.
 *
 * *Source*: https://pytorch.org/docs/stable/notes/serialization.html (layout of the archive).
 *
 * @module
 */
import { oneLine, WeightsError } from "novae/tensor/mod.ts";
import { type ByteRanges, FileRanges } from "./byte_ranges.ts";
import { MemoryBudget, memoryLimit } from "./memory_limit.ts";
import { loadPickle } from "./pickle.ts";
import type { PickleHost } from "./pickle_machine.ts";
import type { PickleValue } from "./pickle_values.ts";
import { buildValue, constructValue, isTensorPart, storageId } from "./pytorch_globals.ts";
import { isLegacy, LEGACY_START_BYTES, readLegacy } from "./pytorch_legacy.ts";
import { type StorageArchive, TorchStorage } from "./pytorch_tensor.ts";
import { readZipDirectory, zipContentStart, type ZipEntry, type ZipFailure } from "./zip_directory.ts";

/** An opened checkpoint. */
export interface PytorchCheckpoint {
  /** The file. */
  readonly path: string;
  /** Its content: dictionaries as maps, lists and tuples as arrays, tensors that are read on demand. */
  readonly tree: PickleValue;
  /** Bytes that its tensors may need in memory, all together. */
  readonly memoryBytes: number;
}

/** How a checkpoint is read. */
export interface CheckpointOptions {
  /**
   * Classes and functions that are no part of a tensor, such as a trainer's settings: "refuse" the file, or keep each
   * as an inert "record" of its name, arguments and attributes; "refuse" if omitted. Neither runs anything.
   */
  readonly foreign?: "refuse" | "record";
}

const PICKLE_LIMIT = 1 << 29; // half a GiB: arrays of numpy lie within the pickle

/**
 * Opens a checkpoint: its content is listed, its tensors are read when they are asked for.
 *
 * Views, shared storages and files of either byte order give dense little-endian tensors.
 *
 * @throws WeightsError if the file is missing, truncated, damaged, names a class or function beyond tensors that is not
 * asked for as a record, or needs more than eight times its size in memory.
 */
export async function readPytorchCheckpoint(
  path: string,
  options: CheckpointOptions = {},
): Promise<PytorchCheckpoint> {
  return await readCheckpoint(await FileRanges.open(path), path, options);
}

/**
 * {@link readPytorchCheckpoint} of bytes that are in a file or in memory.
 *
 * @param path named in errors.
 * @throws WeightsError as {@link readPytorchCheckpoint} does.
 */
export async function readCheckpoint(
  ranges: ByteRanges,
  path: string,
  { foreign = "refuse" }: CheckpointOptions = {},
): Promise<PytorchCheckpoint> {
  const fail = (why: string): WeightsError =>
    new WeightsError(`Cannot read weights ${path}: ${oneLine(why, 1000)}`);
  const isKnown = foreign === "record" ? () => true : isTensorPart;
  const budget = () =>
    new MemoryBudget(
      memoryLimit(ranges.size),
      (limit) =>
        fail(`its content must need at most ${limit} bytes in memory, got more: the file may be hostile`),
    );
  const start = await ranges.read(0, Math.min(ranges.size, LEGACY_START_BYTES));
  if (isLegacy(start)) return { path, ...await readLegacy(ranges, { fail, isKnown, budget }) };
  if (start[0] !== 0x50 || start[1] !== 0x4b) {
    throw fail("it must be a checkpoint of torch.save, got another format");
  }
  const files = await readZipDirectory(ranges, fail);
  const root = [...files.keys()].map((name) => /^([^/]+)\/data\.pkl$/.exec(name)?.[1]).find((name) => name);
  if (root === undefined) {
    throw fail("it must be a checkpoint of torch.save, got a zip archive without data.pkl");
  }
  if (files.has(`${root}/constants.pkl`)) {
    throw fail("it is a TorchScript program: save its state_dict() with torch.save and read that");
  }
  const read = async (name: string): Promise<Uint8Array<ArrayBuffer> | null> => {
    const entry = files.get(`${root}/${name}`);
    return entry === undefined ? null : await readStored(ranges, entry, fail);
  };
  const order = new TextDecoder().decode(await read("byteorder") ?? undefined); // files before 2.1 do not say it
  if (!/^(little|big)?$/.test(order)) {
    throw fail(`its byte order must be little or big, got ${order.slice(0, 20)}`);
  }
  const archive = { ranges, bigEndian: order === "big", fail };
  const pickle = await read("data.pkl") as Uint8Array;
  const memory = budget();
  const find = (key: string): ZipEntry | undefined => files.get(`${root}/data/${key}`);
  const tree = loadPickle(pickle, { ...checkpointHost(archive, find), memory, isKnown });
  return { path, tree, memoryBytes: memory.left };
}

/** Reads a file of the archive. Checksums are not looked at: torch.save can be told not to compute them. */
async function readStored(
  ranges: ByteRanges,
  entry: ZipEntry,
  fail: StorageArchive["fail"],
): Promise<Uint8Array<ArrayBuffer>> {
  if (entry.method !== 0 || entry.bytes !== entry.packedBytes) {
    throw fail(`${entry.name} must be stored uncompressed, as torch.save does`);
  }
  if (entry.bytes > PICKLE_LIMIT) {
    throw fail(`${entry.name} must be under ${PICKLE_LIMIT} bytes, got ${entry.bytes}`);
  }
  const start = await zipContentStart(ranges, entry, (why) => fail(`${entry.name}: ${why}`));
  return await ranges.read(start, entry.packedBytes);
}

function checkpointHost(
  archive: StorageArchive,
  entryOf: (key: string) => ZipEntry | undefined,
): Omit<PickleHost, "memory" | "isKnown"> {
  const { ranges, fail } = archive;
  return {
    fail,
    call: constructValue,
    build: buildValue,
    persistent(id) {
      const { type, key, elements } = storageId(id, fail);
      const entry = entryOf(key);
      if (entry === undefined) throw fail(`storage ${key} is missing from the archive`);
      if (entry.method !== 0 || entry.bytes !== entry.packedBytes) {
        throw fail(`storage ${key} must be stored uncompressed, as torch.save does`);
      }
      const start = async (fail: ZipFailure) => await zipContentStart(ranges, entry, fail);
      return new TorchStorage(archive, key, type, elements, { bytes: entry.bytes, start });
    },
  };
}
