/**
 * How fast a device multiplies matrices, to compare the speed of models with.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { full } from "novae/tensor/mod.ts";
import { type DeviceName, resolveDevice } from "./device.ts";
import { type DeviceTensor, disposeTree } from "./device_tensor.ts";
import { jit } from "./jit.ts";

/** Side of the matrices and products in a row: long enough for a device to run at its full speed, short enough to wait for. */
const LOAD = { host: { side: 1024, products: 4 }, gpu: { side: 2048, products: 16 } };
const REPEATS = 3;

const measured = new Map<string, Promise<number>>();

/**
 * Floating-point operations a second of a device in products of large float32 matrices, two for each multiplication and
 * addition. Measured by the first call for a device and number of threads in this process, in about a second.
 *
 * @param threads on the CPU; those of the engine unless given.
 * @throws DeviceError if the device cannot be used.
 */
export async function peakFlops(device: DeviceName = "auto", threads?: number): Promise<number> {
  const resolved = await resolveDevice(device), key = `${resolved.device} ${threads ?? ""}`;
  let peak = measured.get(key);
  if (!peak) {
    peak = measure(resolved.device, threads);
    measured.set(key, peak);
    peak.catch(() => measured.delete(key));
  }
  return await peak;
}

async function measure(device: DeviceName, threads?: number): Promise<number> {
  const { side, products } = /webgpu|cuda|coreml|dml/.test(device) ? LOAD.gpu : LOAD.host;
  const chain = jit(
    (a: tf.Tensor, b: tf.Tensor) => {
      let product = a;
      for (let i = 0; i < products; i++) product = tf.matMul(product, b);
      return { first: tf.slice(product, [0, 0], [1, 1]), onDevice: product };
    },
    { device, threads, name: "products of matrices" },
  );
  // A mean over rows as a matrix: its powers neither grow nor vanish.
  const mean = full([side, side], 1 / side);
  const run = async (b: typeof mean | DeviceTensor) => {
    const started = performance.now(), result = await chain(mean, b);
    await result.first.read();
    return { result, sec: (performance.now() - started) / 1000 };
  };
  try {
    const { result } = await run(mean); // compiles; its result is an operand that needs no upload
    let best = Infinity;
    for (let i = 0; i < REPEATS; i++) {
      const { result: again, sec } = await run(result.onDevice);
      disposeTree(again);
      best = Math.min(best, sec);
    }
    disposeTree(result);
    return 2 * side ** 3 * products / best;
  } finally {
    await chain.dispose();
  }
}
