/**
 * Reading of tar archives in memory, as far as data sets need it: regular files of the ustar format.
 *
 * @module
 */
import { DataError, oneLine } from "novae/tensor/mod.ts";

const BLOCK = 512;

/**
 * Lists the regular files of an uncompressed tar archive.
 *
 * @param source the archive's name, for messages.
 * @returns views of the archive's bytes by the path within it.
 * @throws DataError if the archive is cut or is no tar archive.
 */
export function readTar(archive: Uint8Array, source: string): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  for (let offset = 0; offset + BLOCK <= archive.length;) {
    const header = archive.subarray(offset, offset + BLOCK);
    if (header.every((byte) => byte === 0)) return files;
    checkHeader(header, source, offset);
    const size = octal(text(header, 124, 12)), start = offset + BLOCK;
    if (!(start + size <= archive.length)) {
      throw new DataError(
        `Cannot read ${source}: "${oneLine(text(header, 0, 100))}" needs ${size} bytes, ` +
          `got ${archive.length - start}; the archive is cut, fetch it again`,
      );
    }
    const type = String.fromCharCode(header[156]);
    if (type === "0" || type === "\0") {
      const prefix = text(header, 257, 5) === "ustar" ? text(header, 345, 155) : "";
      const name = text(header, 0, 100);
      files.set(prefix === "" ? name : `${prefix}/${name}`, archive.subarray(start, start + size));
    }
    offset = start + Math.ceil(size / BLOCK) * BLOCK;
  }
  throw new DataError(`Cannot read ${source}: the archive's end is missing; it is cut, fetch it again`);
}

/** The header's checksum is the sum of its bytes with its own field read as spaces. */
function checkHeader(header: Uint8Array, source: string, offset: number): void {
  let sum = 8 * 32;
  for (let i = 0; i < BLOCK; i++) if (i < 148 || i >= 156) sum += header[i];
  if (sum === octal(text(header, 148, 8))) return;
  throw new DataError(`Cannot read ${source}: a tar header must stand at byte ${offset}, got other data`);
}

/** A number of the format; NaN, which equals and is at most nothing, if it is none: above all, no negative one. */
function octal(field: string): number {
  return /^[0-7]+$/.test(field) ? parseInt(field, 8) : NaN;
}

function text(header: Uint8Array, start: number, length: number): string {
  const field = header.subarray(start, start + length), end = field.indexOf(0);
  return new TextDecoder().decode(end < 0 ? field : field.subarray(0, end)).trim();
}
