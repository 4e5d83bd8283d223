/**
 * Reading from many files at any place with few of them open.
 *
 * @module
 */
import { DataError } from "novae/tensor/mod.ts";
import { fileError } from "./file_error.ts";

interface OpenFile {
  readonly file: Promise<Deno.FsFile>;
  /** Ends when the last read that was asked for has ended: a file has one position, so reads take turns. */
  turn: Promise<void>;
}

/** Files that are opened when they are first read from and kept open while they are among the last used. */
export class OpenFiles {
  readonly #limit: number;
  readonly #files = new Map<string, OpenFile>(); // the last used last
  readonly #closing = new Set<Promise<void>>();

  /**
   * Nothing is opened yet.
   *
   * @param limit most files open at once, 1 or more.
   * @throws RangeError if the limit is no whole number of at least 1.
   */
  constructor(limit: number) {
    if (!Number.isInteger(limit) || limit < 1) {
      throw new RangeError(`Cannot keep files open: the limit must be whole and at least 1, got ${limit}`);
    }
    this.#limit = limit;
  }

  /** Number of files that are open. */
  get count(): number {
    return this.#files.size;
  }

  /**
   * Fills `bytes` from a place in a file.
   *
   * @param position first byte.
   * @throws DataError if the file is missing, cannot be read or ends too early.
   */
  async read(path: string, position: number, bytes: Uint8Array): Promise<void> {
    const entry = this.#use(path);
    const reading = entry.turn.then(async () => {
      try {
        await readAt(await entry.file, path, position, bytes);
      } catch (error) {
        this.#drop(path, entry);
        throw fileError(`Cannot read ${path}`, error, DataError);
      }
    });
    entry.turn = reading.catch(() => {});
    return await reading;
  }

  /** Closes all files after the reads under way; the next read opens its file anew. */
  async close(): Promise<void> {
    for (const [path, entry] of this.#files) this.#drop(path, entry);
    await Promise.all(this.#closing);
  }

  #use(path: string): OpenFile {
    const entry = this.#files.get(path) ?? { file: Deno.open(path), turn: Promise.resolve() };
    entry.file.catch(() => {}); // told by the read
    this.#files.delete(path);
    this.#files.set(path, entry);
    for (const [oldest, file] of this.#files) {
      if (this.#files.size <= this.#limit) break;
      this.#drop(oldest, file);
    }
    return entry;
  }

  /** Closes a file once the reads that were asked for have ended. */
  #drop(path: string, entry: OpenFile): void {
    if (this.#files.get(path) !== entry) return;
    this.#files.delete(path);
    const closing = closeAfterTurn(entry).finally(() => this.#closing.delete(closing));
    this.#closing.add(closing);
  }
}

async function readAt(file: Deno.FsFile, path: string, position: number, bytes: Uint8Array): Promise<void> {
  await file.seek(position, Deno.SeekMode.Start);
  for (let done = 0; done < bytes.length;) {
    const got = await file.read(bytes.subarray(done));
    if (got === null) {
      throw new DataError(
        `Cannot read ${path}: ${bytes.length} bytes from ${position} on are needed, got ${done}`,
      );
    }
    done += got;
  }
}

async function closeAfterTurn(entry: OpenFile): Promise<void> {
  await entry.turn;
  await entry.file.then((file) => file.close(), () => {});
}
