/**
 * The loss of a transformer on latents that it is not trained on, measured the same way each time.
 *
 * @module
 */
import type * as tf from "@tensorflow/tfjs";
import { ConfigError, float32, type HostTensor, int32, Rng } from "novae/tensor/mod.ts";
import { type DeviceName, type DeviceTensor, disposeTree, jit, read } from "novae/engine/mod.ts";
import type { DitConfig } from "./config.ts";
import { dit, type DitParams } from "./dit.ts";
import { noiseOf } from "./noise.ts";
import { pathPoint, sampleVelocityLosses } from "./path.ts";
import { TIME_BINS } from "./time_bins.ts";
import { type LatentData, type StoredLatents, trainingLatents } from "./training_latents.ts";

/** Loss on held-out latents. */
export interface HeldOutScore {
  /** Mean squared error of the velocity over all of them. */
  readonly loss: number;
  /** The same in ten bins of the time, from noise to data. */
  readonly lossByTime: number[];
}

/** What a {@linkcode HeldOutLoss} measures, and where. */
export interface HeldOutOptions {
  /** Shape of the transformer. */
  readonly config: DitConfig;
  /** Latents it is not trained on, normalised as those it is trained on. */
  readonly data: LatentData | StoredLatents;
  /**
   * Number of latents, spread evenly over the data, each under a noise and at a time of its own; repeated under other
   * noises if there are fewer. At least 10. Default 1,024.
   */
  readonly images?: number;
  /** Latents a forward pass. Default 64. */
  readonly batchSize?: number;
  /** Default `auto`. */
  readonly device?: DeviceName;
  /** Threads on the CPU; those of the engine unless given. */
  readonly threads?: number;
}

/**
 * Measures the velocity's loss under fixed noise at fixed times, evenly spread over [0, 1] and shuffled over the
 * latents, so that two measurements differ only by the weights. Seeds and settings of a training do not change it.
 */
export class HeldOutLoss {
  readonly #data: StoredLatents;
  readonly #labels: Int32Array;
  readonly #batchSize: number;
  readonly #indices: Int32Array;
  readonly #times: Float32Array;
  readonly #noise = new Rng(0).split("diffusion-validation");
  readonly #losses;

  /**
   * Nothing is read or compiled yet.
   *
   * @throws DataError if the latents do not fit the configuration; ConfigError for fewer than 10 images.
   */
  constructor({ config, data, images = 1024, batchSize = 64, device, threads }: HeldOutOptions) {
    if (!Number.isInteger(images) || images < TIME_BINS) {
      throw new ConfigError(
        `Cannot validate: the number of images must be whole and at least ${TIME_BINS}, got ${images}`,
      );
    }
    this.#data = trainingLatents(config, data);
    const count = this.#data.shape[0];
    this.#indices = Int32Array.from({ length: images }, (_, i) => Math.floor(i * count / images));
    this.#labels = this.#indices.map((index) => this.#data.labels[index]);
    this.#times = Float32Array.from(
      this.#noise.split("times").permutation(images),
      (place) => (place + 0.5) / images,
    );
    this.#batchSize = Math.min(batchSize, images);
    this.#losses = jit(
      (params: DitParams, dataBNZ: tf.Tensor, noiseBNZ: tf.Tensor, tB: tf.Tensor, labelsB: tf.Tensor) => {
        const { velocityBNZ } = dit(pathPoint(dataBNZ, noiseBNZ, tB), tB, labelsB, params, config);
        return sampleVelocityLosses(velocityBNZ, dataBNZ, noiseBNZ);
      },
      { device, threads, name: "diffusion validation" },
    );
  }

  /** The loss of weights in host memory or on the device. */
  async measure(params: DitParams<HostTensor | DeviceTensor>): Promise<HeldOutScore> {
    const images = this.#indices.length,
      sums = new Float64Array(TIME_BINS),
      counts = new Float64Array(TIME_BINS);
    for (let start = 0; start < images; start += this.#batchSize) {
      const { batch, times } = await this.#batch(start);
      const result = await this.#losses(params, ...batch);
      const { data: losses } = await read(result) as HostTensor;
      disposeTree(result);
      for (let i = 0; i < Math.min(this.#batchSize, images - start); i++) {
        const bin = Math.min(Math.floor(times[i] * TIME_BINS), TIME_BINS - 1);
        sums[bin] += losses[i];
        counts[bin]++;
      }
    }
    return {
      loss: sums.reduce((a, b) => a + b) / images,
      lossByTime: Array.from(sums, (sum, bin) => sum / counts[bin]),
    };
  }

  /** Releases what was compiled. */
  async dispose(): Promise<void> {
    await this.#losses.dispose();
  }

  /** The batch from `start` on; the last one is filled up from the beginning, so that one graph serves all. */
  async #batch(
    start: number,
  ): Promise<{ batch: [HostTensor, HostTensor, HostTensor, HostTensor]; times: Float32Array }> {
    const size = this.#batchSize,
      places = Int32Array.from({ length: size }, (_, k) => (start + k) % this.#indices.length);
    const pick = <T extends Int32Array | Float32Array>(from: T) => places.map((place) => from[place]);
    const dataBNZ = await this.#data.read(pick(this.#indices), new Uint8Array(size));
    const times = Float32Array.from(places, (place) => this.#times[place]);
    const noiseBNZ = noiseOf(this.#noise, places, dataBNZ.shape.slice(1));
    return {
      batch: [dataBNZ, noiseBNZ, float32(times, [size]), int32(pick(this.#labels), [size])],
      times,
    };
  }
}
