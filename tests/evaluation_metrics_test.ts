import assert from "node:assert/strict";
import fc from "fast-check";
import {
  type Matrix64,
  matrixOf,
  multiply,
  symmetricEigen,
  symmetricEigenvalues,
  takeRows,
} from "novae/analysis/mod.ts";
import {
  fidFromFeatures,
  frechetDistance,
  FrechetReference,
  GaussianStats,
  inceptionScore,
  kernelDistance,
  manifoldMetrics,
  psnr,
  reconstructionMetrics,
  ssim,
} from "novae/evaluation/mod.ts";
import { float32, full, type HostTensor, type Matrix, Rng } from "novae/tensor/mod.ts";

const golden = JSON.parse(await Deno.readTextFile(new URL("golden/evaluation.json", import.meta.url)));
const IDS = { extractor: "e", reference: "r" };

/** The generator of golden/evaluation.py. */
function uniform(seed: number, count: number): Float64Array {
  let x = seed;
  return Float64Array.from({ length: count }, () => {
    x = (Math.imul(1664525, x) + 1013904223) >>> 0;
    return (x >>> 8) / 2 ** 24;
  });
}

/** The features of golden/evaluation.py. */
function features(seed: number, rows: number, cols: number, shift = 0): Matrix64 {
  const mix = { data: uniform(77777, cols * cols).map((v) => v - 0.3), rows: cols, cols };
  const mixed = multiply({ data: uniform(seed, rows * cols), rows, cols }, mix);
  return { ...mixed, data: mixed.data.map((v) => v * v + shift) };
}

function normal(label: string, rows: number, cols: number): Matrix64 {
  return { data: Float64Array.from(new Rng(41).split(label).normal(rows * cols)), rows, cols };
}

function close(actual: number, expected: number, tolerance: number): void {
  assert.ok(Math.abs(actual - expected) <= tolerance, `wanted ${expected}, got ${actual}`);
}

/** Rows whose sample mean and covariance are exactly the given diagonal ones. */
function exactly(mean: number[], variances: number[]): Matrix64 {
  const d = mean.length, rows: number[][] = [];
  // ± one axis at a time: covariance entry 2s²/(2d − 1).
  for (let j = 0; j < d; j++) {
    for (const sign of [1, -1]) {
      rows.push(mean.map((m, i) => m + (i === j ? sign * Math.sqrt(variances[j] * (2 * d - 1) / 2) : 0)));
    }
  }
  return matrixOf(rows);
}

Deno.test("the Fréchet distance of diagonal Gaussians is |μ₁−μ₂|² + Σ(σ₁−σ₂)²", () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.tuple(
          fc.integer({ min: -20, max: 20 }),
          fc.integer({ min: -20, max: 20 }),
          fc.nat(50),
          fc.nat(50),
        ),
        { minLength: 1, maxLength: 5 },
      ),
      (dims) => {
        const a = exactly(dims.map((d) => d[0]), dims.map((d) => d[2]));
        const b = exactly(dims.map((d) => d[1]), dims.map((d) => d[3]));
        const expected = dims.reduce(
          (sum, [m, n, v, w]) => sum + (m - n) ** 2 + (Math.sqrt(v) - Math.sqrt(w)) ** 2,
          0,
        );
        close(frechetDistance(GaussianStats.of(a), GaussianStats.of(b)), expected, 1e-5 + 1e-12 * expected);
      },
    ),
    { seed: 2 },
  );
});

Deno.test("the Fréchet distance of two rank-one Gaussians follows from the angle between them", () => {
  // S = u uᵀ, T = v vᵀ: tr (S^½ T S^½)^½ = |u·v|.
  const u = [1, 2, 2], v = [2, 0, -1], line = (x: number[]) => matrixOf([x, x.map((c) => -c)]);
  const inner = u.reduce((s, c, i) => s + c * v[i], 0),
    square = (x: number[]) => x.reduce((s, c) => s + c * c, 0);
  // Two rows ±x have the covariance 2xxᵀ.
  const expected = 2 * (square(u) + square(v)) - 2 * 2 * Math.abs(inner);
  close(frechetDistance(GaussianStats.of(line(u)), GaussianStats.of(line(v))), expected, 1e-6);
});

Deno.test("the Fréchet distance of a set to itself is 0, symmetric, and kept by a common rotation and shift", () => {
  const rotation = symmetricEigen(GaussianStats.of(features(9, 30, 8)).covariance()).vectors;
  const turned = (x: Matrix, by: number) => {
    const moved = multiply(x, rotation);
    return { ...moved, data: moved.data.map((v, i) => v + by * (i % 8)) };
  };
  fc.assert(
    fc.property(fc.nat(1000), fc.nat(1000), fc.integer({ min: -5, max: 5 }), (s, t, by) => {
      const a = features(2 * s + 1, 30, 8), b = features(2 * t + 5000, 40, 8, 0.3);
      const [sa, sb] = [GaussianStats.of(a), GaussianStats.of(b)], distance = frechetDistance(sa, sb);
      assert.ok(distance > 0);
      close(frechetDistance(sa, sa), 0, 1e-10);
      close(frechetDistance(sb, sa), distance, 1e-9);
      close(
        frechetDistance(GaussianStats.of(turned(a, by)), GaussianStats.of(turned(b, by))),
        distance,
        1e-9,
      );
    }),
    { seed: 3, numRuns: 40 },
  );
});

Deno.test("Fréchet distances equal PyTorch's symmetric roots, full rank and rank-deficient", () => {
  const [a, b, few] = [features(1001, 60, 8), features(20002, 50, 8, 0.1), features(300003, 6, 8)].map(
    GaussianStats.of,
  );
  close(frechetDistance(a, b), golden.frechet, 1e-10);
  close(frechetDistance(b, a), golden.frechet, 1e-10);
  // Roots of eigenvalues that are zero up to rounding: about 1e-8 each.
  close(frechetDistance(few, b), golden.frechetRankDeficient, 1e-6);
  const symmetric = uniform(21, 49),
    values = symmetricEigenvalues({
      data: symmetric.map((v, i) => v + symmetric[(i % 7) * 7 + Math.floor(i / 7)]),
      rows: 7,
      cols: 7,
    });
  values.forEach((v, i) => close(v, golden.eigenvalues[i], 1e-13));
});

Deno.test("a Fréchet result says its numbers and hashes, and its standard error is that of repeated draws", () => {
  const reference = FrechetReference.of(normal("reference", 4000, 12)),
    draws: number[] = [],
    corrected: number[] = [];
  let error = 0;
  for (let i = 0; i < 40; i++) {
    const result = fidFromFeatures(normal(`draw ${i}`, 300, 12), reference, IDS);
    draws.push(result.value);
    corrected.push(result.biasCorrected);
    error += result.standardError / 40;
  }
  const mean = draws.reduce((a, b) => a + b) / 40;
  const spread = Math.sqrt(draws.reduce((s, v) => s + (v - mean) ** 2, 0) / 39);
  assert.ok(
    error / spread > 0.6 && error / spread < 1.7,
    `standard error ${error}, spread of 40 draws ${spread}`,
  );
  // Both sets have the same distribution: what is left is bias, most of which falls as 1/n.
  const left = corrected.reduce((a, b) => a + b) / 40;
  assert.ok(mean > 0.1 && Math.abs(left) < mean / 10, `${mean} before and ${left} after the correction`);
  const { samples, references, dims, extractor, reference: hash } = fidFromFeatures(
    normal("x", 20, 12),
    reference,
    IDS,
  );
  assert.deepEqual([samples, references, dims, extractor, hash], [20, 4000, 12, "e", "r"]);
});

Deno.test("standard errors do not depend on how samples of several classes are ordered", async () => {
  // Ten classes far apart: groups with unequal shares of them would give errors many times too large.
  const sample = (label: string) => {
    const x = normal(label, 400, 3);
    for (let i = 0; i < 400; i++) x.data[3 * i + i % 2] += 10 * (i % 10);
    return x;
  };
  const inTurn = sample("turn"), reference = sample("fixed");
  const sorted = takeRows(inTurn, Array.from({ length: 400 }, (_, i) => (i % 40) * 10 + Math.floor(i / 40)));
  const shuffled = takeRows(inTurn, new Rng(9).permutation(400));
  const frechet = [inTurn, sorted, shuffled].map((x) => fidFromFeatures(x, reference, IDS));
  const kernel = [];
  for (const x of [inTurn, sorted, shuffled]) kernel.push(await kernelDistance(x, reference));
  for (const [a, b, c] of [frechet, kernel]) {
    for (const other of [b, c]) {
      close(other.value, a.value, 1e-9 * Math.abs(a.value) + 1e-8);
      const ratio = other.standardError / a.standardError;
      assert.ok(ratio > 0.4 && ratio < 2.5, `${other.standardError} against ${a.standardError}`);
    }
  }
});

Deno.test("the value of a Fréchet result is the plain distance, whatever the groups", () => {
  const a = normal("a", 103, 5),
    b = normal("b", 90, 5),
    plain = frechetDistance(GaussianStats.of(a), GaussianStats.of(b));
  for (const groups of [2, 7, 10]) close(fidFromFeatures(a, b, { ...IDS, groups }).value, plain, 1e-12);
});

Deno.test("too few samples and unequal features are refused", () => {
  assert.throws(() => fidFromFeatures(normal("a", 19, 2), normal("b", 50, 2), IDS), {
    name: "RangeError",
    message:
      "Cannot give a Fréchet distance: at least 2 groups of 2 samples are needed, got 19 samples in 10 groups",
  });
  assert.throws(() => fidFromFeatures(normal("a", 30, 2), normal("b", 50, 3), IDS), TypeError);
});

Deno.test("the kernel distance equals PyTorch's, on the host and on the device, and is unbiased", async () => {
  const a = features(1001, 60, 8), b = features(20002, 50, 8, 0.1);
  for (const [hostLimit, tolerance] of [[Infinity, 1e-9], [0, 1e-3]]) {
    close((await kernelDistance(a, b, { hostLimit })).value, golden.kid, tolerance);
  }
  const draws: number[] = [];
  let error = 0;
  const reference = normal("kid reference", 300, 6);
  for (let i = 0; i < 30; i++) {
    const result = await kernelDistance(normal(`kid ${i}`, 120, 6), reference);
    draws.push(result.value);
    error += result.standardError / 30;
  }
  const mean = draws.reduce((s, v) => s + v) / 30;
  const spread = Math.sqrt(draws.reduce((s, v) => s + (v - mean) ** 2, 0) / 29);
  assert.ok(Math.abs(mean) < 3 * spread / Math.sqrt(30) + 0.01, `mean ${mean}, spread ${spread}`);
  assert.ok(error / spread > 0.5 && error / spread < 2, `standard error ${error}, spread ${spread}`);
});

Deno.test("precision, recall, density and coverage equal a direct count", async () => {
  const a = features(1001, 60, 8), b = features(20002, 50, 8, 0.1);
  for (const hostLimit of [Infinity, 0]) {
    const { precision, recall, density, coverage, samples, references } = await manifoldMetrics(a, b, {
      k: 3,
      hostLimit,
    });
    close(precision, golden.manifold.precision, 1e-12);
    close(recall, golden.manifold.recall, 1e-12);
    close(density, golden.manifold.density, 1e-12);
    close(coverage, golden.manifold.coverage, 1e-12);
    assert.deepEqual([samples, references], [60, 50]);
  }
});

Deno.test("dropped modes lower recall and coverage, samples off the data lower precision and density", async () => {
  const data = normal("modes", 200, 3);
  for (let i = 0; i < 200; i += 2) data.data[3 * i] += 50;
  const oneMode = takeRows(data, Array.from({ length: 100 }, (_, i) => 2 * i));
  const dropped = await manifoldMetrics(oneMode, data);
  assert.deepEqual([dropped.precision, dropped.recall, dropped.coverage], [1, 0.5, 0.5]);
  const strays = { ...data, data: data.data.map((v, i) => i < 300 ? v + 1000 : v) };
  const off = await manifoldMetrics(strays, data);
  assert.equal(off.precision, 0.5);
  assert.ok(off.density < 0.6);
});

Deno.test("the inception score is 1 for one answer, the number of classes for all of them, and PyTorch's between", () => {
  const same = matrixOf(Array.from({ length: 20 }, () => [0.7, 0.2, 0.1]));
  close(inceptionScore(same, { splits: 2 }).mean, 1, 1e-12);
  const each = matrixOf(Array.from({ length: 30 }, (_, i) => [0, 1, 2].map((c) => c === i % 3 ? 1 : 0)));
  const all = inceptionScore(each, { splits: 1 });
  close(all.mean, 3, 1e-12);
  assert.deepEqual([all.samples, all.classes, all.splits, all.std], [30, 3, 1, 0]);
  const logits = uniform(31, 200).map((v) => Math.exp(6 * v));
  const probabilities = matrixOf(Array.from({ length: 40 }, (_, i) => {
    const row = logits.subarray(5 * i, 5 * i + 5), sum = row.reduce((a, b) => a + b);
    return row.map((v) => v / sum);
  }));
  close(inceptionScore(probabilities, { splits: 1 }).mean, golden.inceptionScore, 1e-10);
  const ordered = inceptionScore(probabilities, { splits: 4, seed: null });
  const quarters = [0, 1, 2, 3].map((q) =>
    inceptionScore(takeRows(probabilities, Array.from({ length: 10 }, (_, i) => 10 * q + i)), { splits: 1 })
      .mean
  );
  close(ordered.mean, quarters.reduce((a, b) => a + b) / 4, 1e-12);
  assert.throws(() => inceptionScore(matrixOf([[0.5, 0.6]]), { splits: 1 }), RangeError);
});

function goldenImages(): { images: HostTensor; noisy: HostTensor } {
  const shape = [3, 16, 20, 3],
    size = 16 * 20 * 3,
    clean = uniform(4711, 3 * size),
    noise = uniform(81500, 3 * size);
  const strength = [0.05, 0.3, 1];
  const mixed = clean.map((v, i) =>
    (1 - strength[Math.floor(i / size)]) * v + strength[Math.floor(i / size)] * noise[i]
  );
  return {
    images: float32(Float32Array.from(clean), shape),
    noisy: float32(Float32Array.from(mixed), shape),
  };
}

Deno.test("PSNR and SSIM equal PyTorch's, image by image", () => {
  const { images, noisy } = goldenImages();
  psnr(images, noisy).values.forEach((v, i) => close(v, golden.psnr[i], 1e-9));
  psnr(images, noisy, { quantize: false }).values.forEach((v, i) => close(v, golden.psnrFloat[i], 1e-9));
  ssim(images, noisy).values.forEach((v, i) => close(v, golden.ssim[i], 1e-10));
  const both = reconstructionMetrics(images, noisy);
  close(both.psnr, golden.psnr.reduce((a: number, b: number) => a + b) / 3, 1e-9);
  close(both.ssim, golden.ssim.reduce((a: number, b: number) => a + b) / 3, 1e-10);
  assert.equal(both.samples, 3);
});

Deno.test("equal images have SSIM 1 and no noise; a constant error of a tenth is 20 dB", () => {
  const { images } = goldenImages();
  close(ssim(images, images).mean, 1, 1e-12);
  assert.equal(psnr(images, images).mean, Infinity);
  const grey = full([2, 12, 12, 3], 0.5), lighter = full([2, 12, 12, 3], 0.6);
  close(psnr(grey, lighter, { quantize: false }).mean, 20, 1e-5);
  // Flat images differ in luminance only.
  close(ssim(grey, lighter).mean, (2 * 0.5 * 0.6 + 1e-4) / (0.5 ** 2 + 0.6 ** 2 + 1e-4), 1e-6);
});

Deno.test("SSIM is symmetric, at most 1 and kept by mirroring", () => {
  const { images, noisy } = goldenImages(),
    mirrored = (t: HostTensor) => {
      const [b, h, w, c] = t.shape, data = new Float32Array(t.data.length);
      for (let i = 0; i < data.length; i++) {
        const x = Math.floor(i / c) % w, row = Math.floor(i / (c * w));
        data[(row * w + w - 1 - x) * c + i % c] = t.data[i];
      }
      return float32(data, [b, h, w, c]);
    };
  const { values } = ssim(images, noisy);
  ssim(noisy, images).values.forEach((v, i) => close(v, values[i], 1e-12));
  ssim(mirrored(images), mirrored(noisy)).values.forEach((v, i) => close(v, values[i], 1e-12));
  assert.ok(values.every((v) => v < 1));
});

Deno.test("images of unequal shape or smaller than the window are refused", () => {
  assert.throws(() => psnr(full([1, 12, 12, 3], 0), full([1, 12, 13, 3], 0)), TypeError);
  assert.throws(() => ssim(full([1, 10, 12, 3], 0), full([1, 10, 12, 3], 0)), {
    name: "RangeError",
    message: "Cannot compare images: the structural similarity needs at least 11×11 pixels, got 10×12",
  });
});
