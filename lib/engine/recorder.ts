/**
 * A tfjs backend that does not compute: its kernels record ONNX operations. A tensor under it is a handle to a value
 * of the graph, seen at a shape to which the value broadcasts, so that `ones`, `zeros`, `broadcastTo` and the
 * gradients of sums and means cost nothing until an operation needs them at full size.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { type DType, sizeOf } from "novae/tensor/mod.ts";
import { Graph, typedArray, type Value } from "./graph.ts";

/** Name under which the recording kernels are registered with tfjs. */
export const RECORDING_BACKEND = "novae-recording";

/** A tensor as kernels see it: `value` broadcast to `shape`. */
export interface Traced {
  readonly value: Value;
  readonly shape: readonly number[];
  readonly dtype: DType;
}

/** What a graph is written for; operators differ. */
export interface Target {
  /** Whether ONNX Runtime's CPU-only fused operators may be used. */
  readonly cpuOperators: boolean;
}

/** Inputs of a kernel by name; list inputs come as "0", "1", … */
export type KernelInputs = Readonly<Record<string, Traced>>;

/** A kernel: records operations and returns the handles of its outputs. */
// deno-lint-ignore no-explicit-any -- attributes are untyped in tfjs's kernel registry
export type Kernel = (recorder: Recorder, inputs: KernelInputs, attrs: any) => Traced | Traced[];

/** The tfjs backend of one trace. */
export class Recorder extends tf.KernelBackend {
  readonly graph = new Graph();
  /** The error for the first value that the function asked for without waiting for it. */
  firstRead: TypeError | undefined;
  readonly #handles = new WeakMap<object, Traced>();
  /** What each transposed value was made of. */
  readonly #transposes = new Map<Value, { source: Value; perm: readonly number[] }>();

  constructor(readonly target: Target) {
    super();
  }

  /** Makes a tensor for an input of the traced function. */
  addInput(name: string, shape: readonly number[], dtype: DType): tf.TensorInfo {
    return this.handle(whole(this.graph.input(name, { shape, dtype })));
  }

  /** The handle behind a tensor of this trace; `use` is what the function does with it. */
  traced({ dataId, shape }: tf.TensorInfo, use = "uses"): Traced {
    const traced = this.#handles.get(dataId);
    if (!traced) {
      throw new TypeError(
        `Cannot compile: the function ${use} a tensor of shape [${shape.join(", ")}] made outside of it; ` +
          "pass it in as an argument",
      );
    }
    return traced;
  }

  /** Gives a handle to tfjs. */
  handle(traced: Traced): tf.TensorInfo {
    const dataId = {};
    this.#handles.set(dataId, traced);
    return { dataId, shape: [...traced.shape], dtype: traced.dtype };
  }

  /** The value at the full shape of its handle. */
  full(traced: Traced): Value {
    const { value, shape } = traced;
    if (sameShape(value.shape, shape)) return value;
    if (sizeOf(value.shape) === sizeOf(shape)) return this.reshape(value, shape);
    return this.graph.node("Expand", [value, this.graph.ints(shape)], { shape, dtype: value.dtype });
  }

  /** The value with leading axes of extent 1 so that its rank is that of its handle. */
  aligned(traced: Traced): Value {
    const missing = traced.shape.length - traced.value.shape.length;
    return this.reshape(traced.value, [...Array(missing).fill(1), ...traced.value.shape]);
  }

  /** Reshapes; a chain of reshapes becomes one and none if the shape is there already. */
  reshape(value: Value, shape: readonly number[]): Value {
    let source = value;
    while (source.producer?.op === "Reshape") source = source.producer.inputs[0]!;
    if (sameShape(source.shape, shape)) return source;
    if (source.constant) return this.graph.constant(source.constant, shape, source.dtype);
    // Else an extent of 0 would mean that of the source.
    const attributes: Record<string, number> = shape.includes(0) ? { allowzero: 1 } : {};
    const spec = { shape, dtype: source.dtype };
    return this.graph.node("Reshape", [source, this.graph.ints(shape)], spec, attributes);
  }

  /** Transposes; a chain of transposes becomes one, and none if they cancel. */
  transpose(value: Value, perm: readonly number[]): Value {
    const inner = this.#transposes.get(value);
    const source = inner?.source ?? value;
    const order = inner ? perm.map((axis) => inner.perm[axis]) : perm;
    if (order.every((axis, i) => axis === i)) return source;
    const { extents, merged } = mergeAxes(source.shape, order);
    const moved = this.#permute(this.reshape(source, extents), merged, source.shape.length);
    const result = this.reshape(moved, order.map((axis) => source.shape[axis]));
    this.#transposes.set(result, { source, perm: order });
    return result;
  }

  /**
   * Some transpositions in a form that is fast on ONNX Runtime's CPU, which moves single elements where more than one
   * axis changes its place: ten times slower for a convolution's kernel.
   */
  #permute(value: Value, perm: readonly number[], rank: number): Value {
    if (perm.every((axis, i) => axis === i)) return value;
    const { graph, target } = this;
    const shape = perm.map((axis) => value.shape[axis]), spec = { shape, dtype: value.dtype };
    if (target.cpuOperators && perm.join() === "2,1,0") {
      const [first, second, third] = value.shape;
      const swapped = this.reshape(this.#permute(value, [0, 2, 1], rank), [first, third * second]);
      return this.reshape(this.#permute(swapped, [1, 0], rank), shape);
    }
    if (target.cpuOperators && perm.length === 2 && rank > 2 && value.dtype === "float32") {
      // The same by a name that its optimizer does not know; a Transpose it would turn back into one of `rank` axes.
      return graph.node("Einsum", [value], spec, { equation: "ab->ba" });
    }
    return graph.node("Transpose", [value], spec, { perm });
  }

  /** A constant tensor of one repeated number. */
  fill(value: number, shape: readonly number[], dtype: DType): Traced {
    return { value: this.graph.scalar(value, dtype), shape, dtype };
  }

  override write(values: tf.BackendValues, shape: number[], dtype: tf.DataType): object {
    const type = checkedType(dtype);
    const data = (values ?? new Float32Array(sizeOf(shape))) as ArrayLike<number>;
    const first = data[0];
    let uniform = data.length > 0;
    for (let i = 1; uniform && i < data.length; i++) uniform = Object.is(data[i], first);
    const traced = uniform
      ? this.fill(first, [...shape], type)
      : whole(this.graph.constant(typedArray(type, data), [...shape], type));
    return this.handle(traced).dataId;
  }

  override readSync(): never {
    throw readRefused();
  }

  /** Never settles; the trace fails when the function returns, so that no rejection goes unhandled. */
  override read(): Promise<never> {
    this.firstRead ??= readRefused();
    return new Promise(() => {});
  }

  override disposeData(): boolean {
    return true;
  }

  override incRef(): void {}

  override refCount(): number {
    return 1;
  }

  override numDataIds(): number {
    return 0;
  }

  override timerAvailable(): boolean {
    return false;
  }

  override floatPrecision(): 16 | 32 {
    return 32;
  }

  override memory(): { unreliable: boolean } {
    return { unreliable: false };
  }

  override dispose(): void {}
}

/** A handle to a value at its own shape. */
export function whole(value: Value): Traced {
  return { value, shape: value.shape, dtype: value.dtype as DType };
}

/** Whether two shapes are equal. */
export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((extent, i) => extent === b[i]);
}

/** Registers recording kernels with tfjs. */
export function registerKernels(kernels: Readonly<Record<string, Kernel>>): void {
  for (const [kernelName, kernel] of Object.entries(kernels)) {
    tf.registerKernel({
      kernelName,
      backendName: RECORDING_BACKEND,
      kernelFunc: ({ inputs, attrs, backend }) => {
        const recorder = backend as Recorder;
        const traced: Record<string, Traced> = {};
        for (const [name, info] of Object.entries(inputs)) {
          if (info) traced[name] = recorder.traced(info);
        }
        const outputs = kernel(recorder, traced, attrs ?? {});
        return Array.isArray(outputs) ? outputs.map((o) => recorder.handle(o)) : recorder.handle(outputs);
      },
    });
  }
}

/** The error for what a kernel cannot express. */
export function cannotCompile(kernel: string, reason: string): TypeError {
  return new TypeError(`Cannot compile kernel "${kernel}": ${reason}`);
}

/** The error for reading what has no value yet. */
export function readRefused(): TypeError {
  return new TypeError(
    "Cannot compile: the function reads the value of a tensor (dataSync, arraySync, print, …); " +
      "a traced tensor has no value yet, return it and read the result",
  );
}

function checkedType(dtype: tf.DataType): DType {
  if (dtype === "float32" || dtype === "int32" || dtype === "bool") return dtype;
  throw new TypeError(`Cannot compile: tensors must be float32, int32 or bool, got ${dtype}`);
}

/**
 * The same transposition with fewer axes: those of extent 1 left out, those that stay side by side taken as one.
 * ONNX Runtime moves single elements otherwise; a convolution's kernel is transposed up to four times faster.
 */
function mergeAxes(
  shape: readonly number[],
  perm: readonly number[],
): { extents: number[]; merged: number[] } {
  const runs: number[][] = [];
  for (const axis of perm.filter((a) => shape[a] !== 1)) {
    const run = runs.at(-1);
    const follows = run && shape.slice(run.at(-1)! + 1, axis).every((extent) => extent === 1) &&
      axis > run.at(-1)!;
    if (follows) run.push(axis);
    else runs.push([axis]);
  }
  const sorted = [...runs].sort((a, b) => a[0] - b[0]);
  return {
    extents: sorted.map((run) => sizeOf(run.map((axis) => shape[axis]))),
    merged: runs.map((run) => sorted.indexOf(run)),
  };
}
