/**
 * Runs pure functions of tensors, written in TensorFlow.js, as compiled graphs of ONNX Runtime or eagerly.
 *
 * To read it, follow a call: `jit.ts` finds the graph of a signature; `compiled_function.ts` makes and runs it;
 * `traced_function.ts` and `trace.ts` run the function once on the backend in `recorder.ts`, whose kernels
 * (`kernels/`, a reference by family) add operations to the graph in `graph.ts`; on the CPU `row_blocks.ts` cuts it
 * to the caches; `onnx_model.ts` writes it; `session.ts` hands it to ONNX Runtime, on the CPU through `ort_native.ts`;
 * `in_place.ts` finds which donated tensors results may be written over. That is the engine. Beside it stand the fused
 * functions (`fused_….ts`, `checkpoint.ts`), export, half precision, devices and their probes.
 *
 * @module
 */
import "./quiet.ts";

export { checkpoint } from "./checkpoint.ts";
export type { CompiledGraph, Precision } from "./compiled_function.ts";
export { constantTree } from "./constants.ts";
export { resolveDevice } from "./device.ts";
export type { CompiledDevice, DeviceName, EagerDevice, ResolvedDevice } from "./device.ts";
export { probeDevices } from "./device_probe.ts";
export type { DeviceReport } from "./device_probe.ts";
export { DeviceTensor, disposeTree, read } from "./device_tensor.ts";
export type { DeviceStorage, HostTree } from "./device_tensor.ts";
export { expectDevice } from "./expect_device.ts";
export { exportOnnx } from "./export.ts";
export type { ExportedModel, ExportOptions } from "./export.ts";
export { gelu, geluErf, silu } from "./fused_activation.ts";
export { attention, softmaxCrossEntropy } from "./fused_attention.ts";
export { groupNorm, layerNorm, modulatedLayerNorm, rmsNorm } from "./fused_normalization.ts";
export { jit } from "./jit.ts";
export type { AnyFunction, Feed, FeedAll, Fetched, JitOptions, Jitted } from "./jit.ts";
export { peakFlops } from "./peak.ts";
export { launchesOperations } from "./trace.ts";
