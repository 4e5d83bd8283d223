/**
 * Batches of an autoencoder's training: pure functions of the update's number, with the frozen features kept in memory.
 *
 * @module
 */
import {
  concatRows,
  ConfigError,
  float32,
  gatherRows,
  type HostTensor,
  Rng,
  scalar,
} from "novae/tensor/mod.ts";
import type { Dataset } from "novae/data/mod.ts";
import type { FrozenEncoder } from "./compiled.ts";
import { type AutoencoderConfig, latentChannels, latentGrid } from "./config.ts";
import { drawDropout, hasDropout } from "./svg/mod.ts";
import type { AutoencoderBatch } from "./train_step.ts";

/** Images whose features are computed at once. */
const FEATURE_CHUNK = 256;

/** Images of a training set in a fixed order, mirrored copies after the originals, with their features. */
export class TrainingImages {
  readonly #dataset: Dataset;
  readonly #encoder: FrozenEncoder | undefined;
  readonly #cache: HostTensor | undefined;
  /** Number of images, mirrored copies included. */
  readonly size: number;

  private constructor(
    dataset: Dataset,
    size: number,
    encoder: FrozenEncoder | undefined,
    cache: HostTensor | undefined,
  ) {
    this.#dataset = dataset;
    this.size = size;
    this.#encoder = encoder;
    this.#cache = cache;
  }

  /**
   * Prepares a training set. Features are computed once and kept if they take at most `cacheBytes`, and computed batch
   * by batch otherwise.
   *
   * @param options.flip whether mirrored copies count as images of their own.
   * @param options.onProgress told how many images have their features.
   * @throws ConfigError if the encoder's features are not those of the settings, told by the first of them.
   */
  static async prepare(
    dataset: Dataset,
    config: AutoencoderConfig,
    options: {
      readonly encoder?: FrozenEncoder;
      readonly flip: boolean;
      readonly cacheBytes: number;
      readonly onProgress?: (done: number, total: number) => void;
    },
  ): Promise<TrainingImages> {
    const { flip, cacheBytes } = options, encoder = options.encoder && fitting(options.encoder, config);
    const size = dataset.size * (flip ? 2 : 1);
    const plain = new TrainingImages(dataset, size, encoder, undefined);
    const bytes = 4 * size * latentGrid(config) ** 2 * config.featureChannels;
    if (!encoder || bytes > cacheBytes) return plain;
    const parts: HostTensor[] = [];
    for (let start = 0; start < size; start += FEATURE_CHUNK) {
      const count = Math.min(FEATURE_CHUNK, size - start);
      const indices = Int32Array.from({ length: count }, (_, i) => start + i);
      parts.push((await encoder.features(plain.images(indices))).patchesBND);
      options.onProgress?.(start + count, size);
    }
    return new TrainingImages(dataset, size, encoder, concatRows(parts));
  }

  /** Images by index, `imageUnit` `[B, H, W, 3]`. */
  images(indices: ArrayLike<number>): HostTensor {
    const { size } = this.#dataset;
    const images = this.#dataset.images(Int32Array.from(indices, (i) => i % size));
    for (let i = 0; i < indices.length; i++) {
      if (indices[i] >= size) mirror(images, i);
    }
    return images;
  }

  /** Frozen features of images by index, `[B, N, D]`; undefined without an encoder. */
  async features(indices: ArrayLike<number>): Promise<HostTensor | undefined> {
    if (this.#cache) return gatherRows(this.#cache, indices);
    return this.#encoder && (await this.#encoder.features(this.images(indices))).patchesBND;
  }
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

/** Chooses the images of an update: each epoch is a new order of all images. */
export class EpochOrder {
  readonly #rng: Rng;
  readonly #size: number;
  #epoch = -1;
  #order: Int32Array = new Int32Array();

  /**
   * An order of `size` images a run through them.
   */
  constructor(rng: Rng, size: number) {
    this.#rng = rng;
    this.#size = size;
  }

  /** The `count` image indices that follow the first `start` images of the training. */
  indices(start: number, count: number): Int32Array {
    return Int32Array.from({ length: count }, (_, i) => {
      const epoch = Math.floor((start + i) / this.#size);
      if (epoch !== this.#epoch) {
        this.#order = this.#rng.split("epoch", epoch).permutation(this.#size);
        this.#epoch = epoch;
      }
      return this.#order[(start + i) % this.#size];
    });
  }
}

/** What the batches of a training depend on. */
export interface BatchOptions {
  /** Settings of the autoencoder. */
  readonly config: AutoencoderConfig;
  /** Images an update. */
  readonly batchSize: number;
  /** Decides the order of images, masks and noise. */
  readonly seed: number;
  /** Step size of update `step`, counted from 0. */
  learningRate(step: number): number;
  /** Decay of the moving average in update `step`. */
  emaDecay(step: number): number;
  /** Step size of the discriminator in update `step`, in trainings that have one. */
  readonly discriminatorRate?: (step: number) => number;
}

/** Makes batches: the same update number always gives the same batch. */
export function batchSource(
  images: TrainingImages,
  options: BatchOptions,
): (step: number) => Promise<AutoencoderBatch<HostTensor>> {
  const { config, batchSize, seed } = options;
  const rng = new Rng(seed).split("autoencoder", "batches");
  const order = new EpochOrder(rng, images.size);
  const tokens = latentGrid(config) ** 2, channels = latentChannels(config);
  return async (step) => {
    const indices = order.indices(step * batchSize, batchSize);
    const own = rng.split("step", step);
    const batch: AutoencoderBatch<HostTensor> = {
      imageUnitBHWC: images.images(indices),
      learningRate: scalar(options.learningRate(step)),
      emaDecay: scalar(options.emaDecay(step)),
    };
    if (options.discriminatorRate) batch.discriminatorRate = scalar(options.discriminatorRate(step));
    const featuresBND = await images.features(indices);
    if (featuresBND) batch.featuresBND = featuresBND;
    if (config.residual) {
      const { maskProbability } = config.residual;
      const drawn = own.split("mask").uniform(batchSize);
      batch.maskB = float32(drawn.map((u) => u < maskProbability ? 1 : 0), [batchSize]);
      if (hasDropout(config.residual)) {
        batch.dropout = drawDropout(own.split("dropout"), config.residual, batchSize, tokens);
      }
    }
    if (config.vae || config.noiseTau) {
      const noise = own.split("noise").normal(batchSize * tokens * channels);
      batch.noiseBNZ = float32(noise, [batchSize, tokens, channels]);
    }
    if (config.noiseTau) {
      const { noiseTau } = config;
      batch.noiseStdB = float32(own.split("noiseStd").uniform(batchSize).map((u) => noiseTau * u), [
        batchSize,
      ]);
    }
    return batch;
  };
}

/** Mirrors image `index` of a batch left to right, in place. */
function mirror(images: HostTensor, index: number): void {
  const [, height, width, channels] = images.shape;
  const row = width * channels;
  for (let y = 0; y < height; y++) {
    const start = (index * height + y) * row;
    for (let x = 0; x < width >> 1; x++) {
      for (let c = 0; c < channels; c++) {
        const left = start + x * channels + c, right = start + (width - 1 - x) * channels + c;
        [images.data[left], images.data[right]] = [images.data[right], images.data[left]];
      }
    }
  }
}
