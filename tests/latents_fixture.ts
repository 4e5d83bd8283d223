/** A tiny autoencoder in a file with its encoder, for the tests of latents and of the commands around them. */
import {
  CompiledAutoencoder,
  initAutoencoder,
  loadAutoencoder,
  measureAutoencoder,
  saveAutoencoder,
  type SpaceName,
} from "novae/autoencoder/mod.ts";
import { loadSolids, type PackedDataset } from "novae/data/mod.ts";
import { DinoEncoder, saveEncoder } from "novae/dino/mod.ts";
import { Rng } from "novae/tensor/mod.ts";
import { IMAGE_SIZE, jiggled, tinyConfig, tinyEncoder, upTo } from "./autoencoder_fixture.ts";

/** Labelled images of the tiny models' size, rendered the same each time. */
export async function tinySolids(count: number, split: "train" | "test" = "train"): Promise<PackedDataset> {
  return await loadSolids({ split, count, imageSize: IMAGE_SIZE, cacheDir: null });
}

/** Writes `encoder.safetensors`; nothing of it is trained. */
export async function writeTinyEncoder(folder: string): Promise<void> {
  const encoder = tinyEncoder();
  await saveEncoder(`${folder}/encoder.safetensors`, encoder.config, encoder.params);
  await encoder.dispose();
}

/** Writes `encoder.safetensors` and `ae-<space>.safetensors`, with measured statistics; gives the path of the latter. */
export async function writeTinyAutoencoder(folder: string, space: SpaceName, seed = 3): Promise<string> {
  await writeTinyEncoder(folder);
  const config = tinyConfig(space),
    params = jiggled(initAutoencoder(new Rng(seed), config), new Rng(seed), 0.05);
  const encoder = await DinoEncoder.load(`${folder}/encoder.safetensors`, { device: "cpu" });
  const autoencoder = new CompiledAutoencoder(config, params, { encoder, device: "cpu" });
  const images = (await tinySolids(20)).images(upTo(20));
  const measured = await measureAutoencoder(autoencoder, [{ images }]);
  const path = `${folder}/ae-${space}.safetensors`, encoderHash = space === "vae" ? undefined : encoder.hash;
  await saveAutoencoder(path, { config, params, ...measured, encoderHash });
  await autoencoder.dispose();
  await encoder.dispose();
  return path;
}

/** Opens what {@link writeTinyAutoencoder} wrote, for as long as `use` takes. */
export async function withAutoencoder(
  folder: string,
  path: string,
  use: (autoencoder: CompiledAutoencoder) => Promise<void>,
): Promise<void> {
  const encoder = await DinoEncoder.load(`${folder}/encoder.safetensors`, { device: "cpu" });
  const autoencoder = await loadAutoencoder(path, { encoder, device: "cpu" });
  try {
    await use(autoencoder);
  } finally {
    await autoencoder.dispose();
    await encoder.dispose();
  }
}
