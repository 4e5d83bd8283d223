/**
 * ONNX Runtime on the CPU through its C interface.
 *
 * The Node binding copies every output into new memory of JavaScript, even where it was given memory for it: half a
 * gigabyte a training step for a transformer of 32 million parameters. Called directly, the library reads arguments
 * and writes results where they lie, and the thread of JavaScript is free meanwhile.
 *
 * *Source*: `OrtApi` of onnxruntime_c_api.h; the places of its functions never change, later versions append.
 *
 * @module
 */
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import * as ort from "onnxruntime-node";
import { type DType, sizeOf } from "novae/tensor/mod.ts";
import type { OutputForm } from "./onnx_model.ts";

/** How a native session is made. */
export interface NativeSessionOptions {
  /** All outputs of the model; their shapes are known before it runs. */
  readonly outputs: readonly OutputForm[];
  readonly threads: number;
  /** Entries of ONNX Runtime's session configuration. */
  readonly config: Readonly<Record<string, string>>;
}

/** The version of the interface that is asked for: the oldest with all that is used. */
const API_VERSION = 16;
const LOG_ERRORS = 3, OPTIMIZE_ALL = 99, ARENA_ALLOCATOR = 1, DEFAULT_MEMORY = 0;
const ELEMENT_CODE: Record<DType, number> = { float32: 1, int32: 6, bool: 9 };

/** Each with its place in `OrtApi`. */
const FUNCTIONS = {
  getErrorMessage: [2, { parameters: ["pointer"], result: "pointer" }],
  createEnv: [3, { parameters: ["i32", "buffer", "buffer"], result: "pointer" }],
  createSessionFromArray: [8, {
    parameters: ["pointer", "buffer", "usize", "pointer", "buffer"],
    result: "pointer",
    nonblocking: true,
  }],
  run: [9, {
    parameters: ["pointer", "pointer", "buffer", "buffer", "usize", "buffer", "usize", "buffer"],
    result: "pointer",
    nonblocking: true,
  }],
  createSessionOptions: [10, { parameters: ["buffer"], result: "pointer" }],
  disableMemPattern: [17, { parameters: ["pointer"], result: "pointer" }],
  setLogSeverity: [22, { parameters: ["pointer", "i32"], result: "pointer" }],
  setOptimization: [23, { parameters: ["pointer", "i32"], result: "pointer" }],
  setThreads: [24, { parameters: ["pointer", "i32"], result: "pointer" }],
  createTensor: [49, {
    parameters: ["pointer", "buffer", "usize", "buffer", "usize", "i32", "buffer"],
    result: "pointer",
  }],
  createCpuMemoryInfo: [69, { parameters: ["i32", "i32", "buffer"], result: "pointer" }],
  releaseStatus: [93, { parameters: ["pointer"], result: "void" }],
  releaseSession: [95, { parameters: ["pointer"], result: "void" }],
  releaseValue: [96, { parameters: ["pointer"], result: "void" }],
  releaseSessionOptions: [100, { parameters: ["pointer"], result: "void" }],
  addConfigEntry: [130, { parameters: ["pointer", "buffer", "buffer"], result: "pointer" }],
} as const satisfies Record<string, readonly [number, Deno.ForeignFunction]>;

type Functions = {
  [K in keyof typeof FUNCTIONS]: Deno.UnsafeFnPointer<typeof FUNCTIONS[K][1]>["call"];
};

/** The library with what all sessions share. */
interface Library {
  readonly api: Functions;
  readonly env: Deno.PointerValue;
  readonly memory: Deno.PointerValue;
}

let loaded: Library | undefined;

function library(): Library {
  if (loaded) return loaded;
  const { symbols } = Deno.dlopen(libraryPath(), { OrtGetApiBase: { parameters: [], result: "pointer" } });
  const base = new Deno.UnsafePointerView(symbols.OrtGetApiBase()!);
  const getApi = new Deno.UnsafeFnPointer(base.getPointer(0)!, { parameters: ["u32"], result: "pointer" });
  const table = new Deno.UnsafePointerView(getApi.call(API_VERSION)!);
  const api = Object.fromEntries(
    Object.entries(FUNCTIONS).map(([name, [place, definition]]) => {
      const fn = new Deno.UnsafeFnPointer(table.getPointer(8 * place)!, definition as Deno.ForeignFunction);
      return [name, fn.call.bind(fn)];
    }),
  ) as unknown as Functions;
  const env = made(api, (out) => api.createEnv(LOG_ERRORS, cString("novae"), out));
  const memory = made(api, (out) => api.createCpuMemoryInfo(ARENA_ALLOCATOR, DEFAULT_MEMORY, out));
  return loaded = { api, env, memory };
}

/** The shared library inside the npm package, the one that the Node binding uses too. */
function libraryPath(): string {
  const folder = join(dirname(createRequire(import.meta.url).resolve("onnxruntime-node")), "..", "bin");
  const [napi] = [...Deno.readDirSync(folder)].map(({ name }) => name).filter((name) =>
    name.startsWith("napi-")
  );
  const platform = { linux: "linux", darwin: "darwin", windows: "win32" }[Deno.build.os as string];
  const arch = Deno.build.arch === "aarch64" ? "arm64" : "x64";
  const home = join(folder, napi, platform ?? Deno.build.os, arch);
  const file = [...Deno.readDirSync(home)].map(({ name }) => name)
    .find((name) => /^(lib)?onnxruntime\.(so|dll|.*dylib)/.test(name));
  if (!file) throw new Error(`no library of ONNX Runtime in ${home}`);
  return join(home, file);
}

/** A session on the CPU. */
export class NativeSession {
  #session: Deno.PointerValue;
  readonly #outputs: readonly OutputForm[];
  readonly #running = new Set<Promise<unknown>>();
  /** Names as C has them, which must not be collected. */
  readonly #names = new Map<string, { text: Uint8Array<ArrayBuffer>; address: bigint }>();

  private constructor(session: Deno.PointerValue, outputs: readonly OutputForm[]) {
    this.#session = session;
    this.#outputs = outputs;
  }

  /**
   * Optimises a model and prepares it.
   *
   * @throws Error with ONNX Runtime's reason.
   */
  static async create(model: Uint8Array<ArrayBuffer>, options: NativeSessionOptions): Promise<NativeSession> {
    const { api, env } = library();
    const settings = made(api, (out) => api.createSessionOptions(out));
    try {
      check(api, api.setThreads(settings, options.threads));
      check(api, api.setOptimization(settings, OPTIMIZE_ALL));
      check(api, api.setLogSeverity(settings, LOG_ERRORS));
      check(api, api.disableMemPattern(settings));
      for (const [key, value] of Object.entries(options.config)) {
        check(api, api.addConfigEntry(settings, cString(key), cString(value)));
      }
      const out = new BigUint64Array(1);
      const making = api.createSessionFromArray(env, model, BigInt(model.length), settings, out);
      check(api, await keeping([model, out], making));
      return new NativeSession(Deno.UnsafePointer.create(out[0]), options.outputs);
    } finally {
      api.releaseSessionOptions(settings);
    }
  }

  /**
   * Runs the graph.
   *
   * @param feeds inputs by name.
   * @param fetches memory for outputs by name; null or absent for new memory. An input's memory may be among it where
   *   the order of the graph allows that.
   * @returns all outputs, in the memory that was given.
   * @throws Error with ONNX Runtime's reason.
   */
  async run(
    feeds: Readonly<Record<string, ort.Tensor>>,
    fetches: Readonly<Record<string, ort.Tensor | null>>,
  ): Promise<Record<string, ort.Tensor>> {
    const { api } = library();
    if (this.#session === null) throw new Error("the session was released");
    const results = Object.fromEntries(
      this.#outputs.map((form) => [form.name, fetches[form.name] ?? allocate(form.dtype, form.shape)]),
    );
    const inputs = this.#addresses(feeds), outputs = this.#addresses(results);
    const [given, wanted] = [inputs, outputs].map(({ names }) => BigInt(names.length));
    const { names, values } = outputs;
    const running = api.run(this.#session, null, inputs.names, inputs.values, given, names, wanted, values);
    this.#running.add(running);
    try {
      check(api, await keeping([feeds, results, inputs, outputs], running));
    } finally {
      this.#running.delete(running);
    }
    return results;
  }

  /** Releases the session when what runs in it has ended. Doing it twice is harmless. */
  async release(): Promise<void> {
    const session = this.#session;
    this.#session = null;
    await Promise.allSettled(this.#running);
    if (session !== null) library().api.releaseSession(session);
  }

  /** Arrays of the addresses of names and tensors, as C wants them. */
  #addresses(
    tensors: Readonly<Record<string, ort.Tensor>>,
  ): { names: BigUint64Array<ArrayBuffer>; values: BigUint64Array<ArrayBuffer> } {
    const entries = Object.entries(tensors);
    const names = new BigUint64Array(entries.length), values = new BigUint64Array(entries.length);
    entries.forEach(([name, tensor], i) => {
      names[i] = this.#nameAddress(name);
      values[i] = valueOf(tensor);
    });
    return { names, values };
  }

  #nameAddress(name: string): bigint {
    let found = this.#names.get(name);
    if (!found) {
      const text = cString(name);
      this.#names.set(name, found = { text, address: Deno.UnsafePointer.value(Deno.UnsafePointer.of(text)) });
    }
    return found.address;
  }
}

/** Host memory for a tensor. */
export function allocate(dtype: DType, shape: readonly number[]): ort.Tensor {
  const size = sizeOf(shape);
  if (dtype === "float32") return new ort.Tensor(dtype, new Float32Array(size), shape);
  if (dtype === "int32") return new ort.Tensor(dtype, new Int32Array(size), shape);
  return new ort.Tensor(dtype, new Uint8Array(size), shape);
}

/** An empty array has no address of its own. */
const NOWHERE = new Uint8Array(8);

const kept = new Set<unknown>();

/** Keeps what another thread works on from being collected, since nothing here may refer to it any more. */
async function keeping<T>(things: readonly unknown[], work: Promise<T>): Promise<T> {
  kept.add(things);
  try {
    return await work;
  } finally {
    kept.delete(things);
  }
}

/** ONNX Runtime's views of the memory of tensors, by tensor: a training state is seen again at every step. */
const values = new WeakMap<ort.Tensor, bigint>();
const unseen = new FinalizationRegistry<bigint>((value) =>
  library().api.releaseValue(Deno.UnsafePointer.create(value))
);

function valueOf(tensor: ort.Tensor): bigint {
  let value = values.get(tensor);
  if (value === undefined) {
    value = Deno.UnsafePointer.value(wrap(tensor));
    values.set(tensor, value);
    unseen.register(tensor, value);
  }
  return value;
}

function wrap(tensor: ort.Tensor): Deno.PointerValue {
  const { api, memory } = library();
  const data = tensor.data as Float32Array<ArrayBuffer>, bytes = BigInt(data.byteLength);
  const shape = BigInt64Array.from(tensor.dims, BigInt), rank = BigInt(shape.length);
  const [at, extents] = [data, shape].map((array) => array.length > 0 ? array : NOWHERE);
  const code = ELEMENT_CODE[tensor.type as DType];
  return made(api, (out) => api.createTensor(memory, at, bytes, extents, rank, code, out));
}

/** What a function writes through its last parameter. */
function made(
  api: Functions,
  call: (out: BigUint64Array<ArrayBuffer>) => Deno.PointerValue,
): Deno.PointerValue {
  const out = new BigUint64Array(1);
  check(api, call(out));
  return Deno.UnsafePointer.create(out[0]);
}

function check(api: Functions, status: Deno.PointerValue): void {
  if (status === null) return;
  const message = Deno.UnsafePointerView.getCString(api.getErrorMessage(status)!);
  api.releaseStatus(status);
  throw new Error(message);
}

function cString(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}
