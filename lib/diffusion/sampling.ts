/**
 * Sampling of latents with a diffusion transformer in this thread: weights, labels, times and guidance are inputs of the
 * compiled velocity, so that every sampler and every evaluation during a training share one graph.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import {
  concatRows,
  expectShape,
  gatherRows,
  type HostTensor,
  int32,
  mapTree,
  Rng,
  rows,
} from "novae/tensor/mod.ts";
import {
  type DeviceName,
  type DeviceTensor,
  disposeTree,
  type Feed,
  jit,
  type Jitted,
  resolveDevice,
} from "novae/engine/mod.ts";
import type { DitConfig } from "./config.ts";
import { dit, type DitParams } from "./dit.ts";
import { bothVelocities, guidanceWeights, isUnguided } from "./guidance.ts";
import { noiseOf } from "./noise.ts";
import {
  checkedBatchSize,
  checkRequest,
  type LatentSampler,
  type LatentSamplerOptions,
  type SampleRequest,
} from "./sample_request.ts";
import { followVelocity, type SamplerProgress, stepNoiseOf } from "./sampler.ts";
import { DeviceArithmetic, type Evaluated, type PerSample, perSampleTensor } from "./state_space.ts";

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
  readonly #copy: Jitted<(weights: Weights<tf.Tensor>) => Weights<tf.Tensor>>;
  readonly #arithmetic: DeviceArithmetic;
  readonly #device: DeviceName;

  /** @throws RangeError if the batch size is not a positive integer. */
  constructor(config: DitConfig, options: LatentSamplerOptions = {}) {
    const { device = "auto", threads } = options, shared = { device, threads };
    this.#config = config;
    this.#device = device;
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
    this.#copy = jit(
      (weights) =>
        mapTree(weights, (leaf) => leaf instanceof tf.Tensor, (leaf) => tf.clone(leaf as tf.Tensor)),
      { ...shared, name: "weights on the device" },
    );
    this.#arithmetic = new DeviceArithmetic(shared);
  }

  /** See {@linkcode LatentSampler.sample}. */
  async sample(request: SampleRequest): Promise<HostTensor> {
    const { labels, onProgress } = request;
    checkRequest(this.#config, request);
    const count = labels.length, size = Math.min(this.#batchSize, count);
    const parts: HostTensor[] = [], weights = await this.#held(request);
    try {
      for (let start = 0; start < count; start += size) {
        const end = Math.min(start + size, count);
        // The last batch is filled up with repetitions: that is cheaper than another compilation.
        const indices = Int32Array.from({ length: size }, (_, k) => Math.min(start + k, count - 1));
        const batch = await this.#sampleBatch(request, weights, indices);
        parts.push(rows(batch, 0, end - start));
        await onProgress?.(end, count);
      }
    } finally {
      disposeTree(weights);
    }
    return concatRows(parts);
  }

  /** See {@linkcode LatentSampler.dispose}. */
  async dispose(): Promise<void> {
    await Promise.all(
      [this.#plain, this.#guided, this.#autoguided, this.#copy, this.#arithmetic]
        .map((compiled) => compiled.dispose()),
    );
  }

  /** Weights where the velocity is evaluated, so that they go to a GPU once a request and not at each step. */
  async #held({ params, autoguidance }: SampleRequest): Promise<Weights<Fed>> {
    const weights = { params, ...autoguidance && { weak: autoguidance.params } };
    const { device } = await resolveDevice(this.#device);
    return device === "cpu" ? weights : await this.#copy(weights) as Weights<Fed>;
  }

  async #sampleBatch(
    request: SampleRequest,
    weights: Weights<Fed>,
    indices: Int32Array,
  ): Promise<HostTensor> {
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
      evaluate: (z, t, duration, index) => this.#evaluate(request, weights, [z, labelsB], t, duration, index),
    });
  }

  #evaluate(
    request: SampleRequest,
    { params, weak }: Weights<Fed>,
    [z, labelsB]: readonly [z: Fed, labels: Fed],
    t: PerSample,
    duration: PerSample,
    index: number,
  ): Promise<Evaluated<DeviceTensor>> {
    const { autoguidance, steps } = request, guidance = guidanceWeights(request, { index, steps, t });
    const [tB, ...numbers] = [t, duration, guidance.conditional, guidance.other]
      .map((value) => perSampleTensor(value, z.shape.length));
    const inputs = [z, labelsB, tB, ...numbers] as PlainInputs;
    if (isUnguided(guidance)) return this.#plain(params, ...inputs);
    if (weak === undefined) return this.#guided(params, ...inputs);
    return this.#autoguided(params, weak, autoguidance!.config, ...inputs);
  }
}

type Fed = Feed<tf.Tensor>;

/** Weights of the model and of the one that guides it. */
interface Weights<T> {
  readonly params: DitParams<T>;
  readonly weak?: DitParams<T>;
}

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
