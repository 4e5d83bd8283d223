/**
 * Devices by name, and which one `auto` is.
 *
 * @module
 */
import { DeviceError } from "novae/tensor/mod.ts";
import { probeWebGpu } from "./session.ts";

/** Devices that run compiled graphs in ONNX Runtime. */
export type CompiledDevice = "cpu" | "webgpu" | "cuda" | "coreml" | "dml";

/** Devices that run functions eagerly in TensorFlow.js. */
export type EagerDevice = "tfjs-webgpu" | "tfjs-wasm" | "tfjs-cpu";

/** A device, or `auto` for a real GPU if there is one and else the CPU. */
export type DeviceName = "auto" | CompiledDevice | EagerDevice;

/** A device and why it was taken. */
export interface ResolvedDevice {
  /** The device; never `auto`. */
  readonly device: CompiledDevice | EagerDevice;
  /** What decided, as part of a sentence. */
  readonly reason: string;
}

const COMPILED: readonly string[] = ["cpu", "webgpu", "cuda", "coreml", "dml"] satisfies CompiledDevice[];
const EAGER: readonly string[] = ["tfjs-webgpu", "tfjs-wasm", "tfjs-cpu"] satisfies EagerDevice[];

/** All devices by name. */
export const DEVICES: readonly string[] = [...COMPILED, ...EAGER];

/** Whether a device runs functions eagerly. */
export function isEagerDevice(device: string): device is EagerDevice {
  return EAGER.includes(device);
}

/**
 * Decides which device a name stands for.
 *
 * @returns the device and a sentence fragment saying why.
 * @throws DeviceError for a name that is no device.
 */
export async function resolveDevice(name: DeviceName): Promise<ResolvedDevice> {
  if (COMPILED.includes(name) || isEagerDevice(name)) {
    return { device: name as CompiledDevice | EagerDevice, reason: "asked for" };
  }
  if (name !== "auto") {
    throw new DeviceError(
      `Cannot use device: wanted one of auto, ${DEVICES.join(", ")}, got "${name}"`,
    );
  }
  const gpu = await probeWebGpu();
  return gpu.usable
    ? { device: "webgpu", reason: `found ${gpu.description}` }
    : { device: "cpu", reason: `no GPU that can be used: ${gpu.description}` };
}
