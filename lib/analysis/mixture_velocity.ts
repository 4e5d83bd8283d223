/**
 * The velocity field of the straight path for data of which each class is a Gaussian, in closed form: the experiment
 * in the plane in which classes overlap or stand apart.
 *
 * @module
 */
import { type Matrix, Rng } from "novae/tensor/mod.ts";
import { type Matrix64, zeroMatrix } from "./matrix.ts";
import {
  dispersionOf,
  expectTime,
  type PointVariances,
  type VelocityDispersion,
} from "./velocity_dispersion.ts";

/** A class whose data are normal with the same deviation in all directions, `N(mean, std²·I)`. */
export interface GaussianClass {
  /** Its centre, of D numbers. */
  readonly mean: readonly number[];
  /** Its standard deviation σ > 0. */
  readonly std: number;
  /** Share of the data in it, relative to the other classes' weights. Default 1. */
  readonly weight?: number;
}

/** What the velocity is at some points, by class. */
export interface MixtureVelocity {
  /** Mean velocity `v(z) = Σ_c p(c|z)·v_c(z)`, shape [n, D]: the field that a sampler follows. */
  readonly velocity: Matrix64;
  /** Mean velocity `v_c(z)` of each class, shapes [n, D]. */
  readonly classVelocities: readonly Matrix64[];
  /** Probability `p(c|z)` of each class, shape [n, C]. */
  readonly posterior: Matrix64;
  /** Variances of the velocity at each point. */
  readonly variances: PointVariances;
}

/** What the points of a dispersion are. */
export interface MixtureDispersionOptions {
  /** Time t in [0, 1). */
  readonly t: number;
  /** Number of points, drawn from the path at that time. Default 4,000. */
  readonly points?: number;
  /** Decides them. Default 0. */
  readonly seed?: number;
}

/**
 * The velocity of the path `z_t = (1 − t)·noise + t·data` given the point, for classes of Gaussian data.
 *
 * With `s_c = t²σ_c² + (1 − t)²`: `p(c|z) ∝ π_c·N(z; tμ_c, s_c·I)`, and in class c the velocity `data − noise` is normal
 * with mean `v_c(z) = μ_c + (tσ_c² − (1 − t))/s_c·(z − tμ_c)` and variance `σ_c²/s_c` in each direction.
 *
 * *Source*: the experiment of SVG (arXiv 2510.15301, figure 4), whose numbers are not published; the formulas are those
 * of two jointly normal vectors.
 *
 * @param points z, shape [n, D].
 * @param t time in [0, 1].
 * @throws RangeError if there is no class, a deviation or weight is not positive, or the time is outside; TypeError if a
 * mean has not D numbers.
 */
export function mixtureVelocity(
  classes: readonly GaussianClass[],
  points: Matrix,
  t: number,
): MixtureVelocity {
  const { rows: n, cols: d } = points, shares = classShares(classes, d);
  if (!(t >= 0 && t <= 1)) throw new RangeError(`Cannot give velocities: t must be in [0, 1], got ${t}`);
  const velocity = zeroMatrix(n, d), posterior = zeroMatrix(n, classes.length);
  const classVelocities = classes.map(() => zeroMatrix(n, d));
  const variances = emptyVariances(n), logs = new Float64Array(classes.length);
  for (let i = 0; i < n; i++) {
    classes.forEach(({ mean, std }, c) => {
      const s = (t * std) ** 2 + (1 - t) ** 2, gain = (t * std ** 2 - (1 - t)) / s;
      let squared = 0;
      for (let j = 0; j < d; j++) {
        const offset = points.data[i * d + j] - t * mean[j];
        squared += offset ** 2;
        classVelocities[c].data[i * d + j] = mean[j] + gain * offset;
      }
      logs[c] = Math.log(shares[c]) - d / 2 * Math.log(s) - squared / (2 * s);
    });
    const p = softmax(logs);
    posterior.data.set(p, i * classes.length);
    const own = classes.map(({ std }) => d * std ** 2 / ((t * std) ** 2 + (1 - t) ** 2));
    const at = classVelocities.map(({ data }) => data.subarray(i * d, (i + 1) * d));
    variances.within[i] = weightedSum(p, own);
    variances.between[i] = spread(p, at, velocity.data.subarray(i * d, (i + 1) * d));
    variances.classWithin[i] = weightedSum(shares, own);
    variances.classBetween[i] = spread(shares, at);
  }
  return { velocity, classVelocities, posterior, variances };
}

/**
 * How far classes decide the velocity of Gaussian data; see {@linkcode VelocityDispersion}. The variances at a point are
 * exact, and averaged over points of the path.
 *
 * @throws as {@linkcode mixtureVelocity} does; RangeError for t = 1.
 */
export function mixtureDispersion(
  classes: readonly GaussianClass[],
  { t, points: count = 4000, seed = 0 }: MixtureDispersionOptions,
): VelocityDispersion {
  expectTime(t);
  const shares = classShares(classes, classes[0]?.mean.length ?? 0), d = classes[0].mean.length;
  const { data } = drawMixture(classes, count, seed);
  const noise = new Rng(seed).split("noise").normal(count * d);
  const points = { data: data.data.map((x, i) => t * x + (1 - t) * noise[i]), rows: count, cols: d };
  const mean = Float64Array.from({ length: d }, (_, j) => weightedSum(shares, classes.map((c) => c.mean[j])));
  const centres = classes.map((c) => c.mean.reduce((sum, m, j) => sum + (m - mean[j]) ** 2, 0));
  const dataVariance = weightedSum(shares, classes.map(({ std }, c) => centres[c] + d * std ** 2));
  return dispersionOf(mixtureVelocity(classes, points, t).variances, { t, dims: d, dataVariance });
}

/**
 * Draws data of Gaussian classes.
 *
 * @returns data [count, D] and the class of each.
 * @throws as {@linkcode mixtureVelocity} does.
 */
export function drawMixture(
  classes: readonly GaussianClass[],
  count: number,
  seed = 0,
): { data: Matrix64; labels: Int32Array } {
  const d = classes[0]?.mean.length ?? 0,
    shares = classShares(classes, d),
    rng = new Rng(seed).split("mixture");
  const data = zeroMatrix(count, d), normal = rng.split("data").normal(count * d);
  const labels = Int32Array.from(rng.split("class").uniform(count), (u) => {
    let c = 0;
    for (let below = shares[0]; u >= below && c < classes.length - 1; below += shares[c]) c++;
    return c;
  });
  for (let i = 0; i < count * d; i++) {
    const { mean, std } = classes[labels[Math.floor(i / d)]];
    data.data[i] = mean[i % d] + std * normal[i];
  }
  return { data, labels };
}

/** Weights of the classes divided by their sum, after a check of everything. */
function classShares(classes: readonly GaussianClass[], dims: number): Float64Array {
  const fail = (what: string, got: unknown) => new RangeError(`Cannot mix classes: ${what}, got ${got}`);
  if (classes.length === 0) throw fail("at least one is needed", 0);
  for (const { mean, std, weight = 1 } of classes) {
    if (mean.length !== dims || dims === 0) {
      throw new TypeError(
        `Cannot mix classes: each mean must have ${dims || "1 or more"} numbers, got ${mean.length}`,
      );
    }
    if (!(std > 0 && std < Infinity)) throw fail("std must be a positive number", std);
    if (!(weight > 0 && weight < Infinity)) throw fail("weight must be a positive number", weight);
  }
  const total = classes.reduce((sum, { weight = 1 }) => sum + weight, 0);
  return Float64Array.from(classes, ({ weight = 1 }) => weight / total);
}

function emptyVariances(count: number): PointVariances {
  const zeros = () => new Float64Array(count);
  return { within: zeros(), between: zeros(), classWithin: zeros(), classBetween: zeros() };
}

/** `Σ w_c‖v_c − v̄‖²` with `v̄ = Σ w_c v_c`, which is written to `mean`. */
function spread(
  weights: Float64Array,
  vectors: readonly Float64Array[],
  mean: Float64Array = new Float64Array(vectors[0].length),
): number {
  mean.fill(0);
  vectors.forEach((v, c) => v.forEach((value, j) => mean[j] += weights[c] * value));
  return vectors.reduce(
    (sum, v, c) => sum + weights[c] * v.reduce((squared, value, j) => squared + (value - mean[j]) ** 2, 0),
    0,
  );
}

function weightedSum(weights: Float64Array, values: readonly number[]): number {
  return values.reduce((sum, value, c) => sum + weights[c] * value, 0);
}

function softmax(logs: Float64Array): Float64Array {
  const most = logs.reduce((a, b) => Math.max(a, b)), powers = logs.map((log) => Math.exp(log - most));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}
