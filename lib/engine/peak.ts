/**
 * How fast a device multiplies matrices, to compare the speed of models with.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { full, type HostTensor } from "novae/tensor/mod.ts";
import { type DeviceName, resolveDevice } from "./device.ts";
import { type DeviceTensor, disposeTree } from "./device_tensor.ts";
import { jit } from "./jit.ts";

/** Sides of the matrices, tried in this order until a run takes long enough to be timed. */
const SIDES = [128, 256, 512, 1024, 2048, 4096];
/** Products in a run, so that the call itself does not count. */
const PRODUCTS = 8;
const LONG_ENOUGH_SEC = 0.1, REPEATS = 3;

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
  const chain = jit(products, { device, threads, name: "products of matrices" });
  try {
    let best = 0;
    for (const side of SIDES) {
      const sec = await secondsFor(chain, side);
      best = Math.max(best, 2 * side ** 3 * PRODUCTS / sec);
      if (sec > LONG_ENOUGH_SEC) break;
    }
    return best;
  } finally {
    await chain.dispose();
  }
}

function products(a: tf.Tensor, b: tf.Tensor): { corner: tf.Tensor; product: tf.Tensor } {
  let product = a;
  for (let i = 0; i < PRODUCTS; i++) product = tf.matMul(product, b);
  return { corner: tf.slice(product, [0, 0], [1, 1]), product };
}

/** The shortest time of the products of matrices of a side, which lie on the device already. */
async function secondsFor(
  chain: (
    a: HostTensor | DeviceTensor,
    b: HostTensor | DeviceTensor,
  ) => Promise<{ corner: DeviceTensor; product: DeviceTensor }>,
  side: number,
): Promise<number> {
  // All elements 1 / side: its powers neither grow nor vanish.
  const mean = full([side, side], 1 / side), first = await chain(mean, mean);
  await first.corner.read();
  let shortest = Infinity;
  for (let i = 0; i < REPEATS; i++) {
    const started = performance.now(), result = await chain(first.product, first.product);
    await result.corner.read();
    shortest = Math.min(shortest, (performance.now() - started) / 1000);
    disposeTree(result);
  }
  disposeTree(first);
  return shortest;
}
