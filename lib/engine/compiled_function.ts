/**
 * One compiled signature of a function: traced, written, and run in a session of ONNX Runtime.
 *
 * @module
 */
import type * as ort from "onnxruntime-node";
import { DeviceError, flattenTree, type HostTensor } from "novae/tensor/mod.ts";
import type { DType } from "novae/tensor/mod.ts";
import type { CompiledDevice } from "./device.ts";
import { DeviceTensor, isFeedTensor } from "./device_tensor.ts";
import { allocate, OrtStorage, toOrtTensor } from "./ort_storage.ts";
import { createSession, messageOf } from "./session.ts";
import { type TracedFunction, traceFunction } from "./traced_function.ts";

/** What a compiled graph consists of and took. */
export interface CompiledGraph {
  /** Name of the function. */
  readonly name: string;
  /** Where it runs. */
  readonly device: CompiledDevice;
  /** Shapes, element types, form and constants of the arguments. */
  readonly signature: string;
  /** How often each operator occurs, before ONNX Runtime's own optimisations. */
  readonly nodeCounts: Readonly<Record<string, number>>;
  /** Size of the ONNX model. */
  readonly bytes: number;
  /** Time of running the function on the recording backend and writing the model. */
  readonly traceMs: number;
  /** Time in which ONNX Runtime optimised the graph and made a session. */
  readonly sessionMs: number;
}

/** How a function is compiled. */
export interface CompileOptions {
  readonly device: CompiledDevice;
  readonly donate: readonly number[];
  readonly name: string;
  readonly signature: string;
  readonly threads?: number;
  readonly precision: Precision;
}

/** Element type of products and convolutions. */
export type Precision = "fp32" | "fp16";

/** Traces and compiles a function for the form of the given arguments. */
export async function compileFunction(
  fn: (...args: never[]) => unknown,
  args: readonly unknown[],
  options: CompileOptions,
): Promise<CompiledFunction> {
  const start = performance.now();
  const halfProducts = options.precision === "fp16", onCpu = options.device === "cpu";
  if (halfProducts && onCpu) {
    throw new DeviceError(
      `Cannot compile ${options.name} for cpu in fp16: it has no 16-bit products; leave precision out`,
    );
  }
  const traced = traceFunction(fn, args, { cpuOperators: onCpu, halfProducts, name: options.name });
  const traceMs = performance.now() - start;
  const session = await createSession(traced.model.bytes, options.device, {
    threads: options.threads,
    outputs: options.device === "webgpu" ? "gpu-buffer" : "cpu",
  });
  const graph: CompiledGraph = {
    name: options.name,
    device: options.device,
    signature: options.signature,
    nodeCounts: traced.model.nodeCounts,
    bytes: traced.model.bytes.length,
    traceMs,
    sessionMs: performance.now() - start - traceMs,
  };
  return new CompiledFunction(graph, traced, session, options.donate);
}

/** A session with the tree of its outputs and, for donated arguments, the buffers that await reuse. */
export class CompiledFunction {
  readonly #free = new Map<string, ort.Tensor[]>();

  constructor(
    readonly graph: CompiledGraph,
    readonly traced: TracedFunction,
    readonly session: ort.InferenceSession,
    readonly donate: readonly number[],
  ) {}

  /** Runs the graph on arguments of its signature. */
  async run(args: readonly unknown[]): Promise<unknown> {
    const { device } = this.graph;
    const feeds = this.#feeds(args);
    const donated = this.#takeDonated(args);
    const fetches = this.#fetches(donated);
    const results = await this.#execute(feeds, fetches);
    const tensors = new Map<string, DeviceTensor>();
    for (const { name, value } of this.traced.outputs) {
      const storage = new OrtStorage(fetches[name] ?? results[name] as ort.Tensor);
      tensors.set(name, new DeviceTensor(value.dtype as DType, value.shape, device, storage));
    }
    for (const tensor of donated) {
      if (device === "cpu") this.#freeList(tensor.type as DType, tensor.dims).push(tensor);
      else tensor.dispose();
    }
    return this.traced.rebuild(tensors);
  }

  /** Releases the session and the spare buffers. */
  async release(): Promise<void> {
    this.#free.clear();
    await this.session.release();
  }

  async #execute(
    feeds: Record<string, ort.Tensor>,
    fetches: Record<string, ort.Tensor | null>,
  ): Promise<ort.InferenceSession.ReturnType> {
    try {
      return await this.session.run(feeds, fetches);
    } catch (error) {
      const { name, device } = this.graph;
      throw new DeviceError(`Cannot run ${name} on ${device}: ${failure(messageOf(error))}`, {
        cause: error,
      });
    }
  }

  #feeds(args: readonly unknown[]): Record<string, ort.Tensor> {
    const { name, device } = this.graph;
    const feeds: Record<string, ort.Tensor> = {};
    let count = 0;
    for (const { value, path } of flattenTree(args, isFeedTensor)) {
      if (!isFeedTensor(value)) continue;
      const key = `in${count++}`;
      if (value instanceof DeviceTensor && value.device !== device) {
        throw new DeviceError(
          `Cannot call ${name}: argument ${path} must be on ${device}, got a tensor on ${value.device}`,
        );
      }
      const tensor = value instanceof DeviceTensor
        ? value.storage(`call ${name} with argument ${path}`).handle as ort.Tensor
        : toOrtTensor(value as HostTensor);
      if (this.traced.model.inputNames.has(key)) feeds[key] = tensor;
    }
    return feeds;
  }

  /** Takes the buffers of donated device tensors; tensors in host memory belong to the caller and are only read. */
  #takeDonated(args: readonly unknown[]): ort.Tensor[] {
    const tensors = new Set<DeviceTensor>();
    for (const index of this.donate) {
      for (const { value } of flattenTree(args[index], isFeedTensor)) {
        if (value instanceof DeviceTensor) tensors.add(value);
      }
    }
    const fate = `was donated to ${this.graph.name}`;
    return [...tensors].map((tensor) => tensor.release(fate).handle as ort.Tensor);
  }

  /** On the CPU outputs go to spare buffers of their shape, as many as are donated back. */
  #fetches(donated: readonly ort.Tensor[]): Record<string, ort.Tensor | null> {
    const coming = new Map<string, number>();
    if (this.graph.device === "cpu") {
      for (const { type, dims } of donated) {
        const key = bufferKey(type, dims);
        coming.set(key, (coming.get(key) ?? 0) + 1);
      }
    }
    const fetches: Record<string, ort.Tensor | null> = {};
    for (const { name, value } of this.traced.outputs) {
      const dtype = value.dtype as DType, key = bufferKey(dtype, value.shape), left = coming.get(key) ?? 0;
      coming.set(key, left - 1);
      fetches[name] = left > 0
        ? this.#freeList(dtype, value.shape).pop() ?? allocate(dtype, value.shape)
        : null;
    }
    return fetches;
  }

  #freeList(dtype: DType, shape: readonly number[]): ort.Tensor[] {
    const key = bufferKey(dtype, shape);
    let list = this.#free.get(key);
    if (!list) this.#free.set(key, list = []);
    return list;
  }
}

/** ONNX Runtime's reason, with advice for the two that a person can do something about. */
function failure(reason: string): string {
  if (/alloc|out of memory|bad_alloc/i.test(reason)) {
    return `its memory is not enough; use a smaller batch or checkpoint() (${reason})`;
  }
  if (/device.{0,20}lost|lost.{0,20}device/i.test(reason)) {
    return `the device was lost; go on from the last checkpoint in a new process (${reason})`;
  }
  return reason;
}

const bufferKey = (dtype: string, shape: readonly number[]): string => `${dtype}[${shape.join()}]`;
