/**
 * Labelled latents in files: what a diffusion transformer is trained on when images are encoded only once.
 *
 * @module
 */
import { DataError, float32, type HostTensor, int32 } from "novae/tensor/mod.ts";
import { type NpyArray, readNpz, readSafetensors, writeNpz, writeSafetensors } from "novae/io/mod.ts";
import { type LatentSet, normalizeLatents } from "novae/autoencoder/mod.ts";
import type { LatentData, StoredLatents } from "./training_latents.ts";

/** Latents as an autoencoder encodes them, not normalised, with their labels. */
export interface LabelledLatents extends LatentData {
  /** Name of the latent space; absent where the file does not say it. */
  readonly space?: string;
}

/**
 * Writes latents: arrays `latents` [count, N, Z] and `labels` [count] in an npz file, or the same in a safetensors
 * file, which also keeps the name of the space.
 *
 * @param path ends in `.npz` or `.safetensors`.
 * @throws DataError for another ending; NovaeError if the file cannot be written.
 */
export async function writeLatents(path: string, data: LabelledLatents): Promise<void> {
  const { latents, space } = data;
  const labels = int32(Int32Array.from(data.labels), [data.labels.length]);
  if (isNpz(path)) {
    const arrays = { latents: latents as NpyArray, labels: labels as NpyArray };
    return await writeNpz(path, arrays);
  }
  await writeSafetensors(path, { latents, labels }, space === undefined ? {} : { space });
}

/**
 * Reads latents that {@linkcode writeLatents} or NumPy wrote.
 *
 * @throws DataError if the file is damaged or its arrays are missing or do not fit each other; WeightsError for a
 * damaged safetensors file.
 */
export async function readLatents(path: string): Promise<LabelledLatents> {
  const { arrays, space } = isNpz(path)
    ? { arrays: await readNpz(path), space: undefined }
    : await readSafetensors(path).then(({ tensors, metadata }) => ({
      arrays: tensors,
      space: metadata.space,
    }));
  const latents = arrays.get("latents"), labels = arrays.get("labels");
  if (latents === undefined || labels === undefined) {
    throw new DataError(
      `Cannot read latents ${path}: arrays "latents" and "labels" are needed, got ${
        [...arrays.keys()].join(", ") || "none"
      }`,
    );
  }
  if (latents.shape.length !== 3 || !latents.dtype.startsWith("float")) {
    throw new DataError(
      `Cannot read latents ${path}: "latents" must be float [count, N, Z], got ${latents.dtype} [${
        latents.shape.join(", ")
      }]`,
    );
  }
  const values: HostTensor = float32(Float32Array.from(latents.data as Float32Array), latents.shape);
  return { latents: values, labels: Int32Array.from(labels.data as ArrayLike<number>, Number), space };
}

/**
 * Latents in shards as a training takes them: normalised with their statistics, read step by step, in both orientations
 * where they are there.
 *
 * @param set from `openLatents`; it stays open.
 * @param stats what normalises them; their own statistics if omitted. Latents that are held out take those of the
 * latents that are trained on.
 */
export function storedLatents(set: LatentSet, stats: LatentSet["stats"] = set.stats): StoredLatents {
  const { labels } = set, { flip } = set.config;
  return {
    shape: [set.count, ...set.shape],
    labels,
    flip,
    read: async (indices, mirrored) => normalizeLatents(await set.read(indices, mirrored), stats),
  };
}

function isNpz(path: string): boolean {
  if (path.endsWith(".npz")) return true;
  if (path.endsWith(".safetensors")) return false;
  throw new DataError(
    `Cannot use latents ${path}: it must be a folder of them, or a file whose name ends in .npz or .safetensors`,
  );
}
