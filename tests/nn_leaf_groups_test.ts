/** Updates of many parameters in few operations, for GPUs, and what they are cut and joined with. */
import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import * as ort from "onnxruntime-node";
import { adamW, clipByGlobalNorm, emaUpdate, LeafGroups } from "novae/nn/mod.ts";
import { flattenTree, float32, type HostTensor, isHostTensor, Rng, scalar } from "novae/tensor/mod.ts";
import { traceFunction } from "../lib/engine/traced_function.ts";
import { assertClose } from "./engine_harness.ts";

interface Tree<T> {
  blocks: { weight: T; bias: T }[];
  token: T;
}

const BLOCKS = 30;

function tree(seed: number, positive = false): Tree<HostTensor> {
  const rng = new Rng(seed);
  const normal = (...shape: number[]) => {
    const values = rng.normal(shape.reduce((a, b) => a * b));
    return float32(positive ? values.map(Math.abs) : values, shape);
  };
  const blocks = Array.from(
    { length: BLOCKS },
    (_, i) => ({ weight: normal(3, 1 + i % 4), bias: normal(1 + i % 4) }),
  );
  return { blocks, token: normal(1, 2) };
}

const args = [tree(0), tree(1), tree(2), tree(3, true), tree(4), scalar(7), scalar(0.01)] as const;

/** Clipping, AdamW and a moving average, as in every training step. */
function update(
  params: Tree<tf.Tensor>,
  grads: Tree<tf.Tensor>,
  first: Tree<tf.Tensor>,
  second: Tree<tf.Tensor>,
  average: Tree<tf.Tensor>,
  step: tf.Tensor,
  learningRate: tf.Tensor,
) {
  const clipped = clipByGlobalNorm(grads, 1);
  const updated = adamW(params, clipped.grads, { first, second }, step as tf.Scalar, {
    learningRate: learningRate as tf.Scalar,
    weightDecay: 0.1,
  });
  return { ...updated, ema: emaUpdate(average, updated.params, 0.9), norm: clipped.norm };
}

const traced = (cpuOperators: boolean) =>
  traceFunction(update as never, args, { cpuOperators, name: "update" });

function operations(counts: Readonly<Record<string, number>>): number {
  // Reshapes move nothing.
  return Object.entries(counts).reduce((sum, [op, count]) => op === "Reshape" ? sum : sum + count, 0);
}

Deno.test("the update of 61 tensors is tens of operations for a GPU", () => {
  const few = operations(traced(false).model.nodeCounts), many = operations(traced(true).model.nodeCounts);
  assert.ok(few < 120, `${few} operations`);
  assert.ok(many > 15 * 61, `${many} operations where each leaf is on its own`);
});

Deno.test("updates of long vectors and of single tensors are the same", async () => {
  const { model, rebuild } = traced(false);
  const session = await ort.InferenceSession.create(model.bytes);
  const inputs = flattenTree<HostTensor>(args, isHostTensor);
  const feeds = Object.fromEntries(
    inputs.map((
      { value },
      i,
    ) => [`in${i}`, new ort.Tensor("float32", value.data as Float32Array, value.shape)]),
  );
  const results = await session.run(feeds);
  const asHost = ({ data, dims }: ort.Tensor): HostTensor => float32(data as Float32Array, dims);
  const found = rebuild(new Map(Object.entries(results).map(([name, t]) => [name, asHost(t as ort.Tensor)])));
  await tf.setBackend("cpu");
  const tensors = inputs.map(({ value }) => tf.tensor(value.data as Float32Array, [...value.shape]));
  let next = 0;
  const trees = args.map((arg) =>
    JSON.parse(
      JSON.stringify(arg, (_, value) => isHostTensor(value) ? { tensor: next++ } : value),
      (_, value) => value?.tensor !== undefined ? tensors[value.tensor] : value,
    )
  );
  const expected = (update as (...a: unknown[]) => unknown)(...trees);
  const wanted = flattenTree<tf.Tensor>(expected, (v) => v instanceof tf.Tensor);
  const got = flattenTree<HostTensor>(found, isHostTensor);
  assert.deepEqual(got.map(({ path }) => path), wanted.map(({ path }) => path));
  for (const [i, { value, path }] of wanted.entries()) {
    const host = float32(value.dataSync() as Float32Array, value.shape);
    assertClose(got[i].value, host, path, 1e-5);
  }
  await session.release();
});

Deno.test("vectors stay within the largest buffer of a WebGPU device", () => {
  const half = 2 ** 24, found: number[][] = [];
  traceFunction(
    ((x: tf.Tensor) => {
      const leaf = (count: number) => tf.zeros([1, count]);
      const groups = new LeafGroups({
        a: leaf(half),
        b: leaf(half),
        c: leaf(8),
        d: leaf(3 * half),
        e: tf.zeros([5]),
      });
      found.push(...groups.groups.map(({ leaves }) => leaves.map(({ shape }) => shape.at(-1)!)));
      return x;
    }) as never,
    [scalar(0)],
    { cpuOperators: false, name: "groups" },
  );
  assert.deepEqual(found, [[half, half], [8], [3 * half], [5]]);
});

Deno.test("a split into many pieces makes do with the buffers of a WebGPU device", async () => {
  const sizes = Array.from({ length: 50 }, (_, i) => 1 + i % 3), total = sizes.reduce((a, b) => a + b);
  const x = float32(Float32Array.from({ length: total }, (_, i) => i), [1, total]);
  const doubled = (input: tf.Tensor) => tf.split(input, sizes, 1).map((piece) => tf.mul(piece, 2));
  const { model, outputs } = traceFunction(doubled as never, [x], { cpuOperators: false, name: "split" });
  for (const { value } of outputs) {
    let source = value;
    for (let node = source.producer; node; node = source.producer) {
      assert.ok(node.op !== "Split" || node.outputs.length <= 7, `${node.outputs.length} pieces at once`);
      source = node.inputs[0]!;
    }
  }
  const session = await ort.InferenceSession.create(model.bytes);
  const results = await session.run({ in0: new ort.Tensor("float32", x.data as Float32Array, x.shape) });
  const joined = outputs.flatMap(({ name }) => [...(results[name] as ort.Tensor).data as Float32Array]);
  assert.deepEqual(joined, [...x.data].map((v) => 2 * v));
  await session.release();
});

Deno.test("pieces that are joined again in their order are what was split, in another order they are not", () => {
  const x = float32(Float32Array.from({ length: 60 }, (_, i) => i), [60]);
  const counts = (fn: (pieces: tf.Tensor[]) => tf.Tensor) =>
    traceFunction(((input: tf.Tensor) => tf.mul(fn(tf.split(input, 20)), 2)) as never, [x], {
      cpuOperators: false,
      name: "joined",
    }).model.nodeCounts;
  assert.deepEqual(counts((pieces) => tf.concat(pieces)), { Mul: 1 });
  assert.equal(counts((pieces) => tf.concat(pieces.toReversed())).Concat, 1);
  assert.equal(counts((pieces) => tf.concat(pieces.slice(1))).Concat, 1);
});
