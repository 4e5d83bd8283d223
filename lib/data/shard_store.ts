/**
 * Reading rows of shards at random without having them in memory.
 *
 * @module
 */
import { join } from "node:path";
import { DataError, type HostTensor, sizeOf, type TypedArray } from "novae/tensor/mod.ts";
import { decodeElements, OpenFiles, pathExists } from "novae/io/mod.ts";
import { checkShard, readShardHeader } from "./shard_file.ts";
import { indexPath, planPath, readIndex, type RowForm, type ShardIndex } from "./shard_format.ts";

/** Options of {@link openShards}. */
export interface OpenShardsOptions {
  /** Most files open at once; 16 if omitted. */
  readonly openFiles?: number;
  /** Whether all data are read and compared with the index first; "size" compares sizes only and is the default. */
  readonly verify?: "size" | "hash";
}

/** Rows in files, read when they are asked for: `float16` is widened to float32. */
export interface ShardStore {
  /** What the rows were made from and with. */
  readonly config: unknown;
  /** Number of rows. */
  readonly count: number;
  /** Storage of the tensors by name: type in the files and shape of one row. */
  readonly tensors: Readonly<Record<string, RowForm>>;
  /** One label a row. */
  readonly labels: Int32Array;
  /** What was noted of each shard, in the order of their rows; undefined where nothing was. */
  readonly notes: readonly unknown[];
  /**
   * Reads the rows `start` (inclusive) to `end` (exclusive).
   *
   * @param names tensors to read; all if omitted.
   * @returns tensors [end − start, …] by name; the caller owns them.
   * @throws RangeError if there are no such rows or tensors; DataError if a file is missing, cut or replaced.
   */
  rows(start: number, end: number, names?: readonly string[]): Promise<Record<string, HostTensor>>;
  /** The same for the rows with the given indices, in any order, with repetitions. */
  rowsAt(indices: ArrayLike<number>, names?: readonly string[]): Promise<Record<string, HostTensor>>;
  /** Closes the files; a later read opens them again. */
  close(): Promise<void>;
}

/**
 * Opens a folder that `writeShards` has finished. Only the index is read; memory does not grow with the rows but for
 * four bytes a label.
 *
 * @throws DataError if the index is missing or damaged or a file does not fit it.
 */
export async function openShards(folder: string, options: OpenShardsOptions = {}): Promise<ShardStore> {
  if (!await pathExists(indexPath(folder))) {
    const begun = await pathExists(planPath(folder));
    throw new DataError(
      `Cannot open shards ${folder}: ${indexPath(folder)} is missing` +
        (begun ? "; not all shards are made yet, go on with writing them" : ": it is no folder of shards"),
    );
  }
  const index = await readIndex(folder);
  for (const [shard, { file, bytes, sha256 }] of index.shards.entries()) {
    const path = join(folder, file);
    const { size } = await Deno.stat(path).catch(() => ({ size: -1 }));
    if (size !== bytes) {
      const got = size < 0 ? "no file" : `${size}`;
      throw new DataError(
        `Cannot open shards ${folder}: ${file} must have ${bytes} bytes, got ${got}; ${MEND}`,
      );
    }
    if (options.verify !== "hash") continue;
    const header = await checkShard(folder, shard, index, true);
    if (header.metadata.sha256 !== sha256) throw replaced(path);
  }
  return new FolderStore(folder, index, options.openFiles ?? 16);
}

const MEND = "write the shards again, which mends it";

/** Rows of one shard that follow on each other. */
interface Run {
  readonly shard: number;
  /** The first row of the store. */
  readonly first: number;
  /** One past the last row. */
  last: number;
  /** Positions in the list of sorted requests that it serves. */
  readonly from: number;
  to: number;
}

class FolderStore implements ShardStore {
  readonly config: unknown;
  readonly count: number;
  readonly tensors: Readonly<Record<string, RowForm>>;
  readonly labels: Int32Array;
  readonly notes: readonly unknown[];
  readonly #folder: string;
  readonly #index: ShardIndex;
  readonly #files: OpenFiles;
  readonly #openFiles: number;
  /** Where the tensors of a shard begin in its file, by name. */
  readonly #places = new Map<number, Promise<Map<string, number>>>();

  constructor(folder: string, index: ShardIndex, openFiles: number) {
    this.config = index.config;
    this.count = index.count;
    this.tensors = index.tensors;
    this.labels = Int32Array.from(index.labels);
    this.notes = index.shards.map(({ notes }) => notes);
    this.#folder = folder;
    this.#index = { ...index, labels: [] };
    this.#files = new OpenFiles(openFiles);
    this.#openFiles = openFiles;
  }

  async rows(start: number, end: number, names?: readonly string[]): Promise<Record<string, HostTensor>> {
    if (
      !(Number.isInteger(start) && Number.isInteger(end) && start >= 0 && start <= end && end <= this.count)
    ) {
      throw new RangeError(
        `Cannot read rows: the range must lie in 0 … ${this.count}, got ${start} … ${end}`,
      );
    }
    return await this.rowsAt(Int32Array.from({ length: end - start }, (_, i) => start + i), names);
  }

  async rowsAt(indices: ArrayLike<number>, names?: readonly string[]): Promise<Record<string, HostTensor>> {
    const order = this.#sorted(indices), runs = this.#runs(indices, order);
    const out: Record<string, HostTensor> = {};
    for (const name of names ?? Object.keys(this.tensors)) {
      if (!Object.hasOwn(this.tensors, name)) {
        const known = Object.keys(this.tensors).join(", ");
        throw new RangeError(`Cannot read rows: the tensors are ${known}, got "${name}"`);
      }
      out[name] = emptyRows(indices.length, this.tensors[name]);
    }
    let next = 0;
    const work = async () => {
      while (next < runs.length) await this.#copyRun(runs[next++], indices, order, out);
    };
    const ends = await Promise.allSettled(
      Array.from({ length: this.#openFiles }, () =>
        work().catch((error) => {
          next = runs.length; // the others stop after a failure
          throw error;
        })),
    );
    for (const end of ends) if (end.status === "rejected") throw end.reason;
    return out;
  }

  async close(): Promise<void> {
    await this.#files.close();
  }

  /** Places of the requests in the order of their rows. */
  #sorted(indices: ArrayLike<number>): Int32Array {
    for (let i = 0; i < indices.length; i++) {
      const index = indices[i];
      if (Number.isInteger(index) && index >= 0 && index < this.count) continue;
      throw new RangeError(`Cannot read rows: index must be in 0 … ${this.count - 1}, got ${index}`);
    }
    return Int32Array.from({ length: indices.length }, (_, i) => i).sort((a, b) => indices[a] - indices[b]);
  }

  #runs(indices: ArrayLike<number>, order: Int32Array): Run[] {
    const runs: Run[] = [];
    for (let i = 0; i < order.length; i++) {
      const row = indices[order[i]], shard = Math.floor(row / this.#index.rowsPerShard), run = runs.at(-1);
      if (run !== undefined && run.shard === shard && row <= run.last) {
        run.last = row + 1;
        run.to = i + 1;
      } else runs.push({ shard, first: row, last: row + 1, from: i, to: i + 1 });
    }
    return runs;
  }

  /** Reads a run's rows and puts each wherever it was asked for. */
  async #copyRun(
    run: Run,
    indices: ArrayLike<number>,
    order: Int32Array,
    out: Readonly<Record<string, HostTensor>>,
  ): Promise<void> {
    for (const [name, { data }] of Object.entries(out)) {
      const width = sizeOf(this.tensors[name].shape), read = await this.#read(run, name);
      for (let i = run.from; i < run.to; i++) {
        const row = (indices[order[i]] - run.first) * width;
        data.set(read.subarray(row, row + width), order[i] * width);
      }
    }
  }

  /** The numbers of a run's rows. */
  async #read({ shard, first, last }: Run, name: string): Promise<TypedArray> {
    const { file, first: start } = this.#index.shards[shard], path = join(this.#folder, file);
    const { dtype, shape } = this.tensors[name], rowBytes = sizeOf(shape) * BYTES[dtype];
    const bytes = new Uint8Array((last - first) * rowBytes);
    const begin = (await this.#placesOf(shard, path)).get(name)!;
    await this.#files.read(path, begin + (first - start) * rowBytes, bytes);
    return decodeElements(dtype, bytes, `Cannot read shard ${path}: "${name}"`).data;
  }

  async #placesOf(shard: number, path: string): Promise<Map<string, number>> {
    let places = this.#places.get(shard);
    if (places === undefined) {
      places = this.#readPlaces(shard, path);
      this.#places.set(shard, places);
      places.catch(() => this.#places.delete(shard));
    }
    return await places;
  }

  async #readPlaces(shard: number, path: string): Promise<Map<string, number>> {
    const { entries, metadata, dataStart } = await readShardHeader(path);
    if (metadata.sha256 !== this.#index.shards[shard].sha256) throw replaced(path);
    return new Map(entries.map(({ name, begin }) => [name, dataStart + begin]));
  }
}

const BYTES: Readonly<Record<string, number>> = { F32: 4, F16: 2, I32: 4, BOOL: 1 };

function emptyRows(count: number, { dtype, shape }: RowForm): HostTensor {
  const size = count * sizeOf(shape), full = [count, ...shape];
  if (dtype === "I32") return { dtype: "int32", shape: full, data: new Int32Array(size) };
  if (dtype === "BOOL") return { dtype: "bool", shape: full, data: new Uint8Array(size) };
  return { dtype: "float32", shape: full, data: new Float32Array(size) };
}

function replaced(path: string): DataError {
  return new DataError(`Cannot use ${path}: its hash must be the one in the index, got another; ${MEND}`);
}
