/**
 * Ways to step from noise (t = 0) to data (t = 1): each is a few evaluations of a velocity and weighted sums of states.
 *
 * @module
 */
import { DormandPrince } from "./dormand_prince.ts";
import { shiftTime, timeGrid } from "./path.ts";
import type { StateSpace, Tolerance } from "./state_space.ts";

/** Names of the samplers. */
export type SamplerName = "euler" | "heun" | "midpoint" | "dpmpp2m" | "dopri5" | "eulerMaruyama";

/** One step of a sampler. */
export interface StepTimes {
  /** Number of the step, from 0. */
  readonly index: number;
  /** Steps in all. */
  readonly steps: number;
  /** Time before it. */
  readonly t: number;
  /** Time after it. */
  readonly tNext: number;
}

/** A state after a step, and the velocity before it. Both are the caller's to release. */
export interface Stepped<T> {
  /** State at the end of the step. */
  readonly z: T;
  /** Velocity at its start. */
  readonly velocity: T;
}

/** Takes a step; the state that it is given stays the caller's. */
export type Stepper<T> = (z: T, times: StepTimes) => Promise<Stepped<T>>;

/** What single samplers need beside a velocity. */
export interface SolverOptions extends Partial<Tolerance> {
  /** Share of a latent's size that `dopri5` may err by in each step of its own. Default 1e-3. */
  readonly rtol?: number;
  /** The rest of that error. Default 1e-6. */
  readonly atol?: number;
  /** Factor η ≥ 0 of the diffusion `η·(1 − t)` of `eulerMaruyama`; 0 is Euler's method. Default 1. */
  readonly diffusionNorm?: number;
  /** Length of the last step of `eulerMaruyama`, which adds no noise, in (0, 1). Default 0.04. */
  readonly lastStepSize?: number;
  /**
   * How often each step is taken. In between the latents go back to its start with new noise, so that the rest of them
   * can take up what a callback put in. Default 1. Not with `dpmpp2m`, whose steps depend on those before.
   *
   * *Source*: the resampling of RePaint (Lugmayr et al., arXiv 2201.09865) with jumps of one step.
   */
  readonly repeats?: number;
}

/** A sampler. */
export interface Sampler {
  /** Evaluations of the velocity a step; the fewest of an adaptive sampler. */
  readonly evaluations: number;
  /** The times between which it steps, if they are not those of `timeGrid`. */
  times?(steps: number, shift: number, options: SolverOptions): Float64Array;
  /**
   * Begins a way from noise to data.
   *
   * @param noise standard normal numbers of a step, in the form of the state.
   */
  start<T>(space: StateSpace<T>, options: SolverOptions, noise: (index: number) => T): Stepper<T>;
}

/** Euler's method, error of order 1: `z + Δt·v(z, t)`. */
const euler: Sampler = {
  evaluations: 1,
  start: (space) => async (z, { t, tNext, index }) => {
    const { velocity, ahead } = await space.evaluate(z, t, tNext - t, index);
    return { z: ahead, velocity };
  },
};

/**
 * Heun's method, error of order 2: the mean of the velocities at both ends of Euler's step.
 *
 * *Differs* from EDM (Karras et al. 2022): the last step is of order 2 too, since a velocity is defined at t = 1.
 */
const heun: Sampler = {
  evaluations: 2,
  start: (space) => async (z, { t, tNext, index }) => {
    const half = (tNext - t) / 2, start = await space.evaluate(z, t, tNext - t, index);
    const end = await space.evaluate(start.ahead, tNext, 0, index);
    const next = await space.combine([z, start.velocity, end.velocity], [1, half, half]);
    space.dispose(start.ahead, end.velocity, end.ahead);
    return { z: next, velocity: start.velocity };
  },
};

/** The midpoint method, error of order 2: the velocity in the middle of Euler's step, over the whole of it. */
const midpoint: Sampler = {
  evaluations: 2,
  start: (space) => async (z, { t, tNext, index }) => {
    const half = (tNext - t) / 2, start = await space.evaluate(z, t, half, index);
    const middle = await space.evaluate(start.ahead, t + half, 0, index);
    const next = await space.combine([z, middle.velocity], [1, tNext - t]);
    space.dispose(start.ahead, middle.velocity, middle.ahead);
    return { z: next, velocity: start.velocity };
  },
};

/**
 * DPM-Solver++(2M) on the straight path, one evaluation a step, error of order 2.
 *
 * With data `D = z + (1 − t)·v` and `λ = ln(t / (1 − t))`: `z' = (1 − t')/(1 − t)·z + (t' − t)/(1 − t)·D̄`, where
 * `D̄ = D + h/(2·h₋₁)·(D − D₋₁)` and h, h₋₁ are the last two steps of λ. The first two steps (λ begins at −∞) and the
 * last (it ends at ∞) take `D̄ = D`, which is Euler's step.
 *
 * *Source*: Lu et al., arXiv 2211.01095, algorithm 2, with α = t and σ = 1 − t.
 */
const dpmpp2m: Sampler = {
  evaluations: 1,
  start: <T>(space: StateSpace<T>) => {
    let before: { readonly data: T; readonly t: number } | null = null;
    return async (z: T, { t, tNext, index, steps }: StepTimes) => {
      const { velocity, ahead: data } = await space.evaluate(z, t, 1 - t, index);
      const along = (tNext - t) / (1 - t),
        correction = before === null ? 0 : extrapolation(before.t, t, tNext);
      const next = before === null || correction === 0
        ? await space.combine([z, data], [1 - along, along])
        : await space.combine(
          [z, data, before.data],
          [1 - along, along * (1 + correction), -along * correction],
        );
      if (before !== null) space.dispose(before.data);
      before = { data, t };
      if (index === steps - 1) space.dispose(data);
      return { z: next, velocity };
    };
  },
};

/** `h / (2·h₋₁)` of three times; 0 where the one or the other is infinite. */
function extrapolation(tBefore: number, t: number, tNext: number): number {
  if (tBefore === 0 || tNext === 1) return 0;
  const lambda = (time: number) => Math.log(time / (1 - time));
  return (lambda(tNext) - lambda(t)) / (2 * (lambda(t) - lambda(tBefore)));
}

/**
 * Euler and Maruyama's method for the stochastic differential equation with the marginals of the path:
 * `dz = (v + w·s) dt + √(2w) dW` with diffusion `w = η·(1 − t)` and score `s = (t·v − z)/(1 − t)`. The last step adds no
 * noise.
 *
 * *Source*: SiT (Ma et al., arXiv 2401.08740), equation 4 and `sample_sde` of willisma/SiT with `diffusion_form`
 * "sigma" and `last_step` "Mean". *Differs*: the times before the last step can be shifted.
 */
const eulerMaruyama: Sampler = {
  evaluations: 1,
  times: (steps, shift, { lastStepSize = 0.04 }) => {
    const grid = timeGrid(steps, shift); // checks both
    if (steps === 1) return grid;
    for (let i = 0; i < steps; i++) grid[i] = (1 - lastStepSize) * shiftTime(i / (steps - 1), shift);
    return grid;
  },
  start: (space, { diffusionNorm = 1 }, noise) => async (z, { t, tNext, index, steps }) => {
    const dt = tNext - t, { velocity, ahead } = await space.evaluate(z, t, 0, index);
    space.dispose(ahead);
    const terms = [z, velocity], weights = [1 - diffusionNorm * dt, (1 + diffusionNorm * t) * dt];
    if (index < steps - 1) {
      terms.push(noise(index));
      weights.push(Math.sqrt(2 * diffusionNorm * (1 - t) * dt));
    }
    return { z: await space.combine(terms, weights), velocity };
  },
};

/** Adaptive steps of Dormand and Prince's method, error of order 5. */
const dopri5: Sampler = {
  evaluations: 7,
  start: (space, { rtol = 1e-3, atol = 1e-6 }) => {
    const solver = new DormandPrince(space, { rtol, atol });
    return (z, { t, tNext, index }) => solver.advance(z, t, tNext, index);
  },
};

/** All samplers by name. */
export const SAMPLERS: Readonly<Record<SamplerName, Sampler>> = {
  euler,
  heun,
  midpoint,
  dpmpp2m,
  dopri5,
  eulerMaruyama,
};

/**
 * The times between which a sampler steps, from 0 to 1.
 *
 * @throws RangeError if the steps, the shift or an option of the sampler cannot be used.
 */
export function samplerTimes(
  name: SamplerName,
  steps: number,
  shift = 1,
  options: SolverOptions = {},
): Float64Array {
  if (!Object.hasOwn(SAMPLERS, name)) {
    throw new RangeError(
      `Cannot sample: sampler must be one of ${Object.keys(SAMPLERS).join(", ")}, got ${name}`,
    );
  }
  checkSolverOptions(options);
  const { repeats = 1 } = options;
  if (name === "dpmpp2m" && repeats !== 1) {
    throw new RangeError(`Cannot sample: repeats must be 1 with dpmpp2m, got ${repeats}`);
  }
  return SAMPLERS[name].times?.(steps, shift, options) ?? timeGrid(steps, shift);
}

function checkSolverOptions(options: SolverOptions): void {
  const { rtol = 1e-3, atol = 1e-6, diffusionNorm = 1, lastStepSize = 0.04, repeats = 1 } = options;
  const fail = (what: string, got: number) => new RangeError(`Cannot sample: ${what}, got ${got}`);
  const positive = (value: number) => value > 0 && Number.isFinite(value);
  if (!positive(rtol)) throw fail("rtol must be a positive number", rtol);
  if (!positive(atol)) throw fail("atol must be a positive number", atol);
  if (!(diffusionNorm >= 0 && Number.isFinite(diffusionNorm))) {
    throw fail("diffusionNorm must be a number of 0 or more", diffusionNorm);
  }
  if (!(lastStepSize > 0 && lastStepSize < 1)) throw fail("lastStepSize must be in (0, 1)", lastStepSize);
  if (!(Number.isInteger(repeats) && repeats >= 1)) throw fail("repeats must be a positive integer", repeats);
}
