/**
 * Arrays in numpy's npy format.
 *
 * *Source*: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
 *
 * @module
 */
import { DataError, oneLine, sizeOf } from "novae/tensor/mod.ts";
import { writeFileAtomic } from "./atomic_file.ts";
import { fromFloat16Bits } from "./half.ts";
import { readBytes } from "./read_file.ts";
import { AXES_LIMIT } from "./safetensors_header.ts";
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
  const head = npyHeader(dtype, shape), bytes = new Uint8Array(head.length + data.byteLength);
  bytes.set(head);
  bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), head.length);
  return bytes;
}

/** What stands before the values in an npy file (version 1.0) of row-major order. */
export function npyHeader(dtype: NpyDType, shape: readonly number[]): Uint8Array<ArrayBuffer> {
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`;
  const text = `{'descr': '${DESCRIPTIONS[dtype]}', 'fortran_order': False, 'shape': ${tuple}, }`;
  const start = Math.ceil((10 + text.length + 1) / 64) * 64; // numpy aligns data to 64 bytes
  const bytes = new Uint8Array(start);
  bytes.set([0x93, ...new TextEncoder().encode("NUMPY"), 1, 0, (start - 10) & 0xff, (start - 10) >> 8]);
  bytes.set(new TextEncoder().encode(text.padEnd(start - 11, " ") + "\n"), 10);
  return bytes;
}

/**
 * Decodes an npy file. Arrays in column-major order are brought into row-major order.
 *
 * @param what named in errors: a path, or a path and the name of the array.
 * @throws DataError if it is damaged, truncated or of a type that is not supported.
 */
export function decodeNpy(bytes: Uint8Array, what: string): NpyArray {
  return decodeOwnNpy(new Uint8Array(bytes), what);
}

/** {@link decodeNpy} of bytes in memory of their own, which becomes that of the values. */
export function decodeOwnNpy(bytes: Uint8Array<ArrayBuffer>, what: string): NpyArray {
  const { type, shape, columnMajor, start } = parseNpyHeader(bytes, what), width = NPY_WIDTHS[type];
  const count = sizeOf(shape), present = bytes.length - start;
  if (present !== count * width) {
    throw new DataError(`Cannot read ${what}: ${count} values need ${count * width} bytes, got ${present}`);
  }
  bytes.copyWithin(0, start); // to where every type is aligned; a hundred bytes stay behind the values
  const array = { ...decodeData(bytes.buffer, type, count), shape };
  if (!columnMajor || count === 0) return array;
  const data = array.data as Float64Array; // the same code for every element type
  return { ...array, data: toRowMajor(data, shape, columnMajorStride(shape)) };
}

/** What the header of an npy file tells. */
export interface NpyHeader {
  /** Type of the elements, e.g. `<f4`. */
  readonly type: "<f4" | "<f2" | "<f8" | "<i4" | "<i8" | "|u1" | "|b1";
  /** Extents, outermost first. */
  readonly shape: readonly number[];
  /** Whether the first axis is contiguous. */
  readonly columnMajor: boolean;
  /** Where the values begin. */
  readonly start: number;
}

/** Bytes an element, of the types that can be read. */
const NPY_WIDTHS: Readonly<Record<NpyHeader["type"], number>> = {
  "<f4": 4,
  "<f2": 2,
  "<f8": 8,
  "<i4": 4,
  "<i8": 8,
  "|u1": 1,
  "|b1": 1,
};

/** Longer headers are numpy's limit too, `max_header_size`. */
const HEADER_LIMIT = 10_000;

/**
 * Parses the header of an npy file of version 1 to 3.
 *
 * @param what named in errors.
 * @throws DataError as {@link decodeNpy} does.
 */
export function parseNpyHeader(bytes: Uint8Array, what: string): NpyHeader {
  const fail = (why: string): DataError => new DataError(`Cannot read ${what}: ${why}`);
  const magic = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59]; // \x93NUMPY
  if (bytes.length < 10 || magic.some((value, i) => bytes[i] !== value)) throw fail("it is no npy array");
  if (bytes[6] < 1 || bytes[6] > 3) throw fail(`its npy version must be 1, 2 or 3, got ${bytes[6]}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const long = bytes[6] > 1; // versions 2 and 3 have a 4-byte header length
  if (long && bytes.length < 12) throw fail("the npy header is truncated");
  const length = long ? view.getUint32(8, true) : view.getUint16(8, true), start = length + (long ? 12 : 10);
  if (length > HEADER_LIMIT) {
    throw fail(`the npy header must be of at most ${HEADER_LIMIT} bytes, got ${length}`);
  }
  const header = new TextDecoder().decode(bytes.subarray(long ? 12 : 10, start));
  const type = /'descr':\s*'([^']*)'/.exec(header)?.[1];
  const order = /'fortran_order':\s*(True|False)/.exec(header)?.[1];
  const tuple = /'shape':\s*\(([\d,\s]*)\)/.exec(header)?.[1];
  if (start > bytes.length || type === undefined || order === undefined || tuple === undefined) {
    throw fail("the npy header is truncated or has no plain type, order and shape");
  }
  if (!Object.hasOwn(NPY_WIDTHS, type)) {
    throw fail(
      `its type must be float16, float32, float64, uint8, int32, int64 or bool, got ${oneLine(type)}`,
    );
  }
  return {
    type: type as NpyHeader["type"],
    shape: parseShape(tuple, fail),
    columnMajor: order === "True",
    start,
  };
}

function parseShape(tuple: string, fail: (why: string) => DataError): number[] {
  const shape = tuple.split(",").map((part) => part.trim()).filter((part) => part !== "").map(Number);
  const whole = shape.every((extent) => Number.isSafeInteger(extent));
  const elements = shape.reduce((product, extent) => product * Math.max(1, extent), 1);
  if (whole && shape.length <= AXES_LIMIT && elements * 8 <= Number.MAX_SAFE_INTEGER) return shape;
  throw fail(
    `its shape must be at most ${AXES_LIMIT} whole numbers and fewer than 2⁵⁰ elements, got (${
      oneLine(tuple)
    })`,
  );
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
  return decodeOwnNpy(await readBytes(path), path);
}

function decodeData(
  buffer: ArrayBuffer,
  type: NpyHeader["type"],
  count: number,
): Pick<NpyArray, "dtype" | "data"> {
  switch (type) {
    case "<f4":
      return { dtype: "float32", data: new Float32Array(buffer, 0, count) };
    case "<f2":
      return { dtype: "float32", data: fromFloat16Bits(new Uint16Array(buffer, 0, count)) };
    case "<f8":
      return { dtype: "float64", data: new Float64Array(buffer, 0, count) };
    case "<i4":
      return { dtype: "int32", data: new Int32Array(buffer, 0, count) };
    case "<i8":
      return { dtype: "int64", data: new BigInt64Array(buffer, 0, count) };
    case "|u1":
      return { dtype: "uint8", data: new Uint8Array(buffer, 0, count) };
    case "|b1":
      return { dtype: "bool", data: new Uint8Array(buffer, 0, count) };
  }
}
