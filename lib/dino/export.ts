/**
 * Encoders as ONNX files for other programs.
 *
 * @module
 */
import type * as tf from "@tensorflow/tfjs";
import { type HostTensor, zeros } from "novae/tensor/mod.ts";
import { constantTree, type ExportedModel, exportOnnx } from "novae/engine/mod.ts";
import type { VitConfig } from "./config.ts";
import { imageDinoFromUnit } from "./preprocessing.ts";
import { vit } from "./vit.ts";
import type { VitParams } from "./vit_params.ts";

/**
 * Writes an encoder with its weights and its normalisation of pixels: input `image` `[B, H, W, 3]` in [0, 1], outputs
 * `features.clsBD` `[B, D]` and `features.patchesBND` `[B, N, D]`, of fixed shape.
 *
 * @param batch images at a time, B.
 */
export function exportEncoder(config: VitConfig, params: VitParams<HostTensor>, batch = 1): ExportedModel {
  const encode = (imageUnitBHWC: tf.Tensor) => {
    const { clsBD, patchesBND } = vit(
      imageDinoFromUnit(imageUnitBHWC),
      constantTree<VitParams>(params),
      config,
    );
    return { clsBD, patchesBND };
  };
  return exportOnnx(encode, [zeros([batch, config.imageSize, config.imageSize, 3])], {
    name: "encoder",
    inputNames: ["image"],
    outputName: "features",
    metadata: { kind: "encoder", config: JSON.stringify(config) },
  });
}
