/**
 * Runs a function on the recording backend and hands out the graph. tfjs's engine is left as it was: backend,
 * scopes, gradient tape, tensor counts and variables live in a state of their own while a trace runs.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import type { DType } from "novae/tensor/mod.ts";
import { Recorder, RECORDING_BACKEND, type Target } from "./recorder.ts";
import type { Value } from "./graph.ts";
import { guarded, keepRefused, located } from "./trace_guards.ts";
import "./kernels/register.ts";

/** What a tensor of a traced function looks like. */
export interface TensorSpec {
  readonly shape: readonly number[];
  readonly dtype: DType;
}

/** What a trace found. */
export interface Trace<R> {
  readonly recorder: Recorder;
  /** What the function returned, with tensors replaced by values of the graph. */
  readonly result: R;
}

/** The parts of tfjs's engine that a trace swaps; `profiler` and the backend fields are private there. */
interface EngineInternals {
  state: EngineState;
  backendName: string;
  backendInstance: tf.KernelBackend | null;
  pendingBackendInit: Promise<boolean> | null;
}

interface EngineState {
  tensorInfo: WeakMap<object, { backend: unknown }>;
  registeredVariables: Record<string, unknown>;
  numTensors: number;
}

/** What the function that is being traced right now is traced for. */
let tracedFor: Target | undefined;

/** Whether a function is being traced right now. */
export function isTracing(): boolean {
  return tracedFor !== undefined;
}

/**
 * Whether each operation is launched on a GPU, where a few on long vectors take less time than many on short ones:
 * in functions that are traced for one and in eager ones on `tfjs-webgpu`.
 */
export function launchesOperations(): boolean {
  return tracedFor ? !tracedFor.cpuOperators : tf.getBackend() === "webgpu";
}

/**
 * Traces `run`. It gets a function that makes an input tensor, and one that turns a result tensor, found at a path of
 * what the function returned, into the graph's value at full size.
 *
 * @throws TypeError for what cannot be compiled.
 */
export function trace<R>(
  target: Target,
  run: (
    input: (name: string, spec: TensorSpec) => tf.Tensor,
    output: (tensor: tf.Tensor, path: string) => Value,
  ) => R,
): Trace<R> {
  if (tracedFor) throw new TypeError("Cannot compile: a compiled function was called inside a traced one");
  const recorder = new Recorder(target);
  const engine = tf.engine() as unknown as EngineInternals;
  const { state, backendName, backendInstance, pendingBackendInit } = engine;
  const own = new (state.constructor as { new (): EngineState })();
  own.tensorInfo = new TraceTensors(state.tensorInfo);
  own.registeredVariables = new Proxy({}, { set: refuseVariable });
  Object.assign(engine, {
    state: own,
    backendName: RECORDING_BACKEND,
    backendInstance: recorder,
    pendingBackendInit: null,
  });
  tracedFor = target;
  try {
    let result!: R;
    const kept = guarded(() =>
      tf.tidy(() => {
        const input = (name: string, spec: TensorSpec) =>
          tf.engine().makeTensorFromTensorInfo(recorder.addInput(name, spec.shape, spec.dtype));
        const use = (path: string) => path === "" ? "returns" : `returns at ${path}`;
        result = run(input, (tensor, path) => recorder.full(recorder.traced(tensor, use(path))));
      })
    );
    if (recorder.firstRead) throw recorder.firstRead;
    if (own.numTensors > 0) throw kept ?? keepRefused();
    return { recorder, result };
  } catch (error) {
    throw located(error);
  } finally {
    tracedFor = undefined;
    Object.assign(engine, { state, backendName, backendInstance, pendingBackendInit });
  }
}

/** Tensors made outside are refused, whatever is done with them. */
class TraceTensors extends WeakMap<object, { backend: unknown }> {
  constructor(readonly outer: WeakMap<object, { backend: unknown }>) {
    super();
  }

  override get(dataId: object): { backend: unknown } | undefined {
    return super.get(dataId) ?? (this.outer.has(dataId) ? { backend: OUTSIDE } : undefined);
  }
}

const refuseVariable = (): never => {
  throw new TypeError("Cannot compile: the function makes a tf.variable; pass the tensor in as an argument");
};
const refuse = (): never => {
  throw new TypeError(
    "Cannot compile: the function reads a tensor that was made outside of it; pass it in as an argument",
  );
};
const OUTSIDE = { readSync: refuse, read: refuse, readToGPU: refuse };
