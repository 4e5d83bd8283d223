/**
 * Batch normalisation with given moments.
 *
 * @module
 */
import type { Kernel, Traced } from "../recorder.ts";
import { elementwise, withNumber } from "./broadcasting.ts";

/** `(x − mean) / sqrt(variance + ε) · scale + offset`, the factors joined first, since they are small. */
const batchNorm: Kernel = (recorder, { x, mean, variance, offset, scale }, { varianceEpsilon }) => {
  const deviation = elementwise(recorder, "Sqrt", [withNumber(recorder, "Add", variance, varianceEpsilon)]);
  const combine = (op: string, a: Traced, b: Traced) => elementwise(recorder, op, [a, b]);
  const factor = scale ? combine("Div", scale, deviation) : elementwise(recorder, "Reciprocal", [deviation]);
  const normal = combine("Mul", combine("Sub", x, mean), factor);
  return offset ? combine("Add", normal, offset) : normal;
};

export const NORMALIZATION_KERNELS: Readonly<Record<string, Kernel>> = {
  FusedBatchNorm: batchNorm,
};
