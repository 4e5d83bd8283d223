/**
 * What is measured of an autoencoder while it is trained and at the end.
 *
 * @module
 */
import type { HostTensor } from "novae/tensor/mod.ts";
import type { CompiledAutoencoder } from "./compiled.ts";
import { type AutoencoderConfig, hasFeatures } from "./config.ts";
import { type AutoencoderStats, meanPsnr, measureAutoencoder, type MeasuredBatch } from "./measure.ts";
import type { AutoencoderParams } from "./model.ts";
import {
  measureReconstruction,
  type ReconstructionMeasures,
  type ShownReconstructions,
} from "./reconstruction.ts";
import type { ResolvedSchedule } from "./schedule.ts";
import type { AutoencoderEvaluation, TrainAutoencoderOptions } from "./train.ts";
import { middleView, TrainingImages } from "./training_images.ts";

/** Pixels that a measurement encodes at once, 256 images of 64 × 64; and the fewest images. */
const MEASURE_PIXELS = 256 * 64 ** 2, MEASURE_IMAGES = 16;
/** Training images that an evaluation, or a training that was stopped, is measured on; at the end it is all of them. */
const QUICK_MEASURE_IMAGES = 512;

/** Measures weights of a training on its images and on held-out ones, all cut from the middle. */
export class TrainingEvaluation implements Disposable {
  readonly #autoencoder: CompiledAutoencoder;
  readonly #images: TrainingImages;
  readonly #heldOut: TrainingImages;
  readonly #schedule: ResolvedSchedule;
  readonly #count: number;
  readonly #measures: ReconstructionMeasures;

  private constructor(
    autoencoder: CompiledAutoencoder,
    images: TrainingImages,
    heldOut: TrainingImages,
    schedule: ResolvedSchedule,
    { evaluationImages = 256, measures = {} }: TrainAutoencoderOptions,
  ) {
    this.#autoencoder = autoencoder;
    this.#images = images;
    this.#heldOut = heldOut;
    this.#schedule = schedule;
    this.#count = Math.min(evaluationImages, heldOut.size);
    this.#measures = { images: { psnr: meanPsnr, ...measures.images }, sets: measures.sets };
  }

  /**
   * Opens the held-out images; the training images stay the caller's.
   *
   * @throws ConfigError if the crop does not fit into the images.
   */
  static async prepare(
    options: TrainAutoencoderOptions,
    schedule: ResolvedSchedule,
    images: TrainingImages,
    autoencoder: CompiledAutoencoder,
  ): Promise<TrainingEvaluation> {
    const { config, encoder, workers } = options, { resize } = schedule;
    const seen = { flip: false, crop: "center", resize, cacheBytes: 0, features: "online" } as const;
    const used = hasFeatures(config.space) ? encoder : undefined;
    const heldOut = await TrainingImages.prepare(options.heldOut, config, {
      encoder: used,
      workers,
      ...seen,
    });
    return new TrainingEvaluation(autoencoder, images, heldOut, schedule, options);
  }

  /** Reconstructs held-out images; the alignment is measured with the same weights before. */
  async evaluate(
    params: AutoencoderParams<HostTensor>,
    step: number,
  ): Promise<{ readonly entry: AutoencoderEvaluation; readonly shown: ShownReconstructions }> {
    const autoencoder = this.#autoencoder;
    await autoencoder.update(params);
    if (autoencoder.name === "svg") await autoencoder.update(params, await this.statistics(params, true));
    const batches = inChunks(this.#heldOut, autoencoder.config, this.#count);
    const { count, metrics: { psnr, ...metrics }, shown } = await measureReconstruction(
      autoencoder,
      batches,
      this.#measures,
    );
    const entry = { step, imagesSeen: step * this.#schedule.batchSize, psnr, count };
    return { entry: Object.keys(metrics).length > 0 ? { ...entry, metrics } : entry, shown };
  }

  /**
   * Statistics of weights on the training images, mirror images among them if these are trained on.
   *
   * @param quick whether some images are enough.
   */
  async statistics(params: AutoencoderParams<HostTensor>, quick: boolean): Promise<AutoencoderStats> {
    const autoencoder = this.#autoencoder;
    await autoencoder.update(params);
    const all = this.#images.size * (this.#schedule.flip ? 2 : 1);
    const count = quick ? Math.min(QUICK_MEASURE_IMAGES, all) : all;
    return await measureAutoencoder(autoencoder, inChunks(this.#images, autoencoder.config, count));
  }

  /** Releases the held-out images. */
  [Symbol.dispose](): void {
    this.#heldOut[Symbol.dispose]();
  }
}

/** The first middle views of images in batches, with their features. */
async function* inChunks(
  images: TrainingImages,
  { imageSize }: AutoencoderConfig,
  count: number,
): AsyncGenerator<MeasuredBatch> {
  const chunk = Math.max(Math.floor(MEASURE_PIXELS / imageSize ** 2), MEASURE_IMAGES);
  for (let start = 0; start < count; start += chunk) {
    const length = Math.min(chunk, count - start);
    yield await images.load(Array.from({ length }, (_, i) => middleView(start + i, images.size)));
  }
}
