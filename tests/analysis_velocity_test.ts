import assert from "node:assert/strict";
import {
  drawMixture,
  type GaussianClass,
  type LabelledMatrix,
  matrixOf,
  mixtureDispersion,
  mixtureVelocity,
  pointVariances,
  separability,
  velocityDispersion,
} from "novae/analysis/mod.ts";
import { Rng } from "novae/tensor/mod.ts";

const ONE = { labels: Int32Array.of(0, 1), features: matrixOf([[-2], [2]]) };

Deno.test("between two points the velocity's variance is m² sech²(tmz/(1−t)²)/(1−t)² at each place, all between classes", async () => {
  const z = [-2.5, -0.3, 0, 0.05, 1.1], m = 2;
  for (const t of [0, 0.2, 0.6]) {
    const { variances, candidates } = await pointVariances(matrixOf(z.map((x) => [x])), ONE, t);
    z.forEach((x, i) => {
      const a = t * m * x / (1 - t) ** 2, wanted = m ** 2 / Math.cosh(a) ** 2 / (1 - t) ** 2;
      assertClose(variances.between[i], wanted, 1e-10);
      assertClose(variances.within[i], 0, 1e-10);
      assertClose(variances.classBetween[i], m ** 2 / (1 - t) ** 2, 1e-10);
      const p = 1 / (1 + Math.exp(-2 * a));
      assertClose(candidates[i], Math.exp(-p * Math.log(p) - (1 - p) * Math.log(1 - p)), 1e-9);
    });
  }
});

Deno.test("over the path between two points the mean variance is that of a binary signal in Gaussian noise", async () => {
  // E[sech²] by quadrature: m²(1 − ∫ tanh(s − √s·y) φ(y) dy) with s = (tm/(1 − t))².
  const t = 0.3, m = 2, s = (t * m / (1 - t)) ** 2;
  let mmse = 1;
  for (let y = -9; y <= 9; y += 1e-3) {
    mmse -= Math.tanh(s - Math.sqrt(s) * y) * Math.exp(-y * y / 2) / Math.sqrt(2 * Math.PI) * 1e-3;
  }
  const found = await velocityDispersion(ONE, { t, points: 40_000 });
  const wanted = m ** 2 * mmse / (1 - t) ** 2;
  assertClose(found.between, wanted, 0.06); // four standard errors: sech² deviates by 0.37 at most
  assert.equal(found.velocityVariance, 5);
  assertClose(found.classShare, found.between / 5, 1e-12);
  assertClose(found.leastLoss, found.between, 1e-12);
  assertClose(found.dispersion, 1, 1e-12);
});

Deno.test("one Gaussian class has the variance σ²/(t²σ² + (1−t)²) everywhere, as a mixture and as many data", async () => {
  const std = 1.5, features = matrixOf(quantiles(4001).map((x) => [std * x])), z = [[-1], [0.2], [0.9]];
  for (const t of [0, 0.3, 0.5]) {
    const wanted = std ** 2 / ((t * std) ** 2 + (1 - t) ** 2);
    const exact = mixtureVelocity([{ mean: [0], std }], matrixOf(z), t);
    const { variances } = await pointVariances(matrixOf(z), { features, labels: new Int32Array(4001) }, t);
    z.forEach(([x], i) => {
      assertClose(exact.variances.within[i], wanted, 1e-12);
      assert.equal(exact.variances.between[i], 0);
      assertClose(
        exact.velocity.data[i],
        (t * std ** 2 - (1 - t)) / ((t * std) ** 2 + (1 - t) ** 2) * x,
        1e-12,
      );
      assertClose(variances.within[i] / wanted, 1, 2e-3); // the quantiles end at ±3.7 deviations
      assertClose(variances.between[i], 0, 1e-10);
    });
  }
});

Deno.test("a mixture's velocity is the mean of data − noise over what could be there, and its variances those of it", () => {
  const classes: GaussianClass[] = [
    { mean: [1, 0], std: 0.4, weight: 3 },
    { mean: [-0.5, 0.8], std: 0.8 },
    { mean: [0, -1], std: 0.2, weight: 0.5 },
  ];
  const z = [0.1, 0.2],
    t = 0.4,
    { velocity, classVelocities, posterior, variances } = mixtureVelocity(
      classes,
      matrixOf([z]),
      t,
    );
  // Quadrature over the data: the noise is what is left of the point.
  const step = 0.02, sums = classes.map(() => ({ weight: 0, u: [0, 0], squares: 0 }));
  const total = classes.reduce((sum, { weight = 1 }) => sum + weight, 0);
  classes.forEach(({ mean, std, weight = 1 }, c) => {
    for (let a = -5; a <= 5; a += step) {
      for (let b = -5; b <= 5; b += step) {
        const noise = [(z[0] - t * a) / (1 - t), (z[1] - t * b) / (1 - t)];
        const density = weight / total / std ** 2 *
          Math.exp(
            -((a - mean[0]) ** 2 + (b - mean[1]) ** 2) / (2 * std ** 2) - (noise[0] ** 2 + noise[1] ** 2) / 2,
          );
        const u = [a - noise[0], b - noise[1]];
        sums[c].weight += density;
        u.forEach((value, j) => sums[c].u[j] += density * value);
        sums[c].squares += density * (u[0] ** 2 + u[1] ** 2);
      }
    }
  });
  const all = sums.reduce((sum, { weight }) => sum + weight, 0);
  const v = [0, 1].map((j) => sums.reduce((sum, { u }) => sum + u[j], 0) / all);
  let within = 0, between = 0;
  sums.forEach(({ weight, u, squares }, c) => {
    const own = u.map((value) => value / weight), p = weight / all;
    assertClose(posterior.data[c], p, 1e-8);
    own.forEach((value, j) => assertClose(classVelocities[c].data[j], value, 1e-8));
    within += p * (squares / weight - own[0] ** 2 - own[1] ** 2);
    between += p * ((own[0] - v[0]) ** 2 + (own[1] - v[1]) ** 2);
  });
  v.forEach((value, j) => assertClose(velocity.data[j], value, 1e-8));
  assertClose(variances.within[0], within, 1e-8);
  assertClose(variances.between[0], between, 1e-8);
});

Deno.test("the velocity is finite at both ends of the path: mean − noise at t = 0, and the point itself at t = 1", () => {
  const classes = [{ mean: [3, 0], std: 0.5 }, { mean: [-3, 0], std: 0.5 }], z = matrixOf([[2.5, 0.4]]);
  assertAllClose(mixtureVelocity(classes, z, 0).velocity.data, [-2.5, -0.4], 1e-12);
  assertAllClose(mixtureVelocity(classes, z, 1).velocity.data, [2.5, 0.4], 1e-12);
});

Deno.test("for classes of one deviation the dispersion is (1−t)²B/((1−t)²B + Dσ²s), whatever the point", () => {
  for (const [gap, t] of [[0.5, 0], [0.5, 0.4], [2, 0.4], [2, 0.8]]) {
    const std = 0.6, classes = [{ mean: [gap, 0], std }, { mean: [-gap, 0], std }];
    const s = (t * std) ** 2 + (1 - t) ** 2, B = (1 - t) ** 2 * gap ** 2;
    const found = mixtureDispersion(classes, { t, points: 50 });
    assertClose(found.dispersion, B / (B + 2 * std ** 2 * s), 1e-12);
    assertClose(found.velocityVariance, 2 + gap ** 2 + 2 * std ** 2, 1e-12);
  }
});

Deno.test("the dispersion grows with the distance of the classes, and the class settles more until the point tells it", async () => {
  const at = (gap: number, t: number) =>
    mixtureDispersion([{ mean: [gap, 0], std: 0.5 }, { mean: [-gap, 0], std: 0.5 }], { t });
  for (const t of [0, 0.3, 0.7]) {
    const rising = [0.1, 0.5, 1, 2, 4].map((gap) => at(gap, t).dispersion);
    assert.ok(rising.every((value, i) => i === 0 || value > rising[i - 1]), `${rising}`);
  }
  const noise = [0.1, 0.5, 1, 2, 4].map((gap) => at(gap, 0).classShare);
  assert.ok(noise.every((value, i) => i === 0 || value > noise[i - 1]), `${noise}`);
  assert.ok(at(4, 0.8).classShare < 1e-6, "far classes are told apart by the point");
  const data = (gap: number) => labelled(8, gap, 200);
  const empirical = await Promise.all(
    [0, 1, 2, 4].map((gap) => velocityDispersion(data(gap), { t: 0.1, points: 50 })),
  );
  assert.ok(empirical.every(({ dispersion }, i) => i === 0 || dispersion > empirical[i - 1].dispersion));
});

Deno.test("data drawn from a mixture have its dispersion, and the parts of the variance add up", async () => {
  const classes = [{ mean: [1, 0], std: 0.5, weight: 2 }, { mean: [-1, 0.5], std: 0.8 }], t = 0.35;
  const { data: features, labels } = drawMixture(classes, 4000, 3);
  const drawn = await velocityDispersion({ features, labels }, { t, points: 500, seed: 1 });
  const exact = mixtureDispersion(classes, { t, points: 40_000 });
  for (const key of ["within", "between", "velocityVariance", "unexplained", "dispersion"] as const) {
    assert.ok(Math.abs(drawn[key] / exact[key] - 1) < 0.08, `${key}: ${drawn[key]} and ${exact[key]}`);
  }
  assert.ok(drawn.candidates > 500 && drawn.candidates < 4000);
  const merged = await velocityDispersion({ features, labels: new Int32Array(4000) }, {
    t,
    points: 500,
    seed: 1,
  });
  assertClose(merged.within, drawn.within + drawn.between, 1e-9);
  assert.equal(merged.between, 0);
});

Deno.test("at t = 0 the dispersion is the share of scatter between classes, on the device as on the host", async () => {
  const data = labelled(40, 0.5, 300);
  const { explainedScatter } = separability(data);
  for (const hostLimit of [Infinity, 0]) {
    const found = await velocityDispersion(data, { t: 0, points: 20, hostLimit });
    assertClose(found.dispersion, explainedScatter, 1e-6);
    assertClose(found.classShare, found.between / found.velocityVariance, 1e-12);
    assertClose(found.candidates, 300, 1e-2);
  }
  const [host, device] = await Promise.all(
    [Infinity, 0].map((hostLimit) => velocityDispersion(data, { t: 0.15, points: 40, hostLimit })),
  );
  for (const key of ["within", "between", "dispersion", "candidates"] as const) {
    assert.ok(Math.abs(device[key] / host[key] - 1) < 1e-3, `${key}: ${device[key]} and ${host[key]}`);
  }
});

Deno.test("a common offset and the numbering of classes change nothing, and points far away stay finite", async () => {
  const data = labelled(5, 1, 60), t = 0.5, points = matrixOf([[40, 0, 0, 0, 0], [-900, 900, 0, 0, 0]]);
  const { variances } = await pointVariances(points, data, t);
  for (const values of Object.values(variances)) {
    assert.ok(values.every((value: number) => Number.isFinite(value) && value >= 0));
  }
  const moved = {
    labels: data.labels.map((label) => 7 - 3 * label),
    features: { ...data.features, data: data.features.data.map((x) => x + 1000) },
  };
  const shifted = { ...points, data: points.data.map((x) => x + 1000 * t) };
  const again = (await pointVariances(shifted, moved, t)).variances;
  assertAllClose(again.within, [...variances.within], 1e-6);
  assertAllClose(again.classBetween, [...variances.classBetween], 1e-6);
});

Deno.test("what cannot be measured is refused in one line", async () => {
  await assert.rejects(
    velocityDispersion(ONE, { t: 1 }),
    new RangeError("Cannot measure velocities: t must be in [0, 1), got 1"),
  );
  await assert.rejects(
    velocityDispersion(ONE, { t: 0, points: 0 }),
    /points must be a positive integer, got 0/,
  );
  await assert.rejects(
    velocityDispersion({ ...ONE, labels: Int32Array.of(1) }, { t: 0 }),
    { name: "TypeError", message: "Cannot measure velocities: 2 rows need as many labels, got 1" },
  );
  assert.throws(() => mixtureVelocity([], matrixOf([[0]]), 0.5), /at least one is needed, got 0/);
  assert.throws(
    () => mixtureVelocity([{ mean: [0], std: 0 }], matrixOf([[0]]), 0.5),
    /std must be a positive number/,
  );
  assert.throws(
    () => mixtureVelocity([{ mean: [0, 1], std: 1 }], matrixOf([[0]]), 0.5),
    /must have 1 numbers, got 2/,
  );
  assert.throws(
    () => mixtureVelocity([{ mean: [0], std: 1 }], matrixOf([[0]]), 1.5),
    /t must be in \[0, 1\], got 1.5/,
  );
});

/** Two classes around ±gap along every axis. */
function labelled(dims: number, gap: number, count: number): LabelledMatrix {
  const labels = Int32Array.from({ length: count }, (_, i) => i % 2);
  const data = Float64Array.from(
    new Rng(5).normal(count * dims),
    (x, i) => x + gap * (2 * labels[Math.floor(i / dims)] - 1),
  );
  return { labels, features: { data, rows: count, cols: dims } };
}

/** Quantiles of the standard normal distribution at (i + ½)/count, by bisection of its integral. */
function quantiles(count: number): number[] {
  const steps = 20_000, low = -7, width = 14 / steps, cumulative = new Float64Array(steps + 1);
  for (let i = 0; i < steps; i++) {
    cumulative[i + 1] = cumulative[i] +
      width * Math.exp(-((low + (i + 0.5) * width) ** 2) / 2) / Math.sqrt(2 * Math.PI);
  }
  let at = 0;
  return Array.from({ length: count }, (_, i) => {
    const wanted = (i + 0.5) / count;
    while (cumulative[at + 1] < wanted) at++;
    return low + width * (at + (wanted - cumulative[at]) / (cumulative[at + 1] - cumulative[at]));
  });
}

function assertClose(got: number, wanted: number, tolerance: number): void {
  assert.ok(Math.abs(got - wanted) <= tolerance, `wanted ${wanted}, got ${got}`);
}

function assertAllClose(got: ArrayLike<number>, wanted: ArrayLike<number>, tolerance: number): void {
  assert.equal(got.length, wanted.length);
  for (let i = 0; i < got.length; i++) assertClose(got[i], wanted[i], tolerance);
}
