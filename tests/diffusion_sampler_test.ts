import assert from "node:assert/strict";
import fc from "fast-check";
import * as tf from "@tensorflow/tfjs";
import {
  dit,
  ditConfig,
  type DitParams,
  guide,
  guidedVelocity,
  guidesAt,
  initDit,
  noiseOf,
  openLatentSampler,
  sample,
  sampleLatents,
  type SamplerName,
  timeGrid,
  type Velocity,
} from "novae/diffusion/mod.ts";
import { jit } from "novae/engine/mod.ts";
import { float32, type HostTensor, isHostTensor, mapTree, Rng, rows } from "novae/tensor/mod.ts";

await tf.setBackend("cpu");

const CONFIG = ditConfig("tiny", { channels: 3, grid: 2, classes: 2 });

/** Weights under which the velocity depends on latents, time and label: no zero matrix is left. */
function livelyParams(): DitParams<HostTensor> {
  const rng = new Rng(11);
  return mapTree(initDit(rng, CONFIG), isHostTensor, (leaf, path) => {
    const { data, shape } = leaf as HostTensor;
    const extra = rng.split("extra", path).normal(data.length);
    return float32(Float32Array.from(data, (v, i) => v + 0.1 * extra[i]), shape);
  });
}

async function follow(velocity: Velocity, from: number[], steps: number, sampler: SamplerName, shift = 1) {
  const end = await sample(velocity, float32(from, [from.length]), {
    steps,
    sampler,
    shift,
    device: "tfjs-cpu",
  });
  const { data } = await end.read();
  end.dispose();
  return data;
}

Deno.test("both samplers follow a constant velocity exactly, whatever the steps and the shift", async () => {
  const constant: Velocity = (z) => tf.fill(z.shape, -2);
  for (const sampler of ["euler", "heun"] as const) {
    assertClose(await follow(constant, [1, 5], 3, sampler, 0.3), [-1, 3], 1e-6);
  }
});

Deno.test("Euler on v = a z multiplies by 1 + a Δt in each step, Heun by 1 + a Δt + (a Δt)²/2", async () => {
  const a = -1.5, linear: Velocity = (z) => tf.mul(z, a);
  const times = timeGrid(6, 0.4);
  let euler = 2, heun = 2;
  for (let i = 0; i < 6; i++) {
    const x = a * (times[i + 1] - times[i]);
    euler *= 1 + x;
    heun *= 1 + x + x * x / 2;
  }
  assertClose(await follow(linear, [2], 6, "euler", 0.4), [euler], 1e-6);
  assertClose(await follow(linear, [2], 6, "heun", 0.4), [heun], 1e-6);
});

Deno.test("halving the steps' length divides the error by 2 for Euler and by 4 for Heun", async () => {
  // dz/dt = z cos(3t) + t has no polynomial solution; the reference is Heun with 4,096 steps in float64.
  const field: Velocity = (z, t) => tf.add(tf.mul(z, tf.cos(tf.mul(t, 3))), t);
  let exact = 1;
  const f = (z: number, t: number) => z * Math.cos(3 * t) + t;
  for (let i = 0, h = 1 / 4096; i < 4096; i++) {
    const slope = f(exact, i * h);
    exact += h / 2 * (slope + f(exact + h * slope, (i + 1) * h));
  }
  const error = async (steps: number, sampler: SamplerName) =>
    Math.abs((await follow(field, [1], steps, sampler))[0] - exact);
  const order = async (sampler: SamplerName) => Math.log2(await error(8, sampler) / await error(16, sampler));
  const [euler, heun] = [await order("euler"), await order("heun")];
  assert.ok(Math.abs(euler - 1) < 0.15, `Euler's order ${euler}`);
  assert.ok(Math.abs(heun - 2) < 0.25, `Heun's order ${heun}`);
});

Deno.test("the callback sees each step and its latents, and is awaited", async () => {
  const seen: number[][] = [];
  const end = await sample((z) => tf.onesLike(z), float32([0], [1]), {
    steps: 4,
    device: "tfjs-cpu",
    callback: async ({ step, steps, t, tNext, z }) => {
      seen.push([step, steps, t, tNext, (await z.read()).data[0]]);
    },
  });
  end.dispose();
  assert.deepEqual(seen, [[1, 4, 0, 0.25, 0.25], [2, 4, 0.25, 0.5, 0.5], [3, 4, 0.5, 0.75, 0.75], [
    4,
    4,
    0.75,
    1,
    1,
  ]]);
});

Deno.test("guidance 1 gives the conditional velocity, 0 the unconditional, others the formula", () => {
  fc.assert(fc.property(
    fc.array(
      fc.tuple(fc.float({ min: -9, max: 9, noNaN: true }), fc.float({ min: -9, max: 9, noNaN: true })),
      {
        minLength: 1,
        maxLength: 5,
      },
    ),
    fc.float({ min: 0, max: 10, noNaN: true }),
    (pairs, w) =>
      tf.tidy(() => {
        const c = pairs.map((p) => p[0]), u = pairs.map((p) => p[1]);
        const at = (scale: number) => guide(tf.tensor1d(c), tf.tensor1d(u), scale).dataSync();
        assertClose(at(1), c, 1e-5);
        assertClose(at(0), u, 1e-6);
        assertClose(at(w), c.map((v, i) => u[i] + w * (v - u[i])), 1e-3);
      }),
  ));
});

Deno.test("guided velocity evaluates the condition and the null label in one pass of twice the batch", () => {
  tf.tidy(() => {
    const batches: number[] = [];
    const field = (z: tf.Tensor, labels: tf.Tensor) => {
      batches.push(z.shape[0]);
      return tf.mul(z, tf.reshape(tf.cast(labels, "float32"), [-1, 1, 1]));
    };
    const z = tf.tensor3d([1, 2], [2, 1, 1]);
    const v = guidedVelocity(field, z, tf.tensor1d([3, 4], "int32"), 7, 2);
    assertClose(v.dataSync(), [7 + 2 * (3 - 7), 2 * (7 + 2 * (4 - 7))], 1e-6);
    assert.deepEqual(batches, [4]);
  });
});

Deno.test("guidance acts in its interval only and not at scale 1", () => {
  assert.equal(guidesAt(0.5, { cfgScale: 1 }), false);
  assert.equal(guidesAt(0.5, {}), false);
  assert.deepEqual(
    [0, 0.2, 0.5, 0.8, 0.9].map((t) => guidesAt(t, { cfgScale: 3, cfgInterval: [0.2, 0.8] })),
    [false, true, true, true, false],
  );
  assert.throws(() => guidesAt(0.5, { cfgScale: NaN }), RangeError);
  assert.throws(() => guidesAt(0.5, { cfgScale: 2, cfgInterval: [0.8, 0.2] }), RangeError);
});

Deno.test("samples of the transformer equal Euler's formula by hand, with and without guidance", async () => {
  const params = livelyParams(), labels = [1, 0], steps = 3, shift = 0.5;
  const byHand = (cfgScale: number) =>
    tf.tidy(() => {
      const tree = mapTree<DitParams>(params, isHostTensor, (leaf) => {
        const { data, shape } = leaf as HostTensor;
        return tf.tensor(data, [...shape]);
      });
      const times = timeGrid(steps, shift);
      let z: tf.Tensor = tf.tensor(noiseOf(new Rng(5), [0, 1], [4, 3]).data, [2, 4, 3]);
      for (let i = 0; i < steps; i++) {
        const t = tf.tensor1d([times[i]]);
        const v = (y: number[]) => dit(z, t, tf.tensor1d(y, "int32"), tree, CONFIG).velocityBNZ;
        const guided = tf.add(tf.mul(v(labels), cfgScale), tf.mul(v([2, 2]), 1 - cfgScale));
        z = tf.add(z, tf.mul(guided, times[i + 1] - times[i]));
      }
      return z.dataSync();
    });
  const sampler = await openLatentSampler(CONFIG, { device: "cpu" });
  for (const cfgScale of [1, 2.5]) {
    const z = await sampler.sample({ params, labels, seed: 5, steps, shift, cfgScale });
    assert.deepEqual(z.shape, [2, 4, 3]);
    assertClose(z.data, byHand(cfgScale), 1e-4);
  }
  // Guidance in [0.9, 1] meets no step's start, so the samples are the conditional ones.
  const outside = await sampler.sample({
    params,
    labels,
    seed: 5,
    steps,
    shift,
    cfgScale: 9,
    cfgInterval: [0.9, 1],
  });
  assertClose(outside.data, byHand(1), 1e-4);
  await sampler.dispose();
});

Deno.test("samples do not depend on the batch size, repeat with the seed and change with seed and label", async () => {
  const params = livelyParams(), labels = [0, 1, 2, 1, 0];
  const draw = (batchSize: number, seed = 3, sampler: SamplerName = "heun", y = labels) =>
    sampleLatents({
      params,
      config: CONFIG,
      labels: y,
      seed,
      steps: 2,
      cfgScale: 2,
      batchSize,
      sampler,
      device: "cpu",
    });
  const five = await draw(5);
  assert.deepEqual((await draw(5)).data, five.data);
  // Sums may be ordered differently in products of another size, hence no equality to the last bit.
  for (const batchSize of [1, 2, 4, 64]) assertClose((await draw(batchSize)).data, five.data, 1e-5);
  assert.notDeepEqual((await draw(5, 4)).data, five.data);
  const other = await draw(5, 3, "heun", [1, 1, 2, 1, 0]);
  assert.notDeepEqual(rows(other, 0, 1).data, rows(five, 0, 1).data);
  assertClose(rows(other, 1, 5).data, rows(five, 1, 5).data, 1e-5);
});

Deno.test("workers draw the samples of one thread, whole rows or pieces, and start again after a failure", async () => {
  const params = livelyParams(), labels = [0, 1, 2, 1, 0, 1, 0];
  const request = { params, labels, seed: 3, steps: 2, cfgScale: 2 };
  const alone = await sampleLatents({ ...request, config: CONFIG, device: "cpu" });
  const pool = await openLatentSampler(CONFIG, { device: "cpu", workers: 2, batchSize: 3 });
  const progress: number[] = [];
  assertClose(
    (await pool.sample({ ...request, onProgress: (n) => void progress.push(n) })).data,
    alone.data,
    1e-5,
  );
  assert.deepEqual([progress.length, progress.at(-1)], [3, 7]);
  const stop = () => Promise.reject(new Error("stopped by the caller"));
  await assert.rejects(pool.sample({ ...request, onProgress: stop }), /stopped by the caller/);
  const misshapen = { ...params, output: params.tokens };
  await assert.rejects(pool.sample({ ...request, params: misshapen }), /Cannot sample latents in a worker/);
  const tail = await pool.sample({ ...request, labels: labels.slice(4), firstIndex: 4 });
  assertClose(tail.data, rows(alone, 4, 7).data, 1e-5);
  await pool.dispose();
});

Deno.test("progress is told in samples, and requests that cannot be met are refused", async () => {
  const params = livelyParams(), sampler = await openLatentSampler(CONFIG, { device: "cpu", batchSize: 2 });
  const progress: number[][] = [];
  const request = { params, labels: [0, 0, 1, 1, 0], seed: 0, steps: 1 };
  await sampler.sample({ ...request, onProgress: (done, count) => void progress.push([done, count]) });
  assert.deepEqual(progress, [[2, 5], [4, 5], [5, 5]]);
  await assert.rejects(sampler.sample({ ...request, labels: [3] }), {
    name: "RangeError",
    message: /\[0, 2\], got 3/,
  });
  await assert.rejects(sampler.sample({ ...request, labels: [] }), RangeError);
  await assert.rejects(sampler.sample({ ...request, steps: 0 }), RangeError);
  await assert.rejects(sampler.sample({ ...request, shift: -1 }), RangeError);
  await sampler.dispose();
  await assert.rejects(openLatentSampler(CONFIG, { device: "cpu", batchSize: 0 }), RangeError);
  await assert.rejects(openLatentSampler(CONFIG, { device: "cpu", workers: 0.5 }), RangeError);
});

Deno.test("a sampler's step gives the same compiled and eager", async () => {
  const params = livelyParams(), z = noiseOf(new Rng(1), [0, 1], [4, 3]);
  const step = (p: DitParams, x: tf.Tensor, labels: tf.Tensor) =>
    guidedVelocity((a, y) => dit(a, tf.tensor1d([0.4]), y, p, CONFIG).velocityBNZ, x, labels, 2, 3);
  const labels: HostTensor = { dtype: "int32", shape: [2], data: Int32Array.of(0, 1) };
  const results: HostTensor[] = [];
  for (const device of ["cpu", "tfjs-cpu"] as const) {
    const run = jit(step, { device });
    results.push(await (await run(params, z, labels)).read());
    await run.dispose();
  }
  assertClose(results[0].data, results[1].data, 1e-4);
});

function assertClose(got: ArrayLike<number>, wanted: ArrayLike<number>, tolerance: number): void {
  assert.equal(got.length, wanted.length);
  for (let i = 0; i < got.length; i++) {
    const bound = tolerance * Math.max(1, Math.abs(wanted[i]));
    assert.ok(Math.abs(got[i] - wanted[i]) <= bound, `value ${i}: ${got[i]} is not ${wanted[i]}`);
  }
}
