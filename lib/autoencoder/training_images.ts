/**
 * The images of an autoencoder's training with their frozen features: computed batch by batch, kept in memory, or read
 * from shards.
 *
 * @module
 */
import { ConfigError, float32, gatherRows, type HostTensor, sizeOf, zeros } from "novae/tensor/mod.ts";
import {
  type Dataset,
  type ImageFiles,
  type ImageView,
  type ImageViews,
  openImageViews,
  type ShardStore,
} from "novae/data/mod.ts";
import type { FrozenEncoder } from "./compiled.ts";
import { type AutoencoderConfig, latentGrid } from "./config.ts";
import { expectFeatureShards, FEATURES, MIRRORED_FEATURES } from "./feature_shards.ts";
import { autoencoderFraming } from "./framing.ts";

/**
 * Where the frozen features of the training images come from: `online` from the encoder, batch by batch; `memory` from
 * the encoder, once; a tensor that {@linkcode middleFeatures} computed before, for several trainings; or shards that
 * `extractFeatures` wrote of the same images with the same encoder.
 */
export type FeatureSource = "online" | "memory" | HostTensor | ShardStore;

/** How training images are seen and where their features come from. */
export interface TrainingImagesOptions {
  /** The frozen encoder; its features are not asked for if the settings have no feature channels. */
  readonly encoder?: FrozenEncoder;
  /** Default: `memory` if the features fit, else `online`. */
  readonly features?: FeatureSource;
  /** Whether images may be mirrored. */
  readonly flip: boolean;
  /** Where the crop of images that are larger than the autoencoder's lies: in the middle, or anywhere. */
  readonly crop: CropMode;
  /** Shorter side that image files are brought to before the crop; null for that of the crop. */
  readonly resize: number | null;
  /** Most that features in memory may take if nobody chose. */
  readonly cacheBytes: number;
  /** Threads that decode image files. */
  readonly workers?: number;
  /** Told how many views have their features, of how many. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** Where crops lie. */
export type CropMode = "center" | "random";

/** Images with their features, where the settings have any. */
export interface FeaturedImages {
  /** `imageUnit` [B, S, S, 3]. */
  readonly images: HostTensor;
  /** Frozen features [B, N, D]. */
  readonly features?: HostTensor;
}

/** Images whose features are computed at once. */
const FEATURE_CHUNK = 256;

/** Images of a training, as views of a data set, with their features. */
export class TrainingImages implements Disposable {
  readonly #views: ImageViews;
  readonly #encoder: FrozenEncoder | undefined;
  #kept: HostTensor | ShardStore | undefined;

  private constructor(views: ImageViews, encoder: FrozenEncoder | undefined) {
    this.#views = views;
    this.#encoder = encoder;
  }

  /**
   * Prepares a training set, and its features if they are to be in memory.
   *
   * @throws ConfigError if the crop does not fit into the images, if features are kept of crops that are drawn anew each
   * time, or if features, in shards or from the encoder, are not those that the training needs; DataError if an image
   * cannot be read.
   */
  static async prepare(
    images: Dataset | ImageFiles,
    config: AutoencoderConfig,
    options: TrainingImagesOptions,
  ): Promise<TrainingImages> {
    const { flip, crop, resize, onProgress, workers } = options, { imageSize } = config;
    const framing = autoencoderFraming(imageSize, resize ?? imageSize);
    const views = openImageViews(images, { framing, workers });
    try {
      const encoder = config.featureChannels > 0 && options.encoder
        ? fitting(options.encoder, config)
        : undefined;
      const training = new TrainingImages(views, encoder);
      const source = encoder && sourceOf(views, config, options);
      if (source === "memory") training.#kept = await middleFeatures(views, encoder!, { flip, onProgress });
      else if (source !== undefined && source !== "online") {
        if (crop === "random" && views.cropped) throw onlineOnly(views.name);
        if ("rowsAt" in source) {
          expectFeatureShards(source, { images, framing, config, encoder: encoder!, flip });
        } else expectFeatures(source, views, config, flip);
        training.#kept = source;
      }
      return training;
    } catch (error) {
      views[Symbol.dispose]();
      throw error;
    }
  }

  /** Number of images; mirror images do not count. */
  get size(): number {
    return this.#views.size;
  }

  /** Images as they are to be seen, with their features. */
  async load(views: readonly ImageView[]): Promise<FeaturedImages> {
    const images = await this.#views.load(views), encoder = this.#encoder;
    if (!encoder) return { images };
    const kept = this.#kept;
    if (kept === undefined) return { images, features: (await encoder.features(images)).patchesBND };
    if ("rowsAt" in kept) return { images, features: await fromShards(kept, views) };
    const places = views.map(({ index, mirrored }) => index + (mirrored ? this.size : 0));
    return { images, features: gatherRows(kept, places) };
  }

  /** Releases the threads that decode image files. */
  [Symbol.dispose](): void {
    this.#views[Symbol.dispose]();
  }
}

/** Options of {@linkcode middleFeatures}. */
export interface MiddleFeaturesOptions {
  /** Whether the mirror images follow behind the images. */
  readonly flip: boolean;
  /** Told how many views have their features, of how many. */
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Frozen features of the middle of all images, and of their mirror images behind them: computed once, they serve any
 * number of trainings of the same images.
 *
 * @returns `[size, N, D]`, with `flip` twice as many rows.
 */
export async function middleFeatures(
  views: ImageViews,
  encoder: FrozenEncoder,
  { flip, onProgress }: MiddleFeaturesOptions,
): Promise<HostTensor> {
  const total = views.size * (flip ? 2 : 1);
  let all: HostTensor | undefined;
  for (let start = 0; start < total; start += FEATURE_CHUNK) {
    const end = Math.min(start + FEATURE_CHUNK, total);
    const some = Array.from({ length: end - start }, (_, i) => middleView(start + i, views.size));
    const { data, shape: [, ...token] } = (await encoder.features(await views.load(some))).patchesBND;
    // One buffer from the beginning: parts that are joined at the end take twice the memory.
    all ??= zeros([total, ...token]);
    all.data.set(data as Float32Array, start * sizeOf(token));
    onProgress?.(end, total);
  }
  return all ?? zeros([0, 0, encoder.width]);
}

/** @throws ConfigError if features are not those of as many images, tokens and channels. */
function expectFeatures({ shape }: HostTensor, views: ImageViews, config: AutoencoderConfig, flip: boolean) {
  const wanted = [views.size * (flip ? 2 : 1), latentGrid(config) ** 2, config.featureChannels];
  if (shape.join() === wanted.join()) return;
  throw new ConfigError(
    `Cannot train ${config.space}: features must be of shape [${wanted.join(", ")}], got [${
      shape.join(", ")
    }]`,
  );
}

/** The middle of an image, for positions below `size`, or of its mirror image, for those from there on. */
export function middleView(position: number, size: number): ImageView {
  return { index: position % size, mirrored: position >= size, place: null };
}

function sourceOf(
  views: ImageViews,
  config: AutoencoderConfig,
  { features, flip, crop, cacheBytes }: TrainingImagesOptions,
): FeatureSource {
  const moved = crop === "random" && views.cropped;
  if (features === "memory" && moved) throw onlineOnly(views.name);
  if (features !== undefined) return features;
  const bytes = 4 * views.size * (flip ? 2 : 1) * latentGrid(config) ** 2 * config.featureChannels;
  return !moved && bytes <= cacheBytes ? "memory" : "online";
}

function onlineOnly(name: string): ConfigError {
  return new ConfigError(
    `Cannot keep features of ${name}: crops drawn at random need features computed online, got others`,
  );
}

async function fromShards(store: ShardStore, views: readonly ImageView[]): Promise<HostTensor> {
  const size = sizeOf(store.tensors[FEATURES].shape), out = new Float32Array(views.length * size);
  for (const [name, flag] of [[FEATURES, false], [MIRRORED_FEATURES, true]] as const) {
    const places = views.map((_, i) => i).filter((i) => views[i].mirrored === flag);
    if (places.length === 0) continue;
    const { data } = (await store.rowsAt(places.map((i) => views[i].index), [name]))[name];
    places.forEach((to, i) => out.set(data.subarray(i * size, (i + 1) * size) as Float32Array, to * size));
  }
  return float32(out, [views.length, ...store.tensors[FEATURES].shape]);
}

/** An encoder whose features are checked to have the tokens and channels of the settings. */
function fitting(encoder: FrozenEncoder, config: AutoencoderConfig): FrozenEncoder {
  const tokens = latentGrid(config) ** 2, { space, featureChannels } = config;
  return {
    width: encoder.width,
    hash: encoder.hash,
    async features(images) {
      const found = await encoder.features(images), [, gotTokens, gotChannels] = found.patchesBND.shape;
      if (gotTokens === tokens && gotChannels === featureChannels) return found;
      throw new ConfigError(
        `Cannot train ${space}: the encoder must give ${tokens} features of ${featureChannels} channels an image, ` +
          `as many as there are latents, got ${gotTokens} of ${gotChannels}`,
      );
    },
  };
}
