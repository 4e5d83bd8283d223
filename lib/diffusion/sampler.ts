/**
 * Samplers: they follow a velocity from noise (t = 0) to data (t = 1). A sampler is a pure function for one step, in
 * TensorFlow.js operations, so that the step is compiled as a whole and the latents stay on the device.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { type HostTensor, scalar } from "novae/tensor/mod.ts";
import { type DeviceName, type DeviceTensor, jit } from "novae/engine/mod.ts";
import { timeGrid } from "./path.ts";

/** A velocity field: latents [B, N, Z] (or any shape) and one time to the velocity of the same shape. */
export type Velocity = (z: tf.Tensor, t: tf.Scalar) => tf.Tensor;

/** One step of a sampler, from time `t` to `tNext`. */
export type SamplerStep = (velocity: Velocity, z: tf.Tensor, t: tf.Scalar, tNext: tf.Scalar) => tf.Tensor;

/** Names of the samplers. */
export type SamplerName = "euler" | "heun";

/** Euler's method, one evaluation a step, error of order 1: `z + Δt·v(z, t)`. */
export function eulerStep(velocity: Velocity, z: tf.Tensor, t: tf.Scalar, tNext: tf.Scalar): tf.Tensor {
  return tf.add(z, tf.mul(velocity(z, t), tf.sub(tNext, t)));
}

/**
 * Heun's method, two evaluations a step, error of order 2: the mean of the velocities at both ends of Euler's step.
 *
 * *Differs* from EDM (Karras et al. 2022): the last step is of order 2 too, since a velocity is defined at t = 1.
 */
export function heunStep(velocity: Velocity, z: tf.Tensor, t: tf.Scalar, tNext: tf.Scalar): tf.Tensor {
  const dt = tf.sub(tNext, t);
  const start = velocity(z, t);
  const end = velocity(tf.add(z, tf.mul(start, dt)), tNext);
  return tf.add(z, tf.mul(tf.add(start, end), tf.mul(dt, 0.5)));
}

/** A sampler and what a step of it costs. */
export interface Sampler {
  /** Takes one step. */
  readonly step: SamplerStep;
  /** Evaluations of the velocity a step. */
  readonly evaluations: number;
}

/** All samplers by name. */
export const SAMPLERS: Readonly<Record<SamplerName, Sampler>> = {
  euler: { step: eulerStep, evaluations: 1 },
  heun: { step: heunStep, evaluations: 2 },
};

/** What a callback sees after each step. */
export interface SamplerProgress<T = DeviceTensor> {
  /** Steps done, from 1 to `steps`. */
  readonly step: number;
  /** Steps in all. */
  readonly steps: number;
  /** Time before the step. */
  readonly t: number;
  /** Time after it. */
  readonly tNext: number;
  /** Latents after the step. They are overwritten by the next one: read them before the callback returns. */
  readonly z: T;
}

/** How a velocity is followed. */
export interface IntegrateOptions<T = DeviceTensor> {
  /** Number S of steps. */
  readonly steps: number;
  /** Shift of the times, see `shiftTime`; 0.15 in the published models. Default 1. */
  readonly shift?: number;
  /** Called after each step and awaited. */
  readonly callback?: (progress: SamplerProgress<T>) => void | Promise<void>;
}

/** Options of {@linkcode sample}. */
export interface SampleOptions extends IntegrateOptions {
  /** Default `euler`. */
  readonly sampler?: SamplerName;
  /** Where the steps run. Default `auto`. */
  readonly device?: DeviceName;
}

/**
 * Takes steps along a time grid from 0 to 1.
 *
 * @param step advances latents from one time to the next; the latents that it was given are not used again.
 * @param noise latents at t = 0.
 * @returns latents at t = 1.
 */
export async function integrate<N, T>(
  step: (z: N | T, t: number, tNext: number) => Promise<T>,
  noise: N,
  options: IntegrateOptions<T>,
): Promise<T> {
  const { steps, shift, callback } = options;
  const times = timeGrid(steps, shift);
  const advance = async (from: N | T, i: number): Promise<T> => {
    const [t, tNext] = [times[i], times[i + 1]];
    const z = await step(from, t, tNext);
    await callback?.({ step: i + 1, steps, t, tNext, z });
    return z;
  };
  let z = await advance(noise, 0);
  for (let i = 1; i < steps; i++) z = await advance(z, i);
  return z;
}

/**
 * Samples by following a velocity field from noise.
 *
 * *Differs* from SVG: the released `sample_svg.py` imports a module that is not there, and takes the last latent of a
 * batch where it means the last step's batch. Here the whole batch comes back.
 *
 * @example
 * ```ts
 * import { sample } from "novae/diffusion/mod.ts";
 * import { read } from "novae/engine/mod.ts";
 * import { zeros } from "novae/tensor/mod.ts";
 * import * as tf from "@tensorflow/tfjs";
 * const end = await sample((z) => tf.onesLike(z), zeros([1, 4, 2]), { steps: 5 });
 * const { data } = await read(end);
 * if (data.some((v) => Math.abs(v - 1) > 1e-6)) throw new Error("a constant velocity is followed exactly");
 * ```
 * @param velocity traced once and compiled with the sampler's step.
 * @param noise latents at t = 0, e.g. [B, N, Z].
 * @returns latents at t = 1 on the device; the caller disposes them.
 */
export async function sample(
  velocity: Velocity,
  noise: HostTensor,
  options: SampleOptions,
): Promise<DeviceTensor> {
  const { step } = SAMPLERS[options.sampler ?? "euler"];
  const compiled = jit(
    (z: tf.Tensor, t: tf.Scalar, tNext: tf.Scalar) => step(velocity, z, t, tNext),
    { device: options.device, donate: [0], name: "sampler step" },
  );
  try {
    return await integrate<HostTensor, DeviceTensor>(
      (z, t, tNext) => compiled(z, scalar(t), scalar(tNext)),
      noise,
      options,
    );
  } finally {
    await compiled.dispose();
  }
}
