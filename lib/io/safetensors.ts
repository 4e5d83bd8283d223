/**
 * Tensors in safetensors files: a length, a JSON header and the raw numbers.
 *
 * *Source*: https://huggingface.co/docs/safetensors (format). *Differs*: reading widens float16 and bfloat16 to
 * float32, narrows float64 to float32 and turns all integers into int32, which must hold them.
 *
 * @module
 */
import { type HostTensor, oneLine, sizeOf, WeightsError } from "novae/tensor/mod.ts";
import { writeFileAtomic } from "./atomic_file.ts";
import { type ByteRanges, FileRanges } from "./byte_ranges.ts";
import { FLOAT16_MAX, toFloat16Bits } from "./half.ts";
import { hashBytes } from "./hash.ts";
import { type LazyTensor, readTensors } from "./lazy_tensor.ts";
import { parseSafetensorsHeader, type SafetensorsHeader } from "./safetensors_header.ts";
import { hostDType, type StoredDType, storedRoom } from "./stored_elements.ts";

/** What a safetensors file holds. */
export interface SafetensorsFile {
  /** Tensors by name, in the order of their data in the file. */
  readonly tensors: Map<string, HostTensor>;
  /** Free text by key; empty if the file has none. */
  readonly metadata: Record<string, string>;
}

/** How {@link writeSafetensors} stores numbers. */
export interface SafetensorsOptions {
  /** Storage of float32 tensors; "float32" if omitted. Other tensors keep their type. */
  readonly dtype?: "float32" | "float16";
  /** Whether the metadata tell the SHA-256 of the data as `sha256`; false if omitted. */
  readonly hashed?: boolean;
}

/**
 * Writes tensors to a safetensors file, atomically. The same tensors give the same bytes: they are ordered by
 * element size, larger first, then by name, so that all data are aligned.
 *
 * @example
 * ```ts
 * import { float32 } from "novae/tensor/mod.ts";
 * import { readSafetensors, writeSafetensors } from "novae/io/mod.ts";
 * const path = await Deno.makeTempFile({ suffix: ".safetensors" });
 * await writeSafetensors(path, { weight: float32([1, 2], [2]) }, { model: "linear" });
 * if ((await readSafetensors(path)).tensors.get("weight")?.data[1] !== 2) throw new Error("not equal");
 * ```
 *
 * @param tensors by name, as a map or a plain object.
 * @param metadata free text by key.
 * @throws WeightsError if a finite value is too large for float16.
 * @throws NovaeError if the file cannot be written.
 */
export async function writeSafetensors(
  path: string,
  tensors: ReadonlyMap<string, HostTensor> | Readonly<Record<string, HostTensor>>,
  metadata: Readonly<Record<string, string>> = {},
  options: SafetensorsOptions = {},
): Promise<void> {
  const named = tensors instanceof Map ? [...tensors] : Object.entries(tensors);
  await writeFileAtomic(path, encode(path, named, metadata, options));
}

/**
 * Reads a whole safetensors file, strictly: the header must describe the file to the last byte.
 *
 * @throws WeightsError if the file is missing, truncated, too long or inconsistent, naming the file and what is
 * wrong.
 */
export async function readSafetensors(path: string): Promise<SafetensorsFile> {
  const { tensors, metadata } = await openSafetensors(path);
  return { tensors: await readTensors(tensors), metadata };
}

/** What {@link openSafetensors} gives. */
export interface LazySafetensors {
  /** Tensors by name, in the order of their data in the file. */
  readonly tensors: Map<string, LazyTensor>;
  /** Free text by key; empty if the file has none. */
  readonly metadata: Record<string, string>;
}

/**
 * Opens a safetensors file without reading its tensors: each is read when it is asked for.
 *
 * @throws WeightsError as {@link readSafetensors} does.
 */
export async function openSafetensors(path: string): Promise<LazySafetensors> {
  return await lazySafetensors(await FileRanges.open(path), path);
}

/**
 * {@link openSafetensors} of bytes that are in a file or in memory.
 *
 * @param path named in errors.
 * @throws WeightsError as {@link readSafetensors} does.
 */
export async function lazySafetensors(source: ByteRanges, path: string): Promise<LazySafetensors> {
  const { entries, metadata, dataStart } = await readHeader(source, path);
  const tensors = entries.map((entry): [string, LazyTensor] => [entry.name, {
    dtype: hostDType(entry.dtype),
    stored: entry.dtype,
    shape: entry.shape,
    read: async () => {
      const room = storedRoom(entry.dtype, sizeOf(entry.shape));
      await source.readInto(dataStart + entry.begin, room.bytes);
      return { shape: entry.shape, ...room.decode(`Cannot read weights ${path}: "${oneLine(entry.name)}"`) };
    },
  }]);
  return { tensors: new Map(tensors), metadata };
}

/**
 * Reads only the header of a safetensors file, and checks that the file is as long as it says.
 *
 * @throws WeightsError as {@link readSafetensors} does.
 */
export async function readSafetensorsHeader(path: string): Promise<SafetensorsHeader> {
  return await readHeader(await FileRanges.open(path), path);
}

/** The format's own limit. */
const HEADER_LIMIT = 100_000_000;

async function readHeader(source: ByteRanges, path: string): Promise<SafetensorsHeader> {
  const { size } = source,
    fail = (why: string): WeightsError => new WeightsError(`Cannot read weights ${path}: ${why}`);
  if (size < 8) throw fail(`a header of 8 bytes is needed, got ${size}`);
  const length = new DataView((await source.read(0, 8)).buffer).getBigUint64(0, true);
  if (length > HEADER_LIMIT) {
    throw fail(
      `the header must be of at most ${HEADER_LIMIT} bytes, got ${length}: it is no safetensors file`,
    );
  }
  if (length > size - 8) {
    throw fail(`the header needs ${length} bytes, got ${size - 8}: the file is truncated`);
  }
  return parseSafetensorsHeader(await source.read(8, Number(length)), size, path);
}

function* encode(
  path: string,
  named: [string, HostTensor][],
  metadata: Readonly<Record<string, string>>,
  { dtype: floats = "float32", hashed = false }: SafetensorsOptions,
): Generator<Uint8Array> {
  const stored: StoredTensor[] = named.map(([name, tensor]) => ({
    name,
    tensor,
    ...storage(name, tensor, floats),
  }));
  stored.sort((a, b) => b.width - a.width || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  const pieces = stored.map(({ name, tensor, dtype }) => () => {
    const { data } = tensor;
    if (dtype === "F16") return halfBytes(path, name, data as Float32Array);
    return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  });
  const ready = hashed ? pieces.map((piece) => piece()) : null;
  const about = ready === null ? metadata : { ...metadata, sha256: hashBytes(...ready) };
  yield headerBytes(stored, about);
  if (ready !== null) yield* ready;
  else for (const piece of pieces) yield piece();
}

interface StoredTensor {
  readonly name: string;
  readonly tensor: HostTensor;
  readonly dtype: StoredDType;
  /** Bytes an element. */
  readonly width: number;
}

function headerBytes(
  stored: readonly StoredTensor[],
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  const header: Record<string, unknown> = Object.create(null); // any name is a key, also __proto__
  if (Object.keys(metadata).length > 0) header.__metadata__ = checkedMetadata(metadata);
  let offset = 0;
  for (const { name, tensor, dtype, width } of stored) {
    const end = offset + tensor.data.length * width;
    header[name] = { dtype, shape: tensor.shape, data_offsets: [offset, end] };
    offset = end;
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const padded = new Uint8Array(8 + Math.ceil(text.length / 8) * 8).fill(0x20);
  new DataView(padded.buffer).setBigUint64(0, BigInt(padded.length - 8), true);
  padded.set(text, 8);
  return padded;
}

function storage(
  name: string,
  { dtype, shape, data }: HostTensor,
  floats: "float32" | "float16",
): { dtype: StoredDType; width: number } {
  if (name === "__metadata__") {
    throw new RangeError("Cannot write weights: the name __metadata__ is reserved");
  }
  if (data.length !== sizeOf(shape)) {
    throw new TypeError(
      `Cannot write weights: "${name}" of shape [${shape.join(", ")}] needs ${sizeOf(shape)} values, ` +
        `got ${data.length}`,
    );
  }
  if (dtype === "int32") return { dtype: "I32", width: 4 };
  if (dtype === "bool") return { dtype: "BOOL", width: 1 };
  return floats === "float16" ? { dtype: "F16", width: 2 } : { dtype: "F32", width: 4 };
}

function halfBytes(path: string, name: string, values: Float32Array): Uint8Array {
  const bits = toFloat16Bits(values);
  for (let i = 0; i < bits.length; i++) {
    if ((bits[i] & 0x7fff) === 0x7c00 && Number.isFinite(values[i])) {
      throw new WeightsError(
        `Cannot write weights ${path}: "${name}" as float16 must stay within ${FLOAT16_MAX}, got ${
          values[i]
        }`,
      );
    }
  }
  return new Uint8Array(bits.buffer);
}

function checkedMetadata(metadata: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value !== "string") {
      throw new TypeError(`Cannot write weights: metadata "${key}" must be text, got ${typeof value}`);
    }
  }
  return metadata;
}
