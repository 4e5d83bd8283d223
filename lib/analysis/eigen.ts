/**
 * Eigenvalues and eigenvectors of real symmetric matrices.
 *
 * @module
 */
import type { Matrix } from "novae/tensor/mod.ts";
import { type Matrix64, transpose, zeroMatrix } from "./matrix.ts";

/** Eigenvalues in descending order and their eigenvectors. */
export interface SymmetricEigen {
  /** Eigenvalues `λ₀ ≥ λ₁ ≥ …`. */
  readonly values: Float64Array;
  /** Row `i` is the unit eigenvector of `values[i]`. */
  readonly vectors: Matrix64;
}

/** A tridiagonal matrix and, where asked for, the orthogonal matrix that leads to it. */
interface Tridiagonal {
  readonly diagonal: Float64Array;
  /** Entry `i` couples rows `i` and `i + 1`; the last one is 0. */
  readonly off: Float64Array;
  /** `Qᵀ` of `A = Q·T·Qᵀ`, row-major. */
  readonly basis?: Float64Array;
}

const EPSILON = 2 ** -52;
const MAX_SWEEPS = 60;

/**
 * Decomposes a real symmetric matrix, `A = Σ λᵢ vᵢ vᵢᵀ`, by Householder tridiagonalisation and implicit QL steps
 * with Wilkinson's shift.
 *
 * *Source*: Golub and Van Loan, "Matrix Computations", sections 8.3.1 and 8.3.3.
 *
 * @param a shape [n, n], symmetric.
 * @throws TypeError if the matrix is not square.
 * @throws RangeError if a value is not finite.
 */
export function symmetricEigen(a: Matrix): SymmetricEigen {
  const { diagonal, off, basis } = tridiagonalise(a, true);
  implicitQl(diagonal, off, basis);
  const n = a.rows, order = descending(diagonal), vectors = zeroMatrix(n, n);
  order.forEach((from, i) => vectors.data.set(basis!.subarray(from * n, (from + 1) * n), i * n));
  return { values: Float64Array.from(order, (i) => diagonal[i]), vectors };
}

/**
 * The eigenvalues alone, in descending order, at about a third of the cost of {@linkcode symmetricEigen}.
 *
 * @param a shape [n, n], symmetric.
 * @throws TypeError if the matrix is not square.
 * @throws RangeError if a value is not finite.
 */
export function symmetricEigenvalues(a: Matrix): Float64Array {
  const { diagonal, off } = tridiagonalise(a, false);
  implicitQl(diagonal, off);
  return diagonal.sort().reverse();
}

function descending(values: Float64Array): number[] {
  return Array.from(values, (_, i) => i).sort((i, j) => values[j] - values[i] || i - j);
}

/** Householder reflections from the left and the right, one a column. */
function tridiagonalise(matrix: Matrix, wantsBasis: boolean): Tridiagonal {
  const n = matrix.rows;
  if (matrix.cols !== n) {
    throw new TypeError(`Cannot decompose a matrix: it must be square, got ${n}×${matrix.cols}`);
  }
  if (!matrix.data.every(Number.isFinite)) {
    throw new RangeError("Cannot decompose a matrix: all values must be finite");
  }
  const a = Float64Array.from(matrix.data), off = new Float64Array(n), tau = new Float64Array(n);
  const product = new Float64Array(n);
  // Reflection k maps column k below the diagonal to a multiple of the first unit vector; its vector stays in
  // row k, right of the diagonal, where the symmetric matrix holds the same numbers contiguously.
  for (let k = 0; k + 2 < n; k++) {
    const v = a.subarray(k * n + k + 1, (k + 1) * n);
    [off[k], tau[k]] = reflector(v);
    if (tau[k] !== 0) reflectBothSides(a, n, k + 1, v, tau[k], product);
  }
  if (n > 1) off[n - 2] = a[(n - 2) * n + n - 1];
  const diagonal = Float64Array.from({ length: n }, (_, i) => a[i * n + i]);
  return { diagonal, off, basis: wantsBasis ? accumulate(a, tau, n) : undefined };
}

/** Turns `x` into the `v` (with v₀ = 1) of the reflection `I − τvvᵀ` that maps `x` to (β, 0, …); returns [β, τ]. */
function reflector(x: Float64Array): [number, number] {
  let scale = 0;
  for (const value of x) scale = Math.max(scale, Math.abs(value));
  if (scale === 0) return [0, 0];
  let tail = 0;
  for (let i = 1; i < x.length; i++) tail += (x[i] / scale) ** 2;
  const alpha = x[0];
  if (tail === 0) return [alpha, 0];
  const norm = scale * Math.sqrt((alpha / scale) ** 2 + tail);
  const beta = alpha > 0 ? -norm : norm;
  for (let i = 1; i < x.length; i++) x[i] /= alpha - beta;
  x[0] = 1;
  return [beta, (beta - alpha) / beta];
}

/** `A ← H·A·H` on the lower right block from row `start`: `A −= v·wᵀ + w·vᵀ`, `w = τAv − τ²(vᵀAv)/2·v`. */
function reflectBothSides(
  a: Float64Array,
  n: number,
  start: number,
  v: Float64Array,
  tau: number,
  w: Float64Array,
): void {
  const m = n - start;
  let inner = 0;
  for (let i = 0; i < m; i++) {
    const row = (start + i) * n + start;
    let sum0 = 0, sum1 = 0, j = 0;
    for (; j + 1 < m; j += 2) {
      sum0 += a[row + j] * v[j];
      sum1 += a[row + j + 1] * v[j + 1];
    }
    if (j < m) sum0 += a[row + j] * v[j];
    w[i] = tau * (sum0 + sum1);
    inner += w[i] * v[i];
  }
  for (let i = 0; i < m; i++) w[i] -= 0.5 * tau * inner * v[i];
  for (let i = 0; i < m; i++) {
    const row = (start + i) * n + start, vi = v[i], wi = w[i];
    for (let j = 0; j < m; j++) a[row + j] -= vi * w[j] + wi * v[j];
  }
}

/** Multiplies the reflections out, last first, so that only the lower right block is touched; returns `Qᵀ`. */
function accumulate(a: Float64Array, tau: Float64Array, n: number): Float64Array {
  const q = zeroMatrix(n, n), Q = q.data, sums = new Float64Array(n);
  for (let i = 0; i < n; i++) Q[i * n + i] = 1;
  for (let k = n - 3; k >= 0; k--) {
    if (tau[k] === 0) continue;
    const start = k + 1, m = n - start, v = a.subarray(k * n + start, (k + 1) * n);
    sums.fill(0, 0, m);
    for (let i = 0; i < m; i++) {
      const row = (start + i) * n + start, vi = v[i];
      for (let j = 0; j < m; j++) sums[j] += vi * Q[row + j];
    }
    for (let i = 0; i < m; i++) {
      const row = (start + i) * n + start, factor = tau[k] * v[i];
      for (let j = 0; j < m; j++) Q[row + j] -= factor * sums[j];
    }
  }
  return transpose(q).data;
}

/** Diagonalises in place; the rows of `basis` become the eigenvectors. */
function implicitQl(d: Float64Array, e: Float64Array, basis?: Float64Array): void {
  const n = d.length;
  let largest = 0;
  for (let i = 0; i < n; i++) largest = Math.max(largest, Math.abs(d[i]) + Math.abs(e[i]));
  // Rank-deficient matrices leave blocks that are all rounding noise; they need no relative precision.
  const floor = largest * 2 ** -60;
  const couples = (i: number) => Math.abs(e[i]) > EPSILON * (Math.abs(d[i]) + Math.abs(d[i + 1])) + floor;
  for (let low = 0; low < n; low++) {
    for (let sweep = 0;; sweep++) {
      let high = low;
      while (high < n - 1 && couples(high)) high++;
      if (high === low) break;
      if (sweep === MAX_SWEEPS) {
        throw new RangeError(`Cannot decompose a matrix: no convergence at row ${low}`);
      }
      qlSweep(d, e, low, high, basis);
    }
  }
}

/** One implicit QL step on rows `low` to `high`, from the bottom up. */
function qlSweep(d: Float64Array, e: Float64Array, low: number, high: number, basis?: Float64Array): void {
  const half = (d[low + 1] - d[low]) / (2 * e[low]);
  const root = Math.hypot(half, 1);
  let g = d[high] - d[low] + e[low] / (half + (half >= 0 ? root : -root));
  let sine = 1, cosine = 1, shift = 0;
  for (let i = high - 1; i >= low; i--) {
    const f = sine * e[i], b = cosine * e[i], r = Math.hypot(f, g);
    e[i + 1] = r;
    if (r === 0) { // the matrix splits here: go on with the parts
      d[i + 1] -= shift;
      e[high] = 0;
      return;
    }
    sine = f / r;
    cosine = g / r;
    g = d[i + 1] - shift;
    const t = (d[i] - g) * sine + 2 * cosine * b;
    shift = sine * t;
    d[i + 1] = g + shift;
    g = cosine * t - b;
    if (basis) rotateRows(basis, d.length, i, cosine, sine);
  }
  d[low] -= shift;
  e[low] = g;
  e[high] = 0;
}

function rotateRows(basis: Float64Array, n: number, i: number, cosine: number, sine: number): void {
  const upper = i * n, lower = upper + n;
  for (let k = 0; k < n; k++) {
    const f = basis[lower + k], h = basis[upper + k];
    basis[lower + k] = sine * h + cosine * f;
    basis[upper + k] = cosine * h - sine * f;
  }
}
