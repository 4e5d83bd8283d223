/**
 * Encoders in files: float16 safetensors with their settings in the metadata.
 *
 * @module
 */
import {
  ConfigError,
  flattenTree,
  type HostTensor,
  isHostTensor,
  oneLine,
  strictParams,
  WeightsError,
} from "novae/tensor/mod.ts";
import { readTensors, type Weights, writeSafetensors } from "novae/io/mod.ts";
import { parseVitConfig, type VitConfig } from "./config.ts";
import { type VitParams, vitShapes } from "./vit_params.ts";

/** What a weight file of an encoder holds. */
export interface EncoderFile {
  /** Settings of the transformer. */
  readonly config: VitConfig;
  /** Its weights, widened to float32. */
  readonly params: VitParams<HostTensor>;
  /** Free text by key, with `format` and `config` among it. */
  readonly metadata: Readonly<Record<string, string>>;
}

const FORMAT = "novae-encoder-1";

/**
 * Writes an encoder as float16 safetensors, atomically, with its settings in the metadata.
 *
 * @param metadata more free text by key, e.g. what the encoder was trained on.
 * @throws WeightsError if the weights do not fit the settings or a value is too large for float16.
 */
export async function saveEncoder(
  path: string,
  config: VitConfig,
  params: VitParams<HostTensor>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const leaves = flattenTree<HostTensor>(params, isHostTensor);
  const tensors = new Map(leaves.map((leaf) => [leaf.path, leaf.value]));
  strictParams(`Cannot save encoder ${path}`, tensors, vitShapes(config));
  const all = { ...metadata, format: FORMAT, config: JSON.stringify(config) };
  await writeSafetensors(path, tensors, all, { dtype: "float16" });
}

/**
 * Whether weights are of this project's format, by their metadata.
 *
 * @throws WeightsError if they are of this project but no encoder, or of another version.
 */
export function isOwnEncoder(what: string, metadata: Readonly<Record<string, string>>): boolean {
  const { format } = metadata;
  if (format === FORMAT) return true;
  if (!/^novae\W/.test(format ?? "")) return false;
  throw new WeightsError(`${what}: format must be ${FORMAT}, got ${format}`);
}

/**
 * Reads an encoder of this project's format, strictly: every weight of the settings must be there in its shape, and no
 * other.
 *
 * @throws WeightsError that lists missing, unexpected and misshapen weights, or if the settings cannot be used.
 */
export async function readOwnEncoder(what: string, { tensors, metadata }: Weights): Promise<EncoderFile> {
  const config = parseConfig(what, metadata.config);
  return { config, params: strictParams(what, await readTensors(tensors), vitShapes(config)), metadata };
}

function parseConfig(what: string, text: string | undefined): VitConfig {
  try {
    return parseVitConfig(JSON.parse(text ?? ""));
  } catch (error) {
    if (!(error instanceof ConfigError || error instanceof SyntaxError)) throw error;
    throw new WeightsError(`${what}: its settings must be valid: ${oneLine(error.message, 400)}`);
  }
}
