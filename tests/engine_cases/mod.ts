/** Calls of every recording kernel at sizes around boundaries; run by the tests of kernels and of WebGPU. */
import * as tf from "@tensorflow/tfjs";
import { traceFunction } from "novae/engine/traced_function.ts";
import { sizeOf } from "novae/tensor/mod.ts";
import type { Case } from "../engine_harness.ts";
import { convolutions, depthwise, fusedConvolutions, large, pooling, transposed } from "./convolutions.ts";
import {
  binary,
  binarySpecial,
  casts,
  comparisons,
  gradientsOnly,
  integerArithmetic,
  logic,
  unary,
  unarySpecial,
} from "./elementwise.ts";
import { fused } from "./fused.ts";
import { creation, indexing, normalizations } from "./indexing.ts";
import { einsums, fusedProducts, products } from "./products.ts";
import { places, reductions, running, softmaxes } from "./reductions.ts";
import { resizing } from "./resizing.ts";
import { shapes } from "./shapes.ts";

/** The cases by what they are about; each family is compiled to one graph. */
export const families: Readonly<Record<string, readonly Case[]>> = {
  "unary functions": [...unary, ...gradientsOnly],
  "functions of special values": [...unarySpecial, ...binarySpecial],
  "arithmetic that broadcasts": binary,
  comparisons,
  "arithmetic of whole numbers": integerArithmetic,
  logic,
  casts,
  reductions,
  "places of extremes": places,
  "running sums": running,
  softmaxes,
  "matrix products": [...products, ...fusedProducts],
  einsums,
  "tensors made inside": creation,
  "changes of shape": shapes,
  "gathering and scattering": indexing,
  convolutions: [...convolutions, ...large, ...fusedConvolutions],
  "depthwise convolutions": depthwise,
  "transposed convolutions": transposed,
  normalizations,
  pooling,
  resizing,
  "operations of this project": fused,
};

/** The kernels that a case calls when it is recorded. */
export function kernelsOf({ name, inputs, fn }: Case): Set<string> {
  const names = new Set<string>();
  const engine = tf.engine(), { runKernel } = engine;
  engine.runKernel = (...call) => {
    names.add(call[0]);
    return runKernel.apply(engine, call) as never;
  };
  try {
    traceFunction(fn as (...args: never[]) => unknown, inputs, { cpuOperators: true, name });
  } finally {
    engine.runKernel = runKernel;
  }
  return names;
}

/** For every kernel that the cases reach the one with the fewest numbers, but more than one. */
export function smallestCases(): Map<string, Case> {
  const smallest = new Map<string, Case>();
  const cost = ({ inputs }: Case) => inputs.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  for (const test of Object.values(families).flat().filter((some) => cost(some) > 1)) {
    for (const kernel of kernelsOf(test)) {
      const known = smallest.get(kernel);
      if (!known || cost(test) < cost(known)) smallest.set(kernel, test);
    }
  }
  return smallest;
}
