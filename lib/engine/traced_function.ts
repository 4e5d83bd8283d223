/**
 * Turns a function of trees of tensors into an ONNX model.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { isBranch, mapTree } from "novae/tensor/mod.ts";
import { isFeedTensor } from "./device_tensor.ts";
import type { Value } from "./graph.ts";
import { type ModelOutput, type OnnxModel, writeModel } from "./onnx_model.ts";
import { halveProducts } from "./half_products.ts";
import { blockRows } from "./row_blocks.ts";
import { trace } from "./trace.ts";

/** The ONNX form of a traced function. */
export interface TracedFunction {
  readonly model: OnnxModel;
  readonly outputs: readonly ModelOutput[];
  /** Rebuilds what the function returned around the tensors of the outputs. */
  readonly rebuild: (tensors: ReadonlyMap<string, unknown>) => unknown;
}

/** How a function is traced. */
export interface TraceOptions {
  /** Whether the model is for ONNX Runtime's CPU provider, with its own operators and in blocks that fit its cache. */
  readonly cpuOperators: boolean;
  /** Whether products and convolutions are done in 16 bits. */
  readonly halfProducts?: boolean;
  /** Name of the function. */
  readonly name: string;
  /** Free text by key for the model. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Name of the input for the `index`th tensor; `in0`, `in1`, … unless given. */
  readonly inputName?: (index: number, path: string) => string;
  /** Name of the output for the `index`th tensor; `out0`, `out1`, … unless given. */
  readonly outputName?: (index: number, path: string) => string;
}

const isTracedTensor = (value: unknown): boolean => value instanceof tf.Tensor;

/** Traces a function with arguments of the given form; inputs and outputs are in the order of the leaves. */
export function traceFunction(
  fn: (...args: never[]) => unknown,
  args: readonly unknown[],
  options: TraceOptions,
): TracedFunction {
  const { name, cpuOperators, inputName = (i) => `in${i}`, outputName = (i) => `out${i}` } = options;
  const { recorder, result } = trace({ cpuOperators }, (input, output) => {
    let count = 0;
    const traced = mapTree<never[]>(
      args,
      isFeedTensor,
      (leaf, path) => isFeedTensor(leaf) ? input(inputName(count++, path), leaf) : leaf,
    );
    return valuesOf(fn(...traced), output, name);
  });
  const recorded = { graph: recorder.graph, outputs: result.values };
  const { graph, outputs: values } = options.halfProducts
    ? halveProducts(recorded.graph, recorded.outputs)
    : cpuOperators
    ? blockRows(recorded.graph, recorded.outputs)
    : recorded;
  const outputs = values.map((value, i): ModelOutput => ({ name: outputName(i, result.paths[i]), value }));
  return {
    model: writeModel(graph, outputs, name, options.metadata),
    outputs,
    rebuild: rebuilder(result.tree, outputs),
  };
}

/** A function of its own, so that it does not keep the arguments of the trace alive. */
function rebuilder(tree: unknown, outputs: readonly ModelOutput[]): TracedFunction["rebuild"] {
  const isSlot = (leaf: unknown) => leaf instanceof OutputSlot;
  return (tensors) =>
    mapTree(
      tree,
      isSlot,
      (leaf) => leaf instanceof OutputSlot ? tensors.get(outputs[leaf.index].name) : leaf,
    );
}

/** Stands for output `index` in the returned tree. */
class OutputSlot {
  constructor(readonly index: number) {}
}

function valuesOf(
  result: unknown,
  output: (tensor: tf.Tensor, path: string) => Value,
  name: string,
): { tree: unknown; values: Value[]; paths: string[] } {
  const values: Value[] = [], paths: string[] = [];
  refuseHoles(result, "", name);
  const tree = mapTree(result, isTracedTensor, (leaf, path) => {
    if (leaf instanceof tf.Tensor) {
      paths.push(path);
      return new OutputSlot(values.push(output(leaf, path)) - 1);
    }
    if (leaf === null || typeof leaf !== "object" && typeof leaf !== "function") return leaf;
    if (leaf instanceof Promise) leaf.catch(() => {});
    const kind = leaf instanceof Promise ? "a promise (make it synchronous)" : "something else";
    throw new TypeError(
      `Cannot compile ${name}: it must return tensors, numbers, strings, booleans or a tree of them, ` +
        `got ${kind}${path === "" ? "" : ` at ${path}`}`,
    );
  });
  return { tree, values, paths };
}

function refuseHoles(node: unknown, path: string, name: string): void {
  if (!isBranch(node)) return;
  if (Array.isArray(node)) {
    const hole = Array.from(node.keys()).find((i) => !(i in node));
    if (hole !== undefined) {
      throw new TypeError(
        `Cannot compile ${name}: ${path || "the result"} must have no holes, got one at index ${hole}`,
      );
    }
  }
  for (const [key, child] of Object.entries(node)) {
    refuseHoles(child, path === "" ? key : `${path}.${key}`, name);
  }
}
