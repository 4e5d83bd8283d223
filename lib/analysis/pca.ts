/**
 * Principal component analysis.
 *
 * @module
 */
import { type Matrix, Rng } from "novae/tensor/mod.ts";
import { symmetricEigen } from "./eigen.ts";
import { type Matrix64, multiply, multiplyTransposed, rowOf, transpose, zeroMatrix } from "./matrix.ts";
import { GaussianStats } from "./moments.ts";
import type { ProductOptions } from "./products.ts";
import { columnMeans } from "./distances.ts";
import { type StandardizedProducts, standardizedProducts } from "./standardized_products.ts";

/** Directions of largest variance. */
export interface Pca {
  /** Mean of the rows. */
  readonly mean: Float64Array;
  /** Row `i` is the unit direction of component `i`, shape [k, d]; its largest entry is positive. */
  readonly components: Matrix64;
  /** Variance along each component, with divisor n − 1, descending. */
  readonly variances: Float64Array;
  /** Share of the total variance along each component. */
  readonly ratios: Float64Array;
}

/** Settings of {@linkcode fitPca}. */
export interface PcaOptions extends ProductOptions {
  /** Components to keep, at most min(n − 1, d). */
  readonly components: number;
  /** `exact` decomposes the covariance, `iterative` searches the leading subspace. Default: by size. */
  readonly method?: "exact" | "iterative";
  /** Seed of the iterative search. Default 0. */
  readonly seed?: number;
}

/** Features up to which the covariance is decomposed. */
const EXACT_DIMS = 384;

/** Directions beyond the wanted ones, which make the subspace iteration converge faster. */
const OVERSAMPLING = 10;
const POWER_ITERATIONS = 12;

/**
 * Finds the directions `vᵢ` of largest variance of the rows.
 *
 * *Source* of the iterative method: Halko, Martinsson and Tropp, arXiv 0909.4061, algorithms 4.4 and 5.1.
 *
 * @param matrix shape [n, d], n ≥ 2.
 * @throws RangeError if more components are asked for than there can be.
 */
export async function fitPca(matrix: Matrix, options: PcaOptions): Promise<Pca> {
  const { components: k } = options, limit = Math.min(matrix.rows - 1, matrix.cols);
  if (!Number.isInteger(k) || k < 1 || k > limit) {
    throw new RangeError(`Cannot fit principal components: from 1 to ${limit} are possible, got ${k}`);
  }
  const method = options.method ?? (matrix.cols <= EXACT_DIMS ? "exact" : "iterative");
  const found = method === "exact" ? exact(matrix, k) : await iterative(matrix, options);
  for (let i = 0; i < k; i++) fixSign(rowOf(found.components, i));
  const ratios = found.variances.map((v) => found.total > 0 ? v / found.total : 0);
  return { mean: found.mean, components: found.components, variances: found.variances, ratios };
}

/**
 * Coordinates along the components, `(x − μ)·Vᵀ`.
 *
 * @param matrix shape [n, d].
 * @returns shape [n, k].
 */
export function projectPca(pca: Pca, matrix: Matrix): Matrix64 {
  const { mean, components } = pca;
  if (matrix.cols !== mean.length) {
    throw new TypeError(
      `Cannot project on components: rows must have ${mean.length} features, got ${matrix.cols}`,
    );
  }
  const out = multiplyTransposed(matrix, components);
  const shift = multiplyTransposed({ data: mean, rows: 1, cols: mean.length }, components).data;
  for (let i = 0; i < out.data.length; i++) out.data[i] -= shift[i % out.cols];
  return out;
}

interface Found {
  readonly mean: Float64Array;
  readonly components: Matrix64;
  readonly variances: Float64Array;
  readonly total: number;
}

function exact(matrix: Matrix, k: number): Found {
  const stats = GaussianStats.of(matrix), { values, vectors } = symmetricEigen(stats.covariance());
  const positive = values.map((v) => Math.max(v, 0)), d = matrix.cols;
  return {
    mean: stats.mean,
    components: { data: vectors.data.slice(0, k * d), rows: k, cols: d },
    variances: positive.slice(0, k),
    total: positive.reduce((a, b) => a + b, 0),
  };
}

async function iterative(matrix: Matrix, options: PcaOptions): Promise<Found> {
  const { rows, cols } = matrix, width = Math.min(options.components + OVERSAMPLING, rows - 1, cols);
  const mean = columnMeans(matrix);
  const scaling = { mean, scale: new Float64Array(cols).fill(1) };
  const products = await standardizedProducts(matrix, scaling, width, options);
  try {
    const start = new Rng(options.seed ?? 0).split("subspace").normal(cols * width);
    let basis = orthonormal({ data: Float64Array.from(start), rows: width, cols });
    for (let step = 0; step < POWER_ITERATIONS; step++) basis = orthonormal(await applied(products, basis));
    // Rayleigh-Ritz: the covariance seen in the basis.
    const images = await applied(products, basis);
    const { values, vectors } = symmetricEigen(symmetrized(multiplyTransposed(images, basis)));
    const k = options.components, leading = { data: vectors.data.slice(0, k * width), rows: k, cols: width };
    return {
      mean,
      components: multiply(leading, basis),
      variances: values.slice(0, k).map((v) => Math.max(v, 0)),
      total: totalVariance(matrix, mean),
    };
  } finally {
    await products.dispose();
  }
}

/** The covariance applied to each row of a basis. */
async function applied(products: StandardizedProducts, basis: Matrix64): Promise<Matrix64> {
  const out = transpose(await products.transposedTimes(await products.times(transpose(basis))));
  for (let i = 0; i < out.data.length; i++) out.data[i] /= products.rows - 1;
  return out;
}

/** Gram-Schmidt on the rows, twice, which keeps them orthogonal to rounding. */
function orthonormal(a: Matrix64): Matrix64 {
  const { cols } = a, data = a.data.slice();
  for (let i = 0; i < a.rows; i++) {
    const row = data.subarray(i * cols, (i + 1) * cols);
    for (let pass = 0; pass < 2; pass++) {
      for (let j = 0; j < i; j++) {
        const other = data.subarray(j * cols, (j + 1) * cols);
        let inner = 0;
        for (let c = 0; c < cols; c++) inner += row[c] * other[c];
        for (let c = 0; c < cols; c++) row[c] -= inner * other[c];
      }
      const norm = Math.sqrt(row.reduce((sum, v) => sum + v * v, 0));
      if (norm > 0) { for (let c = 0; c < cols; c++) row[c] /= norm; }
    }
  }
  return { data, rows: a.rows, cols };
}

function symmetrized(a: Matrix64): Matrix64 {
  const out = zeroMatrix(a.rows, a.cols);
  for (let i = 0; i < a.rows; i++) {
    for (let j = 0; j < a.cols; j++) {
      out.data[i * a.cols + j] = (a.data[i * a.cols + j] + a.data[j * a.cols + i]) / 2;
    }
  }
  return out;
}

function totalVariance(matrix: Matrix, mean: Float64Array): number {
  const { data, rows, cols } = matrix;
  let sum = 0;
  for (let i = 0; i < rows; i++) for (let j = 0; j < cols; j++) sum += (data[i * cols + j] - mean[j]) ** 2;
  return sum / (rows - 1);
}

/** Components are found up to their sign; this makes it a property of the data. */
function fixSign(row: Float32Array | Float64Array): void {
  let top = 0;
  for (const value of row) if (Math.abs(value) > Math.abs(top)) top = value;
  if (top < 0) { for (let i = 0; i < row.length; i++) row[i] = -row[i]; }
}
