/**
 * Sampling of latents with a diffusion transformer in this thread: weights, labels, steps, shift and scale are inputs
 * of the compiled step, so that evaluations during a training do not compile again.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { concatRows, type HostTensor, int32, Rng, rows, scalar } from "novae/tensor/mod.ts";
import { type DeviceName, type DeviceTensor, jit, type Jitted } from "novae/engine/mod.ts";
import type { DitConfig } from "./config.ts";
import { dit, type DitParams } from "./dit.ts";
import { type Guidance, guidedVelocity, guidesAt } from "./guidance.ts";
import { noiseOf } from "./noise.ts";
import { timeGrid } from "./path.ts";
import { integrate, type SamplerName, SAMPLERS } from "./sampler.ts";

/** How latents are sampled, whatever the model and the request. */
export interface LatentSamplerOptions {
  /** Where the steps run. Default `auto`. */
  readonly device?: DeviceName;
  /** Samples at a time. It changes the speed, not the samples. Default 32. */
  readonly batchSize?: number;
  /** Default `euler`. */
  readonly sampler?: SamplerName;
  /** Threads of the compiled step on the CPU; those of the engine unless given. */
  readonly threads?: number;
}

/** What to sample. */
export interface SampleRequest extends Guidance {
  /** Weights, usually the moving average. */
  readonly params: DitParams<HostTensor>;
  /** Label of each sample, in [0, L]; L is the null label, for samples of no class. */
  readonly labels: ArrayLike<number>;
  /** Decides the noise: sample `i` starts from stream `(seed, "noise", i)`, whatever its batch. */
  readonly seed: number;
  /** Steps of the sampler. */
  readonly steps: number;
  /** Shift of the times towards noise (< 1), see `shiftTime`; 0.15 in the published models. Default 1. */
  readonly shift?: number;
  /** Number of the first sample, where a long row of samples is drawn in pieces. Default 0. */
  readonly firstIndex?: number;
  /** Called from time to time with the number of samples done. */
  readonly onProgress?: (done: number, count: number) => void | Promise<void>;
}

/** Draws latents; see {@linkcode openLatentSampler}. */
export interface LatentSampler {
  /**
   * Draws one latent for each label.
   *
   * @returns zBNZ [labels.length, N, Z], normalised like the training latents.
   * @throws RangeError if a label, the number of steps, the shift or the guidance cannot be used.
   */
  sample(request: SampleRequest): Promise<HostTensor>;
  /** Releases the compiled steps. */
  dispose(): Promise<void>;
}

type StepFunction = (
  params: DitParams,
  z: tf.Tensor,
  labels: tf.Tensor,
  t: tf.Scalar,
  tNext: tf.Scalar,
  cfgScale: tf.Scalar,
) => tf.Tensor;

/** The sampler of one thread: one compiled step with guidance and one without, each made when first needed. */
export class CompiledLatentSampler implements LatentSampler {
  readonly #config: DitConfig;
  readonly #batchSize: number;
  readonly #plain: Jitted<StepFunction>;
  readonly #guided: Jitted<StepFunction>;

  /** @throws RangeError if the batch size is not a positive integer. */
  constructor(config: DitConfig, options: LatentSamplerOptions = {}) {
    const { device, threads, sampler = "euler" } = options;
    this.#config = config;
    this.#batchSize = checkedBatchSize(options);
    const { step } = SAMPLERS[sampler];
    const compile = (guided: boolean) =>
      jit<StepFunction>((params, z, labels, t, tNext, cfgScale) => {
        const field = (at: tf.Scalar) => (zBNZ: tf.Tensor, labelsB: tf.Tensor) =>
          dit(zBNZ, tf.reshape(at, [1]), labelsB, params, config).velocityBNZ;
        return step(
          (zAt, at) =>
            guided
              ? guidedVelocity(field(at), zAt, labels, config.classes, cfgScale)
              : field(at)(zAt, labels),
          z,
          t,
          tNext,
        );
      }, { device, threads, donate: [1], name: `${sampler} step${guided ? " with guidance" : ""}` });
    this.#plain = compile(false);
    this.#guided = compile(true);
  }

  /** See {@linkcode LatentSampler.sample}. */
  async sample(request: SampleRequest): Promise<HostTensor> {
    const { labels, onProgress } = request;
    checkRequest(this.#config, request);
    const count = labels.length, size = Math.min(this.#batchSize, count);
    const parts: HostTensor[] = [];
    for (let start = 0; start < count; start += size) {
      const end = Math.min(start + size, count);
      // The last batch is filled up with repetitions: that is cheaper than another compilation.
      const indices = Int32Array.from({ length: size }, (_, k) => Math.min(start + k, count - 1));
      const batch = await this.#sampleBatch(request, indices);
      parts.push(rows(batch, 0, end - start));
      await onProgress?.(end, count);
    }
    return concatRows(parts);
  }

  /** See {@linkcode LatentSampler.dispose}. */
  async dispose(): Promise<void> {
    await Promise.all([this.#plain.dispose(), this.#guided.dispose()]);
  }

  async #sampleBatch(request: SampleRequest, indices: Int32Array): Promise<HostTensor> {
    const { grid, channels } = this.#config;
    const { params, seed, steps, shift, cfgScale = 1, firstIndex = 0 } = request;
    const numbers = indices.map((i) => firstIndex + i);
    const noise = noiseOf(new Rng(seed), numbers, [grid * grid, channels]);
    const labelsB = int32(indices.map((i) => request.labels[i]), [indices.length]);
    const end = await integrate<HostTensor, DeviceTensor>(
      (z, t, tNext) => {
        const step = guidesAt(t, request) ? this.#guided : this.#plain;
        return step(params, z, labelsB, scalar(t), scalar(tNext), scalar(cfgScale));
      },
      noise,
      { steps, shift },
    );
    const latents = await end.read();
    end.dispose();
    return latents;
  }
}

/**
 * Checks what can be checked before anything is computed.
 *
 * @throws RangeError if a label, the number of steps, the shift or the guidance cannot be used.
 */
export function checkRequest(config: DitConfig, request: SampleRequest): void {
  const { labels, steps, shift } = request;
  if (labels.length === 0) throw new RangeError("Cannot sample latents: one label or more is needed, got 0");
  for (let i = 0; i < labels.length; i++) {
    if (Number.isInteger(labels[i]) && labels[i] >= 0 && labels[i] <= config.classes) continue;
    throw new RangeError(
      `Cannot sample latents: labels must be integers in [0, ${config.classes}], got ${labels[i]}`,
    );
  }
  timeGrid(steps, shift);
  guidesAt(0, request);
}

/** The batch size of the options. @throws RangeError if it is not a positive integer. */
export function checkedBatchSize({ batchSize = 32 }: LatentSamplerOptions): number {
  if (Number.isInteger(batchSize) && batchSize >= 1) return batchSize;
  throw new RangeError(`Cannot sample latents: batchSize must be a positive integer, got ${batchSize}`);
}
