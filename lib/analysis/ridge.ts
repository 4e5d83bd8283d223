/**
 * Ridge regression to one-hot targets on standardised features: directly for few features, by conjugate gradients
 * for many.
 *
 * @module
 */
import { multiply, solvePositiveDefinite, transpose, zeroMatrix } from "./matrix.ts";
import type { Matrix64 } from "./matrix.ts";
import type { MinimizeOptions } from "./lbfgs.ts";
import type { StandardizedProducts } from "./standardized_products.ts";

/** Weights flattened [d, classes] followed by the bias, and the steps that they took. */
export interface RidgeFit {
  /** Weights, then bias. */
  readonly point: Float64Array;
  /** Steps of conjugate gradients; 0 for a direct solution. */
  readonly iterations: number;
}

/** Solves with a penalty and a weight of 0 or 1 for each row, from the solution of the call before. */
export type RidgeSolver = (
  l2: number,
  rowWeights: Float64Array,
  limits: MinimizeOptions,
) => Promise<RidgeFit>;

/** Features up to which the normal equations are factorised. */
const DIRECT_DIMS = 256;

/** Relative residual at which conjugate gradients end, a few times what float32 products can resolve. */
const RESIDUAL = 1e-4;

/**
 * Prepares `min (1/2n)·Σ ‖x̂ᵢW + b − onehot(yᵢ)‖² + λ/2·‖W‖²`.
 *
 * With centred `X̃` and `Ỹ` the solution is `W = (X̃ᵀX̃/n + λI)⁻¹·X̃ᵀỸ/n`, `b = ȳ − x̄W`.
 *
 * @param products the standardised features.
 * @param labels class of each row.
 */
export function ridgeSolver(
  products: StandardizedProducts,
  labels: Int32Array,
  classes: number,
): RidgeSolver {
  let previous: Matrix64 = zeroMatrix(products.cols, classes);
  return async (l2, rowWeights, limits) => {
    const system = await centredSystem(products, labels, classes, rowWeights);
    const solved = products.cols <= DIRECT_DIMS
      ? { weight: await solveDirectly(products, system, l2), iterations: 0 }
      : await solveByConjugateGradients(products, system, l2, previous, limits.maxIterations ?? 100);
    previous = solved.weight;
    const point = new Float64Array((products.cols + 1) * classes);
    point.set(solved.weight.data);
    const shift = multiply(system.featureMean, solved.weight).data;
    for (let c = 0; c < classes; c++) point[products.cols * classes + c] = system.targetMean[c] - shift[c];
    return { point, iterations: solved.iterations };
  };
}

interface CentredSystem {
  /** One over n for the rows that count, 0 for the others. */
  readonly shares: Float64Array;
  /** `x̄` as a row, shape [1, d]. */
  readonly featureMean: Matrix64;
  readonly targetMean: Float64Array;
  /** `X̃ᵀỸ/n`, shape [d, classes]. */
  readonly right: Matrix64;
}

async function centredSystem(
  products: StandardizedProducts,
  labels: Int32Array,
  classes: number,
  rowWeights: Float64Array,
): Promise<CentredSystem> {
  const n = labels.length, total = rowWeights.reduce((a, b) => a + b, 0);
  const shares = rowWeights.map((w) => w / total), targetMean = new Float64Array(classes);
  for (let i = 0; i < n; i++) targetMean[labels[i]] += shares[i];
  const targets = zeroMatrix(n, classes);
  for (let i = 0; i < n; i++) {
    for (let c = 0; c < classes; c++) {
      targets.data[i * classes + c] = shares[i] * ((labels[i] === c ? 1 : 0) - targetMean[c]);
    }
  }
  // The targets are centred, so centring the features too would change nothing.
  const right = await products.transposedTimes(targets);
  const mean = await products.transposedTimes({ data: shares, rows: n, cols: 1 });
  return { shares, featureMean: transpose(mean), targetMean, right };
}

/** `(X̃ᵀX̃/n + λI)·V` through two products with the features. */
async function applySystem(
  products: StandardizedProducts,
  { shares, featureMean }: CentredSystem,
  l2: number,
  v: Matrix64,
): Promise<Matrix64> {
  const xv = await products.times(v), shift = multiply(featureMean, v).data;
  for (let i = 0; i < xv.data.length; i++) {
    const row = Math.floor(i / v.cols);
    xv.data[i] = shares[row] * (xv.data[i] - shift[i % v.cols]);
  }
  const out = await products.transposedTimes(xv);
  for (let i = 0; i < out.data.length; i++) out.data[i] += l2 * v.data[i];
  return out;
}

async function solveDirectly(
  products: StandardizedProducts,
  system: CentredSystem,
  l2: number,
): Promise<Matrix64> {
  const identity = zeroMatrix(products.cols, products.cols);
  for (let i = 0; i < products.cols; i++) identity.data[i * products.cols + i] = 1;
  return solvePositiveDefinite(await applySystem(products, system, l2, identity), system.right);
}

/** One conjugate gradient search a class, all in step so that they share the products. */
async function solveByConjugateGradients(
  products: StandardizedProducts,
  system: CentredSystem,
  l2: number,
  start: Matrix64,
  maxIterations: number,
): Promise<{ weight: Matrix64; iterations: number }> {
  const { right } = system, m = right.cols, size = right.data.length;
  const w = start.data.slice(), applied = (await applySystem(products, system, l2, start)).data;
  const r = right.data.map((value, i) => value - applied[i]), p = r.slice();
  const goal = columnSquares(right.data, m).map((s) => s * RESIDUAL ** 2);
  let squares = columnSquares(r, m), iterations = 0;
  for (; iterations < maxIterations && squares.some((s, c) => s > goal[c]); iterations++) {
    const ap = (await applySystem(products, system, l2, { data: p, rows: right.rows, cols: m })).data;
    const curvature = new Float64Array(m);
    for (let i = 0; i < size; i++) curvature[i % m] += p[i] * ap[i];
    const alpha = squares.map((s, c) => curvature[c] > 0 ? s / curvature[c] : 0);
    for (let i = 0; i < size; i++) {
      w[i] += alpha[i % m] * p[i];
      r[i] -= alpha[i % m] * ap[i];
    }
    const next = columnSquares(r, m), beta = next.map((s, c) => squares[c] > 0 ? s / squares[c] : 0);
    for (let i = 0; i < size; i++) p[i] = r[i] + beta[i % m] * p[i];
    squares = next;
  }
  return { weight: { data: w, rows: right.rows, cols: m }, iterations };
}

function columnSquares(data: Float64Array, cols: number): Float64Array {
  const sums = new Float64Array(cols);
  for (let i = 0; i < data.length; i++) sums[i % cols] += data[i] ** 2;
  return sums;
}
