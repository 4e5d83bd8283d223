/**
 * Diffusion transformers as ONNX files for other programs.
 *
 * @module
 */
import type * as tf from "@tensorflow/tfjs";
import { int32, zeros } from "novae/tensor/mod.ts";
import { constantTree, type ExportedModel, exportOnnx } from "novae/engine/mod.ts";
import { dit, type DitParams } from "./dit.ts";
import type { DiffusionModel } from "./weights.ts";

/**
 * Writes a transformer with its weights: inputs `latents` `[B, N, Z]` (normalised), `time` `[B]` in [0, 1] and `label`
 * int32 `[B]`, where L stands for no class; output `velocity` `[B, N, Z]`, of fixed shape.
 *
 * @param batch latents at a time, B.
 */
export function exportTransformer({ config, params, space }: DiffusionModel, batch = 1): ExportedModel {
  const velocity = (zBNZ: tf.Tensor, tB: tf.Tensor, labelsB: tf.Tensor) =>
    dit(zBNZ, tB, labelsB, constantTree<DitParams>(params), config).velocityBNZ;
  const { grid, channels } = config;
  return exportOnnx(
    velocity,
    [zeros([batch, grid ** 2, channels]), zeros([batch]), int32(new Int32Array(batch), [batch])],
    {
      name: "transformer",
      inputNames: ["latents", "time", "label"],
      outputName: "velocity",
      metadata: { kind: "transformer", config: JSON.stringify(config), space },
    },
  );
}
