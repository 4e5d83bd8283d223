/**
 * What a diffusion training learns from: latents, labels and perhaps features, in memory or read as they are needed.
 *
 * @module
 */
import { DataError, gatherRows, type HostTensor } from "novae/tensor/mod.ts";
import { type DitConfig, tokenGrid } from "./config.ts";

/** Latents to train on, in memory. */
export interface LatentData {
  /** Normalised latents [count, N, Z], float32. */
  readonly latents: HostTensor;
  /** Label of each, in [0, L). */
  readonly labels: ArrayLike<number>;
  /** Features of a frozen encoder for the same images, one for each token of the transformer [count, N, D], float32. */
  readonly features?: HostTensor;
}

/** Latents to train on that are read when a step needs them. */
export interface StoredLatents {
  /** Shape of all of them, [count, N, Z]. */
  readonly shape: readonly [number, number, number];
  /** Label of each, in [0, L). */
  readonly labels: ArrayLike<number>;
  /** Whether the latents of the mirror images are there too; each step then draws one of the two for each image. */
  readonly flip: boolean;
  /**
   * Reads normalised latents.
   *
   * @param indices which, in any order, with repetitions.
   * @param mirrored one an index: non-zero for those of the mirror image; all zero without `flip`.
   * @returns [B, N, Z], float32.
   */
  read(indices: Int32Array, mirrored: Uint8Array): Promise<HostTensor>;
  /** Features of a frozen encoder, where tokens are aligned with them. */
  readonly features?: StoredFeatures;
}

/** Features of a frozen encoder that are read with the latents. */
export interface StoredFeatures {
  /** Shape of all of them, [count, N, D]: one for each token of the transformer. */
  readonly shape: readonly [number, number, number];
  /** Reads features [B, N, D], float32; parameters as those of {@linkcode StoredLatents.read}. */
  read(indices: Int32Array, mirrored: Uint8Array): Promise<HostTensor>;
}

/**
 * Latents in the form in which they are read. A model without classes has no use for labels: all become the null label.
 *
 * @throws DataError if latents and labels do not fit each other or the configuration.
 */
export function trainingLatents(config: DitConfig, data: LatentData | StoredLatents): StoredLatents {
  const stored = "latents" in data ? inMemory(data) : data;
  expectFitting(config, stored);
  return config.classes > 0 ? stored : { ...stored, labels: new Int32Array(stored.shape[0]) };
}

/** @throws DataError if latents or features are not of rank 3 and float32. */
function inMemory({ latents, labels, features }: LatentData): StoredLatents {
  return {
    ...gathered(latents, "[count, N, Z]"),
    labels,
    flip: false,
    ...(features && { features: gathered(features, "features [count, N, D]") }),
  };
}

function gathered(tensor: HostTensor, form: string): StoredFeatures {
  const { dtype, shape } = tensor;
  if (dtype !== "float32" || shape.length !== 3) {
    throw new DataError(
      `Cannot train on latents: wanted float32 ${form}, got ${dtype} [${shape.join(", ")}]`,
    );
  }
  return {
    shape: [shape[0], shape[1], shape[2]],
    read: (indices) => Promise.resolve(gatherRows(tensor, indices)),
  };
}

/** The features to align tokens with. @throws DataError if there are none, or of another number or width. */
export function featuresFor(
  config: DitConfig,
  { shape, features }: StoredLatents,
  width: number,
): StoredFeatures {
  const wanted = [shape[0], tokenGrid(config) ** 2, width];
  if (features && features.shape.join() === wanted.join()) return features;
  throw new DataError(
    `Cannot train on latents: alignment needs features [${wanted.join(", ")}], got ${
      features ? `[${features.shape.join(", ")}]` : "none"
    }`,
  );
}

/** @throws DataError if latents and labels do not fit each other or the configuration. */
function expectFitting(config: DitConfig, { shape, labels }: StoredLatents): void {
  const wanted = [config.grid ** 2, config.channels];
  const [count, ...rest] = shape;
  if (count === 0 || rest.join() !== wanted.join()) {
    throw new DataError(
      `Cannot train on latents: wanted [1 or more, ${wanted.join(", ")}], got [${shape.join(", ")}]`,
    );
  }
  if (labels.length !== count) {
    throw new DataError(`Cannot train on latents: ${count} labels are needed, got ${labels.length}`);
  }
  if (config.classes === 0) return;
  for (let i = 0; i < count; i++) {
    if (Number.isInteger(labels[i]) && labels[i] >= 0 && labels[i] < config.classes) continue;
    throw new DataError(
      `Cannot train on latents: label ${i} must be an integer in [0, ${config.classes}), got ${labels[i]}`,
    );
  }
}
