/**
 * Element types of weight files and what they become in memory: float16 and bfloat16 widen to float32, float64 narrows
 * to it, all integers become int32, which must hold them.
 *
 * @module
 */
import { type DType, type HostTensor, WeightsError } from "novae/tensor/mod.ts";
import { fromBfloat16Bits, fromFloat16Bits } from "./half.ts";

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

/** Turns big-endian elements into little-endian ones, in place. */
export function swapBytes(bytes: Uint8Array, width: number): void {
  if (width === 1) return;
  for (let start = 0; start < bytes.length; start += width) bytes.subarray(start, start + width).reverse();
}
