/**
 * What identifies an autoencoder.
 *
 * @module
 */
import { flattenTree, type HostTensor, isHostTensor } from "novae/tensor/mod.ts";
import { canonicalJson, hashBytes } from "novae/io/mod.ts";
import { hasFeatures } from "./config.ts";
import type { AutoencoderFile } from "./weights.ts";

/**
 * SHA-256 of what decides an autoencoder's latents and reconstructions: settings, weights, the statistics of the
 * alignment and the frozen encoder. Statistics of latents, metadata and where the file lies do not count.
 */
export function hashAutoencoder(
  { config, params, alignment, encoderHash }: Pick<
    AutoencoderFile,
    "config" | "params" | "alignment" | "encoderHash"
  >,
): string {
  // The va-vae notes the encoder whose features its latents were matched to, and does without it.
  const encoder = hasFeatures(config.space) ? encoderHash ?? null : null;
  const leaves = flattenTree<HostTensor>(params, isHostTensor);
  return hashBytes(
    canonicalJson({ config, alignment: alignment ?? null, encoder }),
    ...leaves.flatMap((leaf) => [leaf.path, leaf.value.data]),
  );
}
