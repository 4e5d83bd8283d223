/**
 * Devices on which functions run eagerly in TensorFlow.js, behind the same interface as compiled ones.
 *
 * @module
 */
import { createRequire } from "node:module";
import { dirname } from "node:path";
import * as tf from "@tensorflow/tfjs";
import { DeviceError, flattenTree, type HostTensor, mapTree } from "novae/tensor/mod.ts";
import type { DType, TypedArray } from "novae/tensor/mod.ts";
import type { EagerDevice } from "./device.ts";
import { type DeviceStorage, DeviceTensor, isFeedTensor } from "./device_tensor.ts";
import { messageOf } from "./session.ts";

const BACKENDS: Record<EagerDevice, string> = {
  "tfjs-cpu": "cpu",
  "tfjs-wasm": "wasm",
  "tfjs-webgpu": "webgpu",
};

const ready = new Map<EagerDevice, Promise<void>>();

/** Initialises a backend once and leaves the one in use as it was. */
function prepare(device: EagerDevice): Promise<void> {
  let promise = ready.get(device);
  if (!promise) {
    promise = initialise(device);
    ready.set(device, promise);
    promise.catch(() => ready.delete(device));
  }
  return promise;
}

async function initialise(device: EagerDevice): Promise<void> {
  const previous = backendInUse();
  try {
    if (device === "tfjs-wasm") {
      const { setWasmPaths } = await import("@tensorflow/tfjs-backend-wasm");
      // The .wasm files lie beside the package's entry point.
      const entry = createRequire(import.meta.url).resolve("@tensorflow/tfjs-backend-wasm");
      setWasmPaths(`${dirname(entry)}/`);
    } else if (device === "tfjs-webgpu") {
      await import("@tensorflow/tfjs-backend-webgpu");
    }
    if (!await tf.setBackend(BACKENDS[device])) throw new Error("the backend did not start");
  } catch (error) {
    throw new DeviceError(`Cannot use device ${device}: ${messageOf(error)}`, { cause: error });
  } finally {
    await tf.setBackend(previous);
  }
}

/** tfjs chooses a backend when it first needs one; loading others must not change that choice, which is `cpu` here. */
function backendInUse(): string {
  return tf.engine().backendName ?? "cpu";
}

/** Storage in a tfjs tensor. */
class TfjsStorage implements DeviceStorage {
  constructor(readonly handle: tf.Tensor) {}

  async read(): Promise<TypedArray> {
    const data = await this.handle.data();
    return data.slice() as TypedArray;
  }

  dispose(): void {
    this.handle.dispose();
  }
}

/** Runs a function on a tfjs backend and restores the one in use before. */
export async function runEagerly(
  fn: (...args: never[]) => unknown,
  args: readonly unknown[],
  device: EagerDevice,
  donate: readonly number[],
): Promise<unknown> {
  await prepare(device);
  const previous = backendInUse();
  // Synchronous once the backend is initialised, so nothing else runs on it meanwhile.
  tf.setBackend(BACKENDS[device]);
  try {
    let result: unknown;
    tf.tidy(() => {
      const inputs = mapTree<never[]>(
        args,
        isFeedTensor,
        (leaf, path) => isFeedTensor(leaf) ? toTfjs(leaf, device, path) : leaf,
      );
      const isTensor = (value: unknown) => value instanceof tf.Tensor;
      // Cloned, since a function may return one of its arguments.
      result = mapTree(
        fn(...inputs),
        isTensor,
        (leaf) => leaf instanceof tf.Tensor ? toDevice(tf.keep(tf.clone(leaf)), device) : leaf,
      );
    });
    for (const index of donate) giveAway(args[index]);
    return result;
  } finally {
    tf.setBackend(previous);
  }
}

function toTfjs(leaf: DeviceTensor | HostTensor, device: EagerDevice, path: string): tf.Tensor {
  if (!(leaf instanceof DeviceTensor)) return tf.tensor(leaf.data.slice(), [...leaf.shape], leaf.dtype);
  if (leaf.device !== device) {
    throw new DeviceError(
      `Cannot run on ${device}: argument ${path} must be on ${device}, got a tensor on ${leaf.device}`,
    );
  }
  return leaf.storage(`use argument ${path}`).handle as tf.Tensor;
}

function toDevice(tensor: tf.Tensor, device: EagerDevice): DeviceTensor {
  return new DeviceTensor(tensor.dtype as DType, tensor.shape, device, new TfjsStorage(tensor));
}

function giveAway(tree: unknown): void {
  for (const { value } of flattenTree(tree, isFeedTensor)) {
    if (value instanceof DeviceTensor) value.release("was donated").dispose();
  }
}
