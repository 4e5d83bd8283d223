/**
 * Distances between all rows of two matrices and the nearest neighbours that follow from them.
 *
 * @module
 */
import type { Matrix } from "novae/tensor/mod.ts";
import { dot, rowOf } from "./matrix.ts";
import { type ProductOptions, visitProducts } from "./products.ts";

/** How far two rows are apart: `‖x−y‖₂`, or `1 − x·y/(‖x‖‖y‖)`. */
export type Metric = "euclidean" | "cosine";

/** The nearest rows of a reference matrix for each row of a query matrix. */
export interface Neighbors {
  /** Rows of the query matrix. */
  readonly rows: number;
  /** Neighbours a row. */
  readonly k: number;
  /** How the distances were measured. */
  readonly metric: Metric;
  /** Reference rows, shape [rows, k], nearest first; equally near ones by index. */
  readonly indices: Int32Array;
  /** Distances in float64, shape [rows, k], ascending. */
  readonly distances: Float64Array;
}

/** Settings of {@linkcode nearestNeighbors}. */
export interface NeighborOptions extends ProductOptions {
  /** Neighbours a row, at most the number of reference rows. */
  readonly k: number;
  /** Default `euclidean`. */
  readonly metric?: Metric;
  /** Leaves row `i` of the reference out for query `i`, where both are the same matrix. Default false. */
  readonly excludeSelf?: boolean;
}

/** Candidates beyond `k` that are measured again in float64, so that float32 blocks cannot misorder neighbours. */
const EXTRA_CANDIDATES = 16;

/**
 * Finds the `k` nearest rows of `references` for each row of `queries`, exactly.
 *
 * Candidates come from products of blocks of both matrices, centred on the mean reference; their distances are then
 * computed again from the differences in float64.
 *
 * @param queries shape [n, d].
 * @param references shape [m, d].
 * @throws TypeError if the numbers of columns differ.
 * @throws RangeError if there are fewer reference rows than neighbours.
 */
export async function nearestNeighbors(
  queries: Matrix,
  references: Matrix,
  options: NeighborOptions,
): Promise<Neighbors> {
  const { k, metric = "euclidean", excludeSelf = false } = options;
  const available = references.rows - (excludeSelf ? 1 : 0);
  if (!Number.isInteger(k) || k < 1 || k > available) {
    throw new RangeError(`Cannot find neighbours: k must be an integer from 1 to ${available}, got ${k}`);
  }
  const indices = new Int32Array(queries.rows * k), distances = new Float64Array(queries.rows * k);
  const wanted = Math.min(k + EXTRA_CANDIDATES, available);
  const nearest = new Int32Array(wanted), scores = new Float64Array(wanted);
  const right = metric === "cosine" ? unitRows(references) : references;
  const left = queries === references ? right : metric === "cosine" ? unitRows(queries) : queries;
  await visitSquaredDistances(left, right, (block, start, end) => {
    for (let i = start; i < end; i++) {
      const row = block.subarray((i - start) * references.rows, (i - start + 1) * references.rows);
      smallest(row, excludeSelf ? i : -1, nearest, scores);
      for (let c = 0; c < wanted; c++) scores[c] = exactDistance(left, i, right, nearest[c], metric);
      sortTogether(nearest, scores);
      indices.set(nearest.subarray(0, k), i * k);
      distances.set(scores.subarray(0, k), i * k);
    }
  }, options);
  return { rows: queries.rows, k, metric, indices, distances };
}

/**
 * Computes `‖aᵢ − bⱼ‖²` a block of rows of `A` at a time and hands each block over.
 *
 * @param a shape [n, d].
 * @param b shape [m, d].
 * @param visit gets a block of shape [end − start, m], which it must not keep, and the rows of `A`.
 * @throws TypeError if the numbers of columns differ.
 */
export async function visitSquaredDistances(
  a: Matrix,
  b: Matrix,
  visit: (block: Float32Array | Float64Array, start: number, end: number) => void,
  options: ProductOptions = {},
): Promise<void> {
  // A common offset cancels in distances but costs digits in products.
  const offset = columnMeans(b), left = shifted(a, offset), right = a === b ? left : shifted(b, offset);
  const leftNorms = squaredNorms(left), rightNorms = a === b ? leftNorms : squaredNorms(right);
  await visitProducts(left, right, (block, start, end) => {
    for (let i = start; i < end; i++) {
      const row = (i - start) * b.rows;
      for (let j = 0; j < b.rows; j++) {
        block[row + j] = Math.max(leftNorms[i] + rightNorms[j] - 2 * block[row + j], 0);
      }
    }
    visit(block, start, end);
  }, options);
}

/** Mean of each column in float64. */
export function columnMeans(matrix: Matrix): Float64Array {
  const { data, rows, cols } = matrix, means = new Float64Array(cols);
  for (let i = 0; i < rows; i++) for (let j = 0; j < cols; j++) means[j] += data[i * cols + j];
  return means.map((sum) => sum / Math.max(rows, 1));
}

/** The rows divided by their norms, in float32; a row of zeros stays. */
function unitRows(matrix: Matrix): Matrix {
  const { rows, cols } = matrix, data = new Float32Array(rows * cols);
  for (let i = 0; i < rows; i++) {
    const row = rowOf(matrix, i), norm = Math.sqrt(dot(row, 0, row, 0, cols)) || 1;
    for (let j = 0; j < cols; j++) data[i * cols + j] = row[j] / norm;
  }
  return { data, rows, cols };
}

function shifted(matrix: Matrix, offset: Float64Array): Matrix {
  const { rows, cols } = matrix, data = matrix.data.slice();
  for (let i = 0; i < rows; i++) for (let j = 0; j < cols; j++) data[i * cols + j] -= offset[j];
  return { data, rows, cols };
}

function squaredNorms(matrix: Matrix): Float64Array {
  const { data, cols } = matrix;
  return Float64Array.from({ length: matrix.rows }, (_, i) => dot(data, i * cols, data, i * cols, cols));
}

/** The indices of the smallest values of a row, in ascending order of the values. */
function smallest(
  row: Float32Array | Float64Array,
  excluded: number,
  indices: Int32Array,
  values: Float64Array,
): void {
  const k = indices.length;
  let filled = 0;
  for (let j = 0; j < row.length; j++) {
    const value = row[j];
    if (j === excluded || (filled === k && value >= values[k - 1])) continue;
    let at = filled < k ? filled++ : k - 1;
    for (; at > 0 && values[at - 1] > value; at--) {
      values[at] = values[at - 1];
      indices[at] = indices[at - 1];
    }
    values[at] = value;
    indices[at] = j;
  }
}

function exactDistance(a: Matrix, i: number, b: Matrix, j: number, metric: Metric): number {
  const n = a.cols, ai = i * n, bj = j * n;
  let sum = 0;
  for (let c = 0; c < n; c++) sum += (a.data[ai + c] - b.data[bj + c]) ** 2;
  return metric === "cosine" ? sum / 2 : Math.sqrt(sum); // unit rows: ‖x−y‖² = 2 − 2x·y
}

/** Sorts a few candidates by distance and then by index (insertion sort: they are nearly in order). */
function sortTogether(indices: Int32Array, values: Float64Array): void {
  for (let i = 1; i < indices.length; i++) {
    const value = values[i], index = indices[i];
    let at = i;
    for (
      ;
      at > 0 && (values[at - 1] > value || (values[at - 1] === value && indices[at - 1] > index));
      at--
    ) {
      values[at] = values[at - 1];
      indices[at] = indices[at - 1];
    }
    values[at] = value;
    indices[at] = index;
  }
}
