/**
 * Autoencoders in files: one safetensors file of 16-bit floats, with settings and statistics in its metadata.
 *
 * @module
 */
import { z } from "zod";
import {
  ConfigError,
  flattenTree,
  type HostTensor,
  isHostTensor,
  oneLine,
  Rng,
  strictParams,
  WeightsError,
} from "novae/tensor/mod.ts";
import { readSafetensors, writeSafetensors } from "novae/io/mod.ts";
import type { LatentStats } from "./autoencoder.ts";
import { CompiledAutoencoder, type CompiledAutoencoderOptions } from "./compiled.ts";
import { type AutoencoderConfig, hasFeatures, latentChannels, parseAutoencoderConfig } from "./config.ts";
import type { AutoencoderStats } from "./measure.ts";
import { type AutoencoderParams, initAutoencoder } from "./model.ts";
import type { AlignmentStats } from "./svg/mod.ts";

const FORMAT = "novae-autoencoder-1";

/** What a weight file of an autoencoder holds. */
export interface AutoencoderFile extends AutoencoderStats {
  /** Settings. */
  readonly config: AutoencoderConfig;
  /** Weights. */
  readonly params: AutoencoderParams<HostTensor>;
  /** Hash of the frozen encoder it was trained with, if any. The `va-vae` does without it afterwards. */
  readonly encoderHash?: string;
  /** Free text by key. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** What is written to a weight file. */
export interface AutoencoderToSave extends AutoencoderStats {
  /** Settings. */
  readonly config: AutoencoderConfig;
  /** Weights; stored as 16-bit floats. */
  readonly params: AutoencoderParams<HostTensor>;
  /** Hash of the frozen encoder it was trained with; undefined for spaces without its features. */
  readonly encoderHash?: string;
  /** More free text by key, e.g. what it was trained on. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/**
 * Writes an autoencoder, atomically; weights as 16-bit floats, statistics in full precision.
 *
 * @throws WeightsError if weights and settings do not fit, or a value is too large for 16 bits.
 */
export async function saveAutoencoder(path: string, model: AutoencoderToSave): Promise<void> {
  const { config, params, stats, alignment, encoderHash } = model;
  const what = `Cannot save autoencoder ${path}`;
  const leaves = flattenTree<HostTensor>(params, isHostTensor);
  const tensors = new Map(leaves.map((leaf) => [leaf.path, leaf.value]));
  strictParams(what, tensors, initAutoencoder(new Rng(0), config));
  const missing = missingPart({ config, alignment, encoderHash });
  if (missing) throw new WeightsError(`${what}: space ${config.space} needs ${missing}, got none`);
  const metadata: Record<string, string> = {
    ...model.metadata,
    format: FORMAT,
    config: JSON.stringify(config),
    stats: JSON.stringify({ mean: [...stats.mean], std: [...stats.std], count: stats.count }),
  };
  if (alignment) metadata.alignment = JSON.stringify(alignment);
  if (encoderHash) metadata.encoder = encoderHash;
  await writeSafetensors(path, tensors, metadata, { dtype: "float16" });
}

/**
 * Reads an autoencoder's file, strictly: every weight of its settings must be there in its shape, and no other.
 *
 * @throws WeightsError if the file is missing, damaged, not an autoencoder, or its parts do not fit each other.
 */
export async function readAutoencoder(path: string): Promise<AutoencoderFile> {
  const what = `Cannot load autoencoder ${path}`;
  const { tensors, metadata } = await readSafetensors(path);
  if (metadata.format !== FORMAT) {
    throw new WeightsError(`${what}: format must be ${FORMAT}, got ${metadata.format ?? "none"}`);
  }
  const config = parsedPart(what, "config", metadata.config, parseAutoencoderConfig);
  const stats = parsedPart(what, "stats", metadata.stats, (value) => parseStats(value, config));
  const alignment = metadata.alignment === undefined
    ? undefined
    : parsedPart(what, "alignment", metadata.alignment, parseAlignment);
  const encoderHash = metadata.encoder;
  const missing = missingPart({ config, alignment, encoderHash });
  if (missing) throw new WeightsError(`${what}: space ${config.space} needs ${missing}, got none`);
  const params = strictParams(what, tensors, initAutoencoder(new Rng(0), config));
  return { config, params, stats, alignment, encoderHash, metadata };
}

/**
 * Reads an autoencoder and compiles it when it is first used.
 *
 * @param options the frozen encoder (for spaces with its features), the device and the batch size.
 * @throws WeightsError as {@linkcode readAutoencoder}, and if the encoder is not the one it was trained with.
 */
export async function loadAutoencoder(
  path: string,
  options: Pick<CompiledAutoencoderOptions, "encoder" | "device" | "threads" | "batchSize"> = {},
): Promise<CompiledAutoencoder> {
  const { config, params, stats, alignment, encoderHash } = await readAutoencoder(path);
  if (hasFeatures(config.space) && encoderHash !== undefined && options.encoder?.hash !== encoderHash) {
    throw new WeightsError(
      `Cannot load autoencoder ${path}: it was trained with encoder ${encoderHash.slice(0, 12)}…, got ${
        options.encoder ? `${options.encoder.hash.slice(0, 12)}…` : "none"
      }`,
    );
  }
  return new CompiledAutoencoder(config, params, { ...options, stats, alignment });
}

/** What a space needs in its file and lacks. */
function missingPart(
  { config, alignment, encoderHash }: {
    config: AutoencoderConfig;
    alignment?: AlignmentStats;
    encoderHash?: string;
  },
): string | undefined {
  if (hasFeatures(config.space) && encoderHash === undefined) return "the hash of its encoder";
  if (config.space === "svg" && alignment === undefined) return "statistics of the alignment";
  return undefined;
}

function parsedPart<T>(
  what: string,
  key: string,
  text: string | undefined,
  parse: (value: unknown) => T,
): T {
  if (text === undefined) throw new WeightsError(`${what}: metadata "${key}" is needed, got none`);
  try {
    return parse(JSON.parse(text));
  } catch (error) {
    if (!(error instanceof ConfigError || error instanceof SyntaxError || error instanceof z.ZodError)) {
      throw error;
    }
    const reason = error instanceof z.ZodError ? error.issues[0].message : error.message;
    throw new WeightsError(`${what}: metadata "${key}" must be valid: ${oneLine(reason, 400)}`, {
      cause: error,
    });
  }
}

const statsSchema = z.strictObject({
  mean: z.array(z.number()),
  std: z.array(z.number().positive()),
  count: z.int().nonnegative(),
});

const alignmentSchema = z.strictObject({
  featureMean: z.number(),
  featureStd: z.number().positive(),
  residualMean: z.number(),
  residualStd: z.number().positive(),
});

function parseStats(value: unknown, config: AutoencoderConfig): LatentStats {
  const { mean, std, count } = statsSchema.parse(value), channels = latentChannels(config);
  if (mean.length !== channels || std.length !== channels) {
    throw new ConfigError(
      `${channels} channels are needed, got ${mean.length} means and ${std.length} deviations`,
    );
  }
  return { mean: Float32Array.from(mean), std: Float32Array.from(std), count };
}

function parseAlignment(value: unknown): AlignmentStats {
  return alignmentSchema.parse(value);
}
