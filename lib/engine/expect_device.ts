/**
 * Finding out that a device is not there before work is done for it.
 *
 * @module
 */
import type * as tf from "@tensorflow/tfjs";
import { type DeviceName, resolveDevice } from "./device.ts";
import { disposeTree } from "./device_tensor.ts";
import { jit } from "./jit.ts";

/**
 * Runs a tiny graph on a device.
 *
 * @throws DeviceError if the device cannot be used.
 */
export async function expectDevice(name: DeviceName): Promise<void> {
  const { device } = await resolveDevice(name);
  const probe = jit((x: tf.Tensor) => x.add(1), { device, name: "probe" });
  try {
    disposeTree(await probe({ dtype: "float32", shape: [1], data: Float32Array.of(0) }));
  } finally {
    await probe.dispose();
  }
}
