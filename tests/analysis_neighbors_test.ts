import assert from "node:assert/strict";
import {
  knnClassify,
  knnLeaveOneOut,
  matrixOf,
  type Metric,
  nearestNeighbors,
  rowOf,
  visitProducts,
  visitSquaredDistances,
  voteOfNeighbors,
} from "novae/analysis/mod.ts";
import { type Matrix, Rng } from "novae/tensor/mod.ts";

function normal(label: string, rows: number, cols: number, offset = 0): Matrix {
  return { data: new Rng(5).split(label).normal(rows * cols).map((v) => v + offset), rows, cols };
}

/** Sorts all references of each query by their distance, computed from the definition. */
function bruteForce(
  queries: Matrix,
  references: Matrix,
  k: number,
  metric: Metric,
  skipsSelf = false,
): number[] {
  const distance = (x: ArrayLike<number>, y: ArrayLike<number>) => {
    let squared = 0, inner = 0, nx = 0, ny = 0;
    for (let c = 0; c < x.length; c++) {
      squared += (x[c] - y[c]) ** 2;
      inner += x[c] * y[c];
      nx += x[c] ** 2;
      ny += y[c] ** 2;
    }
    return metric === "euclidean" ? Math.sqrt(squared) : 1 - inner / Math.sqrt(nx * ny);
  };
  return Array.from(
    { length: queries.rows },
    (_, i) =>
      Array.from(
        { length: references.rows },
        (_, j) => ({ j, d: distance(rowOf(queries, i), rowOf(references, j)) }),
      )
        .filter(({ j }) => !(skipsSelf && i === j))
        .sort((a, b) => a.d - b.d)
        .slice(0, k)
        .map(({ j }) => j),
  ).flat();
}

Deno.test("nearest neighbours equal a full sort, on the host and on the device, for both metrics", async () => {
  const queries = normal("q", 37, 9, 2), references = normal("r", 53, 9, 2);
  for (const metric of ["euclidean", "cosine"] as const) {
    const expected = bruteForce(queries, references, 7, metric);
    for (const hostLimit of [Infinity, 0]) {
      const found = await nearestNeighbors(queries, references, { k: 7, metric, hostLimit });
      assert.deepEqual([...found.indices], expected, `${metric}, limit ${hostLimit}`);
      for (let i = 0; i < 37; i++) {
        const row = [...found.distances.subarray(i * 7, i * 7 + 7)];
        assert.deepEqual(row, [...row].sort((a, b) => a - b));
      }
    }
  }
});

Deno.test("a point is not its own neighbour where it is left out, and is at distance 0 where not", async () => {
  const points = normal("p", 40, 3);
  const others = await nearestNeighbors(points, points, { k: 3, excludeSelf: true });
  assert.deepEqual([...others.indices], bruteForce(points, points, 3, "euclidean", true));
  const own = await nearestNeighbors(points, points, { k: 1 });
  assert.deepEqual([...own.indices], Array.from({ length: 40 }, (_, i) => i));
  assert.ok(own.distances.every((d) => d === 0));
});

Deno.test("float32 products on the device keep neighbours and distances far from the origin", async () => {
  const near = normal("far", 30, 4), far = { ...near, data: Float64Array.from(near.data, (v) => v + 1e5) };
  const wanted = await nearestNeighbors(near, near, { k: 4, excludeSelf: true });
  const found = await nearestNeighbors(far, far, { k: 4, excludeSelf: true, hostLimit: 0 });
  assert.deepEqual(found.indices, wanted.indices);
  found.distances.forEach((d, i) => assert.ok(Math.abs(d - wanted.distances[i]) < 1e-8));
});

Deno.test("equally near references are listed by index", async () => {
  const found = await nearestNeighbors(matrixOf([[0]]), matrixOf([[1], [-1], [1], [0.5]]), { k: 4 });
  assert.deepEqual([...found.indices], [3, 0, 1, 2]);
});

Deno.test("blocks of products and distances cover every row once", async () => {
  // 8 million values a block: 2,100 rows of 4,000 values need two blocks.
  const a = normal("a", 2100, 2), b = normal("b", 4000, 2), seen: number[][] = [];
  let worst = 0;
  await visitProducts(a, b, (block, start, end) => {
    seen.push([start, end, block.length]);
    for (let i = start; i < end; i += 97) {
      for (let j = 0; j < 4000; j += 101) {
        const exact = a.data[2 * i] * b.data[2 * j] + a.data[2 * i + 1] * b.data[2 * j + 1];
        worst = Math.max(worst, Math.abs(block[(i - start) * 4000 + j] - exact));
      }
    }
  }, { hostLimit: 0 });
  assert.deepEqual(seen, [[0, 2000, 8e6], [2000, 2100, 4e5]]);
  assert.ok(worst < 1e-5);
  await visitSquaredDistances(a, a, (block, start, end) => {
    for (let i = start; i < end; i++) assert.ok(block[(i - start) * 2100 + i] < 1e-12);
  });
});

Deno.test("the vote weighs cosine neighbours by exp(similarity / T)", () => {
  // One near neighbour of class 0 against two farther ones of class 1: exp(-0.1/T) against 2·exp(-0.2/T).
  const neighbors = {
    rows: 1,
    k: 3,
    metric: "cosine" as const,
    indices: Int32Array.of(0, 1, 2),
    distances: Float64Array.of(0.1, 0.2, 0.2),
  };
  const labels = Int32Array.of(0, 1, 1), crossing = 0.1 / Math.log(2);
  assert.equal(voteOfNeighbors(neighbors, labels, crossing * 0.99)[0], 0);
  assert.equal(voteOfNeighbors(neighbors, labels, crossing * 1.01)[0], 1);
  assert.equal(voteOfNeighbors(neighbors, labels, null)[0], 1);
  // Temperatures this low underflow unless weights are taken relative to the nearest.
  assert.equal(voteOfNeighbors(neighbors, labels, 1e-4)[0], 0);
  // A tie goes to the class of the nearest.
  const tie = { ...neighbors, k: 2, indices: Int32Array.of(1, 0), distances: Float64Array.of(0.1, 0.3) };
  assert.equal(voteOfNeighbors(tie, labels, null)[0], 1);
});

Deno.test("classification by neighbours is scored on hand-made data", async () => {
  const train = {
    features: matrixOf([[0, 1], [0.1, 1], [1, 0], [1, 0.1]]),
    labels: Int32Array.of(0, 0, 1, 1),
  };
  const test = { features: matrixOf([[0, 5], [5, 0], [4, 1]]), labels: Int32Array.of(0, 1, 0) };
  const result = await knnClassify(train, test, { k: 2 });
  assert.deepEqual([...result.predictions], [0, 1, 1]);
  assert.equal(result.accuracy, 2 / 3);
  assert.deepEqual([result.k, result.metric, result.samples, result.references], [2, "cosine", 3, 4]);
  const left = await knnLeaveOneOut(train, { k: 1, metric: "euclidean" });
  assert.equal(left.accuracy, 1);
});

Deno.test("too many neighbours and unequal widths or labels are refused", async () => {
  const x = normal("x", 5, 2);
  await assert.rejects(nearestNeighbors(x, x, { k: 5, excludeSelf: true }), {
    name: "RangeError",
    message: "Cannot find neighbours: k must be an integer from 1 to 4, got 5",
  });
  await assert.rejects(nearestNeighbors(x, normal("y", 5, 3), { k: 1 }), TypeError);
  const short = { features: x, labels: Int32Array.of(1, 2) };
  await assert.rejects(knnClassify(short, short), {
    name: "TypeError",
    message: "Cannot classify by neighbours: 5 rows need as many labels, got 2",
  });
});
