/**
 * Plain matrix arithmetic in float64, for the sizes at which statistics live (up to about a thousand columns).
 *
 * @module
 */
import type { Matrix } from "novae/tensor/mod.ts";

/** A row-major float64 matrix. */
export interface Matrix64 extends Matrix {
  /** Values in row-major order. */
  readonly data: Float64Array;
}

/** A matrix of zeros. */
export function zeroMatrix(rows: number, cols: number): Matrix64 {
  return { data: new Float64Array(rows * cols), rows, cols };
}

/**
 * A matrix from nested arrays.
 *
 * @throws TypeError if the rows differ in length.
 */
export function matrixOf(values: readonly ArrayLike<number>[]): Matrix64 {
  const cols = values.length === 0 ? 0 : values[0].length;
  const out = zeroMatrix(values.length, cols);
  values.forEach((row, i) => {
    if (row.length !== cols) {
      throw new TypeError(`Cannot make a matrix: row ${i} must have ${cols} values, got ${row.length}`);
    }
    out.data.set(row, i * cols);
  });
  return out;
}

/** Row `i` as a view of the matrix's memory. */
export function rowOf(matrix: Matrix, i: number): Float32Array | Float64Array {
  return matrix.data.subarray(i * matrix.cols, (i + 1) * matrix.cols);
}

/** Copies the rows with the given indices. The element type is kept. */
export function takeRows(matrix: Matrix, indices: ArrayLike<number>): Matrix {
  const { cols } = matrix;
  const Data = matrix.data.constructor as { new (n: number): Float32Array | Float64Array };
  const data = new Data(indices.length * cols);
  for (let i = 0; i < indices.length; i++) data.set(rowOf(matrix, indices[i]), i * cols);
  return { data, rows: indices.length, cols };
}

/** The transpose `Aᵀ`. */
export function transpose(a: Matrix): Matrix64 {
  const out = zeroMatrix(a.cols, a.rows);
  for (let i = 0; i < a.rows; i++) {
    for (let j = 0; j < a.cols; j++) out.data[j * a.rows + i] = a.data[i * a.cols + j];
  }
  return out;
}

/**
 * The product `A·B`.
 *
 * @throws TypeError if the inner sizes differ.
 */
export function multiply(a: Matrix, b: Matrix): Matrix64 {
  if (a.cols !== b.rows) throw new TypeError(mismatch("multiply matrices", a.cols, b.rows, "rows"));
  const out = zeroMatrix(a.rows, b.cols), n = b.cols, inner = a.cols, B = b.data;
  for (let i = 0; i < a.rows; i++) {
    const row = out.data.subarray(i * n, (i + 1) * n);
    let k = 0;
    // Four rows of B at a time: a quarter of the reads and writes of the output row.
    for (; k + 3 < inner; k += 4) {
      const a0 = a.data[i * inner + k], a1 = a.data[i * inner + k + 1];
      const a2 = a.data[i * inner + k + 2], a3 = a.data[i * inner + k + 3];
      const b0 = k * n, b1 = b0 + n, b2 = b1 + n, b3 = b2 + n;
      for (let j = 0; j < n; j++) {
        row[j] += a0 * B[b0 + j] + a1 * B[b1 + j] + a2 * B[b2 + j] + a3 * B[b3 + j];
      }
    }
    for (; k < inner; k++) {
      const ak = a.data[i * inner + k], bk = k * n;
      for (let j = 0; j < n; j++) row[j] += ak * B[bk + j];
    }
  }
  return out;
}

/**
 * The product with a transposed right side, `A·Bᵀ`: all inner products of rows.
 *
 * @throws TypeError if the numbers of columns differ.
 */
export function multiplyTransposed(a: Matrix, b: Matrix): Matrix64 {
  if (a.cols !== b.cols) throw new TypeError(mismatch("multiply matrices", a.cols, b.cols, "columns"));
  const out = zeroMatrix(a.rows, b.rows), n = a.cols;
  for (let i = 0; i < a.rows; i++) {
    for (let j = 0; j < b.rows; j++) out.data[i * b.rows + j] = dot(a.data, i * n, b.data, j * n, n);
  }
  return out;
}

/** Inner product of `n` values from two offsets, with four partial sums. */
export function dot(
  a: Float32Array | Float64Array,
  aStart: number,
  b: Float32Array | Float64Array,
  bStart: number,
  n: number,
): number {
  let s0 = 0, s1 = 0, s2 = 0, s3 = 0, k = 0;
  for (; k + 3 < n; k += 4) {
    s0 += a[aStart + k] * b[bStart + k];
    s1 += a[aStart + k + 1] * b[bStart + k + 1];
    s2 += a[aStart + k + 2] * b[bStart + k + 2];
    s3 += a[aStart + k + 3] * b[bStart + k + 3];
  }
  for (; k < n; k++) s0 += a[aStart + k] * b[bStart + k];
  return s0 + s1 + s2 + s3;
}

/** Sum of the diagonal. */
export function trace(a: Matrix): number {
  let sum = 0;
  for (let i = 0; i < Math.min(a.rows, a.cols); i++) sum += a.data[i * a.cols + i];
  return sum;
}

/**
 * Solves `A·X = B` for a symmetric positive definite `A` by Cholesky factorisation.
 *
 * @param a shape [n, n]; only its lower triangle is read.
 * @param b shape [n, m].
 * @throws RangeError if `A` is not positive definite.
 */
export function solvePositiveDefinite(a: Matrix, b: Matrix): Matrix64 {
  const n = a.rows, m = b.cols, L = cholesky(a);
  const x = zeroMatrix(n, m);
  x.data.set(b.data);
  const X = x.data;
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < i; k++) {
      const l = L[i * n + k];
      for (let j = 0; j < m; j++) X[i * m + j] -= l * X[k * m + j];
    }
    for (let j = 0; j < m; j++) X[i * m + j] /= L[i * n + i];
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let j = 0; j < m; j++) X[i * m + j] /= L[i * n + i];
    for (let k = 0; k < i; k++) {
      const l = L[i * n + k];
      for (let j = 0; j < m; j++) X[k * m + j] -= l * X[i * m + j];
    }
  }
  return x;
}

/** The lower triangle `L` of `A = L·Lᵀ`. */
function cholesky(a: Matrix): Float64Array {
  const n = a.rows, L = new Float64Array(n * n);
  if (a.cols !== n) throw new TypeError(mismatch("factorise a matrix", n, a.cols, "columns"));
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      const rest = a.data[i * n + j] - dot(L, i * n, L, j * n, j);
      if (i !== j) L[i * n + j] = rest / L[j * n + j];
      else if (rest > 0) L[i * n + i] = Math.sqrt(rest);
      else {throw new RangeError(
          `Cannot factorise a matrix: it must be positive definite, pivot ${i} is ${rest}`,
        );}
    }
  }
  return L;
}

function mismatch(what: string, wanted: number, got: number, unit: string): string {
  return `Cannot ${what}: the right one must have ${wanted} ${unit}, got ${got}`;
}
