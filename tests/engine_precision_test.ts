/** Half precision: which operations are done in it, and the scale that keeps small gradients. */
import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import { jit } from "novae/engine/mod.ts";
import { Graph, type GraphNode, type Value } from "novae/engine/graph.ts";
import { halveProducts } from "novae/engine/half_products.ts";
import { trace } from "novae/engine/trace.ts";
import { valueAndGrads } from "novae/nn/mod.ts";
import { scalar } from "novae/tensor/mod.ts";
import { assertCompiles, normal } from "./engine_harness.ts";

const PRODUCTS = ["MatMul", "Conv", "ConvTranspose"];

/** Products of all kinds among other operations, and their gradients. */
function model(x: tf.Tensor4D, w: tf.Tensor4D, v: tf.Tensor2D): tf.Tensor[] {
  const loss = (w: tf.Tensor, v: tf.Tensor) => {
    const maps = tf.relu(tf.conv2d(x, w as tf.Tensor4D, 2, "same"));
    return tf.mean(tf.square(tf.softmax(tf.matMul(tf.reshape(maps, [-1, 3]), v as tf.Tensor2D))));
  };
  return [loss(w, v), ...tf.grads(loss)([w, v])];
}

Deno.test("products and convolutions take and give 16-bit values, and nothing else does", () => {
  const { recorder, result } = trace({ cpuOperators: false }, (input, output) => {
    const shapes = [[2, 6, 6, 2], [3, 3, 2, 3], [3, 4]];
    const [x, w, v] = shapes.map((shape, i) => input(`x${i}`, { shape, dtype: "float32" }));
    return model(x as tf.Tensor4D, w as tf.Tensor4D, v as tf.Tensor2D).map((y) => output(y, ""));
  });
  const { graph, outputs } = halveProducts(recorder.graph, result);
  const nodes = graph.nodesFor(outputs), products = nodes.filter(({ op }) => PRODUCTS.includes(op));
  const count = (all: readonly GraphNode[]) => all.filter(({ op }) => PRODUCTS.includes(op)).length;
  assert.equal(products.length, count(recorder.graph.nodesFor(result)));
  assert.ok(products.some(({ op }) => op === "Conv") && products.some(({ op }) => op === "MatMul"));
  const isHalf = (value: Value | null) => value?.dtype === "float16";
  for (const { inputs, outputs } of products) {
    assert.ok(inputs.every((input) => isHalf(input) && input!.producer?.op === "Cast"));
    assert.ok(outputs.every(isHalf));
  }
  for (const { op, inputs, outputs } of nodes.filter(({ op }) => !PRODUCTS.includes(op) && op !== "Cast")) {
    assert.ok(![...inputs, ...outputs].some(isHalf), op);
  }
  assert.ok(outputs.every((value) => value.dtype === "float32"));
});

Deno.test("an operand of two products is rounded once", () => {
  const graph = new Graph();
  const x = graph.input("x", { shape: [2, 2], dtype: "float32" });
  const y = graph.node("MatMul", [x, x], { shape: [2, 2], dtype: "float32" });
  const z = graph.node("MatMul", [x, y], { shape: [2, 2], dtype: "float32" });
  const half = halveProducts(graph, [z]);
  const casts = half.graph.nodesFor(half.outputs).filter(({ op }) => op === "Cast");
  assert.equal(casts.filter(({ inputs }) => inputs[0]!.name === "x").length, 1);
});

Deno.test("a scaled loss changes neither loss nor gradients", () =>
  assertCompiles([1, 2 ** 12].map((lossScale) => ({
    name: `scale ${lossScale}`,
    inputs: [normal(3, 4), normal(4, 2)],
    fn: (x, w) => {
      const { loss, grads } = valueAndGrads(
        (p: { w: tf.Tensor }) => ({ loss: tf.mean(tf.tanh(tf.matMul(x, p.w))) as tf.Scalar, aux: {} }),
        { w },
        { lossScale },
      );
      const plain = tf.grad((v) => tf.mean(tf.tanh(tf.matMul(x, v as tf.Tensor2D))))(w);
      return [loss, grads.w, tf.sub(grads.w, plain)];
    },
    tolerance: 1e-6,
  }))));

Deno.test("half precision on the CPU is refused", async () => {
  const fn = jit((x: tf.Tensor) => tf.add(x, 1), { device: "cpu", precision: "fp16", name: "step" });
  await assert.rejects(fn(scalar(1)), {
    name: "DeviceError",
    message: "Cannot compile step for cpu in fp16: it has no 16-bit products; leave precision out",
  });
});
