/** Recomputed blocks give the gradients of kept ones, and take less memory. */
import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import { checkpoint, gelu, jit, layerNorm } from "novae/engine/mod.ts";
import { assertClose, type Case, compiled, eager, normal } from "./engine_harness.ts";

interface Block {
  w: tf.Tensor;
  b: tf.Tensor;
}

const block = (x: tf.Tensor, { w, b }: Block) =>
  tf.add(x, tf.tanh(tf.add(tf.matMul(layerNorm(x, null, null), w), b)));

const gradients = (fn: typeof block) => (x: tf.Tensor, w: tf.Tensor, b: tf.Tensor) => {
  const loss = (x: tf.Tensor, w: tf.Tensor, b: tf.Tensor) => {
    const once = fn(x, { w, b });
    return tf.sum(tf.mul(fn(once, { w, b }), tf.reshape(tf.linspace(0, 1, x.size), x.shape)));
  };
  return [loss(x, w, b), ...tf.grads(loss)([x, w, b])];
};

Deno.test("a checkpointed block has the value and the gradients of the plain one, eager and compiled", async () => {
  const inputs = [normal(3, 4), normal(4, 4), normal(4)];
  const [plain, kept] = [block, checkpoint(block)].map((fn): Case => ({
    name: "block",
    inputs,
    fn: gradients(fn),
  }));
  const expected = await eager(plain);
  const [eagerly, [compiledly]] = [await eager(kept), await compiled([kept])];
  expected.forEach((tensor, i) => {
    assertClose(eagerly[i], tensor, `eager ${i}`);
    assertClose(compiledly[i], tensor, `compiled ${i}`);
  });
});

Deno.test("integers and trees without tensors pass through a checkpointed block", async () => {
  const pick = checkpoint((x: tf.Tensor, ids: tf.Tensor, options: { scale: number; none: null }) =>
    tf.mul(tf.gather(x, ids), options.scale)
  );
  const fn = jit(
    (x: tf.Tensor, ids: tf.Tensor) => tf.grad((y) => tf.sum(pick(y, ids, { scale: 3, none: null })))(x),
    { device: "cpu" },
  );
  const dx = await (await fn(normal(3, 2), { dtype: "int32", shape: [2], data: Int32Array.of(2, 2) })).read();
  assert.deepEqual([...dx.data], [0, 0, 0, 0, 6, 6]);
  await fn.dispose();
});

Deno.test("a checkpointed block is computed a second time in the gradient", async () => {
  const counts: number[] = [];
  for (const wrap of [(fn: (x: tf.Tensor) => tf.Tensor) => fn, checkpoint<[tf.Tensor]>]) {
    const layer = wrap((x: tf.Tensor) => tf.sin(gelu(tf.exp(x))));
    const fn = jit((x: tf.Tensor) => tf.grad((y) => tf.sum(tf.square(layer(layer(y)))))(x), {
      device: "cpu",
    });
    await fn(normal(4));
    counts.push(fn.inspect()[0].nodeCounts.Exp);
    await fn.dispose();
  }
  assert.deepEqual(counts, [2, 4]);
});

Deno.test("checkpointing disposes of what it makes", async () => {
  await tf.setBackend("cpu");
  const before = tf.memory().numTensors;
  tf.tidy(() => {
    gradients(checkpoint(block))(tf.ones([2, 3]), tf.ones([3, 3]), tf.ones([3]));
  });
  assert.equal(tf.memory().numTensors, before);
});
