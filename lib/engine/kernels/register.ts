/**
 * Registers all recording kernels and the project's gradients with tfjs, once, when the module is loaded.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { cannotCompile, type Kernel, registerKernels } from "../recorder.ts";
import { CONVOLUTION_KERNELS } from "./convolution.ts";
import { CREATION_KERNELS } from "./creation.ts";
import { DEPTHWISE_KERNELS } from "./depthwise.ts";
import { ELEMENTWISE_KERNELS } from "./elementwise.ts";
import { FUNCTION_KERNELS } from "./functions.ts";
import { FUSED_KERNELS } from "./fused.ts";
import { GRADIENTS } from "./gradients.ts";
import { INDEXING_KERNELS } from "./indexing.ts";
import { MATMUL_KERNELS } from "./matmul.ts";
import { NORMALIZATION_KERNELS } from "./normalization.ts";
import { POOLING_KERNELS } from "./pooling.ts";
import { REDUCTION_KERNELS } from "./reduction.ts";
import { RESIZE_KERNELS } from "./resize.ts";
import { SHAPE_KERNELS } from "./shape.ts";

/** The kernels that can be compiled, by what they are about. */
export const KERNEL_FAMILIES: Readonly<Record<string, Readonly<Record<string, Kernel>>>> = {
  "elementwise": { ...ELEMENTWISE_KERNELS, ...FUNCTION_KERNELS },
  "matrix products": MATMUL_KERNELS,
  "reductions": REDUCTION_KERNELS,
  "convolutions": CONVOLUTION_KERNELS,
  "depthwise convolutions": DEPTHWISE_KERNELS,
  "pooling": POOLING_KERNELS,
  "normalisation": NORMALIZATION_KERNELS,
  "resizing": RESIZE_KERNELS,
  "shape": SHAPE_KERNELS,
  "gathering and scattering": INDEXING_KERNELS,
  "creation": CREATION_KERNELS,
  "of this project": FUSED_KERNELS,
};

/** Every kernel that can be compiled. */
export const RECORDING_KERNELS: Readonly<Record<string, Kernel>> = Object.assign(
  {},
  ...Object.values(KERNEL_FAMILIES),
);

registerKernels(RECORDING_KERNELS);
for (const gradient of GRADIENTS) tf.registerGradient(gradient);

/** tfjs's kernels that cannot: they get one that says so, instead of tfjs's message about an unknown backend. */
export const MISSING_KERNELS: readonly string[] = tf.getKernelsForBackend("cpu")
  .map(({ kernelName }) => kernelName).filter((name) => !(name in RECORDING_KERNELS)).sort();

registerKernels(Object.fromEntries(
  MISSING_KERNELS.map((name): [string, Kernel] => [name, () => {
    throw cannotCompile(name, "there is no ONNX form of it here; write it with other operations");
  }]),
));
