/** Donated memory that results are written into. */
import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import { type DeviceTensor, disposeTree, jit, read } from "novae/engine/mod.ts";
import { outputsInPlace } from "../lib/engine/in_place.ts";
import { traceFunction } from "../lib/engine/traced_function.ts";
import { flattenTree, float32, type HostTensor, int32, isHostTensor, Rng, scalar } from "novae/tensor/mod.ts";
import {
  type DiffusionBatch,
  type DiffusionState,
  diffusionTrainStep,
  ditConfig,
  initDiffusionState,
} from "novae/diffusion/mod.ts";

const config = ditConfig("tiny", { channels: 5, grid: 2, classes: 3 });
const settings = { betas: [0.9, 0.999], weightDecay: 0.01, clipNorm: 1 } as const;

const step = (state: DiffusionState<tf.Tensor>, batch: DiffusionBatch<tf.Tensor>) =>
  diffusionTrainStep(state, batch, config, settings);

function batchOf(seed: number): DiffusionBatch<HostTensor> {
  const rng = new Rng(seed), normal = () => float32(rng.normal(2 * 4 * 5), [2, 4, 5]);
  return {
    dataBNZ: normal(),
    noiseBNZ: normal(),
    tB: float32(rng.uniform(2), [2]),
    labelsB: int32(Int32Array.of(1, 3), [2]),
    learningRate: scalar(1e-2),
    emaDecay: scalar(0.9),
  };
}

/** What `outputsInPlace` says of a function whose first argument is donated: path of the input by path of the output. */
function pairsOf(fn: (...args: never[]) => unknown, args: readonly unknown[]): Record<string, string> {
  const inputs = flattenTree<HostTensor>(args, isHostTensor).map(({ path }) => path);
  const traced = traceFunction(fn, args, {
    cpuOperators: true,
    name: "test",
    inputName: (_, path) => path,
    outputName: (_, path) => path,
  });
  const donated = new Set(inputs.filter((path) => path.startsWith("0")));
  return Object.fromEntries(outputsInPlace(traced.outputs, donated));
}

Deno.test("every tensor of a training state takes the memory of the one it replaces", () => {
  const state = initDiffusionState(config, 0);
  const pairs = pairsOf(step as never, [state, batchOf(0)]);
  for (const { path } of flattenTree<HostTensor>(state, isHostTensor)) {
    assert.equal(pairs[`0.${path}`], `0.${path}`, path);
  }
});

Deno.test("training in place is training beside, bit for bit", async () => {
  const run = async (donate: number[]) => {
    const compiled = jit(step, { device: "cpu", donate });
    let state: Parameters<typeof compiled>[0] = initDiffusionState(config, 0);
    const losses: number[] = [];
    for (let i = 0; i < 5; i++) {
      const [next, metrics] = await compiled(state, batchOf(i));
      state = next;
      losses.push((await read(metrics)).loss.data[0]);
    }
    const result = await read(state);
    disposeTree(state);
    await compiled.dispose();
    return { result, losses };
  };
  assert.deepEqual(await run([0]), await run([]));
});

const x = float32([1, 2, 3], [3]), y = float32([10, 20, 30], [3]);

Deno.test("memory is not taken while something else may still read it", () => {
  const add = (a: tf.Tensor, b: tf.Tensor) => tf.add(a, b);
  // Neither result needs the other, so either may come first.
  assert.deepEqual(pairsOf((a: tf.Tensor) => [tf.add(a, 1), tf.mul(a, 2)], [x]), {});
  // The second needs the first, but the first is the last to read.
  assert.deepEqual(pairsOf((a: tf.Tensor) => [tf.add(a, 1), tf.mul(tf.add(a, 1), 2)], [x]), { "0": "0" });
  // A result that is the input itself keeps its memory.
  assert.deepEqual(pairsOf((a: tf.Tensor) => [a, tf.add(a, 1)], [x]), {});
  // Elements in another order are not read before they are written.
  const square = float32([1, 2, 3, 4], [2, 2]);
  assert.deepEqual(pairsOf((a: tf.Tensor) => add(tf.transpose(a), a), [square]), {});
  // A sum is done before the elements are written that it was made of.
  assert.deepEqual(pairsOf((a: tf.Tensor) => add(tf.sum(a, 0, true), a), [square]), { "": "0" });
  // A view that leaves the graph is the input's memory.
  assert.deepEqual(pairsOf((a: tf.Tensor) => [tf.reshape(a, [3, 1]), tf.add(a, 1)], [x]), {});
  // Of another shape or type there is nothing to take.
  assert.deepEqual(pairsOf((a: tf.Tensor) => tf.sum(a), [x]), {});
  assert.deepEqual(pairsOf((a: tf.Tensor) => tf.greater(a, 2), [x]), {});
});

Deno.test("a state whose members change places comes out right", async () => {
  const swap = jit(
    (state: { a: tf.Tensor; b: tf.Tensor }) => ({ a: tf.mul(state.b, 2), b: tf.add(state.a, 1) }),
    {
      device: "cpu",
      donate: [0],
    },
  );
  let state: { a: HostTensor | DeviceTensor; b: HostTensor | DeviceTensor } = { a: x, b: y };
  let expected = { a: [...x.data], b: [...y.data] };
  for (let i = 0; i < 3; i++) {
    state = await swap(state as never);
    expected = { a: expected.b.map((v) => 2 * v), b: expected.a.map((v) => v + 1) };
  }
  const { a, b } = await read(state);
  assert.deepEqual({ a: [...a.data], b: [...b.data] }, expected);
  await swap.dispose();
});

Deno.test("memory that is fed twice is not written", async () => {
  const fn = jit((a: tf.Tensor, b: tf.Tensor) => tf.add(tf.mul(a, 2), tf.reverse(b)), {
    device: "cpu",
    donate: [0],
  });
  const start = jit((a: tf.Tensor) => tf.mul(a, 1), { device: "cpu" });
  const tensor = await start(x);
  const result = await (await fn(tensor, tensor)).read();
  assert.deepEqual([...result.data], [5, 6, 7]);
  await fn.dispose();
  await start.dispose();
});

Deno.test("results take the very memory that was donated", async () => {
  const fn = jit((a: tf.Tensor) => tf.add(a, 1), { device: "cpu", donate: [0] });
  const first = await fn(x);
  const memory = first.storage("test").handle;
  const second = await fn(first);
  assert.equal(second.storage("test").handle, memory);
  assert.deepEqual([...(await second.read()).data], [3, 4, 5]);
  assert.deepEqual([...x.data], [1, 2, 3], "host tensors are only read");
  await fn.dispose();
});

Deno.test("a failed call says that what it was writing over is lost, and gives the rest back", async () => {
  type State = { written: tf.Tensor; other: tf.Tensor };
  const fn = jit((state: State, index: tf.Tensor) => ({
    written: tf.add(state.written, 1),
    other: tf.sum(tf.gather(state.other, index)),
  }), { device: "cpu", donate: [0], name: "step" });
  const start = jit((a: tf.Tensor, b: tf.Tensor) => ({ written: tf.mul(a, 1), other: tf.mul(b, 1) }), {
    device: "cpu",
  });
  const state = await start(x, y), at = (i: number) => int32(Int32Array.of(i), [1]);
  await assert.rejects(
    fn(state, at(7)),
    /^DeviceError: Cannot run step on cpu: .*; donated arguments are lost$/,
  );
  await assert.rejects(state.written.read(), /was donated to step/);
  assert.deepEqual([...(await state.other.read()).data], [10, 20, 30]);
  await Promise.all([fn.dispose(), start.dispose()]);
});
