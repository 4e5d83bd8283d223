/**
 * PyTorch's checkpoints from before 1.6: five pickles (a magic number, a version, a description of the machine, the
 * content, the names of the storages in their order), then each storage as the number of its elements and these.
 *
 * *Source*: `_legacy_save` and `_legacy_load` of `torch/serialization.py`. *Differs*: parts of storages under names of
 * their own, which PyTorch before 0.4 wrote, are refused, as is the tar archive before 0.1.10.
 *
 * @module
 */
import { told } from "novae/tensor/mod.ts";
import type { ByteRanges } from "./byte_ranges.ts";
import type { MemoryBudget } from "./memory_limit.ts";
import { runPickle } from "./pickle.ts";
import { type PickleHost, PickleMachine } from "./pickle_machine.ts";
import { PickleGlobal, type PickleValue } from "./pickle_values.ts";
import { buildValue, constructValue, type StorageId, storageId } from "./pytorch_globals.ts";
import { type StorageArchive, type StoragePlace, storedBy, TorchStorage } from "./pytorch_tensor.ts";
import { STORED_WIDTHS } from "./stored_elements.ts";

/** The magic number, as an instruction of a pickle. */
const MAGIC = [0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/** Where it may be: behind the pickle's protocol, or from protocol 4 on behind that and the length of a frame. */
const MAGIC_PLACES = [2, 11];

/** Bytes by which {@link isLegacy} tells. */
export const LEGACY_START_BYTES = 23;
const VERSION = 1001;
/** Pickles lie at the start of the file; they are looked for in so many bytes, and in more if these do not suffice. */
const USUAL_BYTES = 1 << 24, MOST_BYTES = 1 << 29;

/** Widths of elements that cannot be read here, but lie before others that can. */
const OTHER_WIDTHS: Readonly<Record<string, number>> = {
  ComplexFloatStorage: 8,
  ComplexDoubleStorage: 16,
  QInt8Storage: 1,
  QUInt8Storage: 1,
  QInt32Storage: 4,
};

/** What a checkpoint is read with. */
export interface LegacyReading extends Pick<PickleHost, "fail" | "isKnown"> {
  /** What the content may need in memory; asked for anew if more of the file must be looked at. */
  budget(): MemoryBudget;
}

/** What a checkpoint holds. */
export interface LegacyContent {
  /** Its content. */
  readonly tree: PickleValue;
  /** Bytes that its tensors may need in memory, all together. */
  readonly memoryBytes: number;
}

/** Whether the first bytes of a file are those of a checkpoint from before 1.6. */
export function isLegacy(start: Uint8Array): boolean {
  return start[0] === 0x80 &&
    MAGIC_PLACES.some((place) => MAGIC.every((byte, i) => start[place + i] === byte));
}

/**
 * Reads the content of a checkpoint; its tensors are read when they are asked for.
 *
 * @throws what `fail` makes, if it is truncated or damaged.
 */
export async function readLegacy(ranges: ByteRanges, reading: LegacyReading): Promise<LegacyContent> {
  const usual = Math.min(ranges.size, USUAL_BYTES), most = Math.min(ranges.size, MOST_BYTES);
  let short = false;
  const fail = (why: string): Error => {
    short = /: (it is truncated|a line has no end) at byte/.test(why);
    return reading.fail(why);
  };
  try {
    return await readContent(ranges, await ranges.read(0, usual), { ...reading, fail });
  } catch (error) {
    if (!short || usual === most) throw error;
  }
  return await readContent(ranges, await ranges.read(0, most), reading);
}

async function readContent(
  ranges: ByteRanges,
  bytes: Uint8Array<ArrayBuffer>,
  { fail, isKnown, budget }: LegacyReading,
): Promise<LegacyContent> {
  const archive = { ranges, bigEndian: false, fail }, storages = new Map<string, PlacedStorage>();
  const memory = budget();
  const host: PickleHost = {
    ...{ fail, isKnown, memory, call: constructValue, build: buildValue },
    persistent: (id) => {
      // A class of modules, with its source, which is left alone.
      if (Array.isArray(id) && id[0] === "module" && id[1] instanceof PickleGlobal) return id[1];
      return storageOf(storageId(id, fail), archive, storages);
    },
  };
  let at = 0;
  const next = (): PickleValue => {
    const machine = new PickleMachine(bytes.subarray(at), host), value = runPickle(machine);
    at += machine.at;
    return value;
  };
  next(); // the magic number
  const version = next(), machine = next();
  if (version !== VERSION) throw fail(`its version must be ${VERSION}, got ${told(version)}`);
  archive.bigEndian = machine instanceof Map && machine.get("little_endian") === false;
  const tree = next(), keys = next();
  if (!Array.isArray(keys)) throw fail("its list of storages is missing");
  await place(ranges, at, keys, storages, archive);
  return { tree, memoryBytes: memory.left };
}

/** A storage whose place is known once all have been named. */
interface PlacedStorage {
  readonly storage: TorchStorage;
  readonly id: StorageId;
  readonly place: LegacyPlace;
}

class LegacyPlace implements StoragePlace {
  /** Where the first byte is, once it is known. */
  at: number | null = null;

  constructor(readonly bytes: number) {}

  start(fail: (why: string) => Error): Promise<number> {
    if (this.at === null) throw fail("it is missing from the file");
    return Promise.resolve(this.at);
  }
}

function storageOf(
  id: StorageId,
  archive: StorageArchive,
  storages: Map<string, PlacedStorage>,
): TorchStorage {
  const { key, type, elements, view } = id, known = storages.get(key);
  if (view !== null) {
    throw archive.fail(
      `storage ${key} must be named as a whole, got a part of it, as PyTorch before 0.4 wrote`,
    );
  }
  if (known) {
    if (String(known.id.type) === String(type) && known.id.elements === elements) return known.storage;
    throw archive.fail(`storage ${key} must be of one type and size, got two`);
  }
  const stored = storedBy(type), width = stored ? STORED_WIDTHS[stored] : OTHER_WIDTHS[type.name];
  if (width === undefined || !Number.isSafeInteger(elements) || (elements as number) < 0) {
    throw archive.fail(`storage ${key} must have a known type and size, got ${told(elements)} of ${type}`);
  }
  const place = new LegacyPlace(width * (elements as number));
  const storage = new TorchStorage(archive, key, type, elements, place);
  storages.set(key, { storage, id, place });
  return storage;
}

/** Finds the storages, which lie one behind the other from `at` on, each behind the number of its elements. */
async function place(
  ranges: ByteRanges,
  start: number,
  keys: readonly PickleValue[],
  storages: ReadonlyMap<string, PlacedStorage>,
  { bigEndian, fail }: StorageArchive,
): Promise<void> {
  let at = start;
  for (const key of keys) {
    const found = typeof key === "string" ? storages.get(key) : undefined;
    if (!found || found.place.at !== null) {
      throw fail(`its list of storages must name each once, got ${told(key)}`);
    }
    const { place, id: { elements } } = found, end = at + 8 + place.bytes;
    if (end > ranges.size) throw fail(`storage ${told(key)} is not all there: the file is cut short`);
    const count = new DataView((await ranges.read(at, 8)).buffer).getBigInt64(0, !bigEndian);
    if (count !== BigInt(elements as number)) {
      throw fail(`storage ${told(key)} must have ${told(elements)} elements, got ${count}`);
    }
    place.at = at + 8;
    at = end;
  }
  const lost = [...storages].find(([, { place }]) => place.at === null);
  if (lost) throw fail(`storage ${told(lost[0])} is missing from the file`);
}
