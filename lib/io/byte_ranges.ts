/**
 * Parts of a file or of memory, read where they are wanted.
 *
 * @module
 */
import { WeightsError } from "novae/tensor/mod.ts";
import { fileError } from "./file_error.ts";

/** Bytes of which parts can be read. */
export interface ByteRanges {
  /** Number of bytes in all. */
  readonly size: number;
  /**
   * Reads `length` bytes from `offset` on into memory of their own.
   *
   * @throws RangeError if they reach beyond the end.
   */
  read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>>;
}

/**
 * Parts of a file of weights. Nothing stays open between reads, so there is nothing to close, and any number of reads
 * may run at once; a file that has been changed or replaced in between is refused.
 */
export class FileRanges implements ByteRanges {
  /** The file. */
  readonly path: string;
  /** Its size in bytes. */
  readonly size: number;
  readonly #changed: number | null;

  private constructor(path: string, { size, mtime }: Deno.FileInfo) {
    this.path = path;
    this.size = size;
    this.#changed = mtime?.getTime() ?? null;
  }

  /**
   * Looks at the file.
   *
   * @throws WeightsError if it is missing or no file.
   */
  static async open(path: string): Promise<FileRanges> {
    try {
      const info = await Deno.stat(path);
      if (!info.isFile) throw new WeightsError(`Cannot read weights ${path}: it must be a file`);
      return new FileRanges(path, info);
    } catch (error) {
      throw fileError(`Cannot read weights ${path}`, error, WeightsError);
    }
  }

  /** Reads a part of the file. */
  async read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    if (offset < 0 || length < 0 || offset + length > this.size) {
      throw new RangeError(
        `Cannot read ${this.path}: bytes ${offset} to ${offset + length} are not all there`,
      );
    }
    try {
      using file = await Deno.open(this.path);
      const { size, mtime } = await file.stat();
      const bytes = new Uint8Array(length);
      await file.seek(offset, Deno.SeekMode.Start);
      let done = 0, got: number | null = 0;
      for (; done < length && got !== null; done += got ?? 0) got = await file.read(bytes.subarray(done));
      if (done < length || size !== this.size || (mtime?.getTime() ?? null) !== this.#changed) {
        throw new WeightsError(`Cannot read weights ${this.path}: the file was changed since it was opened`);
      }
      return bytes;
    } catch (error) {
      throw fileError(`Cannot read weights ${this.path}`, error, WeightsError);
    }
  }
}

/** Bytes in memory, read like a file. */
export function memoryRanges(bytes: Uint8Array<ArrayBuffer>): ByteRanges {
  return {
    size: bytes.length,
    read(offset, length) {
      if (offset < 0 || length < 0 || offset + length > bytes.length) {
        throw new RangeError(`Cannot read: bytes ${offset} to ${offset + length} are not all there`);
      }
      return Promise.resolve(bytes.slice(offset, offset + length));
    },
  };
}
