/**
 * Which rows are alike: cosines between all rows, and rows without what a group of them has in common.
 *
 * @module
 */
import type { Matrix } from "novae/tensor/mod.ts";
import { dot, type Matrix64, multiplyTransposed, rowOf, zeroMatrix } from "./matrix.ts";

/**
 * Cosines between all rows of two matrices, `aᵢ·bⱼ / (‖aᵢ‖ ‖bⱼ‖)`; 0 where a row is zero.
 *
 * @param a shape [n, d].
 * @param b shape [m, d].
 * @returns shape [n, m], each in [−1, 1].
 * @throws TypeError if the numbers of columns differ.
 */
export function cosineSimilarities(a: Matrix, b: Matrix): Matrix64 {
  const out = multiplyTransposed(a, b), left = norms(a), right = norms(b);
  for (let i = 0; i < a.rows; i++) {
    for (let j = 0; j < b.rows; j++) {
      const scale = left[i] * right[j], at = i * b.rows + j;
      out.data[at] = scale > 0 ? Math.min(Math.max(out.data[at] / scale, -1), 1) : 0;
    }
  }
  return out;
}

/**
 * Takes from each row the mean of its group, groups being `size` rows one after another: the tokens of an image, for
 * one, so that what is left says how the parts of the image differ and not which image it is.
 *
 * @param matrix shape [n, d].
 * @param size rows of a group, a divisor of n; all rows if omitted.
 * @returns shape [n, d].
 * @throws RangeError if the rows do not fill whole groups.
 */
export function centerGroups(matrix: Matrix, size: number = matrix.rows): Matrix64 {
  const { rows, cols } = matrix, out = zeroMatrix(rows, cols);
  if (rows === 0) return out;
  if (!Number.isInteger(size) || size < 1 || rows % size !== 0) {
    throw new RangeError(`Cannot centre groups: size must divide the ${rows} rows, got ${size}`);
  }
  const mean = new Float64Array(cols);
  for (let first = 0; first < rows; first += size) {
    mean.fill(0);
    for (let i = first; i < first + size; i++) {
      for (let j = 0; j < cols; j++) mean[j] += matrix.data[i * cols + j] / size;
    }
    for (let i = first; i < first + size; i++) {
      for (let j = 0; j < cols; j++) out.data[i * cols + j] = matrix.data[i * cols + j] - mean[j];
    }
  }
  return out;
}

function norms(matrix: Matrix): Float64Array {
  return Float64Array.from({ length: matrix.rows }, (_, i) => {
    const row = rowOf(matrix, i);
    return Math.sqrt(dot(row, 0, row, 0, matrix.cols));
  });
}
