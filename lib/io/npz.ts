/**
 * Several named arrays in one npz file, as `numpy.savez` writes and `numpy.load` reads them.
 *
 * @module
 */
import { DataError, oneLine, sizeOf } from "novae/tensor/mod.ts";
import { fillFileAtomic, writeFileAtomic } from "./atomic_file.ts";
import { memoryLimit } from "./memory_limit.ts";
import { decodeOwnNpy, encodeNpy, type NpyArray, npyHeader, parseNpyHeader } from "./npy.ts";
import { readBytes } from "./read_file.ts";
import { encodeZip, unpackZip } from "./zip.ts";
import { writeZipStream } from "./zip_stream.ts";

/**
 * Writes arrays to an npz file (uncompressed), atomically.
 *
 * @example
 * ```ts
 * import { readNpz, writeNpz } from "novae/io/mod.ts";
 * const path = await Deno.makeTempFile({ suffix: ".npz" });
 * await writeNpz(path, { labels: { dtype: "int32", shape: [2], data: Int32Array.of(3, 4) } });
 * if ((await readNpz(path)).get("labels")?.data[1] !== 4) throw new Error("not equal");
 * ```
 *
 * @throws NovaeError if it cannot be written.
 */
export async function writeNpz(
  path: string,
  arrays: ReadonlyMap<string, NpyArray> | Readonly<Record<string, NpyArray>>,
): Promise<void> {
  const named = arrays instanceof Map ? [...arrays] : Object.entries(arrays);
  const files = new Map(named.map(([name, array]) => [`${name}.npy`, encodeNpy(array)]));
  await writeFileAtomic(path, encodeZip(files));
}

/** An array that is written without ever being whole in memory. */
export interface StreamedArray extends Pick<NpyArray, "dtype" | "shape"> {
  /** Its values in row-major order, little-endian, in pieces of any length. */
  readonly bytes: Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
}

/**
 * Writes arrays of any size to an npz file, atomically, piece by piece; beyond 4 GiB in the form that numpy uses too.
 *
 * @throws RangeError if the pieces of an array are not as long as its shape says; NovaeError if it cannot be written.
 */
export async function writeNpzStream(
  path: string,
  arrays: Readonly<Record<string, StreamedArray>>,
): Promise<void> {
  const files = Object.entries(arrays).map(([name, { dtype, shape, bytes }]) => {
    const head = npyHeader(dtype, shape);
    const length = head.length + sizeOf(shape) * BYTES[dtype];
    return { name: `${name}.npy`, bytes: length, content: joined(head, bytes) };
  });
  await fillFileAtomic(path, (file) => writeZipStream(file, files));
}

const BYTES: Readonly<Record<NpyArray["dtype"], number>> = {
  float32: 4,
  float64: 8,
  uint8: 1,
  int32: 4,
  int64: 8,
  bool: 1,
};

async function* joined(head: Uint8Array, rest: StreamedArray["bytes"]): AsyncGenerator<Uint8Array> {
  yield head;
  yield* rest;
}

/**
 * Reads all arrays of an npz file, compressed or not.
 *
 * @param maxBytes the most memory that the arrays may need; eight times the file, at least 1 MiB, if omitted. More is
 * needed for arrays that compress well, such as masks.
 * @throws DataError if it is missing, damaged, truncated, holds a type that is not supported or needs more memory.
 */
export async function readNpz(path: string, maxBytes?: number): Promise<Map<string, NpyArray>> {
  return await decodeNpz(await readBytes(path), path, maxBytes);
}

/**
 * {@link readNpz} of bytes in memory.
 *
 * @param path named in errors.
 * @throws DataError as {@link readNpz} does.
 */
export async function decodeNpz(
  bytes: Uint8Array<ArrayBuffer>,
  path: string,
  maxBytes: number = memoryLimit(bytes.length),
): Promise<Map<string, NpyArray>> {
  const arrays = new Map<string, NpyArray>();
  let held = 0;
  for await (const { name, content } of unpackZip(bytes, path, maxBytes)) {
    const what = `${path}:${oneLine(name)}`, { type, columnMajor } = parseNpyHeader(content, what);
    const needed = held + content.length * (type === "<f2" ? 3 : 1) * (columnMajor ? 2 : 1);
    if (needed > maxBytes) {
      throw new DataError(
        `Cannot read ${what}: arrays must need at most ${maxBytes} bytes in memory, got ${needed}`,
      );
    }
    const array = decodeOwnNpy(content, what);
    arrays.set(name.replace(/\.npy$/, ""), array);
    held += array.data.byteLength;
  }
  return arrays;
}
