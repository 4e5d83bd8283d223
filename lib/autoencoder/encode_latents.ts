/**
 * Latents of whole data sets, encoded once into shards.
 *
 * @module
 */
import { join } from "node:path";
import {
  ChannelMoments,
  ConfigError,
  DataError,
  float32,
  type HostTensor,
  rows,
  zeros,
} from "novae/tensor/mod.ts";
import { pathExists, readJson, writeJson } from "novae/io/mod.ts";
import {
  type Dataset,
  type EncodedShards,
  encodeShards,
  type EncodeShardsOptions,
  flipHorizontal,
  type ImageFiles,
  isImageFiles,
  openImageBatches,
  type ShardPlan,
  usualShardRows,
} from "novae/data/mod.ts";
import type { Autoencoder } from "./autoencoder.ts";
import { autoencoderFraming } from "./framing.ts";
import { type LatentNotes, LATENTS, type LatentSetConfig, MIRRORED, openLatents } from "./latent_set.ts";

/** An autoencoder that says what it is. */
export interface LatentEncoder
  extends Pick<Autoencoder, "name" | "channels" | "grid" | "imageSize" | "encode"> {
  /** Identifies settings and weights, those of the frozen encoder included. */
  readonly hash: string;
  /** Its settings, plain JSON. */
  readonly config: unknown;
  /** The frozen encoder, if it has one. */
  readonly encoder?: { readonly hash: string };
}

/** What is encoded, and how it is stored. */
export interface EncodeLatentsOptions extends EncodeShardsOptions {
  /** The images: a data set in memory, or files of any number and size, of which the middle square is taken. */
  readonly images: Dataset | ImageFiles;
  /** Encodes them. */
  readonly autoencoder: LatentEncoder;
  /** Whether the latents of the mirror images are kept too; true if omitted. */
  readonly flip?: boolean;
  /** Storage; float16 if omitted. */
  readonly dtype?: ShardPlan["dtype"];
  /** Rows a shard; if omitted a power of two that makes at most 64 MB, 1024 or fewer. */
  readonly rowsPerShard?: number;
  /**
   * Images that run at once, which changes latents by rounding at most; 64 if omitted. Where processes share the work a
   * batch should take less than `staleSec`.
   */
  readonly batchSize?: number;
  /** Threads that decode image files; one a core, but at most 16, if omitted. */
  readonly workers?: number;
}

/** What an encoding came to. */
export interface EncodedLatents extends EncodedShards {
  /** Images in all. */
  readonly count: number;
  /** Shape of the latents of an image, [N, Z]. */
  readonly shape: readonly [number, number];
  /** Hash of the autoencoder. */
  readonly autoencoderHash: string;
  /** Time of the whole call. */
  readonly wallSec: number;
}

/** Images that are rounded at once when shards are measured. */
const MEASURED_ROWS = 64;
/** The largest number of 16 bits. */
const HALF_MAX = 65504;

/**
 * Encodes all images of a data set, and their mirror images, into a folder of shards: the latents of an image are a row,
 * as `encode` gives them, with its label. A mirrored latent is not the latent of the mirror image, so that both are
 * encoded. Mean and standard deviation of each channel are measured on the way, in double precision, on what is stored.
 *
 * Any number of processes may call this for one folder at the same time, and a killed one is called again: what is there
 * is kept, and on one device the shards are the same byte for byte. Memory does not grow with the number of images.
 * `openLatents` reads the result; `autoencoder.json` in the folder says for other programs what made it and repeats the
 * statistics.
 *
 * @throws ConfigError if the images do not have the autoencoder's size, for settings that cannot be used, or for a
 * folder with latents of another autoencoder, data set or form, naming what differs; DataError if an image cannot be
 * decoded or has latents that cannot be stored, or if a latent channel is constant.
 */
export async function encodeLatents(folder: string, options: EncodeLatentsOptions): Promise<EncodedLatents> {
  const started = performance.now(), { images, autoencoder } = options;
  const plan = planLatents(options),
    { count, rowsPerShard } = plan,
    { flip = true, batchSize = 64 } = options;
  const { grid, channels, imageSize, hash } = autoencoder, shape = [grid ** 2, channels] as const;
  await autoencoder.encode(zeros([1, imageSize, imageSize, 3])); // what cannot run is told before anything is written
  using batches = openImageBatches(images, autoencoderFraming(imageSize), {
    batchSize: Math.min(batchSize, rowsPerShard, count),
    workers: options.workers,
  });
  const encoded = await encodeShards(folder, {
    plan,
    batches,
    tensors: tensorsOf(autoencoder, flip),
    encode: async (imageUnitBHWC) => ({
      [LATENTS]: await autoencoder.encode(imageUnitBHWC),
      ...(flip && { [MIRRORED]: await autoencoder.encode(mirrored(imageUnitBHWC)) }),
    }),
    describe: (tensors) => ({ moments: momentsOf(tensors, channels, plan.dtype) }) satisfies LatentNotes,
  }, options);
  await recordAutoencoder(folder);
  const wallSec = (performance.now() - started) / 1000;
  return { ...encoded, count, shape: [...shape], autoencoderHash: hash, wallSec };
}

function tensorsOf({ grid, channels }: LatentEncoder, flip: boolean): Record<string, readonly number[]> {
  const shape = [grid ** 2, channels];
  return flip ? { [LATENTS]: shape, [MIRRORED]: shape } : { [LATENTS]: shape };
}

function planLatents(options: EncodeLatentsOptions): ShardPlan {
  const { images, autoencoder, flip = true, dtype = "float16", batchSize = 64 } = options;
  const { name: space, channels, grid, imageSize, hash, config: settings } = autoencoder;
  const rowsPerShard = options.rowsPerShard ?? usualShardRows(tensorsOf(autoencoder, flip), dtype);
  const fail = (wanted: string, got: unknown) =>
    new ConfigError(`Cannot encode latents: ${wanted}, got ${got}`);
  const isCount = (value: number) => Number.isSafeInteger(value) && value >= 1;
  if (!isCount(batchSize)) throw fail("batch size must be a positive whole number", batchSize);
  if (!isCount(rowsPerShard)) throw fail("rows per shard must be a positive whole number", rowsPerShard);
  if (dtype !== "float16" && dtype !== "float32") throw fail("dtype must be float16 or float32", dtype);
  if (!isImageFiles(images) && images.imageSize !== imageSize) {
    throw fail(`${images.name} must have images of ${imageSize} pixels`, images.imageSize);
  }
  const config: LatentSetConfig = {
    kind: "latents",
    autoencoder: { hash, space, settings, encoder: autoencoder.encoder?.hash ?? null },
    data: { name: images.name, hash: images.hash, classes: [...images.classes] },
    framing: isImageFiles(images) ? autoencoderFraming(imageSize) : null,
    imageSize,
    grid,
    channels,
    flip,
  };
  return { config, count: images.size, rowsPerShard, dtype };
}

function mirrored(images: HostTensor): HostTensor {
  return flipHorizontal(images, new Uint8Array(images.shape[0]).fill(1));
}

/** Moments of the latents of a shard as they are stored, both orientations together. */
function momentsOf(
  tensors: Readonly<Record<string, HostTensor>>,
  channels: number,
  dtype: ShardPlan["dtype"],
): LatentNotes["moments"] {
  const moments = new ChannelMoments(channels);
  for (const tensor of Object.values(tensors)) {
    const [count] = tensor.shape;
    for (let start = 0; start < count; start += MEASURED_ROWS) {
      const part = rows(tensor, start, Math.min(start + MEASURED_ROWS, count));
      expectStorable(part, dtype);
      const stored = dtype === "float32" ? part : float32(rounded(part.data as Float32Array), part.shape);
      moments.add(stored);
    }
  }
  return moments.measured();
}

function rounded(values: Float32Array): Float32Array {
  return new Float32Array(new Float16Array(values));
}

/** @throws DataError for a value that is no number or does not fit the storage. */
function expectStorable({ data }: HostTensor, dtype: ShardPlan["dtype"]): void {
  for (let i = 0; i < data.length; i++) {
    if (Math.abs(data[i]) <= HALF_MAX || (dtype === "float32" && Number.isFinite(data[i]))) continue;
    throw new DataError(
      Number.isFinite(data[i])
        ? `Cannot encode latents: float16 holds values of at most ${HALF_MAX}, got ${data[i]}; store float32`
        : `Cannot encode latents: they must be finite, got ${data[i]}`,
    );
  }
}

/** Says what made the latents, in a file for people and other programs. */
async function recordAutoencoder(folder: string): Promise<void> {
  const set = await openLatents(folder), path = join(folder, "autoencoder.json");
  const { mean, std, count } = set.stats, { autoencoder, data } = set.config;
  const record = { ...autoencoder, data, stats: { mean: [...mean], std: [...std], count } };
  await set.close();
  const known = await pathExists(path) ? await readJson(path).catch(() => null) : null;
  if (JSON.stringify(known) !== JSON.stringify(record)) await writeJson(path, record);
}
