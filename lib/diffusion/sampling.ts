/**
 * Sampling of latents with a diffusion transformer in this thread: weights, labels, times and guidance are inputs of the
 * compiled velocity, so that every sampler and every evaluation during a training share one graph.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { concatRows, expectShape, gatherRows, type HostTensor, int32, Rng, rows } from "novae/tensor/mod.ts";
import { type DeviceName, type DeviceTensor, jit, type Jitted } from "novae/engine/mod.ts";
import type { DitConfig } from "./config.ts";
import { dit, type DitParams } from "./dit.ts";
import {
  bothVelocities,
  checkGuidance,
  type Guidance,
  guidanceWeights,
  guides,
  isUnguided,
} from "./guidance.ts";
import { noiseOf } from "./noise.ts";
import {
  type FollowOptions,
  followVelocity,
  type Revision,
  type SamplerProgress,
  stepNoiseOf,
} from "./sampler.ts";
import { samplerTimes } from "./solvers.ts";
import { DeviceArithmetic, type Evaluated, type PerSample, perSampleTensor } from "./state_space.ts";

/** How latents are sampled, whatever the model and the request. */
export interface LatentSamplerOptions {
  /** Where the velocities are evaluated. Default `auto`. */
  readonly device?: DeviceName;
  /** Samples at a time. It changes the speed, not the samples. Default 32. */
  readonly batchSize?: number;
  /** Threads of the compiled velocity on the CPU; those of the engine unless given. */
  readonly threads?: number;
}

/** A model that knows less, whose velocity takes the place of the unconditional one. */
export interface WeakModel {
  /** Its shape; channels, grid and classes are those of the model that it guides. */
  readonly config: DitConfig;
  /** Its weights. */
  readonly params: DitParams<HostTensor>;
}

/** What a callback sees of a batch after each step. */
export interface LatentProgress extends SamplerProgress {
  /** Number of the batch's first sample in the request, from 0. */
  readonly first: number;
}

/** What to sample. */
export interface SampleRequest extends Guidance, Omit<FollowOptions, "callback"> {
  /** Weights, usually the moving average. */
  readonly params: DitParams<HostTensor>;
  /** Label of each sample, in [0, L]; L is the null label, for samples of no class. */
  readonly labels: ArrayLike<number>;
  /** Decides all noise: sample `i` starts from stream `(seed, "noise", i)`, whatever its batch. */
  readonly seed: number;
  /** Number of the first sample, where a long row of samples is drawn in pieces. Default 0. */
  readonly firstIndex?: number;
  /** Noise to start from instead, [labels.length, N, Z]. */
  readonly noise?: HostTensor;
  /**
   * Guides with a weaker model instead of without the label.
   *
   * *Source*: autoguidance, Karras et al., arXiv 2406.02507.
   */
  readonly autoguidance?: WeakModel;
  /** Called from time to time with the number of samples done. */
  readonly onProgress?: (done: number, count: number) => void | Promise<void>;
  /**
   * Called after each step of each batch and awaited; not with workers. Latents that it returns take the place of the
   * batch's.
   */
  readonly callback?: (progress: LatentProgress) => Revision | Promise<Revision>;
}

/** Draws latents; see {@linkcode openLatentSampler}. */
export interface LatentSampler {
  /**
   * Draws one latent for each label.
   *
   * @returns zBNZ [labels.length, N, Z], normalised like the training latents.
   * @throws RangeError if a label, the sampler, the steps, the shift or the guidance cannot be used.
   */
  sample(request: SampleRequest): Promise<HostTensor>;
  /** Releases what was compiled. */
  dispose(): Promise<void>;
}

type VelocityFunction = (
  params: DitParams,
  z: tf.Tensor,
  labels: tf.Tensor,
  t: tf.Tensor,
  duration: tf.Tensor,
  conditional: tf.Tensor,
  other: tf.Tensor,
) => Evaluated<tf.Tensor>;

type AutoguidedFunction = (
  params: DitParams,
  weak: DitParams,
  weakConfig: DitConfig,
  ...rest: Parameters<VelocityFunction> extends [unknown, ...infer Rest] ? Rest : never
) => Evaluated<tf.Tensor>;

/** The sampler of one thread: a compiled velocity for each kind of guidance, made when first needed. */
export class CompiledLatentSampler implements LatentSampler {
  readonly #config: DitConfig;
  readonly #batchSize: number;
  readonly #plain: Jitted<VelocityFunction>;
  readonly #guided: Jitted<VelocityFunction>;
  readonly #autoguided: Jitted<AutoguidedFunction>;
  readonly #arithmetic: DeviceArithmetic;

  /** @throws RangeError if the batch size is not a positive integer. */
  constructor(config: DitConfig, options: LatentSamplerOptions = {}) {
    const { device, threads } = options, shared = { device, threads };
    this.#config = config;
    this.#batchSize = checkedBatchSize(options);
    this.#plain = jit<VelocityFunction>(
      (params, z, labels, t, duration) => evaluated(z, duration, velocityOf(params, config, z, labels, t)),
      { ...shared, name: "velocity" },
    );
    this.#guided = jit<VelocityFunction>((params, z, labels, t, duration, conditional, other) => {
      const twice = t.size === 1 ? t : tf.concat([t, t], 0);
      const [v, free] = bothVelocities(
        (zBNZ, labelsB) => velocityOf(params, config, zBNZ, labelsB, twice),
        z,
        labels,
        config.classes,
      );
      return evaluated(z, duration, tf.add(tf.mul(v, conditional), tf.mul(free, other)));
    }, { ...shared, name: "guided velocity" });
    this.#autoguided = jit<AutoguidedFunction>(
      (params, weak, weakConfig, z, labels, t, duration, conditional, other) => {
        const v = velocityOf(params, config, z, labels, t);
        const weaker = velocityOf(weak, weakConfig, z, labels, t);
        return evaluated(z, duration, tf.add(tf.mul(v, conditional), tf.mul(weaker, other)));
      },
      { ...shared, name: "autoguided velocity" },
    );
    this.#arithmetic = new DeviceArithmetic(shared);
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
    await Promise.all(
      [this.#plain, this.#guided, this.#autoguided, this.#arithmetic].map((compiled) => compiled.dispose()),
    );
  }

  async #sampleBatch(request: SampleRequest, indices: Int32Array): Promise<HostTensor> {
    const { grid, channels } = this.#config, shape = [grid * grid, channels];
    const { seed, firstIndex = 0, callback, labels, noise } = request;
    const numbers = indices.map((i) => firstIndex + i),
      labelsB = int32(indices.map((i) => labels[i]), [indices.length]);
    const start = noise === undefined
      ? noiseOf(new Rng(seed), numbers, shape)
      : concatRows(Array.from(indices, (i) => rows(noise, i, i + 1)));
    const first = indices[0], last = labels.length - first;
    return await followVelocity(start, {
      ...request,
      callback: callback && (async (progress) => {
        const revised = await callback({ ...progress, taps: cut(progress.taps, last), first });
        return revised && filledUp(revised, Math.min(last, indices.length), indices.length);
      }),
      arithmetic: this.#arithmetic,
      stepNoise: stepNoiseOf(seed, numbers, shape),
      evaluate: (z, t, duration, index) => this.#evaluate(request, labelsB, z, t, duration, index),
    });
  }

  #evaluate(
    request: SampleRequest,
    labelsB: HostTensor,
    z: HostTensor | DeviceTensor,
    t: PerSample,
    duration: PerSample,
    index: number,
  ): Promise<Evaluated<DeviceTensor>> {
    const { params, autoguidance: weak, steps } = request;
    const weights = guidanceWeights(request, { index, steps, t });
    const [tB, ...numbers] = [t, duration, weights.conditional, weights.other]
      .map((value) => perSampleTensor(value, z.shape.length));
    const inputs = [z, labelsB, tB, ...numbers] as PlainInputs;
    if (isUnguided(weights)) return this.#plain(params, ...inputs);
    if (weak === undefined) return this.#guided(params, ...inputs);
    return this.#autoguided(params, weak.params, weak.config, ...inputs);
  }
}

type Fed = HostTensor | DeviceTensor;
type PlainInputs = [z: Fed, labels: Fed, t: Fed, duration: Fed, conditional: Fed, other: Fed];

function velocityOf(
  params: DitParams,
  config: DitConfig,
  z: tf.Tensor,
  labels: tf.Tensor,
  t: tf.Tensor,
): tf.Tensor {
  return dit(z, tf.reshape(t, [-1]), labels, params, config).velocityBNZ;
}

function evaluated(z: tf.Tensor, duration: tf.Tensor, velocity: tf.Tensor): Evaluated<tf.Tensor> {
  return { velocity, ahead: tf.add(z, tf.mul(velocity, duration)) };
}

/** Intermediates without the repetitions that fill up the last batch. */
function cut(taps: SamplerProgress["taps"], count: number): SamplerProgress["taps"] {
  return Object.fromEntries(
    Object.entries(taps).map(([name, value]) => [name, rows(value, 0, Math.min(count, value.shape[0]))]),
  );
}

/** Latents of a batch, with repetitions of the last where the batch has more. */
function filledUp(latents: HostTensor, count: number, size: number): HostTensor {
  expectShape("Cannot go on from a callback's latents", latents.shape, [count, null, null]);
  return gatherRows(latents, Int32Array.from({ length: size }, (_, k) => Math.min(k, count - 1)));
}

/**
 * Checks what can be checked before anything is computed.
 *
 * @throws RangeError if a label, the sampler, the steps, the shift or the guidance cannot be used; TypeError if given
 * noise has another shape.
 */
export function checkRequest(config: DitConfig, request: Omit<SampleRequest, "params">): void {
  const { labels, sampler = "euler", steps, shift, noise, autoguidance } = request;
  if (labels.length === 0) throw new RangeError("Cannot sample latents: one label or more is needed, got 0");
  for (let i = 0; i < labels.length; i++) {
    if (Number.isInteger(labels[i]) && labels[i] >= 0 && labels[i] <= config.classes) continue;
    throw new RangeError(
      `Cannot sample latents: labels must be integers in [0, ${config.classes}], got ${labels[i]}`,
    );
  }
  samplerTimes(sampler, steps, shift, request);
  checkGuidance(request);
  if (noise !== undefined) {
    expectShape("Cannot sample latents from noise", noise.shape, [
      labels.length,
      config.grid ** 2,
      config.channels,
    ]);
  }
  if (autoguidance !== undefined) checkWeakModel(config, autoguidance.config);
  else if (config.classes === 0 && guides(request)) {
    throw new RangeError(
      `Cannot guide samples: the model must have classes, got an unconditional one and cfgScale ${request.cfgScale}`,
    );
  }
}

function checkWeakModel(config: DitConfig, weak: DitConfig): void {
  for (const key of ["channels", "grid", "classes"] as const) {
    if (weak[key] === config[key]) continue;
    throw new RangeError(
      `Cannot guide samples with another model: its ${key} must be ${config[key]}, got ${weak[key]}`,
    );
  }
}

/** The batch size of the options. @throws RangeError if it is not a positive integer. */
export function checkedBatchSize({ batchSize = 32 }: LatentSamplerOptions): number {
  if (Number.isInteger(batchSize) && batchSize >= 1) return batchSize;
  throw new RangeError(`Cannot sample latents: batchSize must be a positive integer, got ${batchSize}`);
}
