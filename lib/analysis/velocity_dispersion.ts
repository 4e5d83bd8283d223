/**
 * How far the class of the data decides the velocity at a point of the path from noise to data: what separated classes
 * change for a diffusion model, as numbers.
 *
 * @module
 */
import { type Matrix, Rng } from "novae/tensor/mod.ts";
import { columnMeans, visitSquaredDistances } from "./distances.ts";
import { classCount, expectLabels, type LabelledMatrix } from "./labels.ts";
import { dot, rowOf, takeRows, transpose, zeroMatrix } from "./matrix.ts";
import { type ProductOptions, visitProducts } from "./products.ts";

/**
 * The variance of the velocity `u = data − noise` at a time t, given the point `z = (1 − t)·noise + t·data`, taken
 * apart by the class y of the data. All are traces of covariances, averaged over the points of the path.
 */
export interface VelocityDispersion {
  /** Time t. */
  readonly t: number;
  /** `E_z Σ_c p(c|z)·tr Cov(u | z, c)`: what the point and the class leave open. */
  readonly within: number;
  /** `E_z Σ_c p(c|z)·‖v_c(z) − v(z)‖²`: what the class tells beyond the point. */
  readonly between: number;
  /** `tr Cov(u) = D + tr Cov(data)`, the variance of the velocity at all points together. */
  readonly velocityVariance: number;
  /**
   * `(within + between) / velocityVariance`, in [0, 1]: the share of the velocity that the point leaves open, which is
   * the same in all units and comparable between spaces.
   */
  readonly unexplained: number;
  /** `between / velocityVariance`, in [0, 1]: the share that the class would settle. */
  readonly classShare: number;
  /** `(within + between) / D`: the smallest loss that a velocity without the class can have at this time. */
  readonly leastLoss: number;
  /**
   * How different the directions of the classes are at one point, in [0, 1]: `B / (B + W)`, where
   * `B = E_z Σ_c π_c·‖v_c(z) − Σ_k π_k v_k(z)‖²` and `W = E_z Σ_c π_c·tr Cov(u | z, c)` count every class by its share
   * π_c of the data, whatever the point says of it. It grows with the distance of the classes at every time; at t = 0 it
   * is the share of the data's scatter that lies between classes.
   */
  readonly dispersion: number;
}

/** Variances of the velocity at points, one number for each; see {@linkcode VelocityDispersion}. */
export interface PointVariances {
  /** `Σ_c p(c|z)·tr Cov(u | z, c)`. */
  readonly within: Float64Array;
  /** `Σ_c p(c|z)·‖v_c(z) − v(z)‖²`. */
  readonly between: Float64Array;
  /** `Σ_c π_c·tr Cov(u | z, c)`. */
  readonly classWithin: Float64Array;
  /** `Σ_c π_c·‖v_c(z) − Σ_k π_k v_k(z)‖²`. */
  readonly classBetween: Float64Array;
}

/** The velocity dispersion of a set of data. */
export interface DataDispersion extends VelocityDispersion {
  /**
   * Data that a point could have come from, as `exp` of the entropy of the posterior, averaged over the points. Near 1
   * every point belongs to one datum, and the numbers say nothing of the distribution that the data are from.
   */
  readonly candidates: number;
}

/** Settings of {@linkcode velocityDispersion}. */
export interface DispersionOptions extends ProductOptions {
  /** Time t in [0, 1). */
  readonly t: number;
  /** Number of points, drawn from the path at that time. Default 500. */
  readonly points?: number;
  /** Decides them: noise and data of each point are the same at all times. Default 0. */
  readonly seed?: number;
}

/**
 * How far classes decide the velocity in a space, with the exact posterior over a set of data.
 *
 * The velocity is linear in the data, `u = (data − z)/(1 − t)`, and the data x_i behind a point z have weights
 * `w_i ∝ exp(−‖z − t·x_i‖² / (2(1 − t)²))`. So `v_c` is the weighted mean of the data of class c, and the law of total
 * variance takes the weighted variance apart: `tr Cov(u|z) = Σ_c p(c|z)·tr Cov(u|z,c) + Σ_c p(c|z)·‖v_c − v‖²`.
 *
 * *Source*: the argument of SVG (arXiv 2510.15301) that classes which stand apart give directions which differ at a
 * point, while classes which overlap give conflicting ones; these numbers for it are ours. In many dimensions a finite
 * set of data is told apart early in the path, see {@linkcode DataDispersion.candidates}: compare spaces at small t.
 *
 * @param data latents in the units in which noise is added to them, shape [n, D], with their classes.
 * @throws RangeError if t is outside [0, 1) or there are no points; as for labels that do not fit.
 */
export async function velocityDispersion(
  data: LabelledMatrix,
  options: DispersionOptions,
): Promise<DataDispersion> {
  const { t, points: count = 500, seed = 0 } = options, { features } = data;
  expectTime(t);
  expectLabels("measure velocities", data);
  if (!Number.isInteger(count) || count < 1) {
    throw new RangeError(`Cannot measure velocities: points must be a positive integer, got ${count}`);
  }
  const rng = new Rng(seed).split("velocity-dispersion"), draw = rng.split("data");
  const rows = takeRows(features, Int32Array.from({ length: count }, () => draw.int(features.rows)));
  const noise = rng.split("noise").normal(count * features.cols);
  const points = zeroMatrix(count, features.cols);
  for (let i = 0; i < noise.length; i++) points.data[i] = t * rows.data[i] + (1 - t) * noise[i];
  const { variances, candidates } = await pointVariances(points, data, t, options);
  return {
    ...dispersionOf(variances, { t, dims: features.cols, dataVariance: meanSquare(centred(features)) }),
    candidates: mean(candidates),
  };
}

/**
 * Variances of the velocity at given points, with the exact posterior over a set of data; see
 * {@linkcode velocityDispersion}.
 *
 * @param points z, shape [m, D].
 * @param data shape [n, D], with their classes.
 * @param t time in [0, 1).
 * @returns variances and the number of candidates of each point.
 */
export async function pointVariances(
  points: Matrix,
  data: LabelledMatrix,
  t: number,
  options: ProductOptions = {},
): Promise<{ variances: PointVariances; candidates: Float64Array }> {
  const features = centred(data.features), m = points.rows, n = features.rows, d = features.cols;
  const groups = classRows(data.labels),
    { weights, posterior, candidates } = await posteriors(
      points,
      data.features,
      groups,
      t,
      options,
    );
  const variances = { within: new Float64Array(m), between: new Float64Array(m) };
  const prior = { within: new Float64Array(m), between: new Float64Array(m) };
  const means = [zeroMatrix(m, d), zeroMatrix(m, d)]; // of the data by p(c|z) and by π_c
  for (const [c, members] of groups.entries()) {
    const own = takeRows(features, members),
      squares = Float64Array.from(members, (_, k) => squaredNorm(own, k));
    await visitProducts(weights[c], transpose(own), (block, start, end) => {
      for (let i = start; i < end; i++) {
        const at = (i - start) * d, size = dot(block, at, block, at, d);
        // Rounding must not make a variance of one datum negative.
        const spread = Math.max(dot(rowOf(weights[c], i), 0, squares, 0, members.length) - size, 0);
        const shares = [posterior.data[i * groups.length + c], members.length / n];
        [variances, prior].forEach((sums, k) => {
          sums.within[i] += shares[k] * spread;
          sums.between[i] += shares[k] * size;
          const row = means[k].data;
          for (let j = 0; j < d; j++) row[i * d + j] += shares[k] * block[at + j];
        });
      }
    }, options);
  }
  const scale = (1 - t) ** 2;
  [variances, prior].forEach((sums, k) => {
    for (let i = 0; i < m; i++) {
      sums.within[i] /= scale;
      sums.between[i] = Math.max(sums.between[i] - squaredNorm(means[k], i), 0) / scale;
    }
  });
  return { variances: { ...variances, classWithin: prior.within, classBetween: prior.between }, candidates };
}

/** Averages of variances at points of the path. */
export function dispersionOf(
  variances: PointVariances,
  { t, dims, dataVariance }: { readonly t: number; readonly dims: number; readonly dataVariance: number },
): VelocityDispersion {
  const within = mean(variances.within), between = mean(variances.between);
  const B = mean(variances.classBetween), W = mean(variances.classWithin);
  const velocityVariance = dims + dataVariance;
  return {
    t,
    within,
    between,
    velocityVariance,
    unexplained: (within + between) / velocityVariance,
    classShare: between / velocityVariance,
    leastLoss: (within + between) / dims,
    dispersion: B + W === 0 ? 0 : B / (B + W),
  };
}

/** Refuses times outside the path or without noise. @throws RangeError */
export function expectTime(t: number): void {
  if (!(t >= 0 && t < 1)) throw new RangeError(`Cannot measure velocities: t must be in [0, 1), got ${t}`);
}

interface Posteriors {
  /** For each class the weights of its data, which sum to 1, shape [m, n_c]. */
  readonly weights: Matrix[];
  /** p(c|z), shape [m, C]. */
  readonly posterior: Matrix;
  readonly candidates: Float64Array;
}

/** Weights of the data behind each point, by class; every sum of exponentials is taken from its largest. */
async function posteriors(
  points: Matrix,
  features: Matrix,
  groups: readonly Int32Array[],
  t: number,
  options: ProductOptions,
): Promise<Posteriors> {
  const m = points.rows, n = features.rows, scale = 2 * (1 - t) ** 2;
  const weights = groups.map((members) => zeroMatrix(m, members.length));
  const posterior = zeroMatrix(m, groups.length), candidates = new Float64Array(m);
  const scaled = zeroMatrix(n, features.cols);
  for (let i = 0; i < scaled.data.length; i++) scaled.data[i] = t * features.data[i];
  await visitSquaredDistances(points, scaled, (block, start, end) => {
    for (let i = start; i < end; i++) {
      const logs = groups.map((members, c) => {
        const row = rowOf(weights[c], i), values = members.map((_, k) => k);
        for (const k of values) row[k] = -block[(i - start) * n + members[k]] / scale;
        return normalize(row as Float64Array);
      });
      const p = posterior.data.subarray(i * groups.length, (i + 1) * groups.length);
      p.set(logs);
      normalize(p as Float64Array);
      const entropy = weights.reduce(
        (sum, { data }, c) =>
          sum + p[c] * entropyOf(data.subarray(i * groups[c].length, (i + 1) * groups[c].length)),
        entropyOf(p),
      );
      candidates[i] = Math.exp(entropy);
    }
  }, options);
  return { weights, posterior, candidates };
}

/** Turns logarithms into shares that sum to 1, in place; the logarithm of the sum of their exponentials. */
function normalize(logs: Float64Array): number {
  const most = logs.reduce((a, b) => Math.max(a, b), -Infinity);
  let sum = 0;
  for (let k = 0; k < logs.length; k++) sum += logs[k] = Math.exp(logs[k] - most);
  for (let k = 0; k < logs.length; k++) logs[k] /= sum;
  return most + Math.log(sum);
}

function entropyOf(shares: Float32Array | Float64Array): number {
  let sum = 0;
  for (const share of shares) if (share > 0) sum -= share * Math.log(share);
  return sum;
}

/** Rows of each class that occurs. */
function classRows(labels: Int32Array): Int32Array[] {
  const groups: number[][] = Array.from({ length: classCount(labels) }, () => []);
  labels.forEach((label, i) => groups[label].push(i));
  return groups.filter((members) => members.length > 0).map((members) => Int32Array.from(members));
}

/** Rows less their mean: a common offset changes no variance and costs digits. */
function centred(matrix: Matrix): Matrix {
  const means = columnMeans(matrix), { rows, cols } = matrix, out = zeroMatrix(rows, cols);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < cols; j++) out.data[i * cols + j] = matrix.data[i * cols + j] - means[j];
  }
  return out;
}

function squaredNorm(matrix: Matrix, i: number): number {
  return dot(matrix.data, i * matrix.cols, matrix.data, i * matrix.cols, matrix.cols);
}

function meanSquare(matrix: Matrix): number {
  let sum = 0;
  for (let i = 0; i < matrix.rows; i++) sum += squaredNorm(matrix, i);
  return sum / matrix.rows;
}

function mean(values: Float64Array): number {
  return values.reduce((a, b) => a + b, 0) / values.length;
}
