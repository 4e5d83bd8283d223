/** Devices that fail: what is said, and that functions, state and process go on. */
import assert from "node:assert/strict";
import type * as ort from "onnxruntime-node";
import * as tf from "@tensorflow/tfjs";
import { CompiledFunction, compileFunction } from "novae/engine/compiled_function.ts";
import { disposeTree, jit, read, resolveDevice } from "novae/engine/mod.ts";
import { DeviceError, float32, int32, scalar } from "novae/tensor/mod.ts";

await tf.setBackend("cpu");

const cpu = { device: "cpu" } as const;
const pair = float32([1, 2], [2]);

Deno.test("a device tensor of another device is refused", async () => {
  const onTfjs = jit((x: tf.Tensor) => tf.add(x, 1), { device: "tfjs-cpu" });
  const onCpu = jit((x: tf.Tensor) => tf.add(x, 1), cpu);
  const there = await onTfjs(scalar(1)), here = await onCpu(scalar(1));
  await assert.rejects(onCpu(there), {
    name: "DeviceError",
    message: /must be on cpu, got a tensor on tfjs-cpu/,
  });
  await assert.rejects(onTfjs(here), DeviceError);
  disposeTree([there, here]);
  await assert.rejects(here.read(), /was disposed of/);
  await onCpu.dispose();
});

Deno.test("devices that are not there give a DeviceError, unknown names too", async () => {
  const missing = Deno.build.os === "darwin" ? "dml" : "coreml";
  await assert.rejects(jit((x: tf.Tensor) => tf.add(x, 1), { device: missing })(scalar(1)), DeviceError);
  await assert.rejects(resolveDevice("gpu" as "cpu"), /wanted one of auto, cpu, webgpu/);
});

Deno.test("a graph that fails while it runs gives a DeviceError with its name, and can be called again", async () => {
  const fn = jit((x: tf.Tensor, ids: tf.Tensor) => tf.gather(x, ids), { ...cpu, name: "look-up" });
  await assert.rejects(fn(float32([1, 2], [2]), int32([9], [1])), {
    name: "DeviceError",
    message: /^Cannot run look-up on cpu: .*out of .*bounds/,
  });
  assert.deepEqual([...(await read(await fn(float32([1, 2], [2]), int32([1], [1])))).data], [2]);
  await fn.dispose();
});

Deno.test("running out of memory says so, touches none, and leaves function, state and process as they were", async () => {
  const child = new URL("./engine_memory_child.ts", import.meta.url).pathname;
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), { args: ["run", "-A", child] }).output();
  const report = JSON.parse(new TextDecoder().decode(stdout) || "null");
  assert.ok(report, new TextDecoder().decode(stderr).slice(-2000));
  assert.equal(report.name, "DeviceError");
  assert.match(
    report.message,
    /^Cannot run grow on cpu: its memory is not enough; use a smaller batch or checkpoint\(\) \(/,
  );
  assert.ok(report.wallSec < 5, `took ${report.wallSec} s`);
  assert.ok(report.grownBytes < 2 ** 28, `grew by ${report.grownBytes} bytes`);
  assert.deepEqual(report.stateAfter, [2, 3, 4, 5]);
  assert.deepEqual(report.next, [3, 4, 5, 6]);
  assert.equal(report.nextSum, 2 + 3 + 4 + 5 + 12);
  assert.match(report.donated, /was donated to grow/);
});

/** A compiled function whose session fails as told. */
async function failing(reason: string, device: "cpu" | "webgpu" = "webgpu"): Promise<CompiledFunction> {
  const options = { device: "cpu", donate: [0], name: "step", signature: "", precision: "fp32" } as const;
  const { graph, traced, session } = await compileFunction((x: tf.Tensor) => tf.add(x, 1), [pair], options);
  await session.release();
  const lost = { run: () => Promise.reject(new Error(reason)), release: () => Promise.resolve() };
  return new CompiledFunction({ ...graph, device }, traced, lost as unknown as ort.InferenceSession, [0]);
}

// A software driver cannot be taken away from ONNX Runtime, so the session is one that fails in its words.
Deno.test("a lost device is told apart from other failures (simulated: ONNX Runtime's and Dawn's texts)", async () => {
  for (
    const reason of [
      "WebGPU device lost (2): A valid external Instance reference no longer exists.",
      "WebGPU validation failed. [Device] is lost.",
      "Error: A valid external Instance reference no longer exists.",
      'wgpuQueueSubmit: [Device "WebGPU"] is lost.',
    ]
  ) {
    await assert.rejects((await failing(reason)).run([pair]), {
      name: "DeviceError",
      message:
        `Cannot run step on webgpu: the device was lost; go on from the last checkpoint in a new process (${reason})`,
    });
  }
});

Deno.test("memory that a device lacks is told apart from other failures (simulated: ONNX Runtime's and Dawn's texts)", async () => {
  for (
    const reason of [
      "Failed to allocate memory for requested buffer of size 1099511627776",
      "BFC Arena ran out of memory trying to allocate 68719476736",
      "vkAllocateMemory failed with VK_ERROR_OUT_OF_DEVICE_MEMORY",
      "Buffer size (68719476736) exceeds the max buffer size limit (2147483648).",
      "std::bad_alloc",
      "WebGPU validation failed. [Invalid Buffer (unlabeled)] is invalid due to a previous error.",
    ]
  ) {
    await assert.rejects((await failing(reason)).run([pair]), {
      name: "DeviceError",
      message:
        `Cannot run step on webgpu: its memory is not enough; use a smaller batch or checkpoint() (${reason})`,
    });
  }
  const other = "Non-zero status code returned while running Gather node in allocation_planner.cc";
  await assert.rejects((await failing(other)).run([pair]), {
    message: `Cannot run step on webgpu: ${other}`,
  });
});

Deno.test("donated state is whole after a failed call", async () => {
  const start = jit((x: tf.Tensor) => tf.mul(x, 1), cpu);
  const state = await start(pair);
  const fn = await failing("Failed to allocate memory for requested buffer of size 8", "cpu");
  await assert.rejects(fn.run([state]), DeviceError);
  assert.deepEqual([...(await state.read()).data], [1, 2]);
  await assert.rejects(fn.run([state]), /its memory is not enough/);
  await start.dispose();
  state.dispose();
  await assert.rejects(fn.run([state]), /was disposed of/);
});
