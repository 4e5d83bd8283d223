/**
 * Latents of a data set in shards, read when they are needed.
 *
 * @module
 */
import { z } from "zod";
import { ChannelMoments, DataError, float32, type HostTensor, sizeOf } from "novae/tensor/mod.ts";
import { openShards, type OpenShardsOptions, type ShardStore } from "novae/data/mod.ts";
import type { Framing } from "novae/data/mod.ts";
import type { LatentStats } from "./autoencoder.ts";
import { latentStats } from "./latent_stats.ts";

/** Names of the tensors of a row: the latents of an image and of its mirror image. */
export const LATENTS = "latents", MIRRORED = "mirrored";

/** What latents were made from and with. */
export interface LatentSetConfig {
  /** Tells them from other shards. */
  readonly kind: "latents";
  /** What encoded them. */
  readonly autoencoder: {
    /** Identifies settings and weights. */
    readonly hash: string;
    /** Name of the latent space. */
    readonly space: string;
    /** All settings. */
    readonly settings: unknown;
    /** Hash of the frozen encoder; null if there is none. */
    readonly encoder: string | null;
  };
  /** The images. */
  readonly data: { readonly name: string; readonly hash: string; readonly classes: readonly string[] };
  /** How image files were cut; null for a data set in memory. */
  readonly framing: Framing | null;
  /** Rows and columns of the images. */
  readonly imageSize: number;
  /** Rows and columns of tokens. */
  readonly grid: number;
  /** Latent channels Z. */
  readonly channels: number;
  /** Whether the latents of the mirror images are there. */
  readonly flip: boolean;
}

/** What is noted of each shard. */
export interface LatentNotes {
  /** Moments of its latents a channel, those of mirror images included. */
  readonly moments: { readonly count: number; readonly mean: number[]; readonly squares: number[] };
}

/** Options of {@linkcode openLatents}. */
export interface OpenLatentsOptions extends OpenShardsOptions {
  /** The autoencoder that the latents must be of, e.g. the one that will decode what is made of them. */
  readonly autoencoder?: { readonly hash: string };
}

/** Labelled latents in files, not normalised. */
export interface LatentSet {
  /** What they were made from and with. */
  readonly config: LatentSetConfig;
  /** Number of images. */
  readonly count: number;
  /** Shape of the latents of one image, [N, Z]. */
  readonly shape: readonly [number, number];
  /** One label an image. */
  readonly labels: Int32Array;
  /** Mean and standard deviation of each channel over all latents, mirror images included. */
  readonly stats: LatentStats;
  /**
   * Reads latents.
   *
   * @param indices which images, in any order, with repetitions.
   * @param mirrored one an index: non-zero for the latents of the mirror image. None if omitted.
   * @returns [B, N, Z] float32; the caller owns it.
   * @throws RangeError if there is no such image or no mirror images; DataError if a file is missing or damaged.
   */
  read(indices: ArrayLike<number>, mirrored?: ArrayLike<number>): Promise<HostTensor>;
  /** Closes the files; a later read opens them again. */
  close(): Promise<void>;
}

/**
 * Opens a folder that `encodeLatents` has finished. Memory does not grow with the number of images but for their labels.
 *
 * @throws DataError if the folder is incomplete or damaged, holds something else, or latents of another autoencoder.
 */
export async function openLatents(folder: string, options: OpenLatentsOptions = {}): Promise<LatentSet> {
  const store = await openShards(folder, options), what = `Cannot open latents ${folder}`;
  const config = parseConfig(what, store.config), { hash } = config.autoencoder;
  const wanted = options.autoencoder?.hash ?? hash;
  if (hash !== wanted) {
    throw new DataError(
      `${what}: they must be of autoencoder ${wanted.slice(0, 12)}…, got those of ${
        hash.slice(0, 12)
      }… (${config.autoencoder.space})`,
    );
  }
  const shape = [config.grid ** 2, config.channels] as const;
  for (const name of config.flip ? [LATENTS, MIRRORED] : [LATENTS]) {
    const got = store.tensors[name]?.shape;
    if (got?.join() === shape.join()) continue;
    throw new DataError(
      `${what}: "${name}" must be of shape [${shape.join(", ")}], got ${
        got ? `[${got.join(", ")}]` : "none"
      }`,
    );
  }
  return new StoredLatentSet(store, config, shape, statsOf(what, store, config));
}

class StoredLatentSet implements LatentSet {
  readonly config: LatentSetConfig;
  readonly count: number;
  readonly shape: readonly [number, number];
  readonly labels: Int32Array;
  readonly stats: LatentStats;
  readonly #store: ShardStore;

  constructor(
    store: ShardStore,
    config: LatentSetConfig,
    shape: readonly [number, number],
    stats: LatentStats,
  ) {
    this.config = config;
    this.count = store.count;
    this.shape = shape;
    this.labels = store.labels;
    this.stats = stats;
    this.#store = store;
  }

  async read(indices: ArrayLike<number>, mirrored?: ArrayLike<number>): Promise<HostTensor> {
    const size = sizeOf(this.shape), out = new Float32Array(indices.length * size);
    for (const [name, flag] of [[LATENTS, false], [MIRRORED, true]] as const) {
      const places = placesOf(indices.length, (i) => Boolean(mirrored?.[i]) === flag);
      if (places.length === 0) continue;
      const { data } = (await this.#store.rowsAt(places.map((i) => indices[i]), [name]))[name];
      places.forEach((place, i) =>
        out.set(data.subarray(i * size, (i + 1) * size) as Float32Array, place * size)
      );
    }
    return float32(out, [indices.length, ...this.shape]);
  }

  async close(): Promise<void> {
    await this.#store.close();
  }
}

function placesOf(count: number, chosen: (i: number) => boolean): number[] {
  return Array.from({ length: count }, (_, i) => i).filter(chosen);
}

/** Joins the moments of the shards, in their order. */
function statsOf(what: string, { notes }: ShardStore, { channels }: LatentSetConfig): LatentStats {
  const moments = new ChannelMoments(channels);
  for (const note of notes) {
    const parsed = notesSchema.safeParse(note);
    if (!parsed.success || parsed.data.moments.mean.length !== channels) {
      throw new DataError(`${what}: each shard must have the moments of ${channels} channels, got none`);
    }
    moments.merge(parsed.data.moments);
  }
  try {
    return latentStats([moments]);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new DataError(`${what}: ${error.message}`, { cause: error });
  }
}

const notesSchema = z.strictObject({
  moments: z.strictObject({
    count: z.int().positive(),
    mean: z.array(z.number()),
    squares: z.array(z.number()),
  }),
});

const count = z.int().positive();
const configSchema = z.strictObject({
  kind: z.literal("latents"),
  autoencoder: z.strictObject({
    hash: z.string(),
    space: z.string(),
    settings: z.unknown(),
    encoder: z.string().nullable(),
  }),
  data: z.strictObject({ name: z.string(), hash: z.string(), classes: z.array(z.string()) }),
  framing: z.unknown(),
  imageSize: count,
  grid: count,
  channels: count,
  flip: z.boolean(),
});

function parseConfig(what: string, config: unknown): LatentSetConfig {
  const kind = (config as { kind?: unknown } | null)?.kind;
  if (kind !== "latents") throw new DataError(`${what}: they must be latents, got ${kind ?? "other shards"}`);
  const parsed = configSchema.safeParse(config);
  if (parsed.success) return parsed.data as LatentSetConfig;
  const [issue] = parsed.error.issues;
  throw new DataError(`${what}: "${issue.path.join(".")}" is wrong: ${issue.message}`);
}
