/**
 * Dormand and Prince's method of order 5 with steps that each sample chooses for itself.
 *
 * @module
 */
import { NovaeError } from "novae/tensor/mod.ts";
import type { PerSample, StateSpace, Tolerance } from "./state_space.ts";

/** Where each stage evaluates, as a share of the step. */
const NODES = [0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1];

/** Weights of the velocities before it in the point of each stage; the last stage is the end of the step. */
const STAGES = [
  [],
  [1 / 5],
  [3 / 40, 9 / 40],
  [44 / 45, -56 / 15, 32 / 9],
  [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
  [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
  [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84],
];

/** Weights of all velocities in the difference from the solution of order 4. */
const ERROR = [71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40];

const SAFETY = 0.9, SHRINK = 0.2, GROW = 10, ORDER = 5;

/** Shorter steps cannot be told apart from none in float32. */
const SHORTEST = 1e-7;

/** A step that was tried for all samples. */
interface Trial<T> {
  /** States at its end. */
  readonly z: T;
  /** Velocities there. */
  readonly velocity: T;
  /** Error of each sample as a multiple of what it may be. */
  readonly errors: Float64Array;
}

/**
 * Follows a velocity from time to time, each sample in steps of its own: so its way does not depend on the others in
 * its batch. What is done in an evaluation for samples that have arrived is wasted.
 *
 * *Source*: Dormand and Prince, J. Comp. Appl. Math. 6 (1980); the choice of steps as in `dopri5` of
 * rtqichen/torchdiffeq. *Differs*: errors are measured for each sample, and steps end at the times that are asked for
 * instead of being interpolated there.
 */
export class DormandPrince<T> {
  readonly #space: StateSpace<T>;
  readonly #tolerance: Tolerance;
  /** The step that each sample would try next. */
  #steps: Float64Array | null = null;

  constructor(space: StateSpace<T>, tolerance: Tolerance) {
    this.#space = space;
    this.#tolerance = tolerance;
  }

  /**
   * Follows the velocity from `t` to `tNext`.
   *
   * @param index step of the sampler, for the velocity.
   * @returns state at `tNext` and velocity at `t`.
   * @throws NovaeError if a velocity is not finite or changes too fast for any step.
   */
  async advance(z: T, t: number, tNext: number, index: number): Promise<{ z: T; velocity: T }> {
    const space = this.#space, start = await space.evaluate(z, t, 0, index);
    space.dispose(start.ahead);
    const first = this.#steps ??= await this.#firstSteps(z, start.velocity, t, tNext - t, index);
    const times = new Float64Array(first.length).fill(t);
    let here = z, velocity = start.velocity;
    while (times.some((time) => time < tNext)) {
      const tried = first.map((step, i) => Math.min(step, tNext - times[i]));
      const trial = await this.#attempt(here, velocity, times, tried, index);
      const accepted = trial.errors.map((error) => error <= 1 ? 1 : 0);
      const next = await space.select(accepted, trial.z, here);
      const nextVelocity = await space.select(accepted, trial.velocity, velocity);
      space.dispose(trial.z, trial.velocity);
      if (here !== z) space.dispose(here);
      if (velocity !== start.velocity) space.dispose(velocity);
      [here, velocity] = [next, nextVelocity];
      for (let i = 0; i < times.length; i++) {
        if (tried[i] === 0) continue; // has arrived
        if (accepted[i] === 1) times[i] = tried[i] < first[i] ? tNext : Math.min(times[i] + tried[i], tNext);
        // A step cut short by the end says little about how long the next may be: it may only lengthen it.
        const proposed = tried[i] * factor(trial.errors[i]);
        first[i] = accepted[i] === 1 && tried[i] < first[i] ? Math.max(first[i], proposed) : proposed;
        if (!(first[i] > SHORTEST)) throw tooRough(times[i]);
      }
    }
    if (velocity !== start.velocity) space.dispose(velocity);
    return { z: here, velocity: start.velocity };
  }

  /** One step of each sample, with its error. */
  async #attempt(
    z: T,
    velocity: T,
    times: Float64Array,
    steps: Float64Array,
    index: number,
  ): Promise<Trial<T>> {
    const space = this.#space, velocities = [velocity];
    const weighted = (weights: readonly number[]) => weights.map((w) => steps.map((step) => w * step));
    let point = z;
    for (let stage = 1; stage < STAGES.length; stage++) {
      if (point !== z) space.dispose(point);
      point = await space.combine([z, ...velocities], [1, ...weighted(STAGES[stage])]);
      const at: PerSample = times.map((time, i) => time + NODES[stage] * steps[i]);
      const found = await space.evaluate(point, at, 0, index);
      space.dispose(found.ahead);
      velocities.push(found.velocity);
    }
    const error = await space.combine(velocities, weighted(ERROR));
    const errors = await space.errorNorms(error, z, point, this.#tolerance);
    space.dispose(error, ...velocities.slice(1, -1));
    return { z: point, velocity: velocities.at(-1)!, errors };
  }

  /** Lengths of the first steps: Hairer, Nørsett and Wanner, Solving ODEs I, section II.4. */
  async #firstSteps(z: T, velocity: T, t: number, longest: number, index: number): Promise<Float64Array> {
    const space = this.#space, norm = (x: T) => space.errorNorms(x, z, z, this.#tolerance);
    const sizes = await norm(z), speeds = await norm(velocity);
    const guess = sizes.map((size, i) =>
      Math.min(size < 1e-5 || speeds[i] < 1e-5 ? 1e-6 : 0.01 * size / speeds[i], longest)
    );
    const ahead = await space.combine([z, velocity], [1, guess]);
    const found = await space.evaluate(ahead, guess.map((step) => t + step), 0, index);
    const change = await space.combine([found.velocity, velocity], [1, -1]);
    const changes = await norm(change);
    space.dispose(ahead, found.velocity, found.ahead, change);
    return guess.map((step, i) => {
      const rate = Math.max(speeds[i], changes[i] / step);
      const second = rate <= 1e-15 ? Math.max(1e-6, step * 1e-3) : (0.01 / rate) ** (1 / ORDER);
      return Math.min(100 * step, second);
    });
  }
}

/** What a step's length is multiplied by after an error, given as a multiple of what it may be. */
function factor(error: number): number {
  if (error === 0) return GROW;
  const least = error < 1 ? 1 : SHRINK;
  return Math.min(GROW, Math.max(SAFETY * error ** (-1 / ORDER), least));
}

function tooRough(t: number): NovaeError {
  return new NovaeError(
    `Cannot sample: the velocity must be finite and smooth enough for steps above ${SHORTEST}, got neither at t = ${
      t.toFixed(6)
    }`,
  );
}
