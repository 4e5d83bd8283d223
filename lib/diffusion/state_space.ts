/**
 * Where the states of a sampler live: on the device in float32, or on the host in float64. A sampler is written once,
 * as evaluations of a velocity and weighted sums, and runs in both.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { float32, type HostTensor, isHostTensor, scalar, sizeOf } from "novae/tensor/mod.ts";
import { type DeviceName, DeviceTensor, jit, type Jitted } from "novae/engine/mod.ts";

/** One number for all samples of a batch, or one for each. */
export type PerSample = number | Float64Array;

/** A velocity and the point that it leads to. */
export interface Evaluated<T> {
  /** Velocity at the point and time of the evaluation. */
  readonly velocity: T;
  /** That point, moved along the velocity for the time that was given. */
  readonly ahead: T;
}

/** Evaluates a velocity at float32 points and moves along it for a time. */
export type VelocityStep = (
  z: HostTensor | DeviceTensor,
  t: PerSample,
  duration: PerSample,
  index: number,
) => Promise<Evaluated<DeviceTensor>>;

/** How large an error of a step may be: `atol + rtol·|z|` in the root mean square over a sample. */
export interface Tolerance {
  /** Share of the latents' size. */
  readonly rtol: number;
  /** The rest. */
  readonly atol: number;
}

/** What a sampler can do with its states, each a batch `[B, …]`. */
export interface StateSpace<T> {
  /** A state of numbers in memory. */
  from(host: HostTensor): T;
  /** The velocity at time `t`, and `z + duration·velocity`, in step `index` of the sampler. */
  evaluate(z: T, t: PerSample, duration: PerSample, index: number): Promise<Evaluated<T>>;
  /** `Σ weights[i]·terms[i]`. */
  combine(terms: readonly T[], weights: readonly PerSample[]): Promise<T>;
  /** The samples of `a` where `first` is 1, those of `b` elsewhere. */
  select(first: Float64Array, a: T, b: T): Promise<T>;
  /** For each sample the root mean square of `error / (atol + rtol·max(|z|, |zNext|))`. */
  errorNorms(error: T, z: T, zNext: T, tolerance: Tolerance): Promise<Float64Array>;
  /** The numbers of a state, rounded to float32. */
  read(z: T): Promise<HostTensor>;
  /** Releases states. */
  dispose(...states: T[]): void;
}

/** A per-sample number as a tensor that broadcasts against states of a rank: a scalar, or `[B, 1, …]`. */
export function perSampleTensor(value: PerSample, rank: number): HostTensor {
  if (typeof value === "number") return scalar(value);
  return float32(Float32Array.from(value), [value.length, ...Array<number>(rank - 1).fill(1)]);
}

/** The sums and norms of a {@linkcode DeviceSpace}, compiled once for any number of spaces. */
export class DeviceArithmetic {
  /** See {@linkcode StateSpace.combine}. */
  readonly combine: Jitted<(terms: tf.Tensor[], weights: tf.Tensor[]) => tf.Tensor>;
  /** See {@linkcode StateSpace.select}. */
  readonly select: Jitted<(first: tf.Tensor, a: tf.Tensor, b: tf.Tensor) => tf.Tensor>;
  /** See {@linkcode StateSpace.errorNorms}. */
  readonly errorNorms: Jitted<
    (error: tf.Tensor, z: tf.Tensor, zNext: tf.Tensor, rtol: tf.Tensor, atol: tf.Tensor) => tf.Tensor
  >;

  /** Nothing is compiled yet. */
  constructor(options: { readonly device?: DeviceName; readonly threads?: number } = {}) {
    this.combine = jit(
      (terms, weights) => terms.map((term, i) => tf.mul(term, weights[i])).reduce((a, b) => tf.add(a, b)),
      { ...options, name: "sum of states" },
    );
    this.select = jit((first, a, b) => tf.where(tf.greater(first, 0), a, b), {
      ...options,
      name: "choice of states",
    });
    this.errorNorms = jit((error, z, zNext, rtol, atol) => {
      const scale = tf.add(atol, tf.mul(rtol, tf.maximum(tf.abs(z), tf.abs(zNext))));
      const relative = tf.reshape(tf.div(error, scale), [z.shape[0], -1]);
      return tf.sqrt(tf.mean(tf.square(relative), 1));
    }, { ...options, name: "error of a step" });
  }

  /** Releases what was compiled. */
  async dispose(): Promise<void> {
    await Promise.all([this.combine.dispose(), this.select.dispose(), this.errorNorms.dispose()]);
  }
}

/** States on the device in float32. */
export class DeviceSpace implements StateSpace<HostTensor | DeviceTensor> {
  readonly evaluate: VelocityStep;
  readonly #arithmetic: DeviceArithmetic;

  constructor(evaluate: VelocityStep, arithmetic: DeviceArithmetic) {
    this.evaluate = evaluate;
    this.#arithmetic = arithmetic;
  }

  from(host: HostTensor): HostTensor {
    return host;
  }

  combine(
    terms: readonly (HostTensor | DeviceTensor)[],
    weights: readonly PerSample[],
  ): Promise<DeviceTensor> {
    const rank = terms[0].shape.length;
    return this.#arithmetic.combine([...terms], weights.map((weight) => perSampleTensor(weight, rank)));
  }

  select(
    first: Float64Array,
    a: HostTensor | DeviceTensor,
    b: HostTensor | DeviceTensor,
  ): Promise<DeviceTensor> {
    return this.#arithmetic.select(perSampleTensor(first, a.shape.length), a, b);
  }

  async errorNorms(
    error: HostTensor | DeviceTensor,
    z: HostTensor | DeviceTensor,
    zNext: HostTensor | DeviceTensor,
    { rtol, atol }: Tolerance,
  ): Promise<Float64Array> {
    const norms = await this.#arithmetic.errorNorms(error, z, zNext, scalar(rtol), scalar(atol));
    const { data } = await norms.read();
    norms.dispose();
    return Float64Array.from(data);
  }

  async read(z: HostTensor | DeviceTensor): Promise<HostTensor> {
    return z instanceof DeviceTensor ? await z.read() : z;
  }

  dispose(...states: (HostTensor | DeviceTensor)[]): void {
    for (const state of states) if (!isHostTensor(state)) state.dispose();
  }
}

/** A float64 state. */
export interface HostState {
  /** Extents, the batch first. */
  readonly shape: readonly number[];
  /** Values in row-major order. */
  readonly data: Float64Array;
}

/** States on the host in float64; velocities are evaluated in float32. */
export class HostSpace implements StateSpace<HostState> {
  readonly #evaluate: VelocityStep;

  constructor(evaluate: VelocityStep) {
    this.#evaluate = evaluate;
  }

  from({ shape, data }: HostTensor): HostState {
    return { shape, data: Float64Array.from(data) };
  }

  async evaluate(
    z: HostState,
    t: PerSample,
    duration: PerSample,
    index: number,
  ): Promise<Evaluated<HostState>> {
    const found = await this.#evaluate(await this.read(z), t, 0, index);
    const velocity = this.from(await found.velocity.read());
    found.velocity.dispose();
    found.ahead.dispose();
    return { velocity, ahead: await this.combine([z, velocity], [1, duration]) };
  }

  combine(terms: readonly HostState[], weights: readonly PerSample[]): Promise<HostState> {
    const { shape } = terms[0], data = new Float64Array(sizeOf(shape)), row = data.length / shape[0];
    terms.forEach((term, k) => {
      for (let b = 0, i = 0; b < shape[0]; b++) {
        const weight = at(weights[k], b);
        for (const end = i + row; i < end; i++) data[i] += weight * term.data[i];
      }
    });
    return Promise.resolve({ shape, data });
  }

  select(first: Float64Array, a: HostState, b: HostState): Promise<HostState> {
    const data = b.data.slice(), row = data.length / a.shape[0];
    for (let i = 0; i < first.length; i++) {
      if (first[i] > 0) data.set(a.data.subarray(i * row, (i + 1) * row), i * row);
    }
    return Promise.resolve({ shape: a.shape, data });
  }

  errorNorms(
    error: HostState,
    z: HostState,
    zNext: HostState,
    { rtol, atol }: Tolerance,
  ): Promise<Float64Array> {
    const norms = new Float64Array(z.shape[0]), row = z.data.length / norms.length;
    for (let i = 0; i < z.data.length; i++) {
      const scale = atol + rtol * Math.max(Math.abs(z.data[i]), Math.abs(zNext.data[i]));
      norms[Math.floor(i / row)] += (error.data[i] / scale) ** 2 / row;
    }
    return Promise.resolve(norms.map(Math.sqrt));
  }

  read({ shape, data }: HostState): Promise<HostTensor> {
    return Promise.resolve(float32(Float32Array.from(data), shape));
  }

  dispose(): void {}
}

function at(value: PerSample, index: number): number {
  return typeof value === "number" ? value : value[index];
}
