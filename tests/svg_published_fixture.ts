/** The small autoencoder of tests/golden/svg_published.py under the names of SVG's files. */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  type AutoencoderConfig,
  type LoadPublishedSvgOptions,
  openPublishedCheckpoint,
  PUBLISHED_RESIDUAL,
} from "novae/autoencoder/mod.ts";
import { type VitConfig, vitConfigFromTransformers } from "novae/dino/mod.ts";
import { readSafetensors } from "novae/io/mod.ts";
import type { HostTensor } from "novae/tensor/mod.ts";

const folder = fileURLToPath(new URL("golden/svg_published", import.meta.url));

export const CHECKPOINT = join(folder, "autoencoder.ckpt");
export const STATS = join(folder, "stats.pt");
export const NARROW_STATS = join(folder, "narrow_stats.pt");

/** Settings of the autoencoder: as published, but narrow. */
export const SMALL: AutoencoderConfig = {
  space: "svg",
  imageSize: 16,
  patchSize: 4,
  featureChannels: 24,
  decoder: {
    channels: [16, 12, 8],
    blocks: 2,
    midAttention: true,
    attentionLevels: 1,
    outPatch: 1,
    groups: 4,
  },
  residual: { ...PUBLISHED_RESIDUAL, width: 24, depth: 2, heads: 3, mlpRatio: 2 },
};

const { cases } = JSON.parse(
  await Deno.readTextFile(fileURLToPath(new URL("golden/dino_families/cases.json", import.meta.url))),
) as { cases: Record<string, { transformers: unknown }> };

/** Settings of its frozen encoder. */
export const SMALL_ENCODER: VitConfig = vitConfigFromTransformers(cases.dinov3_plus.transformers).config;

/** What opens it. */
export const SMALL_OPTIONS: LoadPublishedSvgOptions = {
  autoencoder: CHECKPOINT,
  config: SMALL,
  encoderConfig: SMALL_ENCODER,
  alignment: "batch",
  device: "cpu",
};

/** Its tensors in memory, by their names in the checkpoint. */
export async function checkpointTensors(): Promise<Map<string, HostTensor>> {
  const tensors = new Map<string, HostTensor>();
  for (const [name, tensor] of await openPublishedCheckpoint(CHECKPOINT)) {
    tensors.set(name, await tensor.read());
  }
  return tensors;
}

/** Tensors of a safetensors file of the golden folder. */
export async function goldenTensors(name: string): Promise<Map<string, HostTensor>> {
  return (await readSafetensors(join(folder, `${name}.safetensors`))).tensors;
}
