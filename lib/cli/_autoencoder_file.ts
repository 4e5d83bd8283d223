import { ConfigError } from "novae/tensor/mod.ts";
import type { DeviceName } from "novae/engine/mod.ts";
import { DinoEncoder } from "novae/dino/mod.ts";
import {
  type CompiledAutoencoder,
  hasFeatures,
  hashAutoencoder,
  loadAutoencoder,
  readAutoencoder,
} from "novae/autoencoder/mod.ts";

/** Identifies the autoencoder in a file. */
export async function autoencoderHash(path: string): Promise<string> {
  return hashAutoencoder(await readAutoencoder(path));
}

/** An autoencoder with its frozen encoder, both to be disposed of. */
export interface OpenedAutoencoder {
  readonly autoencoder: CompiledAutoencoder;
  readonly encoder: DinoEncoder | undefined;
  dispose(): Promise<void>;
}

/**
 * Opens an autoencoder with the frozen encoder that it needs.
 *
 * @param what the first half of a message, e.g. "Cannot encode latents".
 * @param encoder reference of the frozen encoder.
 * @throws ConfigError if it needs an encoder and none is named; WeightsError if a file cannot be used.
 */
export async function openAutoencoder(
  what: string,
  path: string,
  encoder: string | undefined,
  device: DeviceName,
): Promise<OpenedAutoencoder> {
  const { config } = await readAutoencoder(path), needed = hasFeatures(config.space);
  if (needed && encoder === undefined) {
    throw new ConfigError(`${what}: --encoder must name the frozen encoder of ${path}, got none`);
  }
  const frozen = needed ? await DinoEncoder.load(encoder!, { device }) : undefined;
  try {
    const autoencoder = await loadAutoencoder(path, { encoder: frozen, device });
    const dispose = async () => {
      await autoencoder.dispose();
      await frozen?.dispose();
    };
    return { autoencoder, encoder: frozen, dispose };
  } catch (error) {
    await frozen?.dispose();
    throw error;
  }
}
