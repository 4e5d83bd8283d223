/**
 * Sampling: a velocity is followed from noise (t = 0) to data (t = 1) by any of the samplers, on the device in float32
 * or on the host in float64.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { expectShape, type HostTensor, Rng } from "novae/tensor/mod.ts";
import { type DeviceName, jit } from "novae/engine/mod.ts";
import { noiseOf } from "./noise.ts";
import { type SamplerName, SAMPLERS, samplerTimes, type SolverOptions, type StepTimes } from "./solvers.ts";
import {
  DeviceArithmetic,
  DeviceSpace,
  HostSpace,
  perSampleTensor,
  type StateSpace,
  type VelocityStep,
} from "./state_space.ts";

/**
 * A velocity field: latents [B, …] and their time to the velocity of the same shape. The time is a scalar, or
 * `[B, 1, …]` where samples are at different times, as with `dopri5`.
 */
export type Velocity = (z: tf.Tensor, t: tf.Tensor) => tf.Tensor;

/**
 * Names of what a callback can see of a step: the latents after it (`z`); the velocity before it, guidance included
 * (`velocity`); and what that says of the ends of the path, `data = z + (1 − t)·v` and `noise = z − t·v`.
 */
export type SamplerTap = "z" | "velocity" | "data" | "noise";

/** What a callback may return: nothing, or latents [B, …] to go on from. */
export type Revision = void | HostTensor;

/** What a callback sees after each step. */
export interface SamplerProgress {
  /** Steps done, from 1 to `steps`. */
  readonly step: number;
  /** Steps in all. */
  readonly steps: number;
  /** Time before the step. */
  readonly t: number;
  /** Time after it. */
  readonly tNext: number;
  /** The intermediates that were asked for, [B, …]. */
  readonly taps: Readonly<Partial<Record<SamplerTap, HostTensor>>>;
}

/** How a velocity is followed, the same for all samplers. */
export interface FollowOptions extends SolverOptions {
  /** Default `euler`. */
  readonly sampler?: SamplerName;
  /**
   * Number S of steps, 1 or more. `dopri5` chooses steps of its own, which end at the times of the grid; with 1 it is
   * quite free.
   */
  readonly steps: number;
  /** Shift s > 0 of the times, see `shiftTime`; 0.15 in the published models. Default 1. */
  readonly shift?: number;
  /**
   * Numbers in which the latents are kept and summed: `float32` on the device or `float64` on the host, which is slower.
   * Velocities are float32 in both. Default `float32`.
   */
  readonly trajectory?: "float32" | "float64";
  /** Called after each step and awaited. Latents that it returns take the place of those after the step. */
  readonly callback?: (progress: SamplerProgress) => Revision | Promise<Revision>;
  /** Intermediates that the callback sees. Default none. */
  readonly taps?: readonly SamplerTap[];
}

/** Options of {@linkcode sample}. */
export interface SampleOptions extends FollowOptions {
  /** Where the velocity is evaluated. Default `auto`. */
  readonly device?: DeviceName;
  /** Decides the noise that `eulerMaruyama` adds. Default 0. */
  readonly seed?: number;
  /** Number of the first sample, which decides its noise whatever its batch. Default 0. */
  readonly firstIndex?: number;
}

/** How a batch of a velocity's samples is followed; see {@linkcode followVelocity}. */
export interface FollowRequest extends FollowOptions {
  /** Evaluates the velocity. */
  readonly evaluate: VelocityStep;
  /** Sums of states on the device. */
  readonly arithmetic: DeviceArithmetic;
  /** Noise of a step for samplers that add some. */
  readonly stepNoise: (index: number) => HostTensor;
}

/**
 * Follows a velocity from initial noise to data.
 *
 * @param noise latents at t = 0, [B, …].
 * @returns latents at t = 1.
 * @throws RangeError if the sampler, the steps, the shift or an option cannot be used.
 */
export async function followVelocity(noise: HostTensor, request: FollowRequest): Promise<HostTensor> {
  const { evaluate, arithmetic, trajectory = "float32" } = request;
  if (trajectory === "float64") return await followIn(new HostSpace(evaluate), noise, request);
  if (trajectory === "float32") return await followIn(new DeviceSpace(evaluate, arithmetic), noise, request);
  throw new RangeError(`Cannot sample: trajectory must be float32 or float64, got ${trajectory}`);
}

async function followIn<T>(
  space: StateSpace<T>,
  noise: HostTensor,
  request: FollowRequest,
): Promise<HostTensor> {
  const { sampler = "euler", steps, shift, repeats = 1 } = request;
  const times = samplerTimes(sampler, steps, shift, request);
  const noiseAt = (index: number) => space.from(request.stepNoise(index));
  const step = SAMPLERS[sampler].start(space, request, noiseAt);
  let z = space.from(noise);
  for (let index = 0; index < steps; index++) {
    const at = { index, steps, t: times[index], tNext: times[index + 1] };
    for (let repeat = 1; repeat <= repeats; repeat++) {
      const before = z, { z: after, velocity } = await step(before, at);
      z = after;
      try {
        const revised = await tell(space, request, at, { before, velocity, after });
        if (revised) {
          expectShape("Cannot go on from a callback's latents", revised.shape, noise.shape);
          z = space.from(revised);
          space.dispose(after);
        }
      } finally {
        space.dispose(before, velocity);
      }
      if (repeat < repeats) z = await goBack(space, z, at, noiseAt(index + steps * repeat));
    }
  }
  const latents = await space.read(z);
  space.dispose(z);
  return latents;
}

/**
 * Latents at the start of a step from those at its end: `t/t'·z + √((1 − t)² − (t/t')²(1 − t')²)·noise`, which has the
 * marginals of the path.
 */
async function goBack<T>(space: StateSpace<T>, z: T, { t, tNext }: StepTimes, noise: T): Promise<T> {
  const kept = t / tNext, added = Math.sqrt((1 - t) ** 2 - (kept * (1 - tNext)) ** 2);
  const back = await space.combine([z, noise], [kept, added]);
  space.dispose(z);
  return back;
}

/** Calls the callback with the intermediates that it wants; latents that it returned. */
async function tell<T>(
  space: StateSpace<T>,
  { callback, taps: names = [] }: FollowOptions,
  { index, steps, t, tNext }: StepTimes,
  { before, velocity, after }: { readonly before: T; readonly velocity: T; readonly after: T },
): Promise<Revision> {
  if (callback === undefined) return;
  const end = async (duration: number) => {
    const state = await space.combine([before, velocity], [1, duration]), values = await space.read(state);
    space.dispose(state);
    return values;
  };
  const taps: Partial<Record<SamplerTap, HostTensor>> = {};
  for (const name of names) {
    if (name === "z") taps.z = await space.read(after);
    else if (name === "velocity") taps.velocity = await space.read(velocity);
    else if (name === "data") taps.data = await end(1 - t);
    else if (name === "noise") taps.noise = await end(-t);
    else throw new RangeError(`Cannot tap the sampler: it has no "${name}"`);
  }
  return await callback({ step: index + 1, steps, t, tNext, taps });
}

/**
 * The noise that `eulerMaruyama` adds, a pure function of seed, step and number of the sample.
 *
 * @param numbers of the samples.
 * @param shape of one sample.
 */
export function stepNoiseOf(
  seed: number,
  numbers: ArrayLike<number>,
  shape: readonly number[],
): (index: number) => HostTensor {
  const rng = new Rng(seed);
  return (index) => noiseOf(rng.split("step", index), numbers, shape);
}

/**
 * Samples by following a velocity field from noise. Each sample of the batch goes its own way: it does not depend on the
 * others, whatever the sampler.
 *
 * *Differs* from SVG: the released `sample_svg.py` imports a module that is not there, and takes the last latent of a
 * batch where it means the last step's batch. Here the whole batch comes back.
 *
 * @example
 * ```ts
 * import { sample } from "novae/diffusion/mod.ts";
 * import { zeros } from "novae/tensor/mod.ts";
 * import * as tf from "@tensorflow/tfjs";
 * const { data } = await sample((z) => tf.onesLike(z), zeros([1, 4, 2]), { sampler: "heun", steps: 5 });
 * if (data.some((v) => Math.abs(v - 1) > 1e-6)) throw new Error("a constant velocity is followed exactly");
 * ```
 * @param velocity traced once and compiled.
 * @param noise latents at t = 0, e.g. [B, N, Z].
 * @returns latents at t = 1.
 * @throws RangeError if the sampler, the steps, the shift or an option cannot be used; NovaeError if `dopri5` finds no
 * step that is short enough.
 */
export async function sample(
  velocity: Velocity,
  noise: HostTensor,
  options: SampleOptions,
): Promise<HostTensor> {
  const { device, seed = 0, firstIndex = 0 } = options, [count, ...shape] = noise.shape;
  const compiled = jit((z: tf.Tensor, t: tf.Tensor, duration: tf.Tensor) => {
    const v = velocity(z, t);
    return { velocity: v, ahead: tf.add(z, tf.mul(v, duration)) };
  }, { device, name: "velocity" });
  const arithmetic = new DeviceArithmetic({ device });
  const numbers = Int32Array.from({ length: count }, (_, i) => firstIndex + i);
  try {
    return await followVelocity(noise, {
      ...options,
      evaluate: (z, t, duration) =>
        compiled(z, perSampleTensor(t, z.shape.length), perSampleTensor(duration, z.shape.length)),
      arithmetic,
      stepNoise: stepNoiseOf(seed, numbers, shape),
    });
  } finally {
    await Promise.all([compiled.dispose(), arithmetic.dispose()]);
  }
}
