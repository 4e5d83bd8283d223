import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import { jit, read } from "novae/engine/mod.ts";
import {
  applyRope,
  type AttentionParams,
  convFromPytorch,
  embedLabels,
  gatedMlp,
  initAttention,
  initEmbedding,
  initGatedMlp,
  initLinear,
  initMlp,
  linear,
  linearFromPytorch,
  type LinearParams,
  mlp,
  type MlpParams,
  type NormParams,
  ropeTable2d,
  selfAttention,
  sinCosPositions2d,
  timestepFrequencies,
  valueAndGrads,
} from "novae/nn/mod.ts";
import { flattenTree, float32, type HostTensor, isHostTensor, mapTree, Rng } from "novae/tensor/mod.ts";

await tf.setBackend("cpu");

/** A tree of host tensors as tensors of the eager backend. */
function eager<P>(tree: unknown): P {
  return mapTree<P>(tree, isHostTensor, (leaf) => {
    const { data, shape, dtype } = leaf as HostTensor;
    return tf.tensor(data, [...shape], dtype);
  });
}

function assertClose(got: ArrayLike<number>, wanted: ArrayLike<number>, rtol = 1e-4, atol = 1e-5): void {
  assert.equal(got.length, wanted.length);
  for (let i = 0; i < got.length; i++) {
    const limit = atol + rtol * Math.abs(wanted[i]);
    assert.ok(Math.abs(got[i] - wanted[i]) <= limit, `[${i}] wanted ${wanted[i]}, got ${got[i]}`);
  }
}

/** Replaces constant initial values by random ones, so that a wrong bias or gain shows. */
function shaken(tree: unknown, rng: Rng): unknown {
  return mapTree(tree, isHostTensor, (leaf, path) => {
    const { shape, data } = leaf as HostTensor;
    const noise = rng.split(path).normal(data.length);
    return float32(noise.map((n, i) => data[i] + 0.2 * n), shape);
  });
}

Deno.test("linear maps the last axis of inputs of any rank", () => {
  const params: LinearParams = { weight: tf.tensor2d([[1, 2], [3, 4], [5, 6]]), bias: tf.tensor1d([10, 20]) };
  const rowsIn = [1, 0, 0, 0, 1, 0, 1, 1, 1, 2, 0, -1];
  const wanted = [11, 22, 13, 24, 19, 32, 7, 18];
  assertClose(linear(tf.tensor(rowsIn, [4, 3]), params).dataSync(), wanted);
  const deep = linear(tf.tensor(rowsIn, [2, 1, 2, 3]), params);
  assert.deepEqual(deep.shape, [2, 1, 2, 2]);
  assertClose(deep.dataSync(), wanted);
  assert.throws(() => linear(tf.zeros([2, 4]), params), /last dimension must be 3, got \[2,4\]/);
});

Deno.test("initialisers have the spread that their names promise", () => {
  const rng = new Rng(3);
  const xavier = initLinear(rng, 100, 200).weight.data;
  const bound = Math.sqrt(6 / 300), largest = Math.max(...xavier.map(Math.abs));
  assert.ok(largest <= bound && largest > 0.99 * bound, `largest ${largest}, bound ${bound}`);
  const normal = initLinear(rng, 100, 200, { init: "truncNormal", std: 1.5, bias: 2 });
  assert.ok(normal.weight.data.every((v) => Math.abs(v) <= 2));
  // A normal of standard deviation 1.5 cut at ±2 has standard deviation 1.024.
  const square = [...normal.weight.data].reduce((sum, v) => sum + v * v, 0) / 20000;
  assert.ok(Math.abs(Math.sqrt(square) - 1.024) < 0.02, `deviation ${Math.sqrt(square)}`);
  assert.ok(normal.bias.data.every((v) => v === 2));
  assert.ok(initLinear(rng, 4, 4, { init: "zeros" }).weight.data.every((v) => v === 0));
});

Deno.test("sine-cosine positions put the column first, sines before cosines", () => {
  const { shape, data } = sinCosPositions2d(2, 3, 8);
  assert.deepEqual(shape, [6, 8]);
  const [row, col] = [1, 2], token = data.subarray((row * 3 + col) * 8, (row * 3 + col + 1) * 8);
  const parts = (p: number) => [Math.sin(p), Math.sin(p * 0.01), Math.cos(p), Math.cos(p * 0.01)];
  assertClose(token, [...parts(col), ...parts(row)], 0, 1e-7);
  assert.throws(() => sinCosPositions2d(2, 2, 6), RangeError);
});

Deno.test("time features put cosines before sines and take times unscaled", () => {
  const features = timestepFrequencies(tf.tensor1d([0, 0.5]), 4);
  assertClose(features.dataSync(), [
    1,
    1,
    0,
    0,
    Math.cos(0.5),
    Math.cos(0.005),
    Math.sin(0.5),
    Math.sin(0.005),
  ]);
  assert.throws(() => timestepFrequencies(tf.tensor1d([0]), 5), RangeError);
});

Deno.test("label embedding reads rows of its table and sends gradients back to them", () => {
  const table = initEmbedding(new Rng(1), 5, 3).table;
  const params = eager<{ table: tf.Tensor }>({ table }), labels = tf.tensor1d([4, 0, 4], "int32");
  const rowOf = (i: number) => table.data.subarray(i * 3, i * 3 + 3);
  assertClose(embedLabels(labels, params).dataSync(), [...rowOf(4), ...rowOf(0), ...rowOf(4)], 0, 1e-7);
  const { grads } = valueAndGrads(
    (p: typeof params) => ({ loss: tf.sum(embedLabels(labels, p)) as tf.Scalar, aux: {} }),
    params,
  );
  assertClose(grads.table.dataSync(), [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2]);
});

Deno.test("rotary positions make products depend on the offset between tokens alone", () => {
  const [rowCount, cols, headDim, prefix] = [3, 4, 8, 2];
  const table = ropeTable2d(rowCount, cols, headDim, { prefix });
  const tokens = prefix + rowCount * cols;
  const repeat = (v: Float32Array) => tf.tile(tf.tensor(v, [1, 1, 1, headDim]), [1, 1, tokens, 1]);
  const rng = new Rng(2), q = rng.normal(headDim), k = rng.normal(headDim);
  const products = tf.matMul(applyRope(repeat(q), table), applyRope(repeat(k), table), false, true)
    .arraySync() as number[][][][];
  const at = (i: number, j: number) => prefix + i * cols + j;
  const product = (a: [number, number], b: [number, number]) => products[0][0][at(...a)][at(...b)];
  for (const [dy, dx] of [[0, 1], [1, 0], [2, 2], [1, -1]]) {
    const from: [number, number] = [0, 1], other: [number, number] = dy === 2 ? [0, 0] : [1, 2];
    const first = product(from, [from[0] + dy, from[1] + dx]);
    assert.ok(Math.abs(first - product(other, [other[0] + dy, other[1] + dx])) < 1e-5, `offset ${dy}, ${dx}`);
  }
  assert.ok(Math.abs(product([0, 0], [0, 1]) - product([0, 1], [0, 0])) > 1e-3, "direction must count");
  const plain = q.reduce((sum, v, i) => sum + v * k[i], 0);
  assert.ok(Math.abs(products[0][0][0][1] - plain) < 1e-5, "tokens of the prefix must pass unchanged");
  assert.throws(() => applyRope(tf.zeros([1, 1, 3, headDim]), table), TypeError);
});

Deno.test("self-attention with query-key normalisation and rotation equals loops over heads and tokens", () => {
  const [batch, tokens, dim, heads] = [2, 5, 16, 2], headDim = dim / heads;
  const rng = new Rng(4);
  const host = shaken(initAttention(rng, dim, heads, { qkNorm: true }), rng) as AttentionParams<HostTensor>;
  const x = rng.normal(batch * tokens * dim), rope = ropeTable2d(2, 2, headDim, { prefix: 1 });
  const got = selfAttention(tf.tensor(x, [batch, tokens, dim]), eager(host), { heads, rope }).dataSync();
  const affine = (v: number[], p: LinearParams<HostTensor>) => {
    const out = p.weight.shape[1];
    return Array.from(
      { length: out },
      (_, o) => v.reduce((sum, value, i) => sum + value * p.weight.data[i * out + o], p.bias.data[o]),
    );
  };
  const normalise = (v: number[], p: LinearParams<HostTensor>) => {
    const mean = v.reduce((a, b) => a + b) / v.length;
    const variance = v.reduce((a, b) => a + (b - mean) ** 2, 0) / v.length;
    return v.map((value, i) =>
      (value - mean) / Math.sqrt(variance + 1e-5) * p.weight.data[i] + p.bias.data[i]
    );
  };
  const rotate = (v: number[], n: number) =>
    v.map((value, c) => {
      const partner = c < headDim / 2 ? -v[c + headDim / 2] : v[c - headDim / 2];
      return value * rope.cos.data[n * headDim + c] + partner * rope.sin.data[n * headDim + c];
    });
  const wanted: number[] = [];
  for (let b = 0; b < batch; b++) {
    const qkv = Array.from(
      { length: tokens },
      (_, n) => affine([...x.subarray((b * tokens + n) * dim, (b * tokens + n + 1) * dim)], host.qkv),
    );
    const mixed = qkv.map(() => new Array<number>(dim));
    for (let a = 0; a < heads; a++) {
      const part = (n: number, which: number) => qkv[n].slice(which * dim + a * headDim).slice(0, headDim);
      const q = qkv.map((_, n) => rotate(normalise(part(n, 0), host.qNorm as NormParams<HostTensor>), n));
      const k = qkv.map((_, n) => rotate(normalise(part(n, 1), host.kNorm as NormParams<HostTensor>), n));
      for (let n = 0; n < tokens; n++) {
        const scores = k.map((key) =>
          Math.exp(key.reduce((s, v, i) => s + v * q[n][i], 0) / Math.sqrt(headDim))
        );
        const total = scores.reduce((s, v) => s + v);
        for (let c = 0; c < headDim; c++) {
          mixed[n][a * headDim + c] = scores.reduce((s, v, m) => s + v / total * part(m, 2)[c], 0);
        }
      }
    }
    for (const token of mixed) wanted.push(...affine(token, host.proj));
  }
  assertClose(got, wanted);
  assert.throws(() => initAttention(rng, 16, 3), RangeError);
});

Deno.test("compiled attention and perceptrons equal the eager ones, values and gradients", async () => {
  const [batch, tokens, dim, heads] = [2, 5, 16, 2];
  const rng = new Rng(5);
  const host = shaken({
    attention: initAttention(rng, dim, heads, { qkNorm: true }),
    mlp: initMlp(rng, dim, 24),
    gated: initGatedMlp(rng, dim, 24),
  }, rng);
  type Params = { attention: AttentionParams; mlp: MlpParams; gated: Parameters<typeof gatedMlp>[1] };
  const rope = ropeTable2d(2, 2, dim / heads, { prefix: 1 });
  const run = (params: Params, x: tf.Tensor) =>
    valueAndGrads((p: Params) => {
      let y = selfAttention(x, p.attention, { heads, rope });
      y = mlp(y, p.mlp, "gelu");
      y = gatedMlp(mlp(y, p.mlp, "geluErf"), p.gated);
      return { loss: tf.sum(tf.square(y)) as tf.Scalar, aux: { y } };
    }, params);
  const x = float32(rng.normal(batch * tokens * dim), [batch, tokens, dim]);
  const wanted = run(eager(host), eager(x));
  const compiled = jit(run, { device: "cpu" });
  // deno-lint-ignore no-explicit-any -- the shaken tree has the type of Params, with host leaves
  const got = await read(await compiled(host as any, x)) as unknown;
  const pairs = flattenTree<tf.Tensor>(wanted, (v) => v instanceof tf.Tensor);
  const values = flattenTree<HostTensor>(got, isHostTensor);
  assert.deepEqual(values.map((leaf) => leaf.path), pairs.map((leaf) => leaf.path));
  pairs.forEach((leaf, i) => {
    // Rounding errors follow the largest terms of a sum, not what is left of it.
    const reference = leaf.value.dataSync(), largest = Math.max(...reference.map(Math.abs));
    assertClose(values[i].value.data, reference, 0, 1e-4 * Math.max(largest, 1));
  });
  await compiled.dispose();
});

Deno.test("weights of PyTorch are turned into our layout, place by place", () => {
  const counted = (shape: number[]) =>
    float32(Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => i), shape);
  const map = linearFromPytorch(counted([2, 3]));
  assert.deepEqual([map.shape, [...map.data]], [[3, 2], [0, 3, 1, 4, 2, 5]]);
  const kernel = convFromPytorch(counted([2, 3, 4, 5])),
    at = (h: number, w: number, i: number, o: number) => kernel.data[((h * 5 + w) * 3 + i) * 2 + o];
  assert.deepEqual(kernel.shape, [4, 5, 3, 2]);
  assert.deepEqual([at(0, 0, 0, 1), at(0, 1, 0, 0), at(3, 2, 1, 1)], [60, 1, 60 + 20 + 3 * 5 + 2]);
  assert.throws(() => linearFromPytorch(counted([2, 3, 1])), { name: "TypeError" });
  assert.throws(() => convFromPytorch(counted([2, 3])), { name: "TypeError" });
});

Deno.test("factors of attention weights of one change nothing, of zero leave the bias of the projection", () => {
  tf.tidy(() => {
    const x = tf.randomNormal([2, 3, 4], 0, 1, "float32", 7);
    const params = {
      qkv: { weight: tf.randomNormal([4, 12], 0, 1, "float32", 8), bias: tf.zeros([12]) },
      proj: { weight: tf.randomNormal([4, 4], 0, 1, "float32", 9), bias: tf.tensor1d([1, 2, 3, 4]) },
    };
    const plain = selfAttention(x, params, { heads: 2 }).dataSync();
    const ones = selfAttention(x, params, { heads: 2, weightFactors: tf.ones([2, 2, 3, 3]) }).dataSync();
    plain.forEach((v, i) => assert.ok(Math.abs(v - ones[i]) < 1e-5));
    const zeros = selfAttention(x, params, { heads: 2, weightFactors: tf.zeros([2, 2, 3, 3]) }).dataSync();
    assert.deepEqual([...zeros], Array.from({ length: 24 }, (_, i) => 1 + i % 4));
  });
});
