/**
 * Arrays in numpy's npy format.
 *
 * *Source*: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
 *
 * @module
 */
import { DataError, sizeOf } from "novae/tensor/mod.ts";
import { writeFileAtomic } from "./atomic_file.ts";
import { readBytes } from "./read_file.ts";
import { columnMajorStride, toRowMajor } from "./strided.ts";

/** Element types that can be written. float16 is read as float32. */
export type NpyDType = "float32" | "float64" | "uint8" | "int32" | "int64" | "bool";

/** Storage of the element types. */
export type NpyData = Float32Array | Float64Array | Uint8Array | Int32Array | BigInt64Array;

/** A dense row-major array as numpy stores it. Float32, int32 and bool ones are `HostTensor`s as well. */
export interface NpyArray {
  /** Element type. */
  readonly dtype: NpyDType;
  /** Extents, outermost first; empty for a scalar. */
  readonly shape: readonly number[];
  /** Values in row-major order. */
  readonly data: NpyData;
}

const DESCRIPTIONS: Readonly<Record<NpyDType, string>> = {
  float32: "<f4",
  float64: "<f8",
  uint8: "|u1",
  int32: "<i4",
  int64: "<i8",
  bool: "|b1",
};

/**
 * Encodes an array as an npy file (version 1.0).
 *
 * @throws TypeError if the number of values does not fit the shape.
 */
export function encodeNpy(array: NpyArray): Uint8Array<ArrayBuffer> {
  const { dtype, shape, data } = array;
  if (data.length !== sizeOf(shape)) {
    throw new TypeError(
      `Cannot encode npy: shape [${shape.join(", ")}] needs ${sizeOf(shape)} values, got ${data.length}`,
    );
  }
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`;
  const text = `{'descr': '${DESCRIPTIONS[dtype]}', 'fortran_order': False, 'shape': ${tuple}, }`;
  const start = Math.ceil((10 + text.length + 1) / 64) * 64; // numpy aligns data to 64 bytes
  const bytes = new Uint8Array(start + data.byteLength);
  bytes.set([0x93, ...new TextEncoder().encode("NUMPY"), 1, 0, (start - 10) & 0xff, (start - 10) >> 8]);
  bytes.set(new TextEncoder().encode(text.padEnd(start - 11, " ") + "\n"), 10);
  bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), start);
  return bytes;
}

/**
 * Decodes an npy file. Arrays in column-major order are brought into row-major order.
 *
 * @param what named in errors: a path, or a path and the name of the array.
 * @throws DataError if it is damaged, truncated or of a type that is not supported.
 */
export function decodeNpy(bytes: Uint8Array, what: string): NpyArray {
  const magic = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59]; // \x93NUMPY
  if (bytes.length < 10 || magic.some((value, i) => bytes[i] !== value)) {
    throw new DataError(`Cannot read ${what}: it is no npy array`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const long = bytes[6] > 1; // versions 2 and 3 have a 4-byte header length
  if (long && bytes.length < 12) throw new DataError(`Cannot read ${what}: the npy header is truncated`);
  const start = long ? 12 + view.getUint32(8, true) : 10 + view.getUint16(8, true);
  const header = new TextDecoder().decode(bytes.subarray(long ? 12 : 10, start));
  const type = /'descr':\s*'([^']*)'/.exec(header)?.[1];
  const order = /'fortran_order':\s*(True|False)/.exec(header)?.[1];
  const tuple = /'shape':\s*\(([\d,\s]*)\)/.exec(header)?.[1];
  if (start > bytes.length || type === undefined || order === undefined || tuple === undefined) {
    throw new DataError(
      `Cannot read ${what}: the npy header is truncated or has no plain type, order and shape`,
    );
  }
  const shape = tuple.split(",").map((part) => part.trim()).filter((part) => part !== "").map(Number);
  const array = { ...decodeData(bytes.slice(start), type, sizeOf(shape), what), shape };
  if (order !== "True" || array.data.length === 0) return array;
  const data = array.data as Float64Array; // the same code for every element type
  return { ...array, data: toRowMajor(data, shape, columnMajorStride(shape)) };
}

/** Writes an array as an npy file, atomically. */
export async function writeNpy(path: string, array: NpyArray): Promise<void> {
  await writeFileAtomic(path, encodeNpy(array));
}

/**
 * Reads an npy file.
 *
 * @throws DataError if it is missing, damaged, truncated or of a type that is not supported.
 */
export async function readNpy(path: string): Promise<NpyArray> {
  return decodeNpy(await readBytes(path), path);
}

function decodeData(
  bytes: Uint8Array<ArrayBuffer>,
  type: string,
  count: number,
  what: string,
): Pick<NpyArray, "dtype" | "data"> {
  const expect = (width: number): ArrayBuffer => {
    if (bytes.length !== count * width) {
      throw new DataError(
        `Cannot read ${what}: ${count} values need ${count * width} bytes, got ${bytes.length}`,
      );
    }
    return bytes.buffer;
  };
  switch (type) {
    case "<f4":
      return { dtype: "float32", data: new Float32Array(expect(4)) };
    case "<f2":
      return { dtype: "float32", data: new Float32Array(new Float16Array(expect(2))) };
    case "<f8":
      return { dtype: "float64", data: new Float64Array(expect(8)) };
    case "<i4":
      return { dtype: "int32", data: new Int32Array(expect(4)) };
    case "<i8":
      return { dtype: "int64", data: new BigInt64Array(expect(8)) };
    case "|u1":
      return { dtype: "uint8", data: new Uint8Array(expect(1)) };
    case "|b1":
      return { dtype: "bool", data: new Uint8Array(expect(1)) };
  }
  throw new DataError(
    `Cannot read ${what}: its type must be float16, float32, float64, uint8, int32, int64 or bool, got ${type}`,
  );
}
