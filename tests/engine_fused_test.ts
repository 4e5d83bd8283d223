/** The fused operations against PyTorch, and eager against compiled at boundary sizes. */
import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import {
  attention,
  gelu,
  geluErf,
  groupNorm,
  jit,
  layerNorm,
  modulatedLayerNorm,
  rmsNorm,
  silu,
  softmaxCrossEntropy,
} from "novae/engine/mod.ts";
import { float32, type HostTensor } from "novae/tensor/mod.ts";
import {
  assertClose,
  assertCompiles,
  type Case,
  compiled,
  eager,
  normal,
  toTf,
  uniform,
} from "./engine_harness.ts";
import golden from "./golden/engine_fused.json" with { type: "json" };

interface Packed {
  shape: number[];
  data: number[];
}
interface Golden {
  inputs: Packed[];
  output: Packed;
  weight: Packed;
  grads: Packed[];
}

const unpack = ({ shape, data }: Packed): HostTensor => float32(data, shape);

const operations: Record<keyof typeof golden, (...xs: tf.Tensor[]) => tf.Tensor> = {
  layerNorm: (x, w, b) => layerNorm(x, w, b, 1e-6),
  layerNormPlain: (x) => layerNorm(x, null, null, 1e-6),
  gelu,
  geluErf,
  silu,
  attention: (q, k, v) => attention(q, k, v),
  attentionScaled: (q, k, v) => attention(q, k, v, 0.3),
  softmaxCrossEntropy: (x) => {
    const targets = tf.reshape(tf.linspace(0, 1, x.size), x.shape);
    return softmaxCrossEntropy(x, targets);
  },
  groupNorm: (x, w, b) => groupNorm(x, 2, w, b, 1e-6),
  modulatedLayerNorm: (x, shift, scale) => modulatedLayerNorm(x, shift, scale, 1e-6),
  rmsNorm: (x, w) => rmsNorm(x, w, 1e-6),
  rmsNormPlain: (x) => rmsNorm(x, null, 1e-6),
};

/** The output and the gradients of Σ output ∘ weight. */
function valueAndGrads(
  fn: (...xs: tf.Tensor[]) => tf.Tensor,
  xs: tf.Tensor[],
  weight: tf.Tensor,
): tf.Tensor[] {
  return [fn(...xs), ...tf.grads((...ys) => tf.sum(tf.mul(fn(...ys), weight)))(xs)];
}

for (const [name, fn] of Object.entries(operations)) {
  const { inputs, output, weight, grads } = golden[name as keyof typeof golden] as Golden;
  const test: Case = {
    name,
    inputs: [...inputs, weight].map(unpack),
    fn: (...xs) => valueAndGrads(fn, xs.slice(0, -1), xs.at(-1)!),
  };
  const expected = [output, ...grads].map(unpack);
  const what = (i: number) => i === 0 ? `${name}: value` : `${name}: gradient ${i - 1}`;

  Deno.test(`${name} and its gradients are PyTorch's, eager and compiled`, async () => {
    const [eagerly, [compiledly]] = [await eager(test), await compiled([test])];
    expected.forEach((tensor, i) => {
      assertClose(eagerly[i], tensor, `${what(i)} eager`, 3e-5);
      assertClose(compiledly[i], tensor, `${what(i)} compiled`, 3e-5);
    });
  });
}

const odd = (name: string, inputs: HostTensor[], fn: (...xs: tf.Tensor[]) => tf.Tensor): Case => ({
  name,
  inputs,
  fn: (...xs: tf.Tensor[]) => {
    const weight = tf.reshape(tf.linspace(0.5, 1.5, fn(...xs).size), fn(...xs).shape);
    return valueAndGrads(fn, xs, weight);
  },
});

Deno.test("fused operations compile at sizes around boundaries", () =>
  assertCompiles([
    odd("layerNorm of one row", [normal(1, 7), normal(7), normal(7)], (x, w, b) => layerNorm(x, w, b)),
    odd("layerNorm without bias", [normal(3, 5), normal(5)], (x, w) => layerNorm(x, w, null)),
    odd("layerNorm of rank 1", [normal(9)], (x) => layerNorm(x, null, null)),
    odd("layerNorm of rank 4", [normal(2, 3, 2, 4), normal(4), normal(4)], (x, w, b) =>
      layerNorm(x, w, b, 1e-5)),
    odd("gelu of a scalar", [uniform(-4, 4)], gelu),
    odd("gelu far out", [float32([-40, -12, -6, 6, 12, 40], [6])], gelu),
    odd("geluErf far out", [float32([-40, -12, -6, 6, 12, 40], [6])], geluErf),
    odd("silu far out", [float32([-90, -12, 0, 12, 90], [5])], silu),
    odd("attention of one token", [normal(1, 1, 1, 3), normal(1, 1, 1, 3), normal(1, 1, 1, 3)], (q, k, v) =>
      attention(q, k, v)),
    odd("attention of width 1", [normal(2, 3, 4, 1), normal(2, 3, 5, 1), normal(2, 3, 5, 1)], (q, k, v) =>
      attention(q, k, v)),
    odd("attention of many keys", [normal(1, 2, 3, 2), normal(1, 2, 11, 2), normal(1, 2, 11, 2)], (q, k, v) =>
      attention(q, k, v)),
    odd("modulatedLayerNorm of one token", [normal(2, 1, 5), normal(2, 1, 5), normal(2, 1, 5)], (x, b, s) =>
      modulatedLayerNorm(x, b, s)),
    odd("rmsNorm of rank 1", [normal(7), normal(7)], (x, w) =>
      rmsNorm(x, w)),
    odd("groupNorm in one group", [normal(2, 3, 3, 4), normal(4), normal(4)], (x, w, b) =>
      groupNorm(x, 1, w, b)),
    odd("groupNorm in as many groups as channels", [normal(1, 4, 4, 3), normal(3), normal(3)], (x, w, b) =>
      groupNorm(x, 3, w, b)),
  ]));

Deno.test("softmaxCrossEntropy of integer targets is minus the log of the likelihood", async () => {
  const logits = normal(4, 3);
  const [[losses]] = await compiled([{
    name: "loss",
    inputs: [logits],
    fn: (x) => softmaxCrossEntropy(x, tf.oneHot(tf.tensor1d([0, 2, 1, 1], "int32"), 3).toFloat()),
  }]);
  [0, 2, 1, 1].forEach((label, row) => {
    const values = [0, 1, 2].map((c) => logits.data[row * 3 + c]);
    const wanted = Math.log(values.reduce((sum, v) => sum + Math.exp(v), 0)) - values[label];
    assert.ok(Math.abs(losses.data[row] - wanted) < 1e-5);
  });
});

Deno.test("fused operations dispose of what they make", async () => {
  await tf.setBackend("cpu");
  const before = tf.memory().numTensors;
  for (const [name, fn] of Object.entries(operations)) {
    const { inputs, weight } = golden[name as keyof typeof golden] as Golden;
    tf.tidy(() => {
      valueAndGrads(fn, inputs.map((t) => toTf(unpack(t))), toTf(unpack(weight)));
    });
    assert.equal(tf.memory().numTensors, before, name);
  }
});

Deno.test("attention weights are kept for short sequences and recomputed for long ones", async () => {
  const counts = [];
  for (const tokens of [8, 40]) {
    const fn = jit((q: tf.Tensor) => tf.grad((x) => tf.sum(tf.square(attention(x, x, x))))(q), {
      device: "cpu",
    });
    await fn(normal(1, 2, tokens, 8));
    counts.push(fn.inspect()[0].nodeCounts.Softmax);
    await fn.dispose();
  }
  assert.deepEqual(counts, [1, 2]);
});

Deno.test("groupNorm refuses groups that do not divide the channels", () => {
  const x = tf.zeros([1, 2, 2, 5]), w = tf.ones([5]);
  assert.throws(() => groupNorm(x, 2, w, w), {
    name: "RangeError",
    message: "Cannot normalise groups: channels must be a multiple of 2 groups, got 5",
  });
  tf.dispose([x, w]);
});
