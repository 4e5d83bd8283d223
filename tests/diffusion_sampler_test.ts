import assert from "node:assert/strict";
import fc from "fast-check";
import * as tf from "@tensorflow/tfjs";
import {
  dit,
  type DitConfig,
  ditConfig,
  type DitParams,
  type GuidanceMode,
  guidanceWeights,
  guide,
  guidedVelocity,
  initDit,
  noiseOf,
  openLatentSampler,
  sample,
  sampleLatents,
  type SampleOptions,
  type SamplerName,
  SAMPLERS,
  type SamplerTap,
  samplerTimes,
  timeGrid,
  type Velocity,
} from "novae/diffusion/mod.ts";
import { jit } from "novae/engine/mod.ts";
import { float32, type HostTensor, isHostTensor, mapTree, Rng, rows } from "novae/tensor/mod.ts";

await tf.setBackend("cpu");

const CONFIG = ditConfig("tiny", { channels: 3, grid: 2, classes: 2 });

/** Weights under which the velocity depends on latents, time and label: no zero matrix is left. */
function livelyParams(config = CONFIG): DitParams<HostTensor> {
  const rng = new Rng(11);
  return mapTree(initDit(rng, config), isHostTensor, (leaf, path) => {
    const { data, shape } = leaf as HostTensor;
    const extra = rng.split("extra", path).normal(data.length);
    return float32(Float32Array.from(data, (v, i) => v + 0.1 * extra[i]), shape);
  });
}

const NAMES = Object.keys(SAMPLERS) as SamplerName[];

async function follow(velocity: Velocity, from: number[], options: Omit<SampleOptions, "device">) {
  const { data } = await sample(velocity, float32(from, [from.length]), { ...options, device: "tfjs-cpu" });
  return data;
}

/** Data of normal distribution: the velocity of its path in closed form, and where it takes noise at t = 1. */
const GAUSS = { mean: 1.5, std: 0.5 };
const gaussVelocity: Velocity = (z, t) => {
  const { mean, std } = GAUSS, noise = tf.sub(1, t);
  const gain = tf.div(
    tf.sub(tf.mul(t, std ** 2), noise),
    tf.add(tf.square(tf.mul(t, std)), tf.square(noise)),
  );
  return tf.add(mean, tf.mul(gain, tf.sub(z, tf.mul(t, mean))));
};
const gaussEnd = (noise: number) => GAUSS.mean + GAUSS.std * noise;

Deno.test("a constant velocity is followed exactly without added noise, whatever steps and shift", async () => {
  const constant: Velocity = (z) => tf.fill(z.shape, -2);
  for (const sampler of NAMES) {
    const end = await follow(constant, [1, 5], { steps: 3, sampler, shift: 0.3, diffusionNorm: 0 });
    assertClose(end, [-1, 3], 2e-6);
  }
});

Deno.test("on v = a z the steps multiply by the Taylor polynomial of their order", async () => {
  const a = -1.5, linear: Velocity = (z) => tf.mul(z, a), times = timeGrid(6, 0.4);
  let euler = 2, second = 2;
  for (let i = 0; i < 6; i++) {
    const x = a * (times[i + 1] - times[i]);
    euler *= 1 + x;
    second *= 1 + x + x * x / 2;
  }
  const end = (sampler: SamplerName) => follow(linear, [2], { steps: 6, sampler, shift: 0.4 });
  assertClose(await end("euler"), [euler], 1e-6);
  assertClose(await end("heun"), [second], 1e-6);
  assertClose(await end("midpoint"), [second], 1e-6);
});

Deno.test("halving the steps' length divides the error on Gaussian data by 2 to the power of the order", async () => {
  const noise = [-1.7, -0.2, 0.6, 2.1], wanted = noise.map(gaussEnd);
  const error = async (steps: number, sampler: SamplerName) => {
    const end = await follow(gaussVelocity, noise, { steps, sampler, shift: 2, trajectory: "float64" });
    return Math.hypot(...wanted.map((w, i) => end[i] - w));
  };
  // The leading errors of the midpoint method cancel on this velocity. DPM-Solver++ begins and ends with Euler steps,
  // so that it comes near its order late.
  const orders = [["euler", 1, 64], ["heun", 2, 32], ["midpoint", 3, 16], ["dpmpp2m", 2, 256]] as const;
  for (const [sampler, order, steps] of orders) {
    const measured = Math.log2(await error(steps, sampler) / await error(2 * steps, sampler));
    assert.ok(Math.abs(measured - order) < 0.15, `order of ${sampler}: ${measured}`);
  }
});

Deno.test("the order of the midpoint method and of Heun's is 2 on v = -z², which takes 1 to 1/2", async () => {
  const field: Velocity = (z) => tf.neg(tf.square(z));
  for (const sampler of ["heun", "midpoint"] as const) {
    const error = async (steps: number) =>
      Math.abs((await follow(field, [1], { steps, sampler, trajectory: "float64" }))[0] - 0.5);
    const measured = Math.log2(await error(8) / await error(16));
    assert.ok(Math.abs(measured - 2) < 0.25, `order of ${sampler}: ${measured}`);
  }
});

Deno.test("the adaptive sampler keeps the error near its tolerance, its evaluations growing with the fifth root", async () => {
  const noise = [-1.7, -0.2, 0.6, 2.1], wanted = noise.map(gaussEnd);
  const run = async (rtol: number) => {
    let evaluations = 0;
    const counted: Velocity = (z, t) => {
      evaluations++;
      return gaussVelocity(z, t);
    };
    const options = { steps: 1, sampler: "dopri5", rtol, atol: rtol, trajectory: "float64" } as const;
    const end = await follow(counted, noise, options);
    return { error: Math.hypot(...wanted.map((w, i) => end[i] - w)), evaluations };
  };
  const [loose, tight] = [await run(1e-4), await run(1e-6)];
  assert.ok(loose.error < 1e-3 && tight.error < 1e-5, `errors ${loose.error} and ${tight.error}`);
  assert.ok(tight.error < loose.error / 20);
  const growth = tight.evaluations / loose.evaluations; // 100 to the power of 1/5 is 2.5
  assert.ok(growth > 1.2 && growth < 4, `${loose.evaluations} and ${tight.evaluations} evaluations`);
});

Deno.test("a velocity that is not finite, or that no step is short enough for, ends the adaptive sampler in one line", async () => {
  for (
    const bad of [(z) => tf.fill(z.shape, NaN), (z, t) => tf.mul(z, tf.div(40, tf.sub(0.5, t)))] as Velocity[]
  ) {
    await assert.rejects(follow(bad, [1], { steps: 1, sampler: "dopri5" }), {
      name: "NovaeError",
      message: /finite and smooth enough/,
    });
  }
});

Deno.test("the stochastic sampler keeps the marginal mean and deviation of Gaussian data at every time", async () => {
  const count = 20_000, start = noiseOf(new Rng(2), Array.from({ length: 100 }, (_, i) => i), [200]);
  for (const diffusionNorm of [0.5, 1, 2]) {
    const moments: number[][] = [];
    await sample(gaussVelocity, start, {
      steps: 100,
      sampler: "eulerMaruyama",
      diffusionNorm,
      lastStepSize: 0.01,
      device: "cpu",
      seed: 3,
      taps: ["z"],
      callback: ({ tNext, taps: { z } }) => {
        const values = z!.data as Float32Array;
        const mean = values.reduce((a, b) => a + b, 0) / count;
        const variance = values.reduce((a, b) => a + (b - mean) ** 2, 0) / count;
        moments.push([tNext, mean, Math.sqrt(variance)]);
      },
    });
    // Five standard errors of 20,000 samples are 0.035 for the mean at t = 0; steps of 0.01 add an error below 0.015.
    for (const [t, mean, std] of moments) {
      assert.ok(Math.abs(mean - t * GAUSS.mean) < 0.035, `mean ${mean} at ${t}`);
      const wanted = Math.hypot(t * GAUSS.std, 1 - t);
      assert.ok(Math.abs(std - wanted) < 0.025, `deviation ${std} at ${t}, not ${wanted}`);
    }
  }
});

Deno.test("each sample goes its own way: batches give what single samples give, and noise goes by number", async () => {
  const field: Velocity = (z, t) => tf.sub(tf.sin(tf.mul(z, 3)), tf.mul(t, z));
  const noise = noiseOf(new Rng(4), [0, 1, 2, 3], [2, 3]);
  for (const sampler of NAMES) {
    for (const trajectory of ["float32", "float64"] as const) {
      const options = { steps: 4, sampler, seed: 9, trajectory, device: "cpu" } as const;
      const all = await sample(field, noise, options);
      for (const i of [0, 3]) {
        const alone = await sample(field, rows(noise, i, i + 1), { ...options, firstIndex: i });
        assertClose(alone.data, rows(all, i, i + 1).data, 1e-6);
      }
      assert.deepEqual((await sample(field, noise, options)).data, all.data, `${sampler} repeats`);
    }
  }
  const stochastic = { steps: 4, sampler: "eulerMaruyama", device: "cpu" } as const;
  const [a, b] = [1, 2].map((seed) => sample(field, noise, { ...stochastic, seed }));
  assert.notDeepEqual((await a).data, (await b).data);
});

Deno.test("the callback sees each step with the intermediates that it names, and is awaited", async () => {
  const seen: number[][] = [];
  const numbers = (taps: Readonly<Partial<Record<SamplerTap, HostTensor>>>) =>
    (["z", "velocity", "data", "noise"] as const).map((name) => taps[name]!.data[0]);
  for (const trajectory of ["float32", "float64"] as const) {
    seen.length = 0;
    await sample((z) => tf.onesLike(z), float32([3], [1]), {
      steps: 2,
      trajectory,
      device: "cpu",
      taps: ["z", "velocity", "data", "noise"],
      callback: async ({ step, steps, t, tNext, taps }) => {
        await Promise.resolve();
        seen.push([step, steps, t, tNext, ...numbers(taps)]);
      },
    });
    assert.deepEqual(seen, [[1, 2, 0, 0.5, 3.5, 1, 4, 3], [2, 2, 0.5, 1, 4, 1, 4, 3]]);
  }
  const wrong = { steps: 1, device: "cpu", taps: ["x" as SamplerTap], callback: () => {} } as const;
  await assert.rejects(sample((z) => z, float32([0], [1]), wrong), { name: "RangeError", message: /no "x"/ });
});

Deno.test("the stochastic sampler's last step has its length, and one step is the whole way", () => {
  assertClose(samplerTimes("eulerMaruyama", 4), [0, 0.32, 0.64, 0.96, 1], 1e-15);
  assertClose(samplerTimes("eulerMaruyama", 3, 0.5, { lastStepSize: 0.1 }), [0, 0.3, 0.9, 1], 1e-15);
  assert.deepEqual([...samplerTimes("eulerMaruyama", 1)], [0, 1]);
});

Deno.test("options that no sampler can use are refused", () => {
  const bad: Parameters<typeof samplerTimes>[] = [
    ["euler", 0],
    ["euler", 2.5],
    ["heun", 3, 0],
    ["heun", 3, -1],
    ["eulerMaruyama", 0],
    ["eulerMaruyama", 3, NaN],
    ["eulerMaruyama", 3, 1, { lastStepSize: 1 }],
    ["eulerMaruyama", 3, 1, { diffusionNorm: -1 }],
    ["dopri5", 3, 1, { rtol: 0 }],
    ["dopri5", 3, 1, { atol: Infinity }],
    ["rk4" as SamplerName, 3],
  ];
  for (const given of bad) assert.throws(() => samplerTimes(...given), RangeError, JSON.stringify(given));
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

Deno.test("guidance acts in its interval only and not at scale 1; samples at their own times are told apart", () => {
  const at = (t: number, guidance: Parameters<typeof guidanceWeights>[0]) =>
    guidanceWeights(guidance, { index: 0, steps: 4, t });
  assert.deepEqual(at(0.5, { cfgScale: 1 }), { conditional: 1, other: 0 });
  assert.deepEqual(at(0.5, {}), { conditional: 1, other: 0 });
  const guidance = { cfgScale: 3, cfgInterval: [0.2, 0.8] as const },
    t = Float64Array.of(0, 0.2, 0.5, 0.8, 0.9);
  const { conditional, other } = guidanceWeights(guidance, { index: 0, steps: 4, t });
  assert.deepEqual([[...conditional as Float64Array], [...other as Float64Array]], [[1, 3, 3, 3, 1], [
    0,
    -2,
    -2,
    -2,
    0,
  ]]);
});

Deno.test("guidance that has no meaning is refused with what it must be", () => {
  const refused = (guidance: Parameters<typeof guidanceWeights>[0], message: RegExp) =>
    assert.throws(() => guidanceWeights(guidance, { index: 0, steps: 1, t: 0 }), {
      name: "RangeError",
      message,
    });
  refused({ cfgScale: NaN }, /cfgScale must be a finite number, got NaN/);
  refused({ cfgInterval: [0.8, 0.2] }, /got \[0.8, 0.2\]/);
  for (const mode of ["lately", "early-2", "early-x", "cfg_star", "cfg_star-1", "cfg_star-1.5-0"]) {
    refused({ cfgMode: mode as GuidanceMode }, new RegExp(`cfgMode must be .*, got ${mode}$`));
  }
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
  // With cfg_star-3-0 every step has velocity 0.
  const still = await sampler.sample({ params, labels, seed: 5, steps, cfgMode: "cfg_star-3-0" });
  assertClose(still.data, noiseOf(new Rng(5), [0, 1], [4, 3]).data, 1e-7);
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

Deno.test("a weaker model guides: v_weak + w (v − v_weak), both with the label", async () => {
  const weakConfig = ditConfig("tiny", { channels: 3, grid: 2, classes: 2, qkNorm: false });
  const params = livelyParams(), weak = { config: weakConfig, params: livelyParams(weakConfig) };
  const request = { params, labels: [1, 0], seed: 5, steps: 1, cfgScale: 1.4 };
  const end = async (p: DitParams<HostTensor>, config: DitConfig) =>
    await sampleLatents({ ...request, params: p, config, cfgScale: 1, device: "cpu" });
  const [strong, weaker] = [await end(params, CONFIG), await end(weak.params, weakConfig)];
  const wanted = strong.data.map((v, i) => weaker.data[i] + 1.4 * (v - weaker.data[i])); // one step is linear in v
  for (const workers of [1, 2]) {
    const got = await sampleLatents({
      ...request,
      config: CONFIG,
      autoguidance: weak,
      device: "cpu",
      workers,
    });
    assertClose(got.data, wanted, 1e-5);
  }
  const other = { ...weak, config: { ...weakConfig, channels: 4 } };
  await assert.rejects(sampleLatents({ ...request, config: CONFIG, autoguidance: other, device: "cpu" }), {
    name: "RangeError",
    message: /its channels must be 3, got 4/,
  });
});

Deno.test("every sampler draws the transformer's latents alike in batches of any size, and from given noise", async () => {
  const params = livelyParams(), labels = [0, 1, 0], noise = noiseOf(new Rng(3), [0, 1, 2], [4, 3]);
  const sampler = await openLatentSampler(CONFIG, { device: "cpu" });
  const pairs = await openLatentSampler(CONFIG, { device: "cpu", batchSize: 2 });
  for (const name of NAMES) {
    const request = { params, labels, seed: 3, steps: 2, cfgScale: 2, sampler: name };
    const all = await sampler.sample(request);
    assertClose((await pairs.sample(request)).data, all.data, 1e-5);
    assertClose((await pairs.sample({ ...request, trajectory: "float64" })).data, all.data, 1e-4);
    assertClose((await sampler.sample({ ...request, noise })).data, all.data, 0);
  }
  const seen: unknown[][] = [], request = { params, labels, seed: 3, steps: 2 };
  const tapped = await pairs.sample({
    ...request,
    taps: ["z"],
    callback: ({ first, step, taps: { z } }) => void seen.push([first, step, z!.shape[0]]),
  });
  assert.deepEqual(seen, [[0, 1, 2], [0, 2, 2], [2, 1, 1], [2, 2, 1]]);
  assert.deepEqual(tapped.shape, [3, 4, 3]);
  await assert.rejects(sampler.sample({ ...request, noise: rows(noise, 0, 2) }), TypeError);
  await Promise.all([sampler.dispose(), pairs.dispose()]);
});

Deno.test("an unconditional model is sampled, and guided by a weaker one but not by leaving out the class", async () => {
  const config = ditConfig("tiny", { channels: 3, grid: 2, classes: 0 });
  const request = {
    config,
    params: livelyParams(config),
    labels: [0, 0],
    seed: 1,
    steps: 1,
    device: "cpu",
  } as const;
  const end = await sampleLatents(request);
  const weak = { config, params: livelyParams(config) };
  assertClose((await sampleLatents({ ...request, cfgScale: 2, autoguidance: weak })).data, end.data, 1e-5);
  for (const guidance of [{ cfgScale: 2 }, { cfgMode: "cfg_star-1-0" as const }]) {
    await assert.rejects(sampleLatents({ ...request, ...guidance }), {
      name: "RangeError",
      message: /must have classes, got an unconditional one/,
    });
  }
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
  await assert.rejects(pool.sample({ ...request, callback: () => {} }), /needs workers to be 1/);
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
