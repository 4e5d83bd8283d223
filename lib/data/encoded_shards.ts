/**
 * Images streamed through a network into shards: what feature extraction and the encoding of latents share.
 *
 * @module
 */
import { float32, type HostTensor, sizeOf } from "novae/tensor/mod.ts";
import type { ImageBatches } from "./image_batches.ts";
import type { ShardPlan, ShardRows } from "./shard_format.ts";
import { type ShardProgress, writeShards, type WriteShardsOptions } from "./shards.ts";

/** How far an encoding is. */
export interface EncodeProgress {
  /** Images whose rows are there. */
  readonly done: number;
  /** Images in all. */
  readonly total: number;
  /** Images that this call encoded; the rest was there or came from other processes. */
  readonly made: number;
  /** Something a person should know: a damaged shard that is made again. */
  readonly note?: string;
}

/** An encoding with everything decided: which images, by what, into which shards. */
export interface ShardEncoding {
  /** What the shards are told; one row an image. */
  readonly plan: ShardPlan;
  /** The images. */
  readonly batches: ImageBatches;
  /** Shapes of the tensors of a row by name. */
  readonly tensors: Readonly<Record<string, readonly number[]>>;
  /**
   * Encodes a batch: float32 tensors [B, …] by name. It must give the same rows whenever it is asked for them.
   */
  encode(imageUnitBHWC: HostTensor): Promise<Readonly<Record<string, HostTensor>>>;
  /** What is noted of a shard, plain JSON, made from its rows. */
  describe?(tensors: Readonly<Record<string, HostTensor>>): unknown;
}

/** Options of {@link encodeShards}. */
export interface EncodeShardsOptions
  extends Pick<WriteShardsOptions, "verify" | "heartbeatSec" | "staleSec"> {
  /** Told of each batch, of each shard, and of what is wrong with one. */
  readonly onProgress?: (progress: EncodeProgress) => void;
}

/** What one call of {@link encodeShards} came to. */
export interface EncodedShards {
  /** Images that it encoded. */
  readonly made: number;
  /** Rate from the end of the first batch, during which the network was compiled; null if there was no second one. */
  readonly imagesPerSec: number | null;
}

/** Largest shard that is chosen, and its most rows. */
const SHARD_BYTES = 64e6, SHARD_ROWS = 1024;

/** Rows a shard where nobody asks for a number: a power of two that makes at most 64 MB, 1024 or fewer. */
export function usualShardRows(
  tensors: Readonly<Record<string, readonly number[]>>,
  dtype: ShardPlan["dtype"],
): number {
  const numbers = Object.values(tensors).reduce((sum, shape) => sum + sizeOf(shape), 0);
  const row = numbers * (dtype === "float16" ? 2 : 4);
  return Math.max(1, Math.min(SHARD_ROWS, 2 ** Math.floor(Math.log2(SHARD_BYTES / row))));
}

/**
 * Encodes images into a folder of shards, with their labels. Images are made ready while those before are encoded; any
 * number of processes may do so for one folder, and a killed one is started again: see `writeShards`. Memory holds two
 * shards, however many images there are.
 *
 * @throws ConfigError and DataError as `writeShards`, and what `encode` throws; finished shards stay.
 */
export async function encodeShards(
  folder: string,
  encoding: ShardEncoding,
  options: EncodeShardsOptions = {},
): Promise<EncodedShards> {
  const progress = new Progress(encoding.plan.count, options.onProgress);
  const work = new Encoding(encoding, (rows) => progress.encoded(rows));
  await writeShards(folder, encoding.plan, (first, last) => work.makeShard(first, last), {
    verify: options.verify,
    heartbeatSec: options.heartbeatSec,
    staleSec: options.staleSec,
    atOnce: 2,
    inputsOf: encoding.batches.inputsOf,
    onProgress: (shards) => progress.shards(shards),
  });
  return { made: progress.made, imagesPerSec: progress.imagesPerSec };
}

/** Makes the rows of shards. Several may be in the making: one is encoded while images of the next are decoded. */
class Encoding {
  readonly #encoding: ShardEncoding;
  readonly #onEncoded: (rows: number) => void;
  /** Ends when the shard before is encoded. */
  #turn: Promise<void> = Promise.resolve();
  #failure: { readonly error: unknown } | null = null;

  constructor(encoding: ShardEncoding, onEncoded: (rows: number) => void) {
    this.#encoding = encoding;
    this.#onEncoded = onEncoded;
  }

  async makeShard(first: number, last: number): Promise<ShardRows> {
    const { batches, describe } = this.#encoding, next = batches.of(first, last), before = this.#turn;
    const { promise, resolve: giveTurn } = Promise.withResolvers<void>();
    this.#turn = promise;
    await before;
    try {
      if (this.#failure !== null) throw this.#failure.error;
      const tensors = await this.#encode(first, last, next), labels = batches.labels(first, last);
      return { tensors, labels, ...(describe && { notes: describe(tensors) }) };
    } catch (error) {
      this.#failure ??= { error };
      throw error;
    } finally {
      giveTurn();
    }
  }

  async #encode(
    first: number,
    last: number,
    next: () => Promise<HostTensor>,
  ): Promise<Record<string, HostTensor>> {
    const { tensors, batches: { batchSize } } = this.#encoding, forms = Object.entries(tensors);
    const out = forms.map(([, shape]) => new Float32Array((last - first) * sizeOf(shape)));
    for (let start = first; start < last; start += batchSize) {
      const rows = Math.min(batchSize, last - start), encoded = await this.#encoding.encode(await next());
      for (const [i, [name, shape]] of forms.entries()) {
        const width = sizeOf(shape), data = encoded[name].data as Float32Array;
        out[i].set(data.subarray(0, rows * width), (start - first) * width);
      }
      this.#onEncoded(rows);
    }
    return Object.fromEntries(
      forms.map(([name, shape], i) => [name, float32(out[i], [last - first, ...shape])]),
    );
  }
}

/** Joins what is known of shards and of batches. */
class Progress {
  made = 0;
  readonly #total: number;
  readonly #tell: EncodeShardsOptions["onProgress"];
  /** Rows of the shards that came from elsewhere. */
  #others = 0;
  #first: { readonly at: number; readonly made: number } | null = null;
  #lastAt = 0;

  constructor(total: number, tell: EncodeShardsOptions["onProgress"]) {
    this.#total = total;
    this.#tell = tell;
  }

  get imagesPerSec(): number | null {
    if (this.#first === null || this.made === this.#first.made) return null;
    return 1000 * (this.made - this.#first.made) / (this.#lastAt - this.#first.at);
  }

  encoded(rows: number): void {
    this.made += rows;
    this.#lastAt = performance.now();
    this.#first ??= { at: this.#lastAt, made: this.made };
    this.#report();
  }

  shards({ done, made, note }: ShardProgress): void {
    this.#others = done - made;
    this.#report(note);
  }

  #report(note?: string): void {
    const done = Math.min(this.#others + this.made, this.#total);
    this.#tell?.({ done, total: this.#total, made: this.made, ...note !== undefined && { note } });
  }
}
