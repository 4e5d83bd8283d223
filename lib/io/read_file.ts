/**
 * Reading whole files with errors that say which file and why.
 *
 * @module
 */
import { DataError, oneLine } from "novae/tensor/mod.ts";
import { type ErrorKind, fileError } from "./file_error.ts";

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
  const bytes = await readBytes(path, kind);
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
