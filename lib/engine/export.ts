/**
 * Exports functions as ONNX files for other programs.
 *
 * @module
 */
import type { AnyFunction, FeedAll } from "./jit.ts";
import { OPSET } from "./onnx_model.ts";
import { traceFunction } from "./traced_function.ts";

/** An ONNX model and what goes in and out. */
export interface ExportedModel {
  /** The file's contents. */
  readonly bytes: Uint8Array;
  /** Names of the inputs: `input0` for the first argument, `input0.blocks.3.weight` for a leaf of it. */
  readonly inputs: readonly string[];
  /** Names of the outputs: `output`, or `output.loss` for a leaf of the result. */
  readonly outputs: readonly string[];
  /** Version of the standard operators. */
  readonly opset: number;
}

/** What is written into a model beside its graph. */
export interface ExportOptions {
  /** Name of the graph. Default: that of the function. */
  readonly name?: string;
  /** Names of the arguments, in their order. Default `input0`, `input1`, …. */
  readonly inputNames?: readonly string[];
  /** Name of the result. Default `output`. */
  readonly outputName?: string;
  /** Free text by key, kept in the file. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/**
 * Writes a pure function of tensors as an ONNX model of standard operators, for fixed shapes.
 *
 * Weights that are arguments become inputs; weights that the function makes from host memory (`tf.tensor`) are stored
 * in the file.
 *
 * @example
 * ```ts
 * import * as tf from "@tensorflow/tfjs";
 * import { exportOnnx } from "novae/engine/mod.ts";
 * import { zeros } from "novae/tensor/mod.ts";
 * const model = exportOnnx((x: tf.Tensor) => tf.softmax(x), [zeros([1, 10])], { name: "softmax" });
 * if (model.inputs[0] !== "input0" || model.outputs[0] !== "output") throw new Error("wrong");
 * ```
 * @param fn see `jit`.
 * @param args examples of the arguments; of their tensors only shape and element type count.
 * @throws TypeError for what cannot be compiled.
 */
export function exportOnnx<F extends AnyFunction>(
  fn: F,
  args: FeedAll<Parameters<F>>,
  options: ExportOptions = {},
): ExportedModel {
  const { inputNames, outputName = "output" } = options;
  const inputOf = (path: string) => {
    const [argument, ...rest] = path.split(".");
    return [inputNames?.[Number(argument)] ?? `input${argument}`, ...rest].join(".");
  };
  const { model, outputs } = traceFunction(fn, args, {
    cpuOperators: false,
    name: options.name ?? (fn.name || "function"),
    inputName: (_, path) => inputOf(path),
    outputName: (_, path) => path === "" ? outputName : `${outputName}.${path}`,
    metadata: options.metadata,
  });
  return {
    opset: OPSET,
    bytes: model.bytes,
    inputs: [...model.inputNames],
    outputs: outputs.map(({ name }) => name),
  };
}
