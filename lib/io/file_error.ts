/**
 * What the operating system says about a file, in words for a person.
 *
 * @module
 */
import { NovaeError } from "novae/tensor/mod.ts";

/** A kind of error that is told to a person in one line. */
export type ErrorKind = new (message: string, options?: ErrorOptions) => NovaeError;

const REASONS: Readonly<Record<string, string>> = {
  ENOSPC: "no space left on the device; free some and run again",
  EDQUOT: "the disk quota is used up; free some space and run again",
  EFBIG: "the file would be larger than this system allows",
  ENOENT: "no such file or folder",
  ENOTDIR: "a part of the path is a file, not a folder",
  EISDIR: "it is a folder, not a file",
  EEXIST: "something of this name exists already",
  EACCES: "permission denied",
  EPERM: "permission denied",
  EROFS: "the file system is read-only",
  EIO: "the device reports an input/output error",
  EMFILE: "too many files are open",
};

/**
 * Turns an operating system's error into one for a person: "Cannot write FILE: no space left on the device; free
 * some and run again". Errors of this project pass unchanged, and so do programming errors.
 *
 * @param what the first half of the message, e.g. "Cannot write metrics.jsonl".
 * @param kind the class of the result; `NovaeError` if omitted.
 */
export function fileError(what: string, error: unknown, kind: ErrorKind = NovaeError): Error {
  if (error instanceof NovaeError) return error;
  if (!(error instanceof Error)) return new Error(`${what}: ${String(error)}`);
  const code = (error as Error & { code?: string }).code ?? codeOf(error.message);
  if (code !== undefined && code in REASONS) return new kind(`${what}: ${REASONS[code]}`, { cause: error });
  const named = /^(NotFound|PermissionDenied|NotCapable|AlreadyExists|FilesystemLoop)$/.test(error.name);
  if (!named && !/^E[A-Z0-9]+$/.test(code ?? "")) return error;
  return new kind(`${what}: ${error.message}`, { cause: error });
}

/** Deno names no code for some errors, only the number that Linux and macOS have for them: "(os error 27)". */
function codeOf(message: string): string | undefined {
  const number = /\(os error (\d+)\)$/.exec(message)?.[1];
  return Deno.build.os !== "windows" && number === "27" ? "EFBIG" : undefined;
}
