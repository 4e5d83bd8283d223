/**
 * `jit`: runs a pure function of tensors, written in tfjs, as one compiled graph.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { type HostTensor, isBranch, isHostTensor, sizeOf } from "novae/tensor/mod.ts";
import { type CompiledGraph, compileFunction, type Precision } from "./compiled_function.ts";
import { type DeviceName, isEagerDevice, resolveDevice } from "./device.ts";
import { type DeviceTensor, isFeedTensor } from "./device_tensor.ts";
import { runEagerly } from "./eager.ts";
import { RecentGraphs } from "./recent_graphs.ts";

/** What is fed in place of a traced tensor. */
export type Feed<T> = T extends tf.Tensor ? HostTensor | DeviceTensor
  : T extends object ? { [K in keyof T]: Feed<T[K]> }
  : T;

/** `Feed` of each parameter. */
export type FeedAll<P extends unknown[]> = { [K in keyof P]: Feed<P[K]> };

/** What comes back in place of a traced tensor. */
export type Fetched<T> = T extends tf.Tensor ? DeviceTensor
  : T extends object ? { [K in keyof T]: Fetched<T[K]> }
  : T;

/** Options of `jit`. */
export interface JitOptions {
  /** Where to run; `auto` unless given. */
  readonly device?: DeviceName;
  /** Positions of arguments whose device tensors the results may overwrite; they cannot be used after the call. */
  readonly donate?: readonly number[];
  /** Threads on the CPU; the number of physical cores unless given. */
  readonly threads?: number;
  /** Name of the graph, for messages. */
  readonly name?: string;
  /**
   * `fp16` does matrix products and convolutions in half precision on a GPU; all else, weights and state included,
   * stays in 32 bits. Values below 6e-8 vanish in products: scale the loss up. Eager devices take no notice. Default
   * `fp32`.
   */
  readonly precision?: Precision;
  /** Signatures whose graphs are kept; the one that was not called for longest is released first. Default 32. */
  readonly maxGraphs?: number;
}

/** Any function. */
// deno-lint-ignore no-explicit-any -- the constraint must accept every parameter list
export type AnyFunction = (...args: any[]) => any;

/** A function compiled on its first call with each signature. */
export interface Jitted<F extends AnyFunction> {
  (...args: FeedAll<Parameters<F>>): Promise<Fetched<ReturnType<F>>>;
  /** The graphs compiled so far. */
  inspect(): CompiledGraph[];
  /** Releases all sessions. */
  dispose(): Promise<void>;
}

/**
 * Compiles a pure function over trees of tensors.
 *
 * The function runs once for each signature (shapes, element types, form of the trees, numbers and strings) on a
 * backend that records; the recording, gradients included, becomes one ONNX graph. Numbers, strings, booleans, null
 * and undefined among the arguments are constants of the graph. On the `tfjs-…` devices the function runs eagerly
 * at each call.
 *
 * @example
 * ```ts
 * import * as tf from "@tensorflow/tfjs";
 * import { jit, read } from "novae/engine/mod.ts";
 * import { float32 } from "novae/tensor/mod.ts";
 * const double = jit((x: tf.Tensor) => tf.mul(x, 2), { device: "cpu" });
 * const y = await read(await double(float32([1, 2, 3], [3])));
 * if (y.data[2] !== 6) throw new Error("wrong");
 * await double.dispose();
 * ```
 * @param fn takes trees with tf.Tensor leaves and returns such a tree; pure: what it does besides is done once.
 * @returns a function that takes `HostTensor` or `DeviceTensor` leaves and returns `DeviceTensor` leaves, which the
 *   caller disposes of.
 * @throws TypeError (when called) for what cannot be compiled, DeviceError if the device cannot be used.
 */
export function jit<F extends AnyFunction>(fn: F, options: JitOptions = {}): Jitted<F> {
  const { device: wanted = "auto", donate = [], threads, precision = "fp32", name = fn.name || "function" } =
    options;
  const compiled = new RecentGraphs(options.maxGraphs ?? 32);
  const call = async (...args: unknown[]): Promise<unknown> => {
    const { device } = await resolveDevice(wanted);
    const signature = signatureOf(args, name);
    if (isEagerDevice(device)) return await runEagerly(fn, args, device, donate);
    return await compiled.use(
      signature,
      () => compileFunction(fn, args, { device, donate, name, signature, threads, precision }),
      (ready) => ready.run(args),
    );
  };
  return Object.assign(call, {
    inspect: () => compiled.graphs(),
    dispose: () => compiled.clear(),
  }) as unknown as Jitted<F>;
}

/** Shapes, element types, form and constants of the arguments as one string. */
function signatureOf(args: readonly unknown[], name: string): string {
  const parts: string[] = [];
  const walk = (node: unknown, path: string): void => {
    if (isFeedTensor(node)) {
      const { dtype, shape } = node;
      if (isHostTensor(node)) checkData(node, path, name);
      parts.push(`${dtype}[${shape.join()}]`);
    } else if (Array.isArray(node)) {
      parts.push("[");
      for (let i = 0; i < node.length; i++) {
        if (!(i in node)) {
          throw new TypeError(`Cannot call ${name}: ${path} must have no holes, got one at index ${i}`);
        }
        walk(node[i], `${path}.${i}`);
      }
      parts.push("]");
    } else if (isBranch(node)) {
      parts.push("{");
      for (const [key, child] of Object.entries(node)) {
        parts.push(JSON.stringify(key));
        walk(child, `${path}.${key}`);
      }
      parts.push("}");
    } else parts.push(staticKey(node, path, name));
  };
  args.forEach((arg, i) => walk(arg, `argument ${i}`));
  return parts.join(" ");
}

const STORAGE = { float32: Float32Array, int32: Int32Array, bool: Uint8Array };

function checkData({ dtype, shape, data }: HostTensor, path: string, name: string): void {
  const kind = STORAGE[dtype], count = sizeOf(shape);
  if (kind && data instanceof kind && data.length === count) return;
  throw new TypeError(
    `Cannot call ${name}: ${path} must hold ${count} values of ${dtype} in a ${
      kind?.name ?? "typed array"
    }, ` +
      `got ${data.length} in a ${data.constructor.name}`,
  );
}

function staticKey(value: unknown, path: string, name: string): string {
  if (value === null || value === undefined || typeof value === "boolean") return String(value);
  if (typeof value === "number") return Object.is(value, -0) ? "-0" : String(value);
  if (typeof value === "string") return JSON.stringify(value);
  const kind = value instanceof tf.Tensor ? "tf.Tensor (pass a HostTensor or DeviceTensor)" : typeof value;
  throw new TypeError(
    `Cannot call ${name}: ${path} must be a tensor, number, string, boolean or a tree of them, got ${kind}`,
  );
}
