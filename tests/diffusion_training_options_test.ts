/** What a diffusion training can do beside its updates: parts of batches, averages, losses, validation, its log. */
import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import {
  alignmentLoss,
  type CheckpointNotes,
  type DiffusionBatch,
  diffusionBatches,
  type DiffusionLogEntry,
  type DiffusionState,
  type DiffusionTrainingInput,
  type DiffusionValidationResult,
  dit,
  ditConfig,
  forwardFlops,
  HeldOutLoss,
  initDiffusionState,
  initDit,
  type LatentData,
  parseTrainingSettings,
  pathPoint,
  project,
  type StoredLatents,
  trainDiffusion,
  type TrainDiffusionOptions,
  type TrainedDiffusion,
  trainingFlops,
  velocityCosineLoss,
  velocityLoss,
} from "novae/diffusion/mod.ts";
import { jit, peakFlops, read } from "novae/engine/mod.ts";
import { emaDecay } from "novae/nn/mod.ts";
import { flattenTree, float32, type HostTensor, isHostTensor, mapTree, Rng } from "novae/tensor/mod.ts";

await tf.setBackend("cpu");

const CONFIG = ditConfig("tiny", { channels: 3, grid: 2, classes: 2 });
const FEATURES = 5;

function someData(count: number): LatentData {
  const rng = new Rng(8), tokens = CONFIG.grid ** 2;
  return {
    latents: float32(rng.normal(count * tokens * CONFIG.channels), [count, tokens, CONFIG.channels]),
    labels: Int32Array.from({ length: count }, (_, i) => i % CONFIG.classes),
    features: float32(rng.normal(count * tokens * FEATURES), [count, tokens, FEATURES]),
  };
}

const BASE: DiffusionTrainingInput = { images: 48, batchSize: 8, warmupImages: 16 };
const REPA = { block: 0, features: FEATURES, hidden: 16, weight: 0.3 };
/** Everything at once. */
const ALL = { cosineLossWeight: 0.7, repa: REPA, moreEmaHalflivesImages: [5, 30], accumulation: 2 };

const train = (
  settings: Partial<DiffusionTrainingInput>,
  options: Partial<TrainDiffusionOptions> = {},
): Promise<TrainedDiffusion> =>
  trainDiffusion({
    config: CONFIG,
    data: someData(20),
    settings: { ...BASE, ...settings },
    device: "cpu",
    threads: 1,
    ...options,
  });

/** What a training tells of each update. */
async function logged(
  settings: Partial<DiffusionTrainingInput>,
  options: Partial<TrainDiffusionOptions> = {},
): Promise<{ entries: DiffusionLogEntry[]; trained: TrainedDiffusion }> {
  const entries: DiffusionLogEntry[] = [];
  const trained = await train(settings, {
    logEverySteps: 1,
    onProgress: (entry) => void entries.push(entry),
    ...options,
  });
  return { entries, trained };
}

Deno.test("a batch in parts trains like the whole batch, with all losses", async () => {
  const settings = { ...ALL, images: 24, learningRate: 1e-4, weightDecay: 0.01 };
  const whole = await logged({ ...settings, accumulation: 1 });
  for (const accumulation of [2, 8]) {
    const parts = await logged({ ...settings, accumulation });
    assertTold(parts.entries, whole.entries);
    assertMoments(parts.trained.state, whole.trained.state);
  }
});

Deno.test("updates on an eager device are those of the compiled graphs, with all losses, whole and in parts", async () => {
  for (const accumulation of [1, 2]) {
    const settings = { ...ALL, accumulation, images: 32, learningRate: 1e-4 }, losses: number[] = [];
    const run = ({ loss }: DiffusionValidationResult) => void losses.push(loss);
    const validation = { data: someData(12), images: 12, everyImages: 1000, run };
    const compiled = await logged(settings, { validation }), before = tf.memory().numTensors;
    const eager = await logged(settings, { validation, device: "tfjs-cpu" });
    assert.equal(tf.memory().numTensors, before, "no tensor is left behind");
    assertNear(losses[1], losses[0], "loss on held-out latents");
    assertTold(eager.entries, compiled.entries);
    assertMoments(eager.trained.state, compiled.trained.state);
  }
});

Deno.test("the gradient is that of the error, the weighted direction and the weighted alignment", async () => {
  // Directions of velocities near 0, as they are at first, have huge gradients: clipped up to the last update.
  const settings = { ...ALL, accumulation: 1, images: 240, learningRate: 1e-2 };
  const { state: before } = await train(settings), more = { ...settings, images: 248, clipNorm: null };
  const { state: after } = await train(more, { resume: before });
  const batch = await diffusionBatches(CONFIG, someData(20), parseTrainingSettings({ ...BASE, ...more }))(30);
  // The mean of the gradients tells the last one: g = (m' − 0.9·m) / 0.1.
  const moments = (state: DiffusionState) => flat([state.adam.first, state.projector!.adam.first]);
  const old = moments(before), grads = moments(after).map((m, i) => (m - 0.9 * old[i]) / 0.1);
  const length = Math.hypot(...grads), h = 1e-3;
  const at = async (sign: number) => {
    let i = 0;
    const moved = mapTree<[DiffusionState["params"], NonNullable<DiffusionState["projector"]>["params"]]>(
      [before.params, before.projector!.params],
      isHostTensor,
      (leaf) => {
        const { data, shape } = leaf as HostTensor;
        return float32(Float32Array.from(data, (v) => v + sign * h * grads[i++] / length), shape);
      },
    );
    return await totalLoss(moved, batch);
  };
  const slope = (await at(1) - await at(-1)) / (2 * h);
  assert.ok(Math.abs(slope / length - 1) < 2e-3, `${slope} along a gradient of norm ${length}`);
});

/** The loss that {@link ALL} trains with, put together here, summed in double precision. */
async function totalLoss(
  params: [DiffusionState["params"], unknown],
  batch: DiffusionBatch,
): Promise<number> {
  const losses = jit(
    // deno-lint-ignore no-explicit-any -- trees of tensors in the traced function
    ([transformer, projector]: any, { dataBNZ, noiseBNZ, tB, labelsB, featuresBND }: any) => {
      const { velocityBNZ, taps } = dit(
        pathPoint(dataBNZ, noiseBNZ, tB),
        tB,
        labelsB,
        transformer,
        CONFIG,
        { taps: ["block00"] },
      );
      return [
        velocityLoss(velocityBNZ, dataBNZ, noiseBNZ),
        velocityCosineLoss(velocityBNZ, dataBNZ, noiseBNZ),
        alignmentLoss(project(taps.block00, projector), featuresBND),
      ];
    },
    { device: "cpu" },
  );
  const values = await read(await losses(params as never, batch as never)) as unknown as HostTensor[];
  await losses.dispose();
  const [error, direction, alignment] = values.map(({ data }) => data[0]);
  return error + ALL.cosineLossWeight * direction + REPA.weight * alignment;
}

Deno.test("each of several averages is the closed form over the parameters of each step", async () => {
  const halflives = [5, 30], history: DiffusionState[] = [];
  await train({ moreEmaHalflivesImages: halflives, emaHalflifeImages: 100, emaWarmup: 0.7 }, {
    checkpointEveryImages: 8,
    onCheckpoint: (state) => void history.push(copied(state)),
  });
  const last = history.at(-1)!;
  [100, ...halflives].forEach((halflife, which) => {
    let wanted = flat(initDiffusionState(CONFIG, 0).params);
    history.forEach(({ params }, step) => {
      const decay = emaDecay(8, halflife, 8 * step, 0.7), now = flat(params);
      wanted = wanted.map((v, i) => decay * v + (1 - decay) * now[i]);
    });
    const got = flat(which === 0 ? last.ema : last.moreEmas![which - 1]);
    assert.ok(got.every((v, i) => Math.abs(v - wanted[i]) < 1e-6), `half-life ${halflife}`);
  });
});

Deno.test("an average beside others, and a projector beside the transformer, change neither", async () => {
  const plain = await train({}), more = await train({ moreEmaHalflivesImages: [5] });
  assert.deepEqual(flat(more.ema), flat(plain.ema));
  assert.deepEqual(flat(more.state.params), flat(plain.state.params));
  assert.equal("moreEmas" in plain.state || "projector" in plain.state, false);
  assert.deepEqual(
    flattenTree(
      initDiffusionState(CONFIG, 0, { repa: parseTrainingSettings({ ...BASE, repa: REPA }).repa }).params,
      isHostTensor,
    ),
    flattenTree(initDiffusionState(CONFIG, 0).params, isHostTensor),
  );
});

Deno.test("features come with the latents of their images, and logit-normal times from the normal that is asked for", async () => {
  const count = 50,
    numbered = (width: number) =>
      float32(Float32Array.from({ length: count * 4 * width }, (_, i) => Math.floor(i / (4 * width))), [
        count,
        4,
        width,
      ]);
  const data = { latents: numbered(3), labels: new Int32Array(count), features: numbered(FEATURES) };
  const batch = diffusionBatches(
    CONFIG,
    data,
    parseTrainingSettings({
      images: 2000,
      batchSize: 2000,
      repa: REPA,
      timeDistribution: "logitNormal",
      logitNormal: { mean: -1, std: 0.5 },
    }),
  );
  const { dataBNZ, featuresBND, tB } = await batch(0);
  assert.deepEqual(featuresBND!.shape, [2000, 4, FEATURES]);
  for (let i = 0; i < 2000; i++) assert.equal(featuresBND!.data[i * 4 * FEATURES], dataBNZ.data[i * 12]);
  const logits = Array.from(tB.data, (t) => Math.log(t / (1 - t)));
  const mean = logits.reduce((a, b) => a + b) / 2000;
  const std = Math.sqrt(logits.reduce((sum, v) => sum + (v - mean) ** 2, 0) / 2000);
  assert.ok(Math.abs(mean + 1) < 0.05 && Math.abs(std - 0.5) < 0.04, `mean ${mean}, deviation ${std}`);
});

Deno.test("alignment trains the projector: tokens turn towards the features", async () => {
  const { entries } = await logged({ images: 2400, learningRate: 4e-3, repa: REPA }, { logEverySteps: 60 });
  const values = entries.map(({ metrics }) => metrics.alignmentLoss);
  assert.ok(values.at(-1)! < values[0] - 0.15, `alignment from ${values[0]} to ${values.at(-1)}`);
});

Deno.test("the log tells losses by time: of a transformer that predicts 0 they are those of the path's velocity", async () => {
  const count = 5, input = { ...BASE, images: 8 * count, learningRate: 1e-30, labelDropout: 0 };
  const batch = diffusionBatches(CONFIG, someData(20), parseTrainingSettings(input));
  const sums = new Float64Array(10), counts = new Float64Array(10);
  let total = 0;
  for (let step = 0; step < count; step++) {
    const { dataBNZ, noiseBNZ, tB } = await batch(step), size = dataBNZ.data.length / 8;
    for (let i = 0; i < 8; i++) {
      let sum = 0;
      for (let k = i * size; k < (i + 1) * size; k++) sum += (dataBNZ.data[k] - noiseBNZ.data[k]) ** 2;
      const bin = Math.floor(tB.data[i] * 10);
      sums[bin] += sum / size;
      counts[bin]++;
      total += sum / size / (8 * count);
    }
  }
  for (const accumulation of [1, 4]) {
    const { entries } = await logged({ ...input, accumulation }, { logEverySteps: count });
    assert.equal(entries.length, 1);
    assert.ok(Math.abs(entries[0].metrics.loss / total - 1) < 1e-5);
    entries[0].lossByTime.forEach((loss, bin) => {
      if (counts[bin] === 0) assert.equal(loss, null);
      else assert.ok(Math.abs(loss! / (sums[bin] / counts[bin]) - 1) < 1e-5, `bin ${bin}`);
    });
  }
  const few = await logged({ ...input, images: 8 });
  assert.ok(few.entries[0].lossByTime.includes(null) && few.entries[0].lossByTime.some((v) => v !== null));
});

Deno.test("validation measures the averaged weights, always the same way, before the checkpoint that can hold it", async () => {
  const results: DiffusionValidationResult[] = [], order: string[] = [], notes: CheckpointNotes[] = [];
  const held: LatentData = someData(30);
  const run = (result: DiffusionValidationResult) => {
    results.push(result);
    order.push(`validated ${result.step}`);
  };
  const validation = { data: held, images: 40, everyImages: 16, run };
  const { ema } = await train({}, {
    validation,
    checkpointEveryImages: 24,
    onCheckpoint: (_, step, told) => {
      order.push(`saved ${step}`);
      notes.push(told);
    },
  });
  assert.deepEqual(order, ["validated 2", "saved 3", "validated 4", "validated 6", "saved 6"]);
  assert.deepEqual(results.map(({ imagesSeen }) => imagesSeen), [16, 32, 48]);
  assert.deepEqual(notes.map((told) => told.validation), [undefined, results[2]]);
  for (const batchSize of [8, 16, 40]) { // 16 does not divide 40
    const loss = new HeldOutLoss({ config: CONFIG, data: held, images: 40, batchSize, device: "cpu" });
    const measured = await loss.measure(ema);
    await loss.dispose();
    assert.ok(Math.abs(measured.loss / results[2].loss - 1) < 1e-6, `${batchSize}: ${measured.loss}`);
    assert.equal(measured.lossByTime.length, 10);
    const mean = measured.lossByTime.reduce((a, b) => a + b) / 10; // 4 latents in each bin
    assert.ok(Math.abs(mean / measured.loss - 1) < 1e-6);
  }
});

Deno.test("held-out latents are met at even times: the loss of velocity 0 is the mean square of data and noise", async () => {
  const data = someData(100), images = 4000;
  const loss = new HeldOutLoss({ config: CONFIG, data, images, batchSize: 500, device: "cpu" });
  const measured = await loss.measure(initDit(new Rng(0), CONFIG));
  await loss.dispose();
  const values = [...data.latents.data];
  const square = values.reduce((sum, v) => sum + v * v, 0) / values.length;
  // Of 48,000 values the mean of (data − noise)² has a deviation of about 0.013.
  assert.ok(Math.abs(measured.loss - (square + 1)) < 0.05, `${measured.loss} for ${square + 1}`);
  for (const value of measured.lossByTime) assert.ok(Math.abs(value - (square + 1)) < 0.15);
  assert.throws(() => new HeldOutLoss({ config: CONFIG, data, images: 9 }), {
    name: "ConfigError",
    message: "Cannot validate: the number of images must be whole and at least 10, got 9",
  });
});

Deno.test("a training that met a fault goes back once and on with other batches", async () => {
  const { data, fail } = faulty(someData(20));
  let kept: { state: DiffusionState; notes: CheckpointNotes } | undefined;
  const events: unknown[] = [], settings = { images: 64, divergence: null, accumulation: 2 };
  const options: Partial<TrainDiffusionOptions> = {
    data,
    checkpointEveryImages: 16,
    onCheckpoint: (state, step, notes) => {
      kept = { state: copied(state), notes };
      if (step === 4) fail(); // what is read next
    },
    guard: {
      restore: (goodUntil) => {
        events.push(goodUntil);
        return Promise.resolve({ state: kept!.state, guard: kept!.notes.guard });
      },
      onReturn: (event) => void events.push(event),
    },
  };
  const { state, step } = await train(settings, options);
  assert.equal(step, 8);
  const { step: at, reason } = events[1] as { step: number; reason: string };
  assert.match(reason, /^the loss must be finite, got NaN$/);
  assert.deepEqual(events, [at - 1, { step: at, backTo: 4, reason }]);
  const undisturbed = await train(settings);
  assert.ok(flat(state).every(Number.isFinite));
  assert.notDeepEqual(flat(state.params), flat(undisturbed.state.params), "other batches after the return");
  assert.equal(kept!.notes.guard.returns, 1);

  // The same once more, stopped after the return and gone on with in the manner of a new process.
  const stop = new AbortController(), again = faulty(someData(20));
  const stopped = await train(settings, {
    ...options,
    data: again.data,
    onCheckpoint: (state, step, notes) => {
      kept = { state: copied(state), notes };
      if (step === 4 && notes.guard.returns === 0) again.fail();
    },
    guard: { ...options.guard, onReturn: () => stop.abort() },
    signal: stop.signal,
  });
  assert.deepEqual([stopped.stopped, stopped.step], [true, 5]);
  const resumed = await train(settings, { resume: kept!.state, guard: { state: kept!.notes.guard } });
  assert.deepEqual(flat(resumed.state), flat(state));
});

/** Latents that come as NaN once. */
function faulty(data: LatentData): { data: StoredLatents; fail: () => void } {
  let fails = false;
  const { latents, labels } = data, [count, tokens, channels] = latents.shape, size = tokens * channels;
  return {
    fail: () => fails = true,
    data: {
      shape: [count, tokens, channels],
      labels,
      flip: false,
      read: (indices) => {
        const values = Float32Array.from(
          { length: indices.length * size },
          (_, i) => fails ? NaN : latents.data[indices[Math.floor(i / size)] * size + i % size],
        );
        fails = false;
        return Promise.resolve(float32(values, [indices.length, tokens, channels]));
      },
    },
  };
}

Deno.test("operations of a forward pass are those of the matrix products that run in it", async () => {
  const variants = [
    {},
    { patchSize: 2, mlp: "swiglu", norm: "rms", rope: true, timeFeatures: "fourier" },
    { learnSigma: true, head: { width: 48, depth: 2, heads: 2 } },
    { head: { width: 32, depth: 1, heads: 2 }, patchSize: 2 },
  ] as const;
  for (const variant of variants) {
    const config = ditConfig("tiny", { channels: 3, grid: 4, classes: 2, ...variant });
    const params = mapTree(initDit(new Rng(0), config), isHostTensor, (leaf) => {
      const { data, shape } = leaf as HostTensor;
      return tf.tensor(data as Float32Array, [...shape]);
    });
    const z = tf.zeros([1, 16, 3]), t = tf.tensor1d([0.3]), label = tf.tensor1d([1], "int32");
    const { kernels } = await tf.profile(() => dit(z, t, label, params as never, config).velocityBNZ);
    const products = kernels.filter(({ name }) => /MatMul/.test(name));
    const size = (shape: number[]) => shape.reduce((a, b) => a * b, 1);
    const counted = products.reduce((sum, { inputShapes: [left, right], outputShapes: [out] }) => {
      // The extents of [m, k] × [k, n] = [m, n] by batch: k = √(mk · kn / mn).
      const mk = size(left!.slice(-2)), kn = size(right!.slice(-2)), mn = size(out.slice(-2));
      return sum + 2 * size(out) * Math.sqrt(mk * kn / mn);
    }, 0);
    // The label's vector is looked up as a product with a one-hot vector, which is not counted.
    const lookUp = 2 * (config.classes + 1) * config.width;
    assert.ok(products.length > 10);
    assert.equal(Math.round(counted) - lookUp, forwardFlops(config), JSON.stringify(variant));
  }
  const repa = parseTrainingSettings({ ...BASE, repa: REPA }).repa;
  assert.equal(trainingFlops(CONFIG), 3 * forwardFlops(CONFIG));
  assert.equal(trainingFlops(CONFIG, repa) - trainingFlops(CONFIG), 3 * 2 * 4 * (32 * 16 + 16 * 16 + 16 * 5));
});

Deno.test("the log tells operations a second and their share of the device's speed", async () => {
  const { entries } = await logged({}, { utilisation: true, logEverySteps: 3 });
  const peak = await peakFlops("cpu", 1);
  assert.equal(await peakFlops("cpu", 1), peak, "measured once");
  assert.ok(peak > 1e8 && peak < 1e13, `${peak}`);
  for (const { imagesPerSec, flopsPerSec, utilisation } of entries) {
    assert.equal(flopsPerSec, imagesPerSec * trainingFlops(CONFIG));
    assert.equal(utilisation, flopsPerSec / peak);
    assert.ok(utilisation! > 0 && utilisation! < 1);
  }
  assert.equal((await logged({ images: 8 })).entries[0].utilisation, undefined);
});

Deno.test("settings and data that cannot be used are told in one line", async () => {
  const wrong: [Partial<DiffusionTrainingInput>, RegExp][] = [
    [{ accumulation: 3 }, /accumulation must divide the batch size 8, got 3$/],
    [{ repa: { ...REPA, block: 9 } }, /^Cannot align tokens: the block must be in \[0, \d\], got 9$/],
    [{ divergence: { factor: 1 } }, /"divergence.factor"/],
    [{ logitNormal: { std: 0 } }, /"logitNormal.std"/],
  ];
  for (const [settings, message] of wrong) {
    await assert.rejects(train(settings), { name: "ConfigError", message });
  }
  const data = someData(20);
  await assert.rejects(train({ repa: REPA }, { data: { ...data, features: undefined } }), {
    name: "DataError",
    message: "Cannot train on latents: alignment needs features [20, 4, 5], got none",
  });
  await assert.rejects(train({ repa: { ...REPA, features: 6 } }), {
    name: "DataError",
    message: /\[20, 4, 6\], got \[20, 4, 5\]/,
  });
  const { state } = await train({ images: 8 });
  await assert.rejects(train({ moreEmaHalflivesImages: [5] }, { resume: state }), {
    name: "CheckpointError",
    message: /"moreEmas.0.tokens.weight" must be of shape \[3, 32\], got nothing/,
  });
});

/** What each update told: float32 sums in another order. */
function assertTold(actual: readonly DiffusionLogEntry[], wanted: readonly DiffusionLogEntry[]): void {
  assert.equal(actual.length, wanted.length);
  actual.forEach(({ metrics, lossByTime }, step) => {
    const told = { ...wanted[step].metrics }, names = Object.keys(told).sort();
    assert.deepEqual(Object.keys(metrics).sort(), names);
    for (const name of names) assertNear(metrics[name], told[name], `${name} of update ${step}`);
    lossByTime.forEach((loss, bin) => {
      const other = wanted[step].lossByTime[bin];
      if (loss === null || other === null) assert.equal(loss, other);
      else assertNear(loss, other, `bin ${bin} of update ${step}`);
    });
  });
}

/** Means of gradients, some of which are zero but for rounding, and weights: float32 sums in another order. */
function assertMoments(actual: DiffusionState, wanted: DiffusionState): void {
  const kindOf = (path: string) => /first|second/.exec(path)?.[0] ?? "weights";
  const told = flattenTree<HostTensor>(wanted, isHostTensor), scales = new Map([["weights", 1]]);
  for (const { path, value: { data } } of told) {
    for (const v of data) scales.set(kindOf(path), Math.max(scales.get(kindOf(path)) ?? 0, Math.abs(v)));
  }
  flattenTree<HostTensor>(actual, isHostTensor).forEach(({ path, value }, leaf) => {
    assert.equal(path, told[leaf].path);
    const other = told[leaf].value.data, scale = scales.get(kindOf(path))!;
    value.data.forEach((v, i) => {
      const difference = Math.abs(v - other[i]);
      assert.ok(difference <= 1e-4 * Math.abs(other[i]) + 1e-5 * scale, `${path}[${i}]: ${v}, ${other[i]}`);
    });
  });
}

function assertNear(actual: number, wanted: number, what: string): void {
  assert.ok(Math.abs(actual - wanted) <= 1e-4 * Math.abs(wanted) + 1e-6, `${what}: ${actual} for ${wanted}`);
}

function copied(state: DiffusionState): DiffusionState {
  return mapTree(
    state,
    isHostTensor,
    (leaf) => ({ ...leaf as HostTensor, data: (leaf as HostTensor).data.slice() }),
  );
}

function flat(tree: unknown): number[] {
  return flattenTree<HostTensor>(tree, isHostTensor).flatMap((leaf) => [...leaf.value.data]);
}

Deno.test("a transformer without classes is trained without labels", async () => {
  const config = { ...CONFIG, classes: 0 }, { latents, labels } = someData(20);
  const trained = async (given: ArrayLike<number>) =>
    flat((await train({ images: 16 }, { config, data: { latents, labels: given } })).state);
  const state = await trained(labels);
  assert.ok(state.every(Number.isFinite));
  assert.deepEqual(await trained(new Int32Array(20).fill(7)), state, "whatever the labels are");
});
