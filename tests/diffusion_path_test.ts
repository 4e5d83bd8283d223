import assert from "node:assert/strict";
import fc from "fast-check";
import * as tf from "@tensorflow/tfjs";
import {
  alignmentLoss,
  diffusionBatches,
  ditConfig,
  fillNormal,
  initProjector,
  interpolateNoise,
  learningRateAt,
  noiseOf,
  parseTrainingSettings,
  pathPoint,
  pathVelocity,
  project,
  type ProjectorParams,
  sampleTimes,
  shiftTime,
  timeGrid,
} from "novae/diffusion/mod.ts";
import { float32, type HostTensor, isHostTensor, mapTree, Rng, rows } from "novae/tensor/mod.ts";

await tf.setBackend("cpu");

const time = fc.double({ min: 0, max: 1, noNaN: true });
const shiftValue = fc.double({ min: 0.01, max: 20, noNaN: true });

Deno.test("the path starts at the noise, ends at the data and moves with the velocity", () => {
  const data = tf.tensor3d([1, 2, 3, 4, 5, 6], [3, 2, 1]),
    noise = tf.tensor3d([7, -8, 9, 1, 0.3, 2], [3, 2, 1]);
  const at = [...pathPoint(data, noise, tf.tensor1d([0, 1, 0.25])).dataSync()];
  assert.deepEqual(at.slice(0, 4), [7, -8, 3, 4]);
  assert.ok(Math.abs(at[4] - (0.75 * 0.3 + 0.25 * 5)) < 1e-6 && Math.abs(at[5] - 3) < 1e-6);
  assert.deepEqual([...pathVelocity(data, noise).dataSync()].slice(0, 3), [-6, 10, -6]);
});

Deno.test("the time shift fixes both ends, grows, is undone by its inverse and moves towards noise below 1", () => {
  fc.assert(fc.property(time, time, shiftValue, (a, b, s) => {
    assert.equal(shiftTime(0, s), 0);
    assert.equal(shiftTime(1, s), 1);
    assert.ok(Math.abs(shiftTime(shiftTime(a, s), 1 / s) - a) < 1e-9);
    if (a + 1e-9 < b) assert.ok(shiftTime(a, s) < shiftTime(b, s));
    if (s < 1) assert.ok(shiftTime(a, s) <= a);
  }));
  assert.ok(Math.abs(shiftTime(0.5, 0.15) - 0.075 / 0.575) < 1e-15);
  for (const bad of [0, -1, NaN, Infinity]) assert.throws(() => shiftTime(0.5, bad), RangeError);
});

Deno.test("a time grid has one more time than steps and is evenly spaced before the shift", () => {
  assert.deepEqual([...timeGrid(4)], [0, 0.25, 0.5, 0.75, 1]);
  assert.deepEqual([...timeGrid(2, 0.5)], [0, 1 / 3, 1]);
  for (const bad of [0, 1.5, -3, NaN]) assert.throws(() => timeGrid(bad), RangeError);
});

Deno.test("training times are uniform or logit-normal, and shifted", () => {
  const n = 20_000, mean = (x: Float32Array) => x.reduce((a, b) => a + b, 0) / x.length;
  const uniform = sampleTimes(new Rng(1), n), logit = sampleTimes(new Rng(1), n, "logitNormal");
  assert.ok(Math.abs(mean(uniform) - 0.5) < 0.01 && Math.abs(mean(logit) - 0.5) < 0.01);
  // The share in the middle half is 1/2, or P(|x| < ln 3) = 0.7281 for a normal x.
  const middle = (x: Float32Array) => x.filter((t) => t > 0.25 && t < 0.75).length / n;
  assert.ok(Math.abs(middle(uniform) - 0.5) < 0.015 && Math.abs(middle(logit) - 0.7281) < 0.015);
  // E[s t / (1 + (s − 1) t)] for uniform t and s = 0.4 is s (r − 1 − ln r) / (r − 1)² with r = 0.4.
  const wanted = 0.4 * (0.4 - 1 - Math.log(0.4)) / 0.36;
  assert.ok(Math.abs(mean(sampleTimes(new Rng(2), n, "uniform", 0.4)) - wanted) < 0.01);
  // The median of a logit-normal time is the logistic function of its mean, and shifts with it.
  const low = sampleTimes(new Rng(3), n, "logitNormal", 0.5, { mean: -1, std: 0.4 }).toSorted();
  assert.ok(Math.abs(low[n / 2] - shiftTime(1 / (1 + Math.E), 0.5)) < 0.005);
  for (const bad of [{ std: 0 }, { mean: NaN }]) {
    assert.throws(() => sampleTimes(new Rng(0), 1, "logitNormal", 1, bad), RangeError);
  }
});

Deno.test("the quick noise is standard normal in its moments, its tails and its distribution function", () => {
  const n = 400_000, x = fillNormal(new Rng(5), new Float32Array(n));
  const moment = (k: number) => x.reduce((sum, v) => sum + v ** k, 0) / n;
  // Bounds of about five standard errors.
  assert.ok(Math.abs(moment(1)) < 0.008 && Math.abs(moment(2) - 1) < 0.012);
  assert.ok(Math.abs(moment(3)) < 0.035 && Math.abs(moment(4) - 3) < 0.08);
  const share = (from: number) => x.filter((v) => v > from).length / n;
  for (const [from, p] of [[-1, 0.841345], [0, 0.5], [0.5, 0.308538], [1, 0.158655], [2, 0.0227501]]) {
    assert.ok(Math.abs(share(from) - p) < 5 * Math.sqrt(p * (1 - p) / n), `P(x > ${from})`);
  }
  // Beyond 3.4426 lies the tail of the lowest layer: 0.000288 on each side.
  for (const side of [share(3.442619855899), x.filter((v) => v < -3.442619855899).length / n]) {
    assert.ok(Math.abs(side - 0.000288) < 1.5e-4);
  }
  const lagged = x.subarray(1).reduce((sum, v, i) => sum + v * x[i], 0) / n;
  assert.ok(Math.abs(lagged) < 0.008, "neighbours are not correlated");
});

Deno.test("a sample's noise depends on the seed and its number only", () => {
  const all = noiseOf(new Rng(3), [0, 1, 2, 3], [4, 2]), some = noiseOf(new Rng(3), [2, 0], [4, 2]);
  assert.deepEqual(some.data.subarray(0, 8), rows(all, 2, 3).data);
  assert.deepEqual(some.data.subarray(8), rows(all, 0, 1).data);
  assert.notDeepEqual(noiseOf(new Rng(4), [0], [4, 2]).data, rows(all, 0, 1).data);
});

Deno.test("interpolated noise has both ends; the spherical way keeps the norm, the linear one shrinks it", () => {
  const noise = noiseOf(new Rng(9), [0, 1], [64, 8]);
  const from: HostTensor = { ...rows(noise, 0, 1), shape: [64, 8] },
    to = { ...rows(noise, 1, 2), shape: [64, 8] };
  const norm = (t: HostTensor, s: number) => Math.hypot(...rows(t, s, s + 1).data) / Math.sqrt(512);
  for (const method of ["linear", "spherical"] as const) {
    const way = interpolateNoise(from, to, 5, method);
    assert.deepEqual(way.shape, [5, 64, 8]);
    assertClose(rows(way, 0, 1).data, from.data, 1e-6);
    assertClose(rows(way, 4, 5).data, to.data, 1e-6);
    const middle = norm(way, 2);
    assert.ok(method === "linear" ? middle < 0.78 : Math.abs(middle - 1) < 0.06, `${method} ${middle}`);
  }
  assert.deepEqual(interpolateNoise(from, from, 3, "spherical").data.subarray(512, 1024), from.data);
  assert.throws(() => interpolateNoise(from, to, 1), RangeError);
  assert.throws(() => interpolateNoise(from, float32([1], [1, 1]), 3), TypeError);
});

Deno.test("alignment is -1 for tokens that point alike, whatever their length, and its gradient reaches the projector", () => {
  const target = tf.tensor(new Rng(1).normal(24), [2, 3, 4]),
    lengths = tf.tensor3d([1, 2, 3, 4, 5, 6], [2, 3, 1]);
  const at = (x: tf.Tensor) => alignmentLoss(x, target).dataSync()[0];
  assert.ok(Math.abs(at(tf.mul(target, lengths)) + 1) < 1e-6 && Math.abs(at(tf.neg(target)) - 1) < 1e-6);
  assert.ok(Number.isFinite(at(tf.zerosLike(target))));
  assert.throws(() => alignmentLoss(tf.zeros([2, 3, 5]), target), TypeError);
  const host = initProjector(new Rng(2), 5, 4, 8), tokens = tf.tensor(new Rng(3).normal(30), [2, 3, 5]);
  assert.deepEqual([host.fc1.weight.shape, host.fc2.weight.shape, host.fc3.weight.shape], [[5, 8], [8, 8], [
    8,
    4,
  ]]);
  const params = mapTree<ProjectorParams>(host, isHostTensor, (leaf) => {
    const { data, shape } = leaf as HostTensor;
    return tf.tensor(data, [...shape]);
  });
  const loss = (weight: tf.Tensor) =>
    alignmentLoss(project(tokens, { ...params, fc1: { ...params.fc1, weight } }), target) as tf.Scalar;
  const gradient = tf.grad(loss)(params.fc1.weight),
    step = tf.mul(gradient, -0.05 / gradient.norm().dataSync()[0]);
  assert.ok(loss(tf.add(params.fc1.weight, step)).dataSync()[0] < loss(params.fc1.weight).dataSync()[0]);
});

Deno.test("batches are a pure function of the step, cover each epoch once and drop a share of the labels", async () => {
  const config = ditConfig("tiny", { channels: 1, grid: 1, classes: 3 });
  const count = 50, labels = Int32Array.from({ length: count }, (_, i) => i % 3);
  const latents = float32(Float32Array.from({ length: count }, (_, i) => i), [count, 1, 1]);
  const settings = parseTrainingSettings({ images: 1000, batchSize: 8, labelDropout: 0.2, seed: 4 });
  const batch = diffusionBatches(config, { latents, labels }, settings);
  const fresh = diffusionBatches(config, { latents, labels }, settings);
  await batch(3);
  assert.deepEqual(await fresh(17), await batch(17));
  assert.notDeepEqual((await batch(17)).noiseBNZ.data, (await batch(18)).noiseBNZ.data);

  const seen = new Map<number, number>();
  let dropped = 0;
  for (let step = 0; step < 25; step++) { // 200 images: each of the 50 latents four times
    const { dataBNZ, labelsB } = await batch(step);
    dataBNZ.data.forEach((value, k) => {
      seen.set(value, (seen.get(value) ?? 0) + 1);
      if (labelsB.data[k] === 3) dropped++;
      else assert.equal(labelsB.data[k], value % 3, "a label stays with its latent");
    });
  }
  assert.deepEqual([...new Set(seen.values())], [4]);
  assert.ok(dropped > 20 && dropped < 60, `dropped ${dropped} of 200`);
});

Deno.test("the learning rate warms up, stays and cools down to nearly zero", () => {
  const settings = parseTrainingSettings({
    images: 1000,
    batchSize: 10,
    learningRate: 2,
    warmupImages: 100,
    cooldown: 0.2,
  });
  const rates = Array.from({ length: 100 }, (_, step) => learningRateAt(settings, step));
  assert.ok(Math.abs(rates[0] - 0.2) < 1e-12 && rates[9] === 2 && rates[50] === 2);
  assert.ok(Math.abs(rates[90] - 1) < 0.11 && Math.abs(rates[99] - 0.1) < 1e-9);
});

Deno.test("latents and labels that do not fit are refused in one line", () => {
  const config = ditConfig("tiny", { channels: 2, grid: 1, classes: 3 });
  const settings = parseTrainingSettings({ images: 10 });
  const latents = float32([1, 2, 3, 4], [2, 1, 2]);
  const refused = (data: { latents: HostTensor; labels: number[] }, message: RegExp) =>
    assert.throws(() => diffusionBatches(config, data, settings), { name: "DataError", message });
  refused({ latents, labels: [1] }, /2 labels are needed, got 1/);
  refused({ latents, labels: [1, 3] }, /label 1 must be an integer in \[0, 3\), got 3/);
  refused(
    { latents: float32([1, 2], [2, 1, 1]), labels: [0, 1] },
    /\[1 or more, 1, 2\], got \[2, 1, 1\]/,
  );
});

Deno.test("settings with an unknown key or an impossible value are refused", () => {
  const refused = (input: object, message: RegExp) =>
    assert.throws(() => parseTrainingSettings({ images: 10, ...input }), { name: "ConfigError", message });
  refused({ batchsize: 3 }, /batchsize/);
  refused({ learningRate: -1 }, /learningRate/);
  refused({ labelDropout: 1.5 }, /labelDropout/);
  refused({ images: 0 }, /images/);
});

function assertClose(got: ArrayLike<number>, wanted: ArrayLike<number>, tolerance: number): void {
  assert.equal(got.length, wanted.length);
  for (let i = 0; i < got.length; i++) {
    assert.ok(Math.abs(got[i] - wanted[i]) <= tolerance, `value ${i}: ${got[i]} is not ${wanted[i]}`);
  }
}
