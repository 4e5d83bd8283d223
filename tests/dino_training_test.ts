import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import { jit, read } from "novae/engine/mod.ts";
import { packDataset } from "novae/data/mod.ts";
import {
  centeredSoftmax,
  checkRecipe,
  type DinoBatch,
  dinoBatches,
  dinoLoss,
  type DinoMetrics,
  type DinoRecipe,
  dinoSchedules,
  type DinoState,
  dinoStep,
  initDinoState,
  koleoLoss,
  marginalEntropy,
  sinkhornKnopp,
  SMALL_RECIPE,
  trainDino,
  VIT_SIZES,
} from "novae/dino/mod.ts";
import { ConfigError, flattenTree, type HostTensor, isHostTensor, Rng, scalar } from "novae/tensor/mod.ts";

await tf.setBackend("cpu");

const vit = VIT_SIZES.tiny;
const recipe: DinoRecipe = {
  ...SMALL_RECIPE,
  batchSize: 4,
  steps: 6,
  globalSize: 16,
  localSize: 8,
  localCrops: 2,
  head: { ...SMALL_RECIPE.head, hidden: 16, bottleneck: 8, prototypes: 24 },
  masks: { kind: "scattered", ratio: 0.25 },
  maskWeight: 0.5,
  koleoWeight: 0.1,
  freezeShare: 0,
};

function dataset(size = 10) {
  const pixels = Uint8Array.from(new Rng(9).uniform(size * 16 * 16 * 3), (u) => u * 255);
  const labels = Uint8Array.from({ length: size }, (_, i) => i % 2);
  return packDataset({ name: "noise", classes: ["a", "b"], imageSize: 16, pixels, labels });
}

function leaves(tree: unknown): Map<string, HostTensor> {
  return new Map(flattenTree<HostTensor>(tree, isHostTensor).map((leaf) => [leaf.path, leaf.value]));
}

function compiledStep(settings: DinoRecipe = recipe) {
  const step = jit(
    (state: DinoState, batch: DinoBatch): [DinoState, DinoMetrics] => dinoStep(state, batch, vit, settings),
    { device: "cpu" },
  );
  return {
    run: async (state: DinoState<HostTensor>, batch: DinoBatch<HostTensor>) =>
      await read(await step(state, batch)) as unknown as [DinoState<HostTensor>, DinoMetrics<HostTensor>],
    dispose: () => step.dispose(),
  };
}

Deno.test("Sinkhorn-Knopp gives rows that sum to 1 and columns of equal share", () => {
  const logits = tf.tensor(new Rng(1).normal(12 * 5), [12, 5]);
  const q = sinkhornKnopp(logits, 0.5, { iterations: 50 });
  for (const sum of tf.sum(q, 1).dataSync()) assert.ok(Math.abs(sum - 1) < 1e-5);
  for (const sum of tf.sum(q, 0).dataSync()) assert.ok(Math.abs(sum - 12 / 5) < 1e-3, `column ${sum}`);
  // Three iterations on logits as far apart as cosines at the coldest temperature stay finite.
  const hard = sinkhornKnopp(tf.tensor([[1, -1, -1], [1, -1, -1], [-1, -1, 1]]), 0.04);
  for (const sum of tf.sum(hard, 1).dataSync()) assert.ok(Math.abs(sum - 1) < 1e-5);
});

Deno.test("centering subtracts the running mean before the softmax", () => {
  const q = centeredSoftmax(tf.tensor([[1, 2]]), tf.tensor1d([0.5, 0]), 0.5).dataSync();
  const odds = Math.exp((2 - 0.5) / 0.5);
  assert.ok(Math.abs(q[1] - odds / (1 + odds)) < 1e-6);
});

Deno.test("KoLeo is the mean logarithm of the distance to the nearest neighbour", () => {
  const angles = [0, 0.3, 2, 2.1];
  const x = tf.tensor(angles.flatMap((a) => [3 * Math.cos(a), 3 * Math.sin(a)]), [4, 2]);
  const nearest = [0.3, 0.3, 0.1, 0.1].map((a) => 2 * Math.sin(a / 2)); // chords
  const wanted = -nearest.reduce((sum, d) => sum + Math.log(d), 0) / 4;
  assert.ok(Math.abs(koleoLoss(x).dataSync()[0] - wanted) < 1e-4);
});

Deno.test("the DINO loss equals the mean over pairs of different crops", () => {
  const [batch, prototypes, locals, temperature] = [3, 4, 2, 0.2], rng = new Rng(2);
  const draw = (n: number) => tf.tensor(rng.normal(n * batch * prototypes), [n * batch, prototypes]);
  const targets = tf.softmax(draw(2)), globals = draw(2), local = draw(locals);
  const crops = [...tf.split(globals, 2), ...tf.split(local, locals)], teachers = tf.split(targets, 2);
  let sum = 0, pairs = 0;
  teachers.forEach((target, t) =>
    crops.forEach((crop, s) => {
      if (s === t) return;
      const logs = tf.logSoftmax(tf.div(crop, temperature));
      sum -= tf.mean(tf.sum(tf.mul(target, logs), 1)).dataSync()[0];
      pairs++;
    })
  );
  assert.equal(pairs, 6);
  assert.ok(Math.abs(dinoLoss(targets, globals, local, temperature).dataSync()[0] - sum / pairs) < 1e-5);
});

Deno.test("usage entropy tells an even use of the prototypes from a collapse", () => {
  assert.ok(Math.abs(marginalEntropy(tf.eye(8)).dataSync()[0] - Math.log(8)) < 1e-5);
  assert.ok(Math.abs(marginalEntropy(tf.tensor([[1, 0], [1, 0]])).dataSync()[0]) < 1e-5);
});

Deno.test("schedules warm up, freeze and end where the recipe says", () => {
  const settings = { ...SMALL_RECIPE, steps: 100, learningRate: 1.5e-3 }, at = dinoSchedules(settings);
  const value = (step: number, key: keyof ReturnType<typeof at>) => at(step)[key]!.data[0];
  assert.ok(Math.abs(value(4, "learningRate") - 1.5e-3) < 1e-9);
  assert.ok(value(0, "learningRate") < 3.1e-4);
  assert.ok(Math.abs(value(99, "learningRate") - 1e-5) < 1e-9);
  assert.ok(Math.abs(value(99, "momentum") - 1) < 1e-6);
  assert.ok(Math.abs(value(30, "teacherTemperature") - 0.05) < 1e-6);
  assert.deepEqual([value(19, "prototypeRate"), value(20, "prototypeRate")], [0, 1]);
});

Deno.test("a batch depends on its step alone and an epoch visits images once", () => {
  const data = dataset(),
    first = dinoBatches(data, vit, recipe, 3),
    second = dinoBatches(data, vit, recipe, 3);
  second(0);
  assert.deepEqual(second(5), first(5));
  assert.notDeepEqual(first(5).globals.data, first(4).globals.data);
  assert.notDeepEqual(dinoBatches(data, vit, recipe, 4)(5).globals.data, first(5).globals.data);
  assert.deepEqual(first(0).globals.shape, [8, 16, 16, 3]);
  assert.deepEqual(first(0).locals?.shape, [8, 8, 8, 3]);
  const { maskBN, maskedRows, maskedWeights } = first(0);
  assert.deepEqual([maskBN!.shape, maskedRows!.shape], [[8, 16], [16]]);
  assert.equal(Array.from(maskBN!.data.slice(0, 64)).reduce((a, b) => a + b), 16);
  assert.ok(maskBN!.data.slice(64).every((v) => v === 0), "second global crops are seen whole");
  assert.equal(new Set(maskedRows!.data).size, 16);
  assert.ok(maskedRows!.data.every((row) => maskBN!.data[row] === 1));
  assert.ok(maskedWeights!.data.every((weight) => weight === 1 / 16));
});

Deno.test("recipes that do not fit are refused", () => {
  const cases: [Partial<DinoRecipe>, RegExp][] = [
    [{ batchSize: 11 }, /batchSize must be at most the 10 images, got 11/],
    [{ globalSize: 18 }, /globalSize must be a multiple of 4, got 18/],
    [{ localScale: [0.5, 0.2] }, /localScale must be two rising shares/],
    [{ masks: { kind: "scattered", ratio: 1 } }, /masks\.ratio must be in \(0, 1\), got 1/],
  ];
  for (const [change, message] of cases) {
    assert.throws(
      () => checkRecipe({ ...recipe, ...change }, vit, 10),
      (error) => error instanceof ConfigError && message.test(error.message),
    );
  }
});

Deno.test("after a step the teacher is the moving average, and with momentum 1 it stays as it was", async () => {
  const step = compiledStep(), state = initDinoState(new Rng(1), vit, recipe);
  const batch = dinoBatches(dataset(), vit, recipe, 1)(1);
  // The teacher differs from the student, so that a gradient leaking into it would show.
  state.teacher = initDinoState(new Rng(2), vit, recipe).teacher;
  const before = leaves(state.teacher);
  const [averaged] = await step.run(state, { ...batch, momentum: scalar(0.75) });
  const student = leaves(averaged.student), started = leaves(state.student);
  let moved = 0;
  for (const [path, value] of leaves(averaged.teacher)) {
    value.data.forEach((v, i) => {
      const wanted = 0.75 * before.get(path)!.data[i] + 0.25 * student.get(path)!.data[i];
      assert.ok(Math.abs(v - wanted) < 1e-6, `${path}[${i}]`);
      moved += Math.abs(student.get(path)!.data[i] - started.get(path)!.data[i]);
    });
  }
  assert.ok(moved > 0, "the student must move");
  const [kept] = await step.run(state, { ...batch, momentum: scalar(1) });
  for (const [path, value] of leaves(kept.teacher)) {
    assert.deepEqual(value.data, before.get(path)!.data, path);
  }
  await step.dispose();
});

Deno.test("prototypes stay as they are while they are frozen", async () => {
  const step = compiledStep(), state = initDinoState(new Rng(1), vit, recipe);
  const batch = dinoBatches(dataset(), vit, recipe, 1)(0);
  const prototypes = async (rate: number) =>
    (await step.run(state, { ...batch, prototypeRate: scalar(rate) }))[0].student.head.prototypes.data;
  assert.deepEqual(await prototypes(0), state.student.head.prototypes.data);
  assert.notDeepEqual(await prototypes(1), state.student.head.prototypes.data);
  await step.dispose();
});

Deno.test("the compiled update equals the eager one", async () => {
  const step = compiledStep(), state = initDinoState(new Rng(1), vit, recipe);
  const batch = dinoBatches(dataset(), vit, recipe, 1)(0);
  const [, metrics] = await step.run(state, batch);
  const feed = <P>(tree: unknown) => mapToTensors<P>(tree);
  const [newState, wanted] = dinoStep(feed(state), feed(batch), vit, recipe);
  for (const [name, value] of Object.entries(wanted)) {
    const reference = value.dataSync()[0];
    assert.ok(
      Math.abs(metrics[name].data[0] - reference) <= 1e-5 + 1e-4 * Math.abs(reference),
      `${name}: eager ${reference}, compiled ${metrics[name].data[0]}`,
    );
  }
  assert.equal(newState.step.dataSync()[0], 1);
  await step.dispose();
});

Deno.test("the loss on a fixed batch falls under both kinds of assignment", async () => {
  for (const assignment of ["sinkhorn", "centering"] as const) {
    const step = compiledStep({ ...recipe, assignment });
    let state = initDinoState(new Rng(1), vit, recipe), first = NaN, last = NaN;
    const batch = {
      ...dinoBatches(dataset(), vit, recipe, 1)(0),
      momentum: scalar(1),
      learningRate: scalar(3e-3),
    };
    for (let i = 0; i < 25; i++) {
      const [next, metrics] = await step.run(state, batch);
      state = next;
      last = metrics.loss.data[0];
      if (i === 0) first = last;
    }
    assert.ok(last < first - 0.3, `${assignment}: first ${first}, last ${last}`);
    await step.dispose();
  }
});

Deno.test("an encoder of the first DINO's kind learns its positions, and has none of a mask token", async () => {
  const { ropeTheta: _, ...rest } = vit;
  const learned = {
    ...rest,
    registers: 0,
    layerScaleInit: null,
    learnedPositions: "offset",
    maskToken: false,
  } as const;
  const before = initDinoState(new Rng(5).split("weights"), learned, recipe).student.vit.positions!;
  const options = { dataset: dataset(), vit: learned, seed: 5, device: "cpu" } as const;
  const { state } = await trainDino({ ...options, recipe: { ...recipe, steps: 3, masks: null } });
  const after = state.student.vit.positions!;
  assert.deepEqual(after.shape, [17, 16]);
  for (let token = 0; token < 17; token++) {
    const row = (data: ArrayLike<number>) => Array.from({ length: 16 }, (_, d) => data[token * 16 + d]);
    assert.notDeepEqual(row(after.data), row(before.data), `position ${token}`);
  }
  await assert.rejects(trainDino({ ...options, recipe }), (error) => {
    assert.ok(error instanceof ConfigError);
    assert.match(error.message, /masks must be null without a mask token, got scattered/);
    return true;
  });
});

Deno.test("a training that goes on from a checkpoint equals one that was not interrupted, bit for bit", async () => {
  const options = { dataset: dataset(), vit, recipe, seed: 5, device: "cpu" as const };
  const seen: number[] = [];
  let checkpoint: DinoState<HostTensor> | undefined;
  const whole = await trainDino({
    ...options,
    checkpointEverySteps: 3,
    onCheckpoint: (state, step) => {
      if (step === 3) checkpoint = structuredClone(state);
    },
    evaluateAtSteps: [2, 6],
    onEvaluate: (_, step) => void seen.push(step),
  });
  assert.deepEqual(seen, [2, 6]);
  const resumed = await trainDino({ ...options, state: checkpoint });
  assert.deepEqual([whole.step, resumed.step, resumed.stopped], [6, 6, false]);
  const wanted = leaves(whole.state);
  for (const [path, value] of leaves(resumed.state)) {
    assert.deepEqual(value.data, wanted.get(path)!.data, path);
  }
  assert.deepEqual(leaves(whole.encoder), leaves(whole.state.teacher.vit));
});

function mapToTensors<P>(tree: unknown): P {
  if (isHostTensor(tree)) return tf.tensor(tree.data, [...tree.shape], tree.dtype) as P;
  if (Array.isArray(tree)) return tree.map((child) => mapToTensors(child)) as P;
  return Object.fromEntries(Object.entries(tree as object).map(([k, v]) => [k, mapToTensors(v)])) as P;
}
