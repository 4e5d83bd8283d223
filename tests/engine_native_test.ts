/** ONNX Runtime called from another thread: what it works on stays, what it says is told. */
import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import { jit } from "novae/engine/mod.ts";
import { float32, zeros } from "novae/tensor/mod.ts";
import { NativeSession } from "../lib/engine/ort_native.ts";

Deno.test("arguments that nothing else refers to are not collected while they are read", async () => {
  const side = 512;
  const fn = jit((x: tf.Tensor) => {
    let y = x;
    for (let i = 0; i < 8; i++) y = tf.mul(tf.matMul(y, x), 1 / side);
    return tf.sub(tf.mean(y), 1);
  }, { device: "cpu" });
  const ones = () => float32(new Float32Array(side * side).fill(1), [side, side]);
  await (await fn(ones())).read();
  for (let i = 0; i < 20; i++) {
    const running = fn(ones());
    // Fresh memory in which a collected argument would be overwritten.
    for (let j = 0; j < 20; j++) new Float32Array(side * side).fill(NaN);
    assert.ok(Math.abs((await (await running).read()).data[0]) < 1e-4);
  }
  await fn.dispose();
});

Deno.test("calls that run at the same time do not disturb each other, nor the thread that made them", async () => {
  const fn = jit((x: tf.Tensor) => tf.max(tf.matMul(x, x)), { device: "cpu" });
  const side = 600,
    scaled = (value: number) => float32(new Float32Array(side * side).fill(value), [side, side]);
  await fn(zeros([side, side]));
  let ticks = 0;
  const timer = setInterval(() => ticks++, 1);
  const results = await Promise.all([1, 2, 3, 4].map(async (value) => (await fn(scaled(value))).read()));
  clearInterval(timer);
  results.forEach(({ data }, i) => assert.equal(data[0], (i + 1) ** 2 * side));
  assert.ok(ticks > 0, "timers go on while graphs run");
  await fn.dispose();
});

Deno.test("a model that cannot be read is refused with ONNX Runtime's reason", async () => {
  const options = { outputs: [], threads: 1, config: {} };
  await assert.rejects(NativeSession.create(Uint8Array.of(1, 2, 3), options), /ModelProto|protobuf|parse/i);
});

Deno.test("a function that is disposed of while it runs ends its call first", async () => {
  const side = 700, x = float32(new Float32Array(side * side).fill(1), [side, side]);
  const fn = jit((a: tf.Tensor) => tf.max(tf.matMul(tf.matMul(a, a), a)), { device: "cpu" });
  (await fn(x)).dispose();
  const running = fn(x);
  await new Promise((resolve) => setTimeout(resolve, 1));
  await fn.dispose();
  assert.equal((await (await running).read()).data[0], side ** 2);
});
