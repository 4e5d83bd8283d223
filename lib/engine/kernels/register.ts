/**
 * Registers all recording kernels with tfjs, once, when the module is loaded.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { cannotCompile, type Kernel, registerKernels } from "../recorder.ts";
import { CONVOLUTION_KERNELS } from "./convolution.ts";
import { CREATION_KERNELS } from "./creation.ts";
import { DEPTHWISE_KERNELS } from "./depthwise.ts";
import { ELEMENTWISE_KERNELS } from "./elementwise.ts";
import { FUSED_KERNELS } from "./fused.ts";
import { INDEXING_KERNELS } from "./indexing.ts";
import { MATMUL_KERNELS } from "./matmul.ts";
import { NORMALIZATION_KERNELS } from "./normalization.ts";
import { POOLING_KERNELS } from "./pooling.ts";
import { REDUCTION_KERNELS } from "./reduction.ts";
import { RESIZE_KERNELS } from "./resize.ts";
import { SHAPE_KERNELS } from "./shape.ts";

/** Every kernel that can be compiled. */
export const RECORDING_KERNELS: Readonly<Record<string, Kernel>> = {
  ...CONVOLUTION_KERNELS,
  ...CREATION_KERNELS,
  ...DEPTHWISE_KERNELS,
  ...ELEMENTWISE_KERNELS,
  ...FUSED_KERNELS,
  ...INDEXING_KERNELS,
  ...MATMUL_KERNELS,
  ...NORMALIZATION_KERNELS,
  ...POOLING_KERNELS,
  ...REDUCTION_KERNELS,
  ...RESIZE_KERNELS,
  ...SHAPE_KERNELS,
};

registerKernels(RECORDING_KERNELS);

// tfjs's other kernels get one that says so, instead of tfjs's message about an unknown backend.
const missing = tf.getKernelsForBackend("cpu").map(({ kernelName }) => kernelName)
  .filter((name) => !(name in RECORDING_KERNELS));
registerKernels(Object.fromEntries(
  missing.map((name): [string, Kernel] => [name, () => {
    throw cannotCompile(name, "there is no ONNX form of it here; write it with other operations");
  }]),
));
