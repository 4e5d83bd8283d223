import assert from "node:assert/strict";
import {
  classify,
  type LabelledMatrix,
  type LinearClassifier,
  linearProbe,
  matrixOf,
  rowOf,
} from "novae/analysis/mod.ts";
import { type Matrix, Rng } from "novae/tensor/mod.ts";

/** Normal clouds around a centre for each class, with columns of very different scales and offsets. */
function clouds(label: string, rows: number, cols: number, classes: number, spread = 1): LabelledMatrix {
  const rng = new Rng(17), centres = rng.split("centres").normal(classes * cols);
  const data = Float64Array.from(rng.split(label).normal(rows * cols));
  const labels = Int32Array.from({ length: rows }, (_, i) => (i * 7) % classes);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < cols; j++) {
      const value = spread * centres[labels[i] * cols + j] + data[i * cols + j];
      data[i * cols + j] = value * 10 ** (j % 3 - 1) + 5 * j;
    }
  }
  return { features: { data, rows, cols }, labels };
}

/** Standardised features and the probe's weights for them, undoing the folding. */
function standardised({ data, rows, cols }: Matrix, { weight, bias }: LinearClassifier) {
  const x = Float64Array.from(data), w = weight.data.slice(), b = bias.slice(), classes = bias.length;
  for (let j = 0; j < cols; j++) {
    let mean = 0, square = 0;
    for (let i = 0; i < rows; i++) mean += data[i * cols + j] / rows;
    for (let i = 0; i < rows; i++) square += (data[i * cols + j] - mean) ** 2 / rows;
    const std = Math.sqrt(square);
    for (let i = 0; i < rows; i++) x[i * cols + j] = (data[i * cols + j] - mean) / std;
    for (let c = 0; c < classes; c++) {
      b[c] += mean * weight.data[j * classes + c];
      w[j * classes + c] *= std;
    }
  }
  return { x, w, b };
}

/** Largest entry of the gradient of the probe's objective, from the definition. */
function gradientMax(
  train: LabelledMatrix,
  probe: LinearClassifier,
  l2: number,
  loss: "softmax" | "ridge",
): number {
  const { rows, cols } = train.features, classes = probe.bias.length;
  const { x, w, b } = standardised(train.features, probe);
  const gradW = w.map((v) => l2 * v), gradB = new Float64Array(classes);
  for (let i = 0; i < rows; i++) {
    const out = Array.from({ length: classes }, (_, c) => {
      let sum = b[c];
      for (let j = 0; j < cols; j++) sum += x[i * cols + j] * w[j * classes + c];
      return sum;
    });
    const norm = out.reduce((s, v) => s + Math.exp(v), 0);
    for (let c = 0; c < classes; c++) {
      const p = loss === "softmax" ? Math.exp(out[c]) / norm : out[c];
      const residual = (p - (train.labels[i] === c ? 1 : 0)) / rows;
      gradB[c] += residual;
      for (let j = 0; j < cols; j++) gradW[j * classes + c] += residual * x[i * cols + j];
    }
  }
  return Math.max(...[...gradW, ...gradB].map(Math.abs));
}

Deno.test("the gradient of each probe's objective is zero at its solution, on the host and on the device", async () => {
  const train = clouds("train", 90, 6, 3), test = clouds("test", 60, 6, 3);
  for (const loss of ["softmax", "ridge"] as const) {
    for (const [hostLimit, tolerance] of [[Infinity, 1e-6], [0, 1e-5]]) {
      const result = await linearProbe(train, test, { loss, l2: 0.05, hostLimit, tolerance: 1e-7 });
      const residual = gradientMax(train, result.classifier, 0.05, loss);
      assert.ok(residual < tolerance, `${loss}, limit ${hostLimit}: gradient ${residual}`);
    }
  }
});

Deno.test("conjugate gradients give the ridge solution of many features", async () => {
  const train = clouds("wide", 120, 300, 4), test = clouds("wide test", 50, 300, 4);
  for (const hostLimit of [Infinity, 0]) {
    const result = await linearProbe(train, test, { loss: "ridge", l2: 0.1, hostLimit });
    assert.ok(result.iterations > 0, "300 features are not solved directly");
    // The search ends at a residual of 1e-4 of the right side, whose largest entries are about 0.1.
    const residual = gradientMax(train, result.classifier, 0.1, "ridge");
    assert.ok(residual < 1e-4, `limit ${hostLimit}: gradient ${residual}`);
  }
});

Deno.test("a probe separates classes that are far apart and finds nothing in noise", async () => {
  const far = await linearProbe(clouds("a", 200, 8, 4, 6), clouds("b", 100, 8, 4, 6));
  assert.equal(far.accuracy, 1);
  assert.deepEqual([far.samples, far.trainSamples, far.dims], [100, 200, 8]);
  const noise = await linearProbe(clouds("a", 400, 8, 4, 0), clouds("b", 400, 8, 4, 0));
  assert.ok(noise.accuracy < 0.35, `${noise.accuracy} of 1/4 by chance`);
});

Deno.test("the penalty is chosen on rows held out of training, never on the test rows", async () => {
  // More features than rows: a weak penalty overfits.
  const train = clouds("small", 60, 80, 3, 0.4), test = clouds("small test", 300, 80, 3, 0.4);
  const chosen = await linearProbe(train, test, { l2: [1e-6, 1e-3, 1] });
  assert.deepEqual(chosen.validationAccuracies.map((v) => v.l2), [1, 1e-3, 1e-6]);
  const best = Math.max(...chosen.validationAccuracies.map((v) => v.accuracy));
  assert.equal(chosen.validationAccuracies.find((v) => v.l2 === chosen.l2)?.accuracy, best);
  const shuffled = { ...test, labels: test.labels.map((l) => (l + 1) % 3) };
  assert.equal((await linearProbe(train, shuffled, { l2: [1e-6, 1e-3, 1] })).l2, chosen.l2);
  assert.deepEqual(await linearProbe(train, test, { l2: [1e-6, 1e-3, 1] }), chosen);
});

Deno.test("columns that are constant are ignored and do not break the fit", async () => {
  const train = clouds("c", 60, 3, 2, 5), test = clouds("d", 30, 3, 2, 5);
  const withConstant = ({ features, labels }: LabelledMatrix): LabelledMatrix => ({
    features: matrixOf(Array.from({ length: features.rows }, (_, i) => [...rowOf(features, i), 1e6])),
    labels,
  });
  const plain = await linearProbe(train, test, { l2: 0.01 });
  const more = await linearProbe(withConstant(train), withConstant(test), { l2: 0.01 });
  assert.equal(more.accuracy, plain.accuracy);
  assert.deepEqual([...rowOf(more.classifier.weight, 3)], [0, 0]);
});

Deno.test("a linear classifier takes the largest of x·W + b", async () => {
  const classifier = { weight: matrixOf([[1, 0, -1], [0, 1, 0]]), bias: Float64Array.of(0, 0.5, 0) };
  const features = matrixOf([[2, 0], [0, 0], [-3, 1]]);
  assert.deepEqual([...await classify(classifier, features)], [0, 1, 2]);
});

Deno.test("unusable labels and penalties are refused", async () => {
  const train = clouds("e", 20, 2, 2), test = clouds("f", 20, 2, 3);
  await assert.rejects(linearProbe(train, test), {
    name: "RangeError",
    message: "Cannot score a linear probe: labels must be below 2, got 2",
  });
  await assert.rejects(linearProbe(train, train, { l2: 0 }), RangeError);
  await assert.rejects(linearProbe(train, train, { l2: [] }), RangeError);
});
