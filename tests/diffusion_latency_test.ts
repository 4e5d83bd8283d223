import assert from "node:assert/strict";
import {
  ditConfig,
  initDit,
  type LatentSampler,
  type SampleRequest,
  samplingLatency,
} from "novae/diffusion/mod.ts";
import { Rng, zeros } from "novae/tensor/mod.ts";

const CONFIG = ditConfig("tiny", { channels: 3, grid: 3, classes: 2 });
const PARAMS = initDit(new Rng(11), CONFIG);

Deno.test("latencies are medians of the timed samplings, after warming up, by image and by step", async () => {
  const requests: SampleRequest[] = [];
  // Samplings take 1000 (warming up), 10, 40, 20 and 30 ms, over and over.
  let now = 0;
  const durations = [1000, 10, 40, 20, 30];
  const latentSampler: LatentSampler = {
    sample: (request) => {
      now += durations[requests.length % 5];
      requests.push(request);
      return Promise.resolve(zeros([1]));
    },
    dispose: () => Promise.reject(new Error("must stay open")),
  };
  const { times, ...about } = await samplingLatency({
    config: CONFIG,
    params: PARAMS,
    batchSizes: [1, 4],
    steps: 5,
    sampler: "heun",
    cfgScale: 3,
    repeats: 4,
    device: "cpu",
    latentSampler,
    clock: () => now,
  });
  const common = { msPerStep: 5, rangeMs: [10, 40] };
  assert.deepEqual(times, [
    { batchSize: 1, guided: false, msPerImage: 25, ...common },
    { batchSize: 1, guided: true, msPerImage: 25, ...common },
    { batchSize: 4, guided: false, msPerImage: 6.25, ...common },
    { batchSize: 4, guided: true, msPerImage: 6.25, ...common },
  ]);
  assert.deepEqual(
    requests.map(({ cfgScale }) => cfgScale),
    Array(2).fill([1, 1, 1, 1, 1, 3, 3, 3, 3, 3]).flat(),
  );
  assert.deepEqual(Array.from(requests[19].labels), [0, 1, 0, 1]);
  assert.ok(about.cpu.length > 0);
  assert.deepEqual(about, {
    ...about,
    device: "cpu",
    cores: navigator.hardwareConcurrency,
    steps: 5,
    evaluations: 2,
    repeats: 4,
  });
});

Deno.test("an unconditional model is timed without guidance, with a sampler of its own", async () => {
  const config = ditConfig("tiny", { channels: 3, grid: 2, classes: 0 }),
    params = initDit(new Rng(1), config);
  const { times } = await samplingLatency({
    config,
    params,
    batchSizes: [2],
    steps: 2,
    repeats: 2,
    device: "cpu",
  });
  assert.equal(times.length, 1);
  assert.ok(times[0].msPerImage > 0 && Math.abs(times[0].msPerStep - times[0].msPerImage) < 1e-9);
  await assert.rejects(
    samplingLatency({ config, params, batchSizes: [0], device: "cpu" }),
    /Cannot time sampling: counts must be integers of 1 or more, got 0/,
  );
});
