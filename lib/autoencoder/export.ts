/**
 * Decoders as ONNX files for other programs.
 *
 * @module
 */
import type * as tf from "@tensorflow/tfjs";
import { zeros } from "novae/tensor/mod.ts";
import { constantTree, type ExportedModel, exportOnnx } from "novae/engine/mod.ts";
import { latentChannels, latentGrid } from "./config.ts";
import type { DecoderParams } from "./decoder.ts";
import { decodeTokens, imageUnitFromSigned } from "./model.ts";
import type { AutoencoderFile } from "./weights.ts";

/**
 * Writes the decoder of a latent space with its weights: input `latents` `[B, N, Z]`, not normalised, output `image`
 * `[B, H, W, 3]` in [0, 1], of fixed shape. The metadata hold the statistics with which latents are normalised.
 *
 * @param batch latents at a time, B.
 */
export function exportDecoder(
  { config, params, stats }: Pick<AutoencoderFile, "config" | "params" | "stats">,
  batch = 1,
): ExportedModel {
  const decode = (zBNZ: tf.Tensor) =>
    imageUnitFromSigned(
      decodeTokens(zBNZ, constantTree<DecoderParams>(params.decoder), config.decoder.groups),
    );
  return exportOnnx(decode, [zeros([batch, latentGrid(config) ** 2, latentChannels(config)])], {
    name: "decoder",
    inputNames: ["latents"],
    outputName: "image",
    metadata: {
      kind: "decoder",
      config: JSON.stringify(config),
      mean: JSON.stringify([...stats.mean]),
      std: JSON.stringify([...stats.std]),
    },
  });
}
