/**
 * Runs a small graph with its gradient on the device named by the argument and prints a line of JSON; started by
 * `device_probe.ts`.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { float32 } from "novae/tensor/mod.ts";
import type { CompiledDevice, EagerDevice } from "./device.ts";
import { read } from "./device_tensor.ts";
import { jit } from "./jit.ts";
import { describeAdapter, messageOf } from "./session.ts";

const device = Deno.args[0] as CompiledDevice | EagerDevice;

/** Σ tanh(x · w)² and its gradient; every device has kernels for it. */
const step = jit((x: tf.Tensor, w: tf.Tensor) => {
  const loss = (weights: tf.Tensor) => tf.sum(tf.square(tf.tanh(tf.matMul(x, weights))));
  return { loss: loss(w), grad: tf.grad(loss)(w) };
}, { device });

const ramp = (rows: number, cols: number) =>
  float32(Float32Array.from({ length: rows * cols }, (_, i) => (i % 7 - 3) / 10), [rows, cols]);

/** The same by hand, for 3 × 4 times 4 × 2. */
function expected(): { loss: number; first: number } {
  const x = ramp(3, 4).data, w = ramp(4, 2).data;
  let loss = 0, first = 0;
  for (let i = 0; i < 3; i++) {
    for (let j = 0; j < 2; j++) {
      const y = Math.tanh([0, 1, 2, 3].reduce((sum, k) => sum + x[4 * i + k] * w[2 * k + j], 0));
      loss += y * y;
      if (j === 0) first += 2 * y * (1 - y * y) * x[4 * i];
    }
  }
  return { loss, first };
}

async function attempt(): Promise<{ works: boolean; detail: string }> {
  try {
    const { loss, grad } = await read(await step(ramp(3, 4), ramp(4, 2)));
    const wanted = expected();
    const error = Math.max(Math.abs(loss.data[0] - wanted.loss), Math.abs(grad.data[0] - wanted.first));
    if (!(error < 1e-4)) {
      return { works: false, detail: `it computes wrongly (off by ${error.toPrecision(2)})` };
    }
    return { works: true, detail: await describe() };
  } catch (error) {
    return { works: false, detail: messageOf(error).replace(/^Cannot [^:]*: /, "") };
  }
}

async function describe(): Promise<string> {
  if (device.endsWith("webgpu")) return await describeAdapter() ?? "an adapter without a name";
  if (device === "tfjs-cpu") return "plain JavaScript, for tests";
  if (device === "tfjs-wasm") return "TensorFlow.js, eager";
  return device === "cpu" ? `${navigator.hardwareConcurrency} logical processors` : "ONNX Runtime";
}

console.log(JSON.stringify(await attempt()));
Deno.exit(0);
