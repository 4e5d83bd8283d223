/**
 * Reading whole files with errors that say which file and why.
 *
 * @module
 */
import { DataError, oneLine } from "novae/tensor/mod.ts";
import { type ErrorKind, fileError } from "./file_error.ts";
import { memoryLimit } from "./memory_limit.ts";

/**
 * Reads a file's bytes.
 *
 * @param kind the class of the error; `DataError` if omitted.
 * @throws DataError if it is missing or cannot be read.
 */
export async function readBytes(path: string, kind: ErrorKind = DataError): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return await Deno.readFile(path);
  } catch (error) {
    throw fileError(`Cannot read ${path}`, error, kind);
  }
}

/**
 * Reads and parses a JSON file.
 *
 * @param kind the class of the error; `DataError` if omitted.
 * @returns the parsed value, unchecked: validate it with a schema.
 * @throws DataError if it is missing, cannot be read or is no JSON; the message says where it stops being JSON.
 */
export async function readJson(path: string, kind: ErrorKind = DataError): Promise<unknown> {
  return parseJson(await readBytes(path, kind), path, kind);
}

/** About what V8 needs for an empty list or object, and for an entry of an object. */
const LIST_BYTES = 64, ENTRY_BYTES = 96, MODEST_BYTES = 1 << 24;

/** {@link readJson} of bytes in memory; values that need more than eight times the bytes, and 16 MiB, are refused. */
export function parseJson(bytes: Uint8Array, path: string, kind: ErrorKind): unknown {
  let needed = 0;
  for (const byte of bytes) {
    if (byte === 0x5b || byte === 0x7b) needed += LIST_BYTES;
    else if (byte === 0x3a) needed += ENTRY_BYTES;
  }
  if (needed > Math.max(MODEST_BYTES, memoryLimit(bytes.length))) {
    throw new kind(
      `Cannot read ${path}: its lists and objects must need less memory, got ${needed} bytes for a file of ${bytes.length}`,
    );
  }
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new kind(`Cannot read ${path}: it must be UTF-8 text, got other bytes`);
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    if (text.trim() === "") throw new kind(`Cannot read ${path}: it must be JSON, got an empty file`);
    const reason = oneLine((error as Error).message);
    throw new kind(`Cannot read ${path}: it must be JSON, got ${reason}`, { cause: error });
  }
}

/** Whether a file or folder is there. */
export async function pathExists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    const code = (error as { code?: string }).code;
    if (code === "ENOENT" || code === "ENOTDIR") return false;
    throw fileError(`Cannot look at ${path}`, error);
  }
}
