/**
 * Batches of an autoencoder's training: pure functions of the update's number.
 *
 * @module
 */
import { float32, type HostTensor, Rng, scalar } from "novae/tensor/mod.ts";
import type { ImageView } from "novae/data/mod.ts";
import { type AutoencoderConfig, latentChannels, latentGrid } from "./config.ts";
import { drawDropout, hasDropout } from "./svg/mod.ts";
import type { AutoencoderBatch } from "./train_step.ts";
import type { CropMode, TrainingImages } from "./training_images.ts";

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
  /** Decides the order of images, how they are seen, masks and noise. */
  readonly seed: number;
  /** Whether each image is mirrored with probability ½. */
  readonly flip: boolean;
  /** Whether the crop of each image is drawn. */
  readonly crop: CropMode;
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
  const { config, batchSize, seed, flip, crop } = options;
  const rng = new Rng(seed).split("autoencoder", "batches");
  const order = new EpochOrder(rng, images.size);
  const tokens = latentGrid(config) ** 2, channels = latentChannels(config);
  return async (step) => {
    const indices = order.indices(step * batchSize, batchSize);
    const own = rng.split("step", step);
    const seen = await images.load(drawViews(own, indices, flip, crop));
    const batch: AutoencoderBatch<HostTensor> = {
      imageUnitBHWC: seen.images,
      learningRate: scalar(options.learningRate(step)),
      emaDecay: scalar(options.emaDecay(step)),
    };
    if (options.discriminatorRate) batch.discriminatorRate = scalar(options.discriminatorRate(step));
    if (seen.features) batch.featuresBND = seen.features;
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

/** How the images of an update are seen: each draws whether it is mirrored and where its crop lies. */
function drawViews(rng: Rng, indices: Int32Array, flip: boolean, crop: CropMode): ImageView[] {
  const turns = rng.split("flip").uniform(indices.length),
    places = rng.split("crop").uniform(2 * indices.length);
  return Array.from(indices, (index, i) => ({
    index,
    mirrored: flip && turns[i] < 0.5,
    place: crop === "random" ? { x: places[2 * i], y: places[2 * i + 1] } : null,
  }));
}
