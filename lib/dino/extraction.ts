/**
 * Features of whole data sets, streamed through an encoder into shards.
 *
 * @module
 */
import { join } from "node:path";
import type * as tf from "@tensorflow/tfjs";
import { ConfigError, float32, type HostTensor, sizeOf } from "novae/tensor/mod.ts";
import {
  type DeviceName,
  type DeviceTensor,
  disposeTree,
  jit,
  read,
  resolveDevice,
} from "novae/engine/mod.ts";
import { pathExists, writeJson } from "novae/io/mod.ts";
import {
  type Dataset,
  type ImageFiles,
  type ShardProgress,
  type ShardRows,
  writeShards,
  type WriteShardsOptions,
} from "novae/data/mod.ts";
import { countVitParams } from "./config.ts";
import { DinoEncoder, type DinoFeatures, hashEncoder } from "./encoder.ts";
import {
  type ExtractionPlan,
  type ExtractionSettings,
  type FeatureForm,
  planExtraction,
} from "./extraction_plan.ts";
import { type ImageBatches, openImageBatches } from "./image_batches.ts";
import type { LoadedEncoder } from "./load_encoder.ts";

export type { ExtractionSettings, TokenChoice } from "./extraction_plan.ts";

/** How far an extraction is. */
export interface ExtractionProgress {
  /** Images whose features are there. */
  readonly done: number;
  /** Images in all. */
  readonly total: number;
  /** Images that this call encoded; the rest was there or came from other processes. */
  readonly made: number;
  /** Something a person should know: a damaged shard that is made again. */
  readonly note?: string;
}

/** Options of {@link extractFeatures}. */
export interface ExtractionOptions
  extends ExtractionSettings, Pick<WriteShardsOptions, "verify" | "heartbeatSec" | "staleSec"> {
  /** The images: a data set in memory, or files of any number. */
  readonly images: Dataset | ImageFiles;
  /** The encoder, from `loadEncoder`. */
  readonly encoder: Omit<LoadedEncoder, "metadata" | "ignored">;
  /**
   * Images that run at once, which changes features by rounding at most; 64 if omitted. Where processes share the work a
   * batch should take less than `staleSec`: a process gives no sign of life while the encoder runs.
   */
  readonly batchSize?: number;
  /** Where the encoder runs; `auto` if omitted. */
  readonly device?: DeviceName;
  /** Threads that decode image files; one a core, but at most 16, if omitted. */
  readonly workers?: number;
  /** Told of each batch, of each shard, and of what is wrong with one. */
  readonly onProgress?: (progress: ExtractionProgress) => void;
}

/** What an extraction came to. */
export interface ExtractionSummary {
  /** Images in all. */
  readonly count: number;
  /** Images that this call encoded. */
  readonly made: number;
  /** Shapes of the tensors of a row by name. */
  readonly tensors: Readonly<Record<string, readonly number[]>>;
  /** SHA-256 of the encoder's settings and weights. */
  readonly encoderHash: string;
  /** Time of the whole call. */
  readonly wallSec: number;
  /** Rate from the end of the first batch, during which the encoder was compiled; null if there was no second one. */
  readonly imagesPerSec: number | null;
}

/**
 * Encodes all images of a data set into a folder of shards, which `openShards` reads at random, with labels and with
 * the encoder, the data and the preparation in its `config`. `encoder.json` in the folder says where the encoder came
 * from.
 *
 * Images are decoded and resized in threads while the encoder runs on those before. Any number of processes may call
 * this for one folder at the same time, and a killed one is called again: what is there is kept, and on one device the
 * shards are the same byte for byte. Memory does not grow with the number of images but for their names.
 *
 * @example
 * ```ts
 * import { Rng } from "novae/tensor/mod.ts";
 * import { loadDataset, openShards } from "novae/data/mod.ts";
 * import { extractFeatures, initVit, loadEncoder, saveEncoder, VIT_SIZES } from "novae/dino/mod.ts";
 * const folder = await Deno.makeTempDir(), path = `${folder}/encoder.safetensors`;
 * await saveEncoder(path, VIT_SIZES.tiny, initVit(new Rng(0), VIT_SIZES.tiny));
 * const { train: images } = await loadDataset({ name: "solids", train: 12, test: 2, imageSize: 16, cacheDir: null });
 * await extractFeatures(`${folder}/features`, { images, encoder: await loadEncoder(path), device: "cpu" });
 * const shards = await openShards(`${folder}/features`), { cls } = await shards.rowsAt([11, 3], ["cls"]);
 * if (`${cls.shape}` !== "2,16") throw new Error("unexpected shape");
 * await shards.close();
 * ```
 * @throws ConfigError for settings that cannot be used, or a folder with features of another encoder, data set or form,
 * naming what differs; DataError if an image cannot be decoded, naming its file (finished shards stay); DeviceError if
 * the device cannot be used.
 */
export async function extractFeatures(
  folder: string,
  options: ExtractionOptions,
): Promise<ExtractionSummary> {
  const started = performance.now(), { images, encoder: loaded, batchSize = 64, device = "auto" } = options;
  expectBatchSize(batchSize);
  const hash = hashEncoder(loaded.config, loaded.params);
  const plan = planExtraction(images, { ...loaded, hash }, options), { count, rowsPerShard } = plan.shards;
  await expectDevice(device);
  using batches = openImageBatches(images, plan.preprocessing, {
    batchSize: Math.min(batchSize, rowsPerShard, count),
    workers: options.workers,
  });
  const encoder = new DinoEncoder(loaded.config, loaded.params, {
    device,
    preprocessing: batches.preprocessing,
  });
  const progress = new Progress(count, options.onProgress);
  const work = new Extraction(encoder, batches, plan, options, (rows) => progress.encoded(rows));
  try {
    await writeShards(folder, plan.shards, (first, last) => work.makeShard(first, last), {
      verify: options.verify,
      heartbeatSec: options.heartbeatSec,
      staleSec: options.staleSec,
      atOnce: 2,
      inputsOf: batches.inputsOf,
      onProgress: (shards) => progress.shards(shards),
    });
    await recordEncoder(folder, loaded, hash);
  } finally {
    await encoder.dispose();
  }
  return {
    count,
    made: progress.made,
    tensors: Object.fromEntries(plan.forms.map(({ name, shape }) => [name, shape])),
    encoderHash: hash,
    wallSec: (performance.now() - started) / 1000,
    imagesPerSec: progress.imagesPerSec,
  };
}

function expectBatchSize(batchSize: number): void {
  if (Number.isSafeInteger(batchSize) && batchSize >= 1) return;
  throw new ConfigError(
    `Cannot extract features: batch size must be a positive whole number, got ${batchSize}`,
  );
}

/** Runs a tiny graph, so that a device that is not there is told before anything is written. */
async function expectDevice(name: DeviceName): Promise<void> {
  const { device } = await resolveDevice(name);
  const probe = jit((x: tf.Tensor) => x.add(1), { device, name: "probe" });
  try {
    disposeTree(await probe({ dtype: "float32", shape: [1], data: Float32Array.of(0) }));
  } finally {
    await probe.dispose();
  }
}

async function recordEncoder(
  folder: string,
  loaded: ExtractionOptions["encoder"],
  hash: string,
): Promise<void> {
  const path = join(folder, "encoder.json"), { family, config, source } = loaded;
  if (await pathExists(path)) return;
  await writeJson(path, { hash, family, parameters: countVitParams(config), settings: config, source });
}

/** Makes the rows of shards. Several may be in the making: one is encoded while images of the next are decoded. */
class Extraction {
  readonly #encoder: DinoEncoder;
  readonly #batches: ImageBatches;
  readonly #plan: ExtractionPlan;
  readonly #options: ExtractionSettings;
  readonly #onEncoded: (rows: number) => void;
  /** Ends when the shard before is encoded. */
  #turn: Promise<void> = Promise.resolve();
  #failure: { readonly error: unknown } | null = null;

  constructor(
    encoder: DinoEncoder,
    batches: ImageBatches,
    plan: ExtractionPlan,
    options: ExtractionSettings,
    onEncoded: (rows: number) => void,
  ) {
    this.#encoder = encoder;
    this.#batches = batches;
    this.#plan = plan;
    this.#options = options;
    this.#onEncoded = onEncoded;
  }

  async makeShard(first: number, last: number): Promise<ShardRows> {
    const next = this.#batches.of(first, last), before = this.#turn;
    const { promise, resolve: giveTurn } = Promise.withResolvers<void>();
    this.#turn = promise;
    await before;
    try {
      if (this.#failure !== null) throw this.#failure.error;
      return { tensors: await this.#encode(first, last, next), labels: this.#batches.labels(first, last) };
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
    const { forms } = this.#plan, { lastBlocks = 0, norm } = this.#options, { batchSize } = this.#batches;
    const out = forms.map(({ shape }) => new Float32Array((last - first) * sizeOf(shape)));
    for (let start = first; start < last; start += batchSize) {
      const wanted = lastBlocks > 0 ? { lastBlocks, norm } : {}, rows = Math.min(batchSize, last - start);
      const features = await this.#encoder.featuresOnDevice(await next(), wanted);
      for (const [i, form] of forms.entries()) {
        const { data } = await read(tokensOf(features, form)), width = sizeOf(form.shape);
        out[i].set(data.subarray(0, rows * width) as Float32Array, (start - first) * width);
      }
      disposeTree(features);
      this.#onEncoded(rows);
    }
    return Object.fromEntries(
      forms.map(({ name, shape }, i) => [name, float32(out[i], [last - first, ...shape])]),
    );
  }
}

function tokensOf(features: DinoFeatures<DeviceTensor>, { block, kind }: FeatureForm): DeviceTensor {
  const { clsBD, patchesBND } = block === null ? features : features.lastBlocks![block];
  return kind === "cls" ? clsBD : patchesBND;
}

/** Joins what is known of shards and of batches. */
class Progress {
  made = 0;
  readonly #total: number;
  readonly #tell: ExtractionOptions["onProgress"];
  /** Rows of the shards that came from elsewhere. */
  #others = 0;
  #first: { readonly at: number; readonly made: number } | null = null;
  #lastAt = 0;

  constructor(total: number, tell: ExtractionOptions["onProgress"]) {
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
