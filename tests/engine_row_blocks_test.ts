/** Splitting wide parts of a graph into blocks of rows changes nothing but the time. */
import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import { gelu, geluErf, jit, read, silu } from "novae/engine/mod.ts";
import { assertClose, type Case, eager, normal } from "./engine_harness.ts";

/** 4,096 rows of 256: 4 MiB, more than two blocks. */
const ROWS = 4096, INNER = 8, WIDTH = 256;

function perceptron(activation: (x: tf.Tensor) => tf.Tensor): Case {
  return {
    name: `perceptron with ${activation.name}`,
    inputs: [
      normal(4, ROWS / 4, INNER),
      normal(INNER, WIDTH),
      normal(WIDTH),
      normal(WIDTH, INNER),
      normal(INNER),
    ],
    fn: (x, ...params) => {
      const loss = (input: tf.Tensor, w1: tf.Tensor, b1: tf.Tensor, w2: tf.Tensor, b2: tf.Tensor) => {
        const rows = tf.reshape(input, [ROWS, INNER]);
        const wide = tf.reshape(tf.matMul(rows, w1 as tf.Tensor2D), [4, ROWS / 4, WIDTH]);
        const hidden = tf.reshape(activation(tf.add(wide, b1)), [ROWS, WIDTH]);
        const y = tf.add(tf.reshape(tf.matMul(hidden, w2 as tf.Tensor2D), input.shape), b2);
        return tf.mean(tf.square(y));
      };
      const { value, grads } = tf.valueAndGrads(loss as never)([x, ...params]);
      return [value, ...grads];
    },
  };
}

for (const activation of [gelu, geluErf, silu, tf.relu]) {
  Deno.test(`a wide perceptron with ${activation.name} and its gradients are split and stay the same`, async () => {
    const test = perceptron(activation as (x: tf.Tensor) => tf.Tensor);
    const fn = jit((inputs: tf.Tensor[]) => test.fn(...inputs) as tf.Tensor[], { device: "cpu" });
    const actual = await read(await fn([...test.inputs]));
    const expected = await eager(test);
    expected.forEach((tensor, i) => assertClose(actual[i], tensor, `result ${i}`));
    const { nodeCounts } = fn.inspect()[0];
    assert.ok(nodeCounts.Split > 0 && nodeCounts.Sum > 0, JSON.stringify(nodeCounts));
    await fn.dispose();
  });
}

Deno.test("where as much would be split and joined as is computed nothing is split", async () => {
  const fn = jit((p: tf.Tensor, m: tf.Tensor, g: tf.Tensor) => {
    const mean = tf.add(tf.mul(m, 0.9), tf.mul(g, 0.1));
    return [tf.sub(p, tf.mul(tf.tanh(mean), 0.01)), mean];
  }, { device: "cpu" });
  await fn(normal(ROWS, WIDTH), normal(ROWS, WIDTH), normal(ROWS, WIDTH));
  assert.equal(fn.inspect()[0].nodeCounts.Split, undefined);
  await fn.dispose();
});

Deno.test("a block that does not divide the rows is smaller", async () => {
  const rows = 5003;
  const test: Case = {
    name: "odd rows",
    inputs: [normal(rows, 3), normal(3, WIDTH), normal(WIDTH, 2)],
    fn: (x, w1, w2) => {
      const hidden = tf.matMul(x, w1);
      return tf.matMul(tf.mul(tf.tanh(tf.add(tf.square(hidden), 1)), tf.sigmoid(hidden)), w2);
    },
  };
  const fn = jit((inputs: tf.Tensor[]) => test.fn(...inputs) as tf.Tensor, { device: "cpu" });
  const actual = await read(await fn([...test.inputs]));
  assertClose(actual, (await eager(test))[0], test.name);
  assert.equal(fn.inspect()[0].nodeCounts.Concat, 1);
  await fn.dispose();
});
