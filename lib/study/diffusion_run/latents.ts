/**
 * The latents that a diffusion transformer is trained on: normalised, with a part held out, and with what tells them
 * from others.
 *
 * @module
 */
import {
  ChannelMoments,
  ConfigError,
  DataError,
  gatherRows,
  type HostTensor,
  Rng,
} from "novae/tensor/mod.ts";
import { type LatentStats, latentStats, normalizeLatents, openLatents } from "novae/autoencoder/mod.ts";
import { type LabelledLatents, readLatents, type StoredLatents, storedLatents } from "novae/diffusion/mod.ts";
import { hashBytes, hashValue } from "novae/io/mod.ts";

/** What tells latents from others; a run that is gone on with must find the same. */
export interface LatentsRecord {
  /** Name of the latent space. */
  readonly space: string;
  /** Images to learn from. */
  readonly count: number;
  /** Latent tokens N of an image. */
  readonly tokens: number;
  /** Latent channels Z. */
  readonly channels: number;
  /** Number of classes L. */
  readonly classes: number;
  /** Their names; null where they are not known. */
  readonly classNames: readonly string[] | null;
  /** Whether the latents of the mirror images are there too. */
  readonly flip: boolean;
  /** Hash of the autoencoder that made them; null where it is not known. */
  readonly autoencoder: string | null;
  /** The images that they are of, or a hash of the latents themselves. */
  readonly data: { readonly name: string; readonly hash: string };
  /** Hash of the statistics with which they are normalised. */
  readonly stats: string;
  /** What is held out for the validation loss; null if nothing is. */
  readonly heldOut: HeldOutRecord | null;
}

/** Latents that are held out. */
export interface HeldOutRecord {
  /** Number of images. */
  readonly count: number;
  /** Share of the latents that was taken away for it; null if they are latents of their own. */
  readonly share: number | null;
  /** Hash of the images that latents of their own are of; that of the others where a share was taken. */
  readonly hash: string;
}

/** Latents to train on, open until `close`. */
export interface TrainingLatents {
  /** Normalised latents to learn from. */
  readonly train: StoredLatents;
  /** Normalised latents to validate on; null if none are held out. */
  readonly heldOut: StoredLatents | null;
  /** Statistics that normalised both. */
  readonly stats: LatentStats;
  /** What tells them from others. */
  readonly record: LatentsRecord;
  /** Closes files. */
  close(): Promise<void>;
}

/** How latents are opened. */
export interface OpenTrainingOptions {
  /** Name of their space, where they do not say it themselves. */
  readonly space?: string;
  /** Number of classes; from names or labels if omitted. */
  readonly classes?: number;
  /** Hash of the autoencoder that they must be of; what does not say it itself is taken at this word. */
  readonly autoencoder?: string;
  /** Name of the images and of their classes, where latents do not say it themselves. */
  readonly images?: { readonly name: string; readonly classes: readonly string[] };
  /** What is held out: a share in (0, 1), drawn at random, or a folder of other latents of the same autoencoder. */
  readonly validation?: number | string;
  /** Decides which images are held out. Default 0. */
  readonly seed?: number;
}

const WHAT = "Cannot train on latents";

/** Latents as they were found, before a part is held out. */
interface Found {
  readonly all: StoredLatents;
  readonly stats: LatentStats;
  readonly space: string;
  readonly autoencoder: string | null;
  readonly classNames: readonly string[] | null;
  readonly data: LatentsRecord["data"];
  close(): Promise<void>;
}

/**
 * Opens latents: a folder that `encodeLatents` made, a file with `latents` [count, N, Z] and `labels` [count], or those
 * in memory. Statistics are those of all of them, a share that is held out included.
 *
 * @param source path of the folder or file, or latents that are not normalised.
 * @throws DataError if they cannot be read, do not fit each other or are of another autoencoder; ConfigError if the
 * space is unknown or an option cannot be used.
 */
export async function openTrainingLatents(
  source: string | LabelledLatents,
  options: OpenTrainingOptions = {},
): Promise<TrainingLatents> {
  const found = await find(source, options);
  try {
    const classes = classesOf(found, options.classes);
    const { train, heldOut, record, close } = await holdOut(found, options);
    if (heldOut) expectLabels(heldOut.labels, classes, "held-out ");
    const { space, autoencoder, classNames, data, stats } = found, [count, tokens, channels] = train.shape;
    return {
      train,
      heldOut,
      stats,
      record: {
        ...{ space, count, tokens, channels, classes, classNames, flip: train.flip, autoencoder, data },
        stats: statsHash(stats),
        heldOut: record,
      },
      close: async () => {
        await close?.();
        await found.close();
      },
    };
  } catch (error) {
    await found.close();
    throw error;
  }
}

/** The name of the images for people and folders: "solids" of "solids/train", and the last part of a path. */
export function shortDataName({ data }: LatentsRecord): string {
  const parts = data.name.split("/").filter((part) => part !== ""), last = parts.at(-1) ?? "latents";
  return ["train", "val", "test"].includes(last) && parts.length > 1 ? parts.at(-2)! : last;
}

/** Identifies statistics of latents. */
export function statsHash({ mean, std, count }: LatentStats): string {
  return hashValue({ mean: [...mean], std: [...std], count });
}

async function find(source: string | LabelledLatents, options: OpenTrainingOptions): Promise<Found> {
  if (typeof source !== "string") return inMemory(source, options);
  if (!await isFolder(source)) return inMemory(await readLatents(source), options);
  const { autoencoder } = options;
  const set = await openLatents(source, {
    autoencoder: autoencoder === undefined ? undefined : { hash: autoencoder },
  });
  const { config, stats } = set, { classes, name, hash } = config.data;
  return {
    ...{
      all: storedLatents(set),
      stats,
      space: config.autoencoder.space,
      autoencoder: config.autoencoder.hash,
    },
    classNames: classes.length > 0 ? classes : null,
    data: { name, hash },
    close: () => set.close(),
  };
}

function inMemory(
  { latents, labels, space: own }: LabelledLatents,
  { space: told, autoencoder, images }: OpenTrainingOptions,
): Found {
  const space = own ?? told, { dtype, shape } = latents;
  if (space === undefined) throw new ConfigError(`${WHAT}: their space must be named (--space), got no name`);
  if (dtype !== "float32" || shape.length !== 3) {
    throw new DataError(`${WHAT}: wanted float32 [count, N, Z], got ${dtype} [${shape.join(", ")}]`);
  }
  if (labels.length !== shape[0]) {
    throw new DataError(`${WHAT}: ${shape[0]} labels are needed, got ${labels.length}`);
  }
  const stats = measured(latents), normal = normalizeLatents(latents, stats);
  return {
    all: {
      shape: [shape[0], shape[1], shape[2]],
      labels,
      flip: false,
      read: (indices) => Promise.resolve(gatherRows(normal, indices)),
    },
    ...{ stats, space, autoencoder: autoencoder ?? null, classNames: images?.classes ?? null },
    data: {
      name: images?.name ?? "latents",
      hash: hashBytes(JSON.stringify(shape), latents.data, Int32Array.from(labels)),
    },
    close: () => Promise.resolve(),
  };
}

/** Statistics of latents. @throws DataError if a channel is constant. */
function measured(latents: HostTensor): LatentStats {
  const moments = new ChannelMoments(latents.shape[2]);
  moments.add(latents);
  try {
    return latentStats([moments]);
  } catch (error) {
    throw error instanceof RangeError ? new DataError(error.message) : error;
  }
}

interface Parts {
  readonly train: StoredLatents;
  readonly heldOut: StoredLatents | null;
  readonly record: HeldOutRecord | null;
  close?(): Promise<void>;
}

async function holdOut(found: Found, options: OpenTrainingOptions): Promise<Parts> {
  const { validation, seed = 0 } = options, { all } = found;
  if (validation === undefined) return { train: all, heldOut: null, record: null };
  if (typeof validation === "string") return await otherLatents(found, validation);
  const count = Math.round(validation * all.shape[0]);
  if (!(validation > 0 && validation < 1) || count < 1 || count >= all.shape[0]) {
    throw new ConfigError(
      `Cannot hold latents out: the share must leave some of ${
        all.shape[0]
      } on both sides, got ${validation}`,
    );
  }
  const order = new Rng(seed).split("held-out").permutation(all.shape[0]);
  return {
    train: part(all, order.slice(count).sort()),
    heldOut: part(all, order.slice(0, count).sort()),
    record: { count, share: validation, hash: found.data.hash },
  };
}

/** Latents of other images, normalised like those to learn from. */
async function otherLatents({ all, autoencoder, stats, classNames }: Found, folder: string): Promise<Parts> {
  const set = await openLatents(folder, {
    autoencoder: autoencoder === null ? undefined : { hash: autoencoder },
  });
  const [, ...wanted] = all.shape, { classes, hash } = set.config.data;
  const refuse = async (what: string, want: readonly unknown[], got: readonly unknown[]) => {
    if (got.join() === want.join()) return;
    await set.close();
    throw new DataError(
      `Cannot validate on ${folder}: ${what} must be [${want.join(", ")}], got [${got.join(", ")}]`,
    );
  };
  await refuse("the shape of latents", wanted, set.shape);
  if (classNames) await refuse("the classes", classNames, classes);
  const record = { count: set.count, share: null, hash };
  return { train: all, heldOut: storedLatents(set, stats), record, close: () => set.close() };
}

/** Some of the latents, as if they were all. */
function part(all: StoredLatents, indices: Int32Array): StoredLatents {
  const [, tokens, channels] = all.shape;
  return {
    shape: [indices.length, tokens, channels],
    labels: indices.map((i) => all.labels[i]),
    flip: all.flip,
    read: (wanted, mirrored) => all.read(wanted.map((i) => indices[i]), mirrored),
  };
}

/** The number of classes, which no label may exceed. */
function classesOf({ all: { labels }, classNames }: Found, told: number | undefined): number {
  let most = 0;
  for (let i = 0; i < labels.length; i++) most = Math.max(most, labels[i]);
  const classes = told ?? Math.max(classNames?.length ?? 1, most + 1);
  expectLabels(labels, classes, "");
  return classes;
}

function expectLabels(labels: ArrayLike<number>, classes: number, which: string): void {
  for (let i = 0; i < labels.length; i++) {
    if (Number.isInteger(labels[i]) && labels[i] >= 0 && labels[i] < classes) continue;
    throw new DataError(
      `${WHAT}: ${which}label ${i} must be an integer in [0, ${classes}), got ${labels[i]}`,
    );
  }
}

async function isFolder(path: string): Promise<boolean> {
  const info = await Deno.stat(path).catch(() => null);
  return info?.isDirectory ?? false;
}
