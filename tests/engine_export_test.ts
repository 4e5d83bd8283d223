/** Exported ONNX files, run by ONNX Runtime directly. */
import assert from "node:assert/strict";
import * as ort from "onnxruntime-node";
import * as tf from "@tensorflow/tfjs";
import { attention, exportOnnx, gelu, layerNorm } from "novae/engine/mod.ts";
import type { HostTensor } from "novae/tensor/mod.ts";
import { assertClose, eager, normal } from "./engine_harness.ts";

const toOrt = ({ data, shape }: HostTensor) => new ort.Tensor("float32", data as Float32Array, shape);

Deno.test("an exported function gives the same in ONNX Runtime, by names from its trees", async () => {
  const model = (x: tf.Tensor, params: { weight: tf.Tensor; gains: tf.Tensor[] }) => {
    const h = layerNorm(gelu(tf.matMul(x, params.weight as tf.Tensor2D)), params.gains[0], params.gains[1]);
    const heads = tf.reshape(h, [1, 1, 6, 5]);
    return { mixed: attention(heads, heads, heads), sum: tf.sum(h) };
  };
  const x = normal(6, 4), weight = normal(4, 5), gains = [normal(5), normal(5)];
  const { bytes, inputs, outputs } = exportOnnx(model, [x, { weight, gains }], { name: "model" });
  assert.deepEqual([...inputs].sort(), ["input0", "input1.gains.0", "input1.gains.1", "input1.weight"]);
  assert.deepEqual(outputs, ["output.mixed", "output.sum"]);

  const session = await ort.InferenceSession.create(bytes);
  const results = await session.run({
    "input0": toOrt(x),
    "input1.weight": toOrt(weight),
    "input1.gains.0": toOrt(gains[0]),
    "input1.gains.1": toOrt(gains[1]),
  });
  const expected = await eager({
    name: "model",
    inputs: [x, weight, ...gains],
    fn: (a, w, g, b) => Object.values(model(a, { weight: w, gains: [g, b] })),
  });
  outputs.forEach((name, i) => {
    const { data, dims } = results[name];
    assertClose({ dtype: "float32", shape: dims, data: data as Float32Array }, expected[i], name);
  });
  await session.release();
});

Deno.test("an exported file uses standard operators only", () => {
  const { bytes } = exportOnnx(
    (q: tf.Tensor) => tf.grad((x) => tf.sum(attention(x, x, gelu(x))))(q),
    [normal(1, 2, 3, 4)],
  );
  assert.ok(!new TextDecoder("latin1").decode(bytes).includes("com.microsoft"));
});
