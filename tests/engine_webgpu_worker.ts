/**
 * Runs every kernel and a donated training step on the webgpu device and prints what differs from eager tfjs, one line
 * each; started by engine_webgpu_test.ts with a Vulkan driver chosen.
 */
import * as tf from "@tensorflow/tfjs";
import { attention, disposeTree, gelu, jit, layerNorm, read, resolveDevice } from "novae/engine/mod.ts";
import { RECORDING_KERNELS } from "novae/engine/kernels/register.ts";
import { assertClose, type Case, compiled, eager, normal } from "./engine_harness.ts";
import { float32, type HostTensor } from "novae/tensor/mod.ts";
import { families, kernelsOf, smallestCases } from "./engine_cases/mod.ts";

/** Each shape is a pipeline, which a software driver compiles slowly: of each family some cases run. */
const CASES_OF_FAMILY = 24;

/** WGSL flushes small numbers to zero and promises nothing of NaN and infinities. */
const CPU_ONLY = ["functions of special values"];

/** What ONNX Runtime 1.30's WebGPU provider has no form of; looked at apart, so that it is noticed when it has. */
const NOT_THERE = ["pow of int32"];

const report = (name: string, line: string) =>
  console.log(`${NOT_THERE.includes(name) ? "NOT-THERE" : "DIFFERS"} ${name}: ${line.split("\n")[0]}`);

/** Runs cases in one graph; one that fails there is looked for by halves. */
async function compareCases(cases: readonly Case[]): Promise<void> {
  let actual: HostTensor[][];
  try {
    actual = await compiled(cases, "webgpu");
  } catch (error) {
    const half = Math.ceil(cases.length / 2);
    if (cases.length === 1) return report(cases[0].name, (error as Error).message);
    await compareCases(cases.slice(0, half));
    return await compareCases(cases.slice(half));
  }
  for (const [i, test] of cases.entries()) {
    const expected = await eager(test);
    try {
      // Shaders may use faster forms of functions than the CPU.
      expected.forEach((tensor, j) => assertClose(actual[i][j], tensor, `result ${j}`, 1e-3));
    } catch (error) {
      report(test.name, (error as Error).message);
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

/** The message for a tensor of 14 GB, larger than any buffer of WebGPU, and what a donated state is afterwards. */
async function exhaust(): Promise<string> {
  const grow = jit((state: { x: tf.Tensor }, rim: number) => {
    const wide = tf.pad(state.x, [[0, rim], [0, rim]], 1);
    return [{ x: tf.add(state.x, 1) }, tf.sum(wide)] as const;
  }, { device: "webgpu", donate: [0], name: "grow" });
  const [state] = await grow({ x: float32([1, 2, 3, 4], [2, 2]) }, 1);
  const message = await grow(state, 30_000).then(() => "it ran", (error: Error) => error.message);
  const after = await state.x.read();
  await grow.dispose();
  return `[${after.data}] ${message.split("\n")[0]}`;
}

const auto = await resolveDevice("auto");
console.log(`AUTO ${auto.device} ${auto.reason}`);
const smallest = new Set(smallestCases().values()), done = new Set<string>();
for (const [family, cases] of Object.entries(families)) {
  if (CPU_ONLY.includes(family)) continue;
  const every = Math.ceil(cases.length / CASES_OF_FAMILY);
  const some = cases.filter((test, i) => i % every === 0 || smallest.has(test));
  await compareCases(some.filter(({ name }) => !NOT_THERE.includes(name)));
  for (const test of cases.filter(({ name }) => NOT_THERE.includes(name))) await compareCases([test]);
  for (const name of some.flatMap((test) => [...kernelsOf(test)])) done.add(name);
}
console.log(`MISSED ${Object.keys(RECORDING_KERNELS).filter((name) => !done.has(name)).join()}`);
try {
  await compareSteps();
} catch (error) {
  report("training step", (error as Error).message);
}
console.log(`MEMORY ${await exhaust()}`);
console.log("DONE");
