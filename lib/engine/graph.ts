/**
 * The graph that a recording builds: values and operations in the order of their making. Equal operations on equal
 * values are made once, constants of equal content are shared, and only what the outputs need is kept.
 *
 * @module
 */
import { sizeOf, type TypedArray } from "novae/tensor/mod.ts";

/** Element types inside a graph; ONNX wants int64 for shapes and indices. */
export type ValueType = "float32" | "float16" | "int32" | "bool" | "int64" | "float64";

/** Contents of a constant. */
export type ConstantData = TypedArray | BigInt64Array | Float64Array;

/** Element types of constants. */
export type ConstantType = Exclude<ValueType, "float16">;

/** A tensor inside the graph. */
export interface Value {
  readonly name: string;
  readonly dtype: ValueType;
  readonly shape: readonly number[];
  /** Contents, if known while recording. */
  readonly constant?: ConstantData;
  /** The operation that makes it; absent for inputs and constants. */
  readonly producer?: GraphNode;
}

/** An attribute; numbers become ONNX integers unless wrapped as `{ float }`. */
export type NodeAttribute = number | string | readonly number[] | { readonly float: number };

/** One ONNX operation. */
export interface GraphNode {
  readonly op: string;
  readonly domain: string;
  readonly inputs: readonly (Value | null)[];
  readonly attributes: Readonly<Record<string, NodeAttribute>>;
  readonly outputs: Value[];
}

/** What a node makes. */
export interface ValueSpec {
  readonly shape: readonly number[];
  readonly dtype: ValueType;
}

/** The operator set of Microsoft's fused operators in ONNX Runtime. */
export const CONTRIB_DOMAIN = "com.microsoft";

/** A growing graph. */
export class Graph {
  readonly inputs: Value[] = [];
  readonly #nodes: GraphNode[] = [];
  readonly #byKey = new Map<string, GraphNode>();
  readonly #constants = new Map<string, Value[]>();
  #count = 0;

  /** Declares an input. */
  input(name: string, spec: ValueSpec): Value {
    const value: Value = { name, dtype: spec.dtype, shape: spec.shape };
    this.inputs.push(value);
    return value;
  }

  /** A constant; equal contents give the same value. */
  constant(data: ConstantData, shape: readonly number[], dtype: ValueType): Value {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const key = `${dtype}[${shape.join()}]${hash(bytes)}`;
    const bucket = this.#constants.get(key) ?? [];
    const known = bucket.find((value) => equalBytes(value.constant!, bytes));
    if (known) return known;
    const value: Value = { name: `c${this.#count++}`, dtype, shape, constant: data };
    this.#constants.set(key, [...bucket, value]);
    return value;
  }

  /** A one-element constant of rank 0. */
  scalar(value: number, dtype: ConstantType = "float32"): Value {
    return this.constant(typedArray(dtype, [value]), [], dtype);
  }

  /** An int64 vector, as ONNX wants for shapes, axes and indices. */
  ints(values: readonly number[]): Value {
    return this.constant(typedArray("int64", values), [values.length], "int64");
  }

  /** Adds an operation with one output, or finds the equal one. */
  node(
    op: string,
    inputs: readonly (Value | null)[],
    spec: ValueSpec,
    attributes: Record<string, NodeAttribute> = {},
    domain = "",
  ): Value {
    return this.multiNode(op, inputs, [spec], attributes, domain)[0];
  }

  /** Adds an operation with several outputs, or finds the equal one. */
  multiNode(
    op: string,
    inputs: readonly (Value | null)[],
    specs: readonly ValueSpec[],
    attributes: Record<string, NodeAttribute> = {},
    domain = "",
  ): Value[] {
    const key = `${domain}.${op}(${inputs.map((v) => v?.name ?? "").join()})${JSON.stringify(attributes)}:` +
      specs.map((s) => `${s.dtype}[${s.shape.join()}]`).join();
    const known = this.#byKey.get(key);
    if (known) return known.outputs;
    const node: GraphNode = { op, domain, inputs, attributes, outputs: [] };
    for (const spec of specs) {
      node.outputs.push({ name: `v${this.#count++}`, dtype: spec.dtype, shape: spec.shape, producer: node });
    }
    this.#nodes.push(node);
    this.#byKey.set(key, node);
    return node.outputs;
  }

  /** The operations that the given values need, in an order in which they can run. */
  nodesFor(outputs: readonly Value[]): GraphNode[] {
    const needed = new Set<GraphNode>();
    const pending = outputs.flatMap((value) => value.producer ?? []);
    while (pending.length > 0) {
      const node = pending.pop()!;
      if (needed.has(node)) continue;
      needed.add(node);
      for (const input of node.inputs) if (input?.producer) pending.push(input.producer);
    }
    return this.#nodes.filter((node) => needed.has(node));
  }
}

/** Values as an array of an element type. */
export function typedArray(dtype: ConstantType, values: ArrayLike<number>): ConstantData {
  switch (dtype) {
    case "float32":
      return Float32Array.from(values);
    case "float64":
      return Float64Array.from(values);
    case "int32":
      return Int32Array.from(values);
    case "bool":
      return Uint8Array.from(values, (value) => value ? 1 : 0);
    case "int64":
      return BigInt64Array.from(Array.from(values, BigInt));
  }
}

/** The single number that a constant consists of, or undefined. */
export function constantScalar(value: Value): number | undefined {
  if (!value.constant || sizeOf(value.shape) !== 1) return undefined;
  return Number(value.constant[0]);
}

/** FNV-1a over bytes; buckets are compared in full. */
function hash(bytes: Uint8Array): number {
  let state = 0x811c9dc5;
  for (let i = 0; i < bytes.length; i++) state = Math.imul(state ^ bytes[i], 0x01000193);
  return state >>> 0;
}

function equalBytes(data: ConstantData, bytes: Uint8Array): boolean {
  if (data.byteLength !== bytes.length) return false;
  const other = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return other.every((byte, i) => byte === bytes[i]);
}
