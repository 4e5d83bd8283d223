/**
 * Element types of weight files and what they become in memory: float16 and bfloat16 widen to float32, float64 narrows
 * to it, all integers become int32, which must hold them.
 *
 * @module
 */
import { type DType, type HostTensor, WeightsError } from "novae/tensor/mod.ts";
import { fromBfloat16Bits, fromFloat16Bits, widenBfloat16, widenFloat16 } from "./half.ts";

/** Element types that can be read, by the names of safetensors. */
export type StoredDType = "F64" | "F32" | "F16" | "BF16" | "I64" | "I32" | "I16" | "I8" | "U8" | "BOOL";

/** Bytes an element. */
export const STORED_WIDTHS: Readonly<Record<StoredDType, number>> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
};

/** The type in memory. */
export function hostDType(stored: StoredDType): DType {
  if (stored === "BOOL") return "bool";
  return stored.startsWith("I") || stored === "U8" ? "int32" : "float32";
}

/**
 * Converts little-endian elements; what has its type already is not copied.
 *
 * @param bytes memory of their own, a whole number of elements.
 * @param what the subject of the message, e.g. `Cannot read weights x.pth: "steps"`.
 * @throws WeightsError if an integer does not fit into 32 bits.
 */
export function decodeElements(
  stored: StoredDType,
  bytes: Uint8Array<ArrayBuffer>,
  what: string,
): Pick<HostTensor, "dtype" | "data"> {
  const { buffer } = bytes;
  switch (stored) {
    case "F32":
      return { dtype: "float32", data: new Float32Array(buffer) };
    case "F16":
      return { dtype: "float32", data: fromFloat16Bits(new Uint16Array(buffer)) };
    case "BF16":
      return { dtype: "float32", data: fromBfloat16Bits(new Uint16Array(buffer)) };
    case "F64":
      return { dtype: "float32", data: new Float32Array(new Float64Array(buffer)) };
    case "I32":
      return { dtype: "int32", data: new Int32Array(buffer) };
    case "I16":
      return { dtype: "int32", data: Int32Array.from(new Int16Array(buffer)) };
    case "I8":
      return { dtype: "int32", data: Int32Array.from(new Int8Array(buffer)) };
    case "U8":
      return { dtype: "int32", data: Int32Array.from(bytes) };
    case "BOOL":
      return { dtype: "bool", data: bytes };
    case "I64": {
      const wide = new BigInt64Array(buffer), data = Int32Array.from(wide, Number);
      const lost = wide.findIndex((value, i) => BigInt(data[i]) !== value);
      if (lost < 0) return { dtype: "int32", data };
      throw new WeightsError(`${what} must fit into 32-bit integers, got ${wide[lost]}`);
    }
  }
}

/** Memory that elements are read into as they are stored. */
export interface StoredRoom {
  /** Where the stored bytes belong. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /**
   * Converts what was read, once.
   *
   * @param what as for {@link decodeElements}.
   * @throws WeightsError if an integer does not fit into 32 bits.
   */
  decode(what: string): Pick<HostTensor, "dtype" | "data">;
}

/**
 * Makes memory for elements of which none is copied: narrow ones are read into the end of their final memory and widen
 * there. Elements of 64 bits need memory beside it while they are converted.
 *
 * @param count their number.
 */
export function storedRoom(stored: StoredDType, count: number): StoredRoom {
  const width = STORED_WIDTHS[stored];
  if (width >= 4 || stored === "BOOL") {
    const bytes = new Uint8Array(count * width);
    return { bytes, decode: (what) => decodeElements(stored, bytes, what) };
  }
  const buffer = new ArrayBuffer(count * 4), bytes = new Uint8Array(buffer, count * (4 - width));
  return { bytes, decode: () => widenInPlace(stored, buffer, bytes) };
}

/** The stored elements are the end of the buffer; element i is read before the place of element i is written. */
function widenInPlace(
  stored: StoredDType,
  buffer: ArrayBuffer,
  { byteOffset }: Uint8Array,
): Pick<HostTensor, "dtype" | "data"> {
  if (stored === "F16" || stored === "BF16") {
    const data = new Float32Array(buffer), widen = stored === "F16" ? widenFloat16 : widenBfloat16;
    widen(new Uint16Array(buffer, byteOffset), data);
    return { dtype: "float32", data };
  }
  const data = new Int32Array(buffer),
    Narrow = { I16: Int16Array, I8: Int8Array, U8: Uint8Array }[stored as "I8"];
  const narrow = new Narrow(buffer, byteOffset);
  for (let i = 0; i < narrow.length; i++) data[i] = narrow[i];
  return { dtype: "int32", data };
}

/** Turns big-endian elements into little-endian ones, in place. */
export function swapBytes(bytes: Uint8Array, width: number): void {
  if (width === 1) return;
  for (let start = 0; start < bytes.length; start += width) bytes.subarray(start, start + width).reverse();
}
