/**
 * Streaming mean and covariance in float64.
 *
 * @module
 */
import type { Matrix } from "novae/tensor/mod.ts";
import { type Matrix64, zeroMatrix } from "./matrix.ts";

/**
 * Mean and covariance of rows that arrive in batches, each batch centred on its own mean and then merged, so that
 * neither a large common offset nor the number of batches costs precision.
 *
 * `S ← S_a + S_b + n_a·n_b/(n_a+n_b)·δδᵀ`, `δ = μ_b − μ_a`, `Σ = S/(n−1)`
 *
 * *Source*: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances"
 * (1979). The divisor `n − 1` is the one of `np.cov`, which all Fréchet distance packages use.
 *
 * @example
 * ```ts
 * import { GaussianStats, matrixOf } from "novae/analysis/mod.ts";
 * const stats = new GaussianStats(2).add(matrixOf([[0, 0], [2, 2]])).add(matrixOf([[4, 4]]));
 * if (stats.mean[0] !== 2 || stats.covariance().data[1] !== 4) throw new Error("wrong moments");
 * ```
 */
export class GaussianStats {
  /** Number of features. */
  readonly dims: number;
  #count = 0;
  readonly #mean: Float64Array;
  /** Sums of products of deviations; only the lower triangle is kept. */
  readonly #scatter: Float64Array;

  /**
   * Starts empty.
   *
   * @param dims number of features, at least 1.
   */
  constructor(dims: number) {
    if (!Number.isInteger(dims) || dims < 1) {
      throw new RangeError(`Cannot collect moments: the number of features must be at least 1, got ${dims}`);
    }
    this.dims = dims;
    this.#mean = new Float64Array(dims);
    this.#scatter = new Float64Array(dims * dims);
  }

  /** The moments of the rows of one matrix. */
  static of(matrix: Matrix): GaussianStats {
    return new GaussianStats(matrix.cols).add(matrix);
  }

  /** Rows seen. */
  get count(): number {
    return this.#count;
  }

  /** Mean of each feature, a copy. */
  get mean(): Float64Array {
    return this.#mean.slice();
  }

  /**
   * Adds the rows of a matrix.
   *
   * @param batch shape [any, dims].
   * @throws TypeError if the number of columns is not `dims`.
   * @throws RangeError if a value is not finite; nothing is added then.
   */
  add(batch: Matrix): this {
    this.#expectDims(batch.cols);
    if (batch.rows === 0) return this;
    const d = this.dims, { data, rows } = batch, mean = new Float64Array(d);
    for (let i = 0; i < rows; i++) for (let j = 0; j < d; j++) mean[j] += data[i * d + j];
    for (let j = 0; j < d; j++) mean[j] /= rows;
    if (!mean.every(Number.isFinite)) {
      throw new RangeError("Cannot collect moments: all values must be finite");
    }
    const scatter = new Float64Array(d * d);
    addScatter(scatter, data, rows, mean);
    this.#merge(rows, mean, scatter);
    return this;
  }

  /**
   * Adds all rows that another accumulator has seen.
   *
   * @throws TypeError if the number of features differs.
   */
  merge(other: GaussianStats): this {
    this.#expectDims(other.dims);
    if (other.#count > 0) this.#merge(other.#count, other.#mean, other.#scatter);
    return this;
  }

  /**
   * The unbiased covariance, with divisor `n − 1`.
   *
   * @returns shape [dims, dims].
   * @throws RangeError with fewer than two rows.
   */
  covariance(): Matrix64 {
    if (this.#count < 2) {
      throw new RangeError(`Cannot give a covariance: at least 2 rows are needed, got ${this.#count}`);
    }
    const d = this.dims, out = zeroMatrix(d, d);
    for (let i = 0; i < d; i++) {
      for (let j = 0; j <= i; j++) {
        out.data[i * d + j] = out.data[j * d + i] = this.#scatter[i * d + j] / (this.#count - 1);
      }
    }
    return out;
  }

  #merge(count: number, mean: Float64Array, scatter: Float64Array): void {
    const d = this.dims, total = this.#count + count, weight = this.#count * count / total;
    const delta = mean.map((value, j) => value - this.#mean[j]);
    for (let i = 0; i < d; i++) {
      const scaled = weight * delta[i];
      for (let j = 0; j <= i; j++) this.#scatter[i * d + j] += scatter[i * d + j] + scaled * delta[j];
      this.#mean[i] += delta[i] * count / total;
    }
    this.#count = total;
  }

  #expectDims(dims: number): void {
    if (dims !== this.dims) {
      throw new TypeError(`Cannot collect moments: rows must have ${this.dims} features, got ${dims}`);
    }
  }
}

/** Adds the lower triangle of `Σ (x−μ)(x−μ)ᵀ`, four rows at a time so that the triangle is walked less often. */
function addScatter(
  scatter: Float64Array,
  data: Float32Array | Float64Array,
  rows: number,
  mean: Float64Array,
): void {
  const d = mean.length, x = [0, 1, 2, 3].map(() => new Float64Array(d)), [x0, x1, x2, x3] = x;
  for (let start = 0; start < rows; start += 4) {
    for (let r = 0; r < 4; r++) {
      if (start + r >= rows) x[r].fill(0);
      else for (let j = 0; j < d; j++) x[r][j] = data[(start + r) * d + j] - mean[j];
    }
    for (let i = 0; i < d; i++) {
      const a0 = x0[i], a1 = x1[i], a2 = x2[i], a3 = x3[i], row = i * d;
      for (let j = 0; j <= i; j++) scatter[row + j] += a0 * x0[j] + a1 * x1[j] + a2 * x2[j] + a3 * x3[j];
    }
  }
}
