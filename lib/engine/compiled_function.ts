/**
 * One compiled signature of a function: traced, written, and run in a session of ONNX Runtime.
 *
 * @module
 */
import type * as ort from "onnxruntime-node";
import { DeviceError, flattenTree, type HostTensor } from "novae/tensor/mod.ts";
import type { DType } from "novae/tensor/mod.ts";
import type { CompiledDevice } from "./device.ts";
import { type DeviceStorage, DeviceTensor, isFeedTensor } from "./device_tensor.ts";
import { outputsInPlace } from "./in_place.ts";
import { allocate } from "./ort_native.ts";
import { OrtStorage, toOrtTensor } from "./ort_storage.ts";
import { createSession, type GraphSession, messageOf } from "./session.ts";
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
  const session = await createSession(traced.model, options.device, {
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
  const inPlace = onCpu ? outputsInPlace(traced.outputs, donatedNames(args, options.donate)) : new Map();
  return new CompiledFunction(graph, traced, session, options.donate, inPlace);
}

/** Names of the graph's inputs that come from donated arguments. */
function donatedNames(args: readonly unknown[], donate: readonly number[]): Set<string> {
  const leaves = args.flatMap((arg, index) =>
    flattenTree(arg, isFeedTensor).filter(({ value }) => isFeedTensor(value)).map(() => index)
  );
  return new Set(leaves.flatMap((index, i) => donate.includes(index) ? `in${i}` : []));
}

/** A session with the tree of its outputs and, for donated arguments, the buffers that await reuse. */
export class CompiledFunction {
  readonly #free = new Map<string, ort.Tensor[]>();

  constructor(
    readonly graph: CompiledGraph,
    readonly traced: TracedFunction,
    readonly session: GraphSession,
    readonly donate: readonly number[],
    /** Input whose memory an output takes if it is donated, by name. */
    readonly inPlace: ReadonlyMap<string, string> = new Map(),
  ) {}

  /**
   * Runs the graph on arguments of its signature. If that fails, donated tensors are as they were before, save those
   * that were to be written over: these are lost.
   */
  async run(args: readonly unknown[]): Promise<unknown> {
    const feeds = this.#feeds(args);
    const donated = this.#takeDonated(args);
    const written = this.#writtenOver(feeds, donated);
    const overwritten = new Set<ort.Tensor>(Object.values(written));
    const buffers = [...donated.values()].map((storage) => storage.handle as ort.Tensor)
      .filter((buffer) => !overwritten.has(buffer));
    const fetches: Record<string, ort.Tensor | null> = { ...written };
    let results: Readonly<Record<string, ort.OnnxValue>>;
    try {
      this.#reserve(fetches, buffers);
      results = await this.session.run(feeds, fetches);
    } catch (error) {
      const reserved = Object.values(fetches).filter((buffer) => buffer !== null);
      this.#recycle(reserved.filter((buffer) => !overwritten.has(buffer)));
      for (const [tensor, storage] of donated) {
        if (!overwritten.has(storage.handle as ort.Tensor)) tensor.restore(storage);
      }
      const { name, device } = this.graph, lost = overwritten.size > 0 ? "; donated arguments are lost" : "";
      throw new DeviceError(`Cannot run ${name} on ${device}: ${failure(messageOf(error))}${lost}`, {
        cause: error,
      });
    }
    const tensors = new Map<string, DeviceTensor>();
    for (const { name, value } of this.traced.outputs) {
      const storage = new OrtStorage(fetches[name] ?? results[name] as ort.Tensor);
      tensors.set(name, new DeviceTensor(value.dtype as DType, value.shape, this.graph.device, storage));
    }
    this.#recycle(buffers);
    return this.traced.rebuild(tensors);
  }

  /** Releases the session and the spare buffers. */
  async release(): Promise<void> {
    this.#free.clear();
    await this.session.release();
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

  /** Takes the memory of donated device tensors; tensors in host memory belong to the caller and are only read. */
  #takeDonated(args: readonly unknown[]): Map<DeviceTensor, DeviceStorage> {
    const taken = new Map<DeviceTensor, DeviceStorage>();
    const fate = `was donated to ${this.graph.name}`;
    for (const index of this.donate) {
      for (const { value } of flattenTree(args[index], isFeedTensor)) {
        if (value instanceof DeviceTensor && !taken.has(value)) taken.set(value, value.release(fate));
      }
    }
    return taken;
  }

  /** Donated memory by the name of the output that takes it; memory that is fed twice is not written. */
  #writtenOver(
    feeds: Readonly<Record<string, ort.Tensor>>,
    donated: ReadonlyMap<DeviceTensor, DeviceStorage>,
  ): Record<string, ort.Tensor> {
    const free = new Set([...donated.values()].map(({ handle }) => handle as ort.Tensor));
    const seen = new Set<ort.Tensor>();
    for (const tensor of Object.values(feeds)) {
      if (seen.has(tensor)) free.delete(tensor);
      seen.add(tensor);
    }
    const written = [...this.inPlace].filter(([, input]) => free.has(feeds[input]));
    return Object.fromEntries(written.map(([output, input]) => [output, feeds[input]]));
  }

  /** On the CPU outputs go to spare buffers of their shape, as many as are donated back. */
  #reserve(fetches: Record<string, ort.Tensor | null>, donated: readonly ort.Tensor[]): void {
    const coming = new Map<string, number>();
    if (this.graph.device === "cpu") {
      for (const { type, dims } of donated) {
        const key = bufferKey(type, dims);
        coming.set(key, (coming.get(key) ?? 0) + 1);
      }
    }
    for (const { name, value } of this.traced.outputs) {
      if (fetches[name]) continue;
      const dtype = value.dtype as DType, key = bufferKey(dtype, value.shape), left = coming.get(key) ?? 0;
      coming.set(key, left - 1);
      fetches[name] = left > 0
        ? this.#freeList(dtype, value.shape).pop() ?? allocate(dtype, value.shape)
        : null;
    }
  }

  /** Keeps buffers in host memory for later outputs and releases those of a GPU. */
  #recycle(buffers: readonly ort.Tensor[]): void {
    for (const buffer of buffers) {
      if (this.graph.device === "cpu") this.#freeList(buffer.type as DType, buffer.dims).push(buffer);
      else buffer.dispose();
    }
  }

  #freeList(dtype: DType, shape: readonly number[]): ort.Tensor[] {
    const key = bufferKey(dtype, shape);
    let list = this.#free.get(key);
    if (!list) this.#free.set(key, list = []);
    return list;
  }
}

/** What ONNX Runtime and Dawn say when there is no memory; the last of a buffer that could not be made. */
const NO_MEMORY = new RegExp(
  "failed to allocate|allocation failed|out.of.(device.|host.)?memory|bad_alloc|max buffer size|\\[Invalid Buffer",
  "i",
);
/** What they say when the GPU has gone; the last of anything asked of it afterwards. */
const DEVICE_LOST = /device.{0,40}\blost|lost.{0,40}device|instance reference no longer exists/i;

/** ONNX Runtime's reason, with advice for the two that a person can do something about. */
function failure(reason: string): string {
  if (NO_MEMORY.test(reason)) {
    return `its memory is not enough; use a smaller batch or checkpoint() (${reason})`;
  }
  if (DEVICE_LOST.test(reason)) {
    return `the device was lost; go on from the last checkpoint in a new process (${reason})`;
  }
  return reason;
}

const bufferKey = (dtype: string, shape: readonly number[]): string => `${dtype}[${shape.join()}]`;
