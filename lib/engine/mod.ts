/**
 * Runs pure functions of tensors, written in TensorFlow.js, as compiled graphs of ONNX Runtime or eagerly.
 *
 * @module
 */
import "./quiet.ts";

export type { CompiledGraph } from "./compiled_function.ts";
export { resolveDevice } from "./device.ts";
export type { CompiledDevice, DeviceName, EagerDevice, ResolvedDevice } from "./device.ts";
export { DeviceTensor, disposeTree, read } from "./device_tensor.ts";
export type { DeviceStorage, HostTree } from "./device_tensor.ts";
export { attention, gelu, geluErf, groupNorm, layerNorm, silu, softmaxCrossEntropy } from "./fused.ts";
export { jit } from "./jit.ts";
export type { AnyFunction, Feed, FeedAll, Fetched, JitOptions, Jitted } from "./jit.ts";
