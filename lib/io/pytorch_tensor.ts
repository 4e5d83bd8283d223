/**
 * Tensors of PyTorch checkpoints: views of storages, which are parts of the file.
 *
 * @module
 */
import { type DType, type HostTensor, sizeOf, told } from "novae/tensor/mod.ts";
import type { ByteRanges } from "./byte_ranges.ts";
import type { LazyTensor } from "./lazy_tensor.ts";
import { PickleGlobal, type PickleValue, UnreadableTensor } from "./pickle_values.ts";
import { AXES_LIMIT } from "./safetensors_header.ts";
import {
  decodeElements,
  hostDType,
  STORED_WIDTHS,
  type StoredDType,
  storedRoom,
  swapBytes,
} from "./stored_elements.ts";
import { isRowMajor, toRowMajor } from "./strided.ts";

/** The file that storages lie in. */
export interface StorageArchive {
  /** Its bytes. */
  readonly ranges: ByteRanges;
  /** Whether numbers have their highest byte first. */
  readonly bigEndian: boolean;
  /** Makes the error for what cannot be read. */
  fail(why: string): Error;
}

/** Where a storage lies. */
export interface StoragePlace {
  /** Its size. */
  readonly bytes: number;
  /**
   * Where its first byte is.
   *
   * @param fail makes the error for a place that cannot be found.
   */
  start(fail: (why: string) => Error): Promise<number>;
}

/** Elements by PyTorch's names of storages. */
const STORAGES: Readonly<Record<string, StoredDType>> = {
  DoubleStorage: "F64",
  FloatStorage: "F32",
  HalfStorage: "F16",
  BFloat16Storage: "BF16",
  LongStorage: "I64",
  IntStorage: "I32",
  ShortStorage: "I16",
  CharStorage: "I8",
  ByteStorage: "U8",
  BoolStorage: "BOOL",
};

/** Elements by PyTorch's names of types, as the newer form of a tensor has them. */
const TYPES: Readonly<Record<string, StoredDType>> = {
  float64: "F64",
  float32: "F32",
  float16: "F16",
  bfloat16: "BF16",
  int64: "I64",
  int32: "I32",
  int16: "I16",
  int8: "I8",
  uint8: "U8",
  bool: "BOOL",
};

/** The elements of a class of storages; null if it is none that is known here, or each tensor tells them. */
export function storedBy({ module, name }: PickleGlobal): StoredDType | null {
  return /^torch(\.cuda)?$/.test(module) && Object.hasOwn(STORAGES, name) ? STORAGES[name] : null;
}

/** A storage: a run of elements in the file. */
export class TorchStorage {
  /** It says nothing by itself. */
  readonly opaque = true;
  /** Its name in the archive. */
  readonly key: string;
  /** Its class, e.g. `torch.FloatStorage`. */
  readonly type: string;
  /** Type of its elements; null if it is not known here or told by each tensor. */
  readonly stored: StoredDType | null;
  readonly #archive: StorageArchive;
  readonly #place: StoragePlace;

  /**
   * A storage in the size that it is said to have.
   *
   * @param elements their number as the pickle says.
   */
  constructor(
    archive: StorageArchive,
    key: string,
    type: PickleGlobal,
    elements: PickleValue,
    place: StoragePlace,
  ) {
    this.key = key;
    this.type = String(type);
    this.stored = storedBy(type);
    this.#archive = archive;
    this.#place = place;
    const width = this.stored ? STORED_WIDTHS[this.stored] : type.name === "UntypedStorage" ? 1 : null;
    const needed = width === null ? place.bytes : (typeof elements === "number" ? elements : NaN) * width;
    if (place.bytes !== needed) {
      throw archive.fail(
        `storage ${key} of ${told(elements)} elements needs ${needed} bytes, got ${place.bytes}`,
      );
    }
  }

  /** Bytes in all. */
  get bytes(): number {
    return this.#place.bytes;
  }

  /** Makes the error for what cannot be read. */
  fail(why: string): Error {
    return this.#archive.fail(why);
  }

  /**
   * Reads elements in row-major order; those between are read too and left out.
   *
   * @param what the subject of the message, as for `decodeElements`.
   */
  async readView(
    stored: StoredDType,
    { offset, shape, stride }: StorageView,
    what: string,
  ): Promise<Pick<HostTensor, "dtype" | "data">> {
    const { ranges, bigEndian } = this.#archive, width = STORED_WIDTHS[stored];
    const count = sizeOf(shape), dense = isRowMajor(shape, stride);
    const room = storedRoom(stored, dense ? count : 0);
    if (count === 0) return room.decode(what);
    const fail = (why: string): Error => this.fail(`storage ${this.key}: ${why}`);
    const start = await this.#place.start(fail) + offset * width;
    const bytes = dense ? room.bytes : new Uint8Array(extentOf(shape, stride) * width);
    await ranges.readInto(start, bytes);
    if (bigEndian) swapBytes(bytes, width);
    return dense ? room.decode(what) : decodeElements(stored, gather(bytes, width, shape, stride), what);
  }
}

/** Elements from the first to the last of a view. */
function extentOf(shape: readonly number[], stride: readonly number[]): number {
  return 1 + shape.reduce((sum, size, axis) => sum + (size - 1) * stride[axis], 0);
}

/** Which elements of a storage make a tensor. */
export interface StorageView {
  /** The first. */
  readonly offset: number;
  /** Extents, outermost first. */
  readonly shape: readonly number[];
  /** Elements from one to the next, by axis. */
  readonly stride: readonly number[];
}

/** A tensor of a checkpoint. */
export class TorchTensor implements LazyTensor {
  /** Element type of what is read. */
  readonly dtype: DType;
  /** Element type in the file. */
  readonly stored: StoredDType;
  /** Extents, outermost first. */
  readonly shape: readonly number[];
  readonly #storage: TorchStorage;
  readonly #view: StorageView;
  readonly #name: string | null;

  /** A view that {@link torchTensor} has checked. */
  constructor(storage: TorchStorage, stored: StoredDType, view: StorageView, name: string | null = null) {
    this.dtype = hostDType(stored);
    this.stored = stored;
    this.shape = view.shape;
    this.#storage = storage;
    this.#view = view;
    this.#name = name;
  }

  /** The same tensor with a name for messages. */
  named(name: string): TorchTensor {
    return new TorchTensor(this.#storage, this.stored, this.#view, name);
  }

  /** Reads the elements. */
  async read(): Promise<HostTensor> {
    const name = this.#name === null ? `a tensor of storage ${this.#storage.key}` : `"${this.#name}"`;
    const what = this.#storage.fail(name).message;
    return { shape: this.shape, ...await this.#storage.readView(this.stored, this.#view, what) };
  }
}

/**
 * Makes a tensor of what the pickle says, and checks that it stays within its storage.
 *
 * @param type the type of the elements, where the storage does not tell it.
 */
export function torchTensor(
  storage: PickleValue,
  offset: PickleValue,
  shape: PickleValue,
  stride: PickleValue,
  type?: PickleValue,
): TorchTensor | UnreadableTensor | null {
  if (!(storage instanceof TorchStorage)) return null;
  const named = type instanceof PickleGlobal ? String(type) : undefined;
  const stored = type === undefined ? storage.stored : typeNamed(named);
  if (!stored) return new UnreadableTensor(`its type is ${told(named ?? storage.type)}`);
  const sound = isSize(offset) && isSizes(shape) && isSizes(stride) && shape.length === stride.length;
  if (!sound || shape.length > AXES_LIMIT) {
    throw storage.fail(`a tensor of storage ${storage.key} must have whole offset, shape and strides`);
  }
  const available = Math.floor(storage.bytes / STORED_WIDTHS[stored]), count = sizeOf(shape);
  const needed = count === 0 ? 0 : offset + extentOf(shape, stride);
  if (!(needed <= available)) {
    const size = `shape [${shape.join(", ")}] and strides [${stride.join(", ")}]`;
    throw storage.fail(
      `a tensor of ${size} needs ${needed} elements of storage ${storage.key}, got ${available}`,
    );
  }
  return new TorchTensor(storage, stored, { offset, shape, stride });
}

function typeNamed(name = ""): StoredDType | null {
  const type = /^torch\.(\w+)$/.exec(name)?.[1] ?? "";
  return Object.hasOwn(TYPES, type) ? TYPES[type] : null;
}

function isSize(value: PickleValue): value is number {
  return Number.isSafeInteger(value) && value as number >= 0;
}

function isSizes(value: PickleValue): value is number[] {
  return Array.isArray(value) && value.every(isSize);
}

const BITS = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array, 8: BigUint64Array } as const;

function gather(
  bytes: Uint8Array<ArrayBuffer>,
  width: number,
  shape: readonly number[],
  stride: readonly number[],
): Uint8Array<ArrayBuffer> {
  const Bits = BITS[width as keyof typeof BITS] as typeof Uint32Array; // moved bit by bit, whatever they mean
  return new Uint8Array(toRowMajor(new Bits(bytes.buffer), shape, stride).buffer);
}
