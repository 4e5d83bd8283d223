import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import {
  type DiffusionState,
  type DiffusionTrainingInput,
  type DitConfig,
  ditConfig,
  initDiffusionState,
  type LatentData,
  sampleLatents,
  trainDiffusion,
  type TrainDiffusionOptions,
} from "novae/diffusion/mod.ts";
import { emaDecay } from "novae/nn/mod.ts";
import {
  flattenTree,
  float32,
  type HostTensor,
  isHostTensor,
  mapTree,
  Rng,
  rows,
  scalar,
} from "novae/tensor/mod.ts";

await tf.setBackend("cpu");

const CONFIG = ditConfig("tiny", { channels: 3, grid: 2, classes: 2 });

function someData(count: number, config: DitConfig = CONFIG): LatentData {
  const shape = [count, config.grid ** 2, config.channels];
  const latents = float32(new Rng(8).normal(shape[0] * shape[1] * shape[2]), shape);
  return { latents, labels: Int32Array.from({ length: count }, (_, i) => i % config.classes) };
}

const settings = (input: Partial<DiffusionTrainingInput>): DiffusionTrainingInput => ({
  images: 48,
  batchSize: 8,
  warmupImages: 16,
  ...input,
});

const train = (options: Partial<TrainDiffusionOptions>) =>
  trainDiffusion({
    config: CONFIG,
    data: someData(20),
    settings: settings({}),
    device: "cpu",
    threads: 1,
    ...options,
  });

Deno.test("training overfits four latents: samples of each label are that latent", async () => {
  const config = ditConfig("tiny", { channels: 2, grid: 2, classes: 4 });
  const data: LatentData = { ...someData(4, config), labels: [0, 1, 2, 3] };
  const losses: number[] = [];
  const { ema } = await train({
    config,
    data,
    settings: settings({ images: 16_000, batchSize: 64, learningRate: 4e-3, cooldown: 0.5, labelDropout: 0 }),
    onProgress: (entry) => void losses.push(entry.metrics.loss),
  });
  const z = await sampleLatents({
    params: ema,
    config,
    labels: [0, 1, 2, 3],
    seed: 1,
    steps: 20,
    device: "cpu",
  });
  const error = rms(z.data, data.latents.data);
  assert.ok(losses.at(-1)! < 0.3 * losses[0], `loss from ${losses[0]} to ${losses.at(-1)}`);
  assert.ok(error < 0.15, `samples are ${error} from the latents, whose standard deviation is 1`);
});

Deno.test("a two-class mixture in the plane is learned: means, spreads and labels", async () => {
  const config = ditConfig("tiny", { channels: 2, grid: 1, classes: 2 });
  const count = 4000, rng = new Rng(21).normal(2 * count), centre = [[-1.5, 0.5], [1, -1]], spread = 0.3;
  const points = Float32Array.from(rng, (v, i) => centre[(i >> 1) % 2][i % 2] + spread * v);
  const labels = Int32Array.from({ length: count }, (_, i) => i % 2);
  const { ema } = await train({
    config,
    data: { latents: float32(points, [count, 1, 2]), labels },
    settings: settings({ images: 50_000, batchSize: 200, learningRate: 4e-3, cooldown: 0.5 }),
  });
  const wanted = Int32Array.from({ length: 1000 }, (_, i) => i < 500 ? 0 : 1);
  const z = await sampleLatents({
    params: ema,
    config,
    labels: wanted,
    seed: 2,
    steps: 20,
    batchSize: 500,
    device: "cpu",
  });
  for (const label of [0, 1]) {
    for (const axis of [0, 1]) {
      const values = [...rows(z, 500 * label, 500 * label + 500).data].filter((_, i) => i % 2 === axis);
      const mean = values.reduce((a, b) => a + b, 0) / 500;
      const std = Math.sqrt(values.reduce((s, v) => s + (v - mean) ** 2, 0) / 500);
      assert.ok(Math.abs(mean - centre[label][axis]) < 0.1, `mean ${mean} of class ${label}, axis ${axis}`);
      assert.ok(Math.abs(std - spread) < 0.1, `standard deviation ${std} of class ${label}, axis ${axis}`);
    }
  }
});

Deno.test("a resumed training equals an uninterrupted one bit for bit", async () => {
  let middle: DiffusionState | undefined;
  const steps: number[] = [];
  const whole = await train({
    checkpointEveryImages: 24,
    onCheckpoint: (state, step) => {
      steps.push(step);
      if (step === 3) middle = mapTree(state, isHostTensor, (t) => copy(t as HostTensor));
    },
  });
  assert.deepEqual(steps, [3, 6]);
  assert.equal(middle!.step.data[0], 3);
  const resumed = await train({ resume: middle });
  assert.deepEqual(flat(resumed.state), flat(whole.state));
  assert.equal(resumed.step, 6);
  assert.notDeepEqual(flat(whole.state.params), flat(initDiffusionState(CONFIG, 0).params));
});

Deno.test("the moving average is the closed form over the parameters of each step", async () => {
  const history: DiffusionState[] = [];
  const input = settings({ emaHalflifeImages: 20, emaWarmup: 0.7 });
  const { ema } = await train({
    settings: input,
    checkpointEveryImages: 8,
    onCheckpoint: (state) => void history.push(mapTree(state, isHostTensor, (t) => copy(t as HostTensor))),
  });
  assert.equal(history.length, 6);
  let wanted = flat(initDiffusionState(CONFIG, 0).params);
  history.forEach((state, step) => {
    const decay = emaDecay(8, 20, 8 * step, 0.7), params = flat(state.params);
    wanted = wanted.map((v, i) => decay * v + (1 - decay) * params[i]);
  });
  const got = flat(ema);
  assert.ok(got.every((v, i) => Math.abs(v - wanted[i]) < 1e-6));
});

Deno.test("the seed decides the training, and evaluations happen once at the asked numbers of images", async () => {
  const seen: number[][] = [];
  const result = await train({
    evaluate: {
      at: [8, 30, 1e9],
      run: (ema, { step, imagesSeen }) => {
        assert.ok(isHostTensor(ema.output.weight));
        seen.push([step, imagesSeen]);
      },
    },
  });
  assert.deepEqual(seen, [[1, 8], [4, 32], [6, 48]]);
  assert.deepEqual(flat((await train({})).state), flat(result.state));
  assert.notDeepEqual(flat((await train({ settings: settings({ seed: 1 }) })).state), flat(result.state));
});

Deno.test("a loss that stops being finite ends the training with its step, after the last good checkpoint", async () => {
  const data = someData(20);
  data.latents.data[7] = NaN; // the first latent, whenever it is drawn
  const checkpoints: number[] = [];
  await assert.rejects(
    train({ data, checkpointEveryImages: 8, onCheckpoint: (_, step) => void checkpoints.push(step) }),
    { name: "DivergenceError", message: /stopped at step \d: the loss must be finite, got NaN/ },
  );
  assert.ok(checkpoints.length < 3, "no checkpoint after the epoch in which every latent is seen");
});

Deno.test("a training that is aborted checkpoints after the running update and says so", async () => {
  const checkpoints: number[] = [];
  const result = await train({
    signal: AbortSignal.abort(),
    onCheckpoint: (_, step) => void checkpoints.push(step),
  });
  assert.equal(result.stopped, true);
  assert.equal(result.step, 1);
  assert.deepEqual(checkpoints, [1]);
});

Deno.test("a state of another configuration or beyond the end is not resumed", async () => {
  const other = initDiffusionState(ditConfig("tiny", { channels: 4, grid: 2, classes: 2 }), 0);
  await assert.rejects(train({ resume: other }), {
    name: "CheckpointError",
    message: /"params.tokens.weight" must be of shape \[3, 32\], got \[4, 32\]/,
  });
  const beyond = { ...initDiffusionState(CONFIG, 0), step: scalar(7) };
  await assert.rejects(train({ resume: beyond }), { name: "CheckpointError", message: /\[0, 6\], got 7/ });
});

function copy(tensor: HostTensor): HostTensor {
  return { ...tensor, data: tensor.data.slice() };
}

function flat(tree: unknown): number[] {
  return flattenTree<HostTensor>(tree, isHostTensor).flatMap((leaf) => [...leaf.value.data]);
}

function rms(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] - b[i]) ** 2;
  return Math.sqrt(sum / a.length);
}
