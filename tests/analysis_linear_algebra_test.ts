import assert from "node:assert/strict";
import fc from "fast-check";
import {
  GaussianStats,
  type Matrix64,
  matrixOf,
  minimize,
  multiply,
  multiplyTransposed,
  rowOf,
  solvePositiveDefinite,
  symmetricEigen,
  symmetricEigenvalues,
  takeRows,
  trace,
  transpose,
} from "novae/analysis/mod.ts";
import { type Matrix, Rng } from "novae/tensor/mod.ts";

function normal(seed: number, rows: number, cols: number): Matrix64 {
  return { data: Float64Array.from(new Rng(seed).normal(rows * cols)), rows, cols };
}

function assertClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  assert.equal(actual.length, expected.length);
  for (let i = 0; i < expected.length; i++) {
    assert.ok(
      Math.abs(actual[i] - expected[i]) <= tolerance,
      `value ${i}: wanted ${expected[i]}, got ${actual[i]}`,
    );
  }
}

function naiveProduct(a: Matrix, b: Matrix): number[] {
  const out: number[] = [];
  for (let i = 0; i < a.rows; i++) {
    for (let j = 0; j < b.cols; j++) {
      let sum = 0;
      for (let k = 0; k < a.cols; k++) sum += a.data[i * a.cols + k] * b.data[k * b.cols + j];
      out.push(sum);
    }
  }
  return out;
}

function identity(n: number): number[] {
  return Array.from({ length: n * n }, (_, i) => i % (n + 1) === 0 ? 1 : 0);
}

/** `Σ λᵢ vᵢ vᵢᵀ`. */
function recompose({ values, vectors }: { values: Float64Array; vectors: Matrix64 }): Float64Array {
  const scaled = { ...vectors, data: vectors.data.map((v, i) => v * values[Math.floor(i / vectors.cols)]) };
  return multiply(transpose(vectors), scaled).data;
}

Deno.test("products agree with the definition at sizes around the unrolled loops", () => {
  for (const [n, k, m] of [[1, 1, 1], [2, 3, 5], [3, 4, 2], [5, 7, 1], [4, 9, 8]]) {
    const a = normal(n, n, k), b = normal(m + 50, k, m);
    assertClose(multiply(a, b).data, naiveProduct(a, b), 1e-13);
    assertClose(multiplyTransposed(a, transpose(b)).data, naiveProduct(a, b), 1e-13);
  }
  assert.throws(() => multiply(normal(1, 2, 3), normal(2, 2, 3)), {
    name: "TypeError",
    message: "Cannot multiply matrices: the right one must have 3 rows, got 2",
  });
});

Deno.test("a positive definite system is solved and an indefinite one refused", () => {
  const x = normal(3, 30, 9), a = multiply(transpose(x), x), b = normal(4, 9, 4);
  assertClose(multiply(a, solvePositiveDefinite(a, b)).data, b.data, 1e-11);
  assert.throws(() => solvePositiveDefinite(matrixOf([[1, 2], [2, 1]]), matrixOf([[1], [1]])), RangeError);
});

Deno.test("eigenvectors are orthonormal and rebuild the matrix at sizes from 1 to 65", () => {
  for (const n of [1, 2, 3, 4, 7, 16, 65]) {
    const x = normal(n, n, n),
      a = { ...x, data: x.data.map((v, i) => v + x.data[(i % n) * n + Math.floor(i / n)]) };
    const eigen = symmetricEigen(a);
    assertClose(recompose(eigen), a.data, 1e-12 * n);
    assertClose(multiplyTransposed(eigen.vectors, eigen.vectors).data, identity(n), 1e-12);
    assert.deepEqual([...eigen.values], [...eigen.values].sort((p, q) => q - p));
    assertClose(symmetricEigenvalues(a), eigen.values, 1e-12 * n);
  }
});

Deno.test("eigenvalues of the second-difference matrix are 2 − 2cos(πi/(n+1))", () => {
  const n = 40;
  const rows = Array.from(
    { length: n },
    (_, i) => Array.from({ length: n }, (_, j) => i === j ? 2 : Math.abs(i - j) === 1 ? -1 : 0),
  );
  const expected = Array.from({ length: n }, (_, i) => 2 - 2 * Math.cos(Math.PI * (n - i) / (n + 1)));
  assertClose(symmetricEigenvalues(matrixOf(rows)), expected, 1e-13);
});

Deno.test("rank-deficient, repeated and badly scaled matrices are decomposed", () => {
  const direction = normal(8, 1, 50), rankOne = multiply(transpose(direction), direction);
  const values = symmetricEigenvalues(rankOne);
  assertClose([values[0]], [trace(rankOne)], 1e-12 * trace(rankOne));
  assertClose(values.subarray(1), new Float64Array(49), 1e-13 * values[0]);
  assertClose(symmetricEigenvalues(matrixOf([[0, 0], [0, 0]])), [0, 0], 0);
  assertClose(symmetricEigen(matrixOf([[3, 0, 0], [0, 3, 0], [0, 0, 3]])).values, [3, 3, 3], 0);
  const scaled = symmetricEigen(matrixOf([[1e12, 1, 0], [1, 1, 1e-6], [0, 1e-6, 1e-12]]));
  assertClose(recompose(scaled), [1e12, 1, 0, 1, 1, 1e-6, 0, 1e-6, 1e-12], 1e-3);
});

Deno.test("a matrix that is not square or not finite is refused", () => {
  assert.throws(() => symmetricEigen(normal(1, 2, 3)), TypeError);
  assert.throws(() => symmetricEigen(matrixOf([[NaN]])), RangeError);
});

Deno.test("streamed moments do not depend on how the rows are split or merged", () => {
  const x = normal(12, 203, 5), whole = GaussianStats.of(x);
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 203 }), { maxLength: 6 }),
      fc.boolean(),
      (cuts, merges) => {
        const edges = [0, ...cuts.sort((a, b) => a - b), 203],
          parts = edges.slice(1).map((end, i) => [edges[i], end]);
        const stats = new GaussianStats(5);
        for (const [start, end] of parts) {
          const part = takeRows(x, Array.from({ length: end - start }, (_, i) => start + i));
          if (merges) stats.merge(new GaussianStats(5).add(part));
          else stats.add(part);
        }
        assert.equal(stats.count, 203);
        assertClose(stats.mean, whole.mean, 1e-14);
        assertClose(stats.covariance().data, whole.covariance().data, 1e-13);
      },
    ),
    { seed: 1, numRuns: 50 },
  );
});

Deno.test("the covariance equals the definition, also far from the origin", () => {
  const x = normal(2, 41, 3), far = { ...x, data: x.data.map((v) => v + 1e6) };
  const mean = [0, 1, 2].map((j) =>
    Array.from({ length: 41 }, (_, i) => rowOf(x, i)[j]).reduce((a, b) => a + b) / 41
  );
  const expected = [0, 1, 2].flatMap((p) =>
    [0, 1, 2].map((q) => {
      let sum = 0;
      for (let i = 0; i < 41; i++) sum += (rowOf(x, i)[p] - mean[p]) * (rowOf(x, i)[q] - mean[q]);
      return sum / 40;
    })
  );
  assertClose(GaussianStats.of(x).covariance().data, expected, 1e-14);
  assertClose(GaussianStats.of(far).covariance().data, expected, 1e-8);
});

Deno.test("moments refuse wrong widths, values that are not finite and a single row", () => {
  assert.throws(() => new GaussianStats(3).add(normal(1, 2, 4)), TypeError);
  const stats = new GaussianStats(1);
  assert.throws(() => stats.add(matrixOf([[1], [Infinity]])), RangeError);
  assert.equal(stats.count, 0);
  assert.throws(() => stats.add(matrixOf([[1]])).covariance(), RangeError);
});

Deno.test("L-BFGS finds the minimum of a badly conditioned bowl and of Rosenbrock's valley", async () => {
  const scales = [1, 10, 1000, 0.01], target = [3, -2, 1, 5];
  const bowl = await minimize(
    (x) => ({
      value: x.reduce((sum, v, i) => sum + scales[i] * (v - target[i]) ** 2 / 2, 0),
      gradient: x.map((v, i) => scales[i] * (v - target[i])),
    }),
    new Float64Array(4),
    { tolerance: 1e-9 },
  );
  assert.ok(bowl.converged);
  assertClose(bowl.point, target, 1e-6);
  const valley = await minimize(
    ([x, y]) => ({
      value: (1 - x) ** 2 + 100 * (y - x * x) ** 2,
      gradient: Float64Array.of(-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)),
    }),
    Float64Array.of(-1.2, 1),
    { tolerance: 1e-8 },
  );
  assertClose(valley.point, [1, 1], 1e-7);
});
