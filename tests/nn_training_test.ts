import assert from "node:assert/strict";
import fc from "fast-check";
import * as tf from "@tensorflow/tfjs";
import {
  adamW,
  clipByGlobalNorm,
  cosineSchedule,
  emaDecay,
  emaUpdate,
  type Readable,
  type TrainLogEntry,
  trainLoop,
  valueAndGrads,
} from "novae/nn/mod.ts";
import { scalar } from "novae/tensor/mod.ts";
import golden from "./golden/adamw.json" with { type: "json" };

await tf.setBackend("cpu");

interface Params {
  weight: tf.Tensor;
  bias: tf.Tensor;
}

Deno.test("AdamW agrees with torch.optim.AdamW over five updates", () => {
  const tree = (v: { weight: number[]; bias: number[] }): Params => ({
    weight: tf.tensor2d(v.weight, [3, 4]),
    bias: tf.tensor1d(v.bias),
  });
  let params = tree(golden);
  let state = { first: tree(golden), second: tree(golden) };
  state = { first: zerosOf(state.first), second: zerosOf(state.second) };
  golden.grads.forEach((grads, i) => {
    ({ params, state } = adamW(params, tree(grads), state, tf.scalar(i + 1), {
      learningRate: 0.01,
      beta2: 0.99,
      weightDecay: 0.1,
    }));
    assertClose(params.weight, golden.after[i].weight, 2e-6);
    assertClose(params.bias, golden.after[i].bias, 2e-6);
  });
});

Deno.test("valueAndGrads differentiates a tree, keeps aux and gives zero for unused parameters", () => {
  const params = { a: tf.tensor1d([1, 2]), deep: [{ b: tf.scalar(3) }], unused: tf.tensor1d([5]) };
  const before = tf.memory().numTensors;
  const result = tf.tidy(() => {
    const r = valueAndGrads((p) => {
      const squares = tf.square(p.a);
      return { loss: tf.mul(tf.sum(squares), p.deep[0].b) as tf.Scalar, aux: { squares } };
    }, params);
    return [r.loss, r.aux.squares, r.grads.a, r.grads.deep[0].b, r.grads.unused].map((
      t,
    ) => [...t.dataSync()]);
  });
  assert.deepEqual(result, [[15], [1, 4], [6, 12], [5], [0]]);
  assert.equal(tf.memory().numTensors, before, "no tensor is left behind");
});

Deno.test("clipping scales by the joint norm and leaves small gradients alone", () => {
  const { grads, norm } = clipByGlobalNorm({ a: tf.tensor1d([3]), b: tf.tensor1d([4]) }, 1);
  assertClose(norm, [5], 1e-6);
  assertClose(grads.a, [0.6], 1e-6);
  assertClose(clipByGlobalNorm({ a: tf.tensor1d([0.3]) }, 1).grads.a, [0.3], 1e-7);
  const free = clipByGlobalNorm({ a: tf.tensor1d([3]), b: tf.tensor1d([4]) }, null);
  assertClose(free.norm, [5], 1e-6);
  assertClose(free.grads.b, [4], 0);
});

Deno.test("an average with a half-life forgets half of what it held after that many images", () => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 1, max: 100 }), (batch, steps) => {
    const decay = emaDecay(batch, batch * steps);
    assert.ok(Math.abs(decay ** steps - 0.5) < 1e-9);
  }));
  const ema = emaUpdate({ a: tf.scalar(4) }, { a: tf.scalar(8) }, 0.75);
  assertClose(ema.a, [5], 1e-6);
});

Deno.test("the cosine schedule starts at base after warm-up and ends at final", () => {
  const rate = cosineSchedule({ base: 1, final: 0.1, steps: 101, warmupSteps: 10 });
  assert.equal(rate(9), 1);
  assert.equal(rate(10), 1);
  assert.ok(Math.abs(rate(55) - 0.55) < 0.02 && Math.abs(rate(100) - 0.1) < 1e-12 && rate(500) === rate(100));
});

Deno.test("the loop resumes at a step with the batches of an uninterrupted run", async () => {
  const run = async (state: number, startStep: number, steps: number) => {
    const { state: end } = await trainLoop({ ...counting(state), startStep, steps });
    return end;
  };
  assert.equal(await run(await run(1, 0, 3), 3, 7), await run(1, 0, 7));
});

Deno.test("the loop logs means, checkpoints and evaluates at the asked steps", async () => {
  const logs: TrainLogEntry[] = [], checkpoints: number[] = [], evaluations: number[] = [];
  await trainLoop({
    ...counting(0),
    startStep: 2,
    steps: 7,
    logEverySteps: 3,
    onLog: (entry) => void logs.push(entry),
    checkpointEverySteps: 4,
    onCheckpoint: (_, step) => void checkpoints.push(step),
    evaluateAtSteps: [2, 5],
    onEvaluate: (_, step) => void evaluations.push(step),
  });
  assert.deepEqual(logs.map((l) => [l.step, l.imagesSeen, l.metrics.loss]), [[3, 24, 2], [6, 48, 4], [
    7,
    56,
    6,
  ]]);
  assert.deepEqual(checkpoints, [4, 7]);
  assert.deepEqual(evaluations, [2, 5]);
});

Deno.test("a loss that is not finite stops the loop, names the step and the last good checkpoint", async () => {
  const checkpoints: number[] = [];
  const options = { ...counting(0, 5), steps: 9, checkpointEverySteps: 2 };
  await assert.rejects(trainLoop({ ...options, onCheckpoint: (_, step) => void checkpoints.push(step) }), {
    name: "DivergenceError",
    message:
      "Training stopped at step 6: the loss must be finite, got NaN; the last good checkpoint is of step 4",
  });
  assert.deepEqual(checkpoints, [2, 4]);
});

Deno.test("metrics that come later are averaged over the steps that have them, and a later loss is guarded too", async () => {
  const own = counting(0), logs: TrainLogEntry[] = [];
  const late = (bad: number) => ({
    ...own,
    steps: 8,
    logEverySteps: 4,
    onLog: (entry: TrainLogEntry) => void logs.push(entry),
    step: async (state: number, batch: number): Promise<[number, Record<string, Readable>]> => {
      const [next, metrics] = await own.step(state, batch);
      const value = batch === bad ? Infinity : 10 * batch;
      const read = () => Promise.resolve(scalar(value));
      return [next, batch < 2 ? metrics : { ...metrics, judgeLoss: { read, dispose: () => {} } }];
    },
  });
  await trainLoop(late(-1));
  assert.deepEqual(logs.map((l) => l.metrics), [{ loss: 1.5, judgeLoss: 25 }, { loss: 5.5, judgeLoss: 55 }]);
  await assert.rejects(trainLoop(late(3)), {
    name: "DivergenceError",
    message:
      "Training stopped at step 4: the judgeLoss must be finite, got Infinity; no checkpoint was made yet",
  });
});

Deno.test("the next batch is prepared when the step before is on its way, and before it has ended", async () => {
  const order: string[] = [], own = counting(0);
  await trainLoop({
    ...own,
    steps: 3,
    batch: (step: number) => {
      order.push(`batch ${step}`);
      return step;
    },
    step: async (state: number, batch: number) => {
      for (let i = 0; i < 20; i++) await Promise.resolve(); // what a compiled function looks up first
      order.push(`runs ${batch}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
      order.push(`ended ${batch}`);
      return await own.step(state, batch);
    },
  });
  assert.deepEqual(
    order.join(", "),
    "batch 0, runs 0, batch 1, ended 0, runs 1, batch 2, ended 1, runs 2, ended 2",
  );
});

/** A training whose state hashes the batches it saw; its loss is the batch's number, NaN from `nanAt` on. */
function counting(state: number, nanAt = Infinity) {
  const metric = (value: number): Readable => ({
    read: () => Promise.resolve(scalar(value)),
    dispose: () => {},
  });
  return {
    state,
    batchSize: 8,
    batch: (step: number) => step,
    step: (s: number, batch: number): Promise<[number, Record<string, Readable>]> =>
      Promise.resolve([(s * 31 + batch) % 1000003, { loss: metric(batch >= nanAt ? NaN : batch) }]),
  };
}

function zerosOf(tree: Params): Params {
  return { weight: tf.zerosLike(tree.weight), bias: tf.zerosLike(tree.bias) };
}

function assertClose(actual: tf.Tensor, expected: number[], tolerance: number): void {
  actual.dataSync().forEach((v, i) =>
    assert.ok(Math.abs(v - expected[i]) <= tolerance, `${v} vs ${expected[i]}`)
  );
}
