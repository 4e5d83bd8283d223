/**
 * Parts of a file or of memory, read where they are wanted.
 *
 * @module
 */
import { WeightsError } from "novae/tensor/mod.ts";
import { fileError } from "./file_error.ts";

const SMALL_BYTES = 1 << 20;

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
  /**
   * Fills `bytes` from `offset` on.
   *
   * @throws RangeError if they reach beyond the end.
   */
  readInto(offset: number, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
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
    expectWithin(this, offset, length);
    const bytes = new Uint8Array(length);
    await this.readInto(offset, bytes);
    return bytes;
  }

  /** Reads a part of the file into memory that is there. */
  async readInto(offset: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    expectWithin(this, offset, bytes.length);
    try {
      using file = Deno.openSync(this.path);
      const { size, mtime } = file.statSync();
      file.seekSync(offset, Deno.SeekMode.Start);
      let done = 0, got: number | null = 0;
      for (; done < bytes.length && got !== null; done += got ?? 0) {
        const rest = bytes.subarray(done); // a change of threads takes longer than reading a little
        got = rest.length < SMALL_BYTES ? file.readSync(rest) : await file.read(rest);
      }
      if (done < bytes.length || size !== this.size || (mtime?.getTime() ?? null) !== this.#changed) {
        throw new WeightsError(`Cannot read weights ${this.path}: the file was changed since it was opened`);
      }
    } catch (error) {
      throw fileError(`Cannot read weights ${this.path}`, error, WeightsError);
    }
  }
}

/** Bytes in memory, read like a file. */
export function memoryRanges(bytes: Uint8Array<ArrayBuffer>): ByteRanges {
  const ranges: ByteRanges = {
    size: bytes.length,
    read(offset, length) {
      expectWithin(ranges, offset, length);
      return Promise.resolve(bytes.slice(offset, offset + length));
    },
    readInto(offset, target) {
      expectWithin(ranges, offset, target.length);
      target.set(bytes.subarray(offset, offset + target.length));
      return Promise.resolve();
    },
  };
  return ranges;
}

function expectWithin(
  { size, path = "memory" }: ByteRanges & { path?: string },
  offset: number,
  length: number,
): void {
  if (offset < 0 || length < 0 || !(offset + length <= size)) {
    throw new RangeError(`Cannot read ${path}: bytes ${offset} to ${offset + length} are not all there`);
  }
}
