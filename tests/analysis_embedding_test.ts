import assert from "node:assert/strict";
import {
  fitPca,
  knnLeaveOneOut,
  matrixOf,
  multiply,
  multiplyTransposed,
  projectPca,
  rowOf,
  separability,
  silhouette,
  takeRows,
  trustworthiness,
  umap,
} from "novae/analysis/mod.ts";
import { readNpy } from "novae/io/mod.ts";
import { type Matrix, Rng } from "novae/tensor/mod.ts";
import { UMAP } from "umap-js";

const DIGITS = new URL("../../shared/data/umap-digits/", import.meta.url).pathname;
const noDigits = await Deno.stat(DIGITS).then(() => false, () => true);
if (noDigits) console.warn("Skipped: tests on the digits need ../shared/data/umap-digits, which is absent.");

function normal(label: string, rows: number, cols: number): Matrix {
  return { data: Float64Array.from(new Rng(23).split(label).normal(rows * cols)), rows, cols };
}

/** 300 points of variances 100, 25, 9, 1, 1, … along random orthogonal directions. */
function stretched(rows: number, cols: number): { matrix: Matrix; directions: Matrix } {
  const directions = { data: new Float64Array(cols * cols), rows: cols, cols };
  const raw = normal("directions", cols, cols);
  for (let i = 0; i < cols; i++) {
    const row = Float64Array.from(rowOf(raw, i));
    for (let j = 0; j < i; j++) {
      const other = rowOf(directions, j), inner = row.reduce((s, v, c) => s + v * other[c], 0);
      for (let c = 0; c < cols; c++) row[c] -= inner * other[c];
    }
    const norm = Math.hypot(...row);
    directions.data.set(row.map((v) => v / norm), i * cols);
  }
  const x = normal("points", rows, cols), scales = [10, 5, 3];
  for (let i = 0; i < x.data.length; i++) x.data[i] *= scales[i % cols] ?? 1;
  return { matrix: multiply(x, directions), directions };
}

async function digits(): Promise<{ features: Matrix; labels: Int32Array }> {
  const lines = (await Deno.readTextFile(DIGITS + "optdigits_tes_1797.csv")).trim().split("\n");
  const values = lines.map((line) => line.split(",").map(Number));
  return {
    features: matrixOf(values.map((v) => v.slice(0, 64))),
    labels: Int32Array.from(values, (v) => v[64]),
  };
}

Deno.test("principal components are the directions of largest variance, found by both methods", async () => {
  const { matrix, directions } = stretched(3000, 12);
  for (const method of ["exact", "iterative"] as const) {
    const { components, variances, ratios } = await fitPca(matrix, { components: 3, method });
    const cosines = multiplyTransposed(components, takeRows(directions, [0, 1, 2])).data;
    for (let i = 0; i < 3; i++) assert.ok(Math.abs(cosines[i * 4]) > 0.99, `${method}: component ${i}`);
    [100, 25, 9].forEach((v, i) => assert.ok(Math.abs(variances[i] / v - 1) < 0.1));
    assert.ok(Math.abs(ratios[0] - 100 / 143) < 0.02);
  }
});

Deno.test("the iterative method gives the exact components, on the host and on the device", async () => {
  const { matrix } = stretched(500, 60);
  const exact = await fitPca(matrix, { components: 3, method: "exact" });
  for (const [hostLimit, tolerance] of [[Infinity, 1e-9], [0, 1e-4]]) {
    const found = await fitPca(matrix, { components: 3, method: "iterative", hostLimit });
    found.components.data.forEach((v, i) => assert.ok(Math.abs(v - exact.components.data[i]) < tolerance));
    found.variances.forEach((v, i) => assert.ok(Math.abs(v / exact.variances[i] - 1) < tolerance));
  }
});

Deno.test("projected coordinates are centred, uncorrelated and of the components' variances", async () => {
  const { matrix } = stretched(400, 5), pca = await fitPca(matrix, { components: 5 });
  const points = projectPca(pca, matrix),
    covariance = multiply(
      { ...points, data: transposedData(points), rows: 5, cols: 400 },
      points,
    );
  for (let i = 0; i < 5; i++) {
    for (let j = 0; j < 5; j++) {
      const wanted = i === j ? pca.variances[i] * 399 : 0;
      assert.ok(Math.abs(covariance.data[i * 5 + j] - wanted) < 1e-8);
    }
  }
  await assert.rejects(fitPca(matrix, { components: 6 }), RangeError);
});

function transposedData(m: Matrix): Float64Array {
  return Float64Array.from(
    { length: m.data.length },
    (_, i) => m.data[(i % m.rows) * m.cols + Math.floor(i / m.rows)],
  );
}

Deno.test("scatter ratio and silhouettes of four points are those worked out by hand", async () => {
  const data = { features: matrixOf([[0, 0], [0, 2], [4, 0], [4, 2]]), labels: Int32Array.of(0, 0, 2, 2) };
  const result = separability(data);
  // Class means (0, 1) and (4, 1), overall mean (2, 1): S_B = 4·2², S_W = 4·1².
  assert.equal(result.scatterRatio, 4);
  assert.equal(result.explainedScatter, 0.8);
  assert.deepEqual([result.samples, result.classes], [4, 2]);
  const own = 1, other = Math.hypot(4, 1);
  assert.ok(Math.abs(result.centroidSilhouette - (other - own) / other) < 1e-15);
  const between = (4 + Math.hypot(4, 2)) / 2;
  assert.ok(Math.abs(await silhouette(data) - (between - 2) / between) < 1e-15);
  assert.throws(() => separability({ ...data, labels: Int32Array.of(1, 1, 1, 1) }), RangeError);
});

Deno.test("trustworthiness is 1 for the data themselves and near 1/2 for noise", async () => {
  const x = normal("x", 200, 5);
  assert.equal(await trustworthiness(x, x, 5), 1);
  const noise = await trustworthiness(x, normal("noise", 200, 2), 5);
  assert.ok(Math.abs(noise - 0.5) < 0.05, `${noise}`);
});

Deno.test("trustworthiness of four points on a line is that worked out by hand", async () => {
  // In the picture point 3 moved next to point 0: its false neighbours have rank 3 in the data.
  const data = matrixOf([[0], [1], [2.1], [3.3]]), picture = matrixOf([[0], [1], [2.1], [-0.5]]);
  // Neighbours (k = 1): 0 → 3 (rank 3), 1 → 0 (rank 1), 2 → 1 (rank 1), 3 → 0 (rank 3): penalty 2 + 2.
  assert.equal(await trustworthiness(data, picture, 1), 1 - 2 / (4 * (8 - 3 - 1)) * 4);
});

Deno.test("equal seeds give equal pictures, others different ones, and clusters stay apart", async () => {
  const x = normal("clusters", 120, 70), labels = Int32Array.from({ length: 120 }, (_, i) => i % 3);
  for (let i = 0; i < 120; i++) x.data[i * 70 + labels[i]] += 12;
  const options = { seed: 4, epochs: 100 };
  const first = await umap(x, options), again = await umap(x, options);
  assert.deepEqual(first, again);
  assert.notDeepEqual(await umap(x, { ...options, seed: 5 }), first);
  assert.deepEqual([first.rows, first.cols], [120, 2]);
  assert.equal(
    (await knnLeaveOneOut({ features: first, labels }, { k: 1, metric: "euclidean" })).accuracy,
    1,
  );
  await assert.rejects(umap(normal("few", 15, 3)), RangeError);
});

Deno.test({
  name: "100 digits are embedded exactly as umap-js does, and as faithfully as its own fixture",
  ignore: noDigits,
  fn: async () => {
    const fixture = JSON.parse(await Deno.readTextFile(DIGITS + "umap_js_fixture.json"));
    // The fixture's generator: a xorshift of 32-bit integers from 42, mapped to [0, 1] (the package prando).
    const generator = () => {
      let state = 42;
      return () => {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        return (state + 2 ** 31) / (2 ** 32 - 1);
      };
    };
    const points = matrixOf(fixture.testData), published = matrixOf(fixture.testResults2D);
    const options = { random: generator(), neighbors: "approximate", pcaComponents: null } as const;
    const picture = await umap(points, options);
    const direct = new UMAP({ random: generator() }).fit(fixture.testData);
    assert.deepEqual(picture, matrixOf(direct));
    // The published coordinates themselves depend on the last bit of Math.pow, which differs between versions of
    // V8, and 500 epochs amplify it: only what the picture keeps can be compared.
    const ours = await trustworthiness(points, picture, 5),
      theirs = await trustworthiness(points, published, 5);
    assert.ok(theirs > 0.9 && Math.abs(ours - theirs) < 0.03, `${ours} against ${theirs}`);
  },
});

Deno.test({
  name: "umap-learn's picture of the 1,797 digits has the trustworthiness and accuracy it is known for",
  ignore: noDigits,
  fn: async () => {
    const { features, labels } = await digits(), stored = await readNpy(DIGITS + "digits_embedding_42.npy");
    const picture = { data: Float64Array.from(stored.data as Float32Array), rows: 1797, cols: 2 };
    // Known for this file: trustworthiness 0.9904 at k = 10, leave-one-out accuracy 97.9 % in the plane, 98.8 % raw.
    assert.equal((await trustworthiness(features, picture, 10)).toFixed(4), "0.9904");
    const oneNearest = { k: 1, metric: "euclidean" } as const;
    const plane = await knnLeaveOneOut({ features: picture, labels }, oneNearest);
    const raw = await knnLeaveOneOut({ features, labels }, oneNearest);
    assert.deepEqual([plane.accuracy.toFixed(3), raw.accuracy.toFixed(3)], ["0.979", "0.988"]);
  },
});

Deno.test({
  name: "our picture of 600 digits keeps neighbourhoods and classes",
  ignore: noDigits,
  fn: async () => {
    const all = await digits(), first = Array.from({ length: 600 }, (_, i) => i);
    const features = takeRows(all.features, first), labels = all.labels.slice(0, 600);
    const picture = await umap(features);
    const trust = await trustworthiness(features, picture, 10);
    const { accuracy } = await knnLeaveOneOut({ features: picture, labels }, { k: 1, metric: "euclidean" });
    assert.ok(trust > 0.97 && accuracy > 0.92, `trustworthiness ${trust}, accuracy ${accuracy}`);
  },
});
