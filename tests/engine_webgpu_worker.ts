/**
 * Runs the kernel cases and a donated training step on the webgpu device and prints what differs from eager tfjs, one
 * line each; started by engine_webgpu_test.ts with a Vulkan driver chosen.
 */
import * as tf from "@tensorflow/tfjs";
import { attention, disposeTree, gelu, jit, layerNorm, read, resolveDevice } from "novae/engine/mod.ts";
import { assertClose, type Case, compiled, eager, normal } from "./engine_harness.ts";
import type { HostTensor } from "novae/tensor/mod.ts";
import { families } from "./engine_kernel_cases.ts";

/** Each shape is a pipeline, which a software driver compiles slowly: of large families eight cases run. */
const MOST_CASES = 8;

const report = (line: string) => console.log(`DIFFERS ${line.split("\n")[0]}`);

async function compareCases(cases: readonly Case[]): Promise<void> {
  const actual = await compiled(cases, "webgpu");
  for (const [i, test] of cases.entries()) {
    const expected = await eager(test);
    try {
      // Shaders may use faster forms of functions than the CPU.
      expected.forEach((tensor, j) => assertClose(actual[i][j], tensor, test.name, 1e-3));
    } catch (error) {
      report((error as Error).message);
    }
  }
}

/** Three updates of a small transformer, state kept on the device; eager on tfjs's webgpu backend too. */
async function compareSteps(): Promise<void> {
  type State = { x: tf.Tensor; w: tf.Tensor };
  const step = (state: State) => {
    const loss = (w: tf.Tensor) => {
      const rows = tf.matMul(tf.reshape(state.x, [6, 8]), w as tf.Tensor2D);
      const heads = tf.reshape(gelu(layerNorm(rows, null, null)), [2, 1, 3, 5]);
      return tf.mean(tf.square(attention(heads, heads, heads)));
    };
    const { value, grads } = tf.valueAndGrads(loss as never)([state.w]);
    return [{ x: state.x, w: tf.sub(state.w, tf.mul(grads[0], 0.1)) }, value] as const;
  };
  const start = { x: normal(2, 3, 8), w: normal(8, 5) };
  const results: HostTensor[][] = [];
  for (const device of ["cpu", "webgpu", "tfjs-webgpu"] as const) {
    const fn = jit(step, { device, donate: [0] });
    let [state, loss] = await fn(start);
    for (let i = 0; i < 2; i++) {
      loss.dispose();
      [state, loss] = await fn(state);
    }
    results.push(await read([state.w, loss]));
    disposeTree([state, loss]);
    await fn.dispose();
  }
  for (const other of results.slice(1)) {
    results[0].forEach((tensor, i) => assertClose(other[i], tensor, "training step"));
  }
}

const auto = await resolveDevice("auto");
console.log(`AUTO ${auto.device} ${auto.reason}`);
for (const cases of Object.values(families)) {
  const every = cases.length > 5 * MOST_CASES ? Math.ceil(cases.length / MOST_CASES) : 1;
  await compareCases(cases.filter((_, i) => i % every === 0));
}
try {
  await compareSteps();
} catch (error) {
  report((error as Error).message);
}
console.log("DONE");
