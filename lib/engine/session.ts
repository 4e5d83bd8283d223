/**
 * ONNX Runtime sessions: the options used here, one place where they fail, and a test of whether there is a real GPU.
 *
 * @module
 */
import * as ort from "onnxruntime-node";
import { DeviceError } from "novae/tensor/mod.ts";
import type { CompiledDevice } from "./device.ts";
import { Graph } from "./graph.ts";
import { type OnnxModel, writeModel } from "./onnx_model.ts";
import { NativeSession } from "./ort_native.ts";

/** A graph that can run. */
export interface GraphSession {
  /** Runs it on inputs by name; outputs go to the given memory where there is some. */
  run(
    feeds: Readonly<Record<string, ort.Tensor>>,
    fetches: Readonly<Record<string, ort.Tensor | null>>,
  ): Promise<Readonly<Record<string, ort.OnnxValue>>>;
  /** Releases it. */
  release(): Promise<void>;
}

// What goes wrong is thrown; the runtime's own lines on the standard error would say it a second time.
ort.env.logLevel = "fatal";

/** How a session is made. */
export interface SessionOptions {
  readonly threads?: number;
  /** Where the outputs of a GPU stay; default `cpu`. */
  readonly outputs?: "cpu" | "gpu-buffer";
}

/** It would undo transposes that the recording chose because they are faster. */
const DISABLED_OPTIMIZERS = "MatmulTransposeFusion";

/** It leaves out the deviations of a normalisation behind a sum, which gradients need: runs then miss an input. */
const DISABLED_ON_GPUS = "SkipLayerNormFusion";

/** Half the logical processors: hyper-threads share the vector units that matter here. */
export function defaultThreads(): number {
  const logical = navigator.hardwareConcurrency;
  return logical <= 2 ? logical : Math.floor(logical / 2);
}

/**
 * Creates a session on one device.
 *
 * @throws DeviceError with ONNX Runtime's reason.
 */
export async function createSession(
  { bytes, outputs }: OnnxModel,
  device: CompiledDevice,
  options: SessionOptions = {},
): Promise<GraphSession> {
  const threads = options.threads ?? defaultThreads();
  try {
    if (device === "cpu") {
      const config = { "optimization.disable_specified_optimizers": DISABLED_OPTIMIZERS };
      return await NativeSession.create(bytes, { outputs, threads, config });
    }
    return await ort.InferenceSession.create(bytes, {
      executionProviders: [device],
      graphOptimizationLevel: "all",
      intraOpNumThreads: threads,
      enableMemPattern: false,
      logSeverityLevel: 3,
      preferredOutputLocation: options.outputs ?? "cpu",
      extra: { optimization: { disable_specified_optimizers: DISABLED_ON_GPUS } },
    });
  } catch (error) {
    throw new DeviceError(`Cannot compile for device ${device}: ${messageOf(error)}`, { cause: error });
  }
}

/** What was found when looking for a GPU. */
export interface GpuProbe {
  readonly usable: boolean;
  readonly description: string;
}

/** Software renderers by the names they give themselves; they are slower than the CPU device. */
const SOFTWARE = /swiftshader|llvmpipe|lavapipe|software|basic render|cpu/i;

let probe: Promise<GpuProbe> | undefined;

/** Whether there is a GPU that is not a software renderer and on which a tiny graph runs; looked for once. */
export function probeWebGpu(): Promise<GpuProbe> {
  return probe ??= findGpu();
}

async function findGpu(): Promise<GpuProbe> {
  if (!ort.listSupportedBackends().some(({ name }) => name === "webgpu")) {
    return { usable: false, description: "ONNX Runtime was built without WebGPU here" };
  }
  if (!navigator.gpu) {
    return { usable: false, description: "WebGPU is off in this Deno (start it with --unstable-webgpu)" };
  }
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) return { usable: false, description: "no WebGPU adapter" };
  const name = nameOf(adapter);
  if (adapter.info.isFallbackAdapter || SOFTWARE.test(name)) {
    return { usable: false, description: `only the software adapter ${name}` };
  }
  try {
    await runTinyGraph();
    return { usable: true, description: name };
  } catch (error) {
    return { usable: false, description: `${name} failed: ${messageOf(error)}` };
  }
}

/** Name, largest buffer and half precision of the WebGPU adapter of this machine, if there is one. */
export async function describeAdapter(): Promise<string | undefined> {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) return undefined;
  const largest = Math.min(adapter.limits.maxBufferSize, adapter.limits.maxStorageBufferBindingSize);
  const half = adapter.features.has("shader-f16") ? "with" : "without";
  return `${nameOf(adapter)}; tensors up to ${(largest / 2 ** 30).toFixed(1)} GiB, ${half} 16-bit floats`;
}

function nameOf(adapter: GPUAdapter): string {
  const { vendor, architecture, device, description } = adapter.info;
  return [description || device, vendor, architecture].filter(Boolean).join(" ") || "unnamed adapter";
}

async function runTinyGraph(): Promise<void> {
  const graph = new Graph();
  const x = graph.input("x", { shape: [4], dtype: "float32" });
  const y = graph.node("Add", [x, x], { shape: [4], dtype: "float32" });
  const session = await createSession(writeModel(graph, [{ name: "y", value: y }], "probe"), "webgpu");
  try {
    const x = new ort.Tensor("float32", Float32Array.of(1, 2, 3, 4), [4]);
    const { y: result } = await session.run({ x }, { y: null });
    if (((result as ort.Tensor).data as Float32Array)[3] !== 8) throw new DeviceError("a sum came out wrong");
  } finally {
    await session.release();
  }
}

/** One line of an error, without the place in ONNX Runtime's source. */
export function messageOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.split("\n")[0].replace(/^\/onnxruntime_src\/.*? was false\. /, "").trim();
}
