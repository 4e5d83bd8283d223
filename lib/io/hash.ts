/**
 * SHA-256 of bytes, files and plain values, as lower-case hexadecimal.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { DataError } from "novae/tensor/mod.ts";
import { fileError } from "./file_error.ts";

/** The SHA-256 of the given parts, one after another; strings count as UTF-8, numeric arrays as their memory. */
export function hashBytes(...parts: (string | ArrayBufferView)[]): string {
  const hash = createHash("sha256");
  for (const part of parts) {
    hash.update(
      typeof part === "string" ? part : new Uint8Array(part.buffer, part.byteOffset, part.byteLength),
    );
  }
  return hash.digest("hex");
}

/**
 * The SHA-256 of a file, read piece by piece.
 *
 * @param start where to begin, in bytes; 0 if omitted.
 * @throws DataError if the file is missing or cannot be read.
 */
export async function hashFile(path: string, start = 0): Promise<string> {
  const hash = createHash("sha256");
  try {
    using file = await Deno.open(path);
    await file.seek(start, Deno.SeekMode.Start);
    const piece = new Uint8Array(1 << 20);
    for (let got = await file.read(piece); got !== null; got = await file.read(piece)) {
      hash.update(piece.subarray(0, got));
    }
  } catch (error) {
    throw fileError(`Cannot read ${path}`, error, DataError);
  }
  return hash.digest("hex");
}

/** The SHA-256 of a plain JSON value; the order of keys does not count, nor do keys whose value is undefined. */
export function hashValue(value: unknown): string {
  return hashBytes(canonicalJson(value));
}

/** JSON with keys sorted at every level, so that equal values give equal text. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_, node) => {
    if (typeof node !== "object" || node === null || Array.isArray(node)) return node;
    return Object.fromEntries(Object.entries(node).sort(([a], [b]) => a < b ? -1 : a > b ? 1 : 0));
  }) ?? "null";
}
