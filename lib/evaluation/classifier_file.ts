/**
 * Classifiers in files: float16 safetensors with their settings, accuracy and hash in the metadata.
 *
 * @module
 */
import {
  fromFloat16Bits,
  hashBytes,
  readSafetensors,
  toFloat16Bits,
  writeSafetensors,
} from "novae/io/mod.ts";
import {
  ConfigError,
  flattenTree,
  type HostTensor,
  isHostTensor,
  mapTree,
  oneLine,
  Rng,
  strictParams,
  WeightsError,
} from "novae/tensor/mod.ts";
import {
  type ClassifierConfig,
  classifierConfig,
  type ClassifierParams,
  initClassifier,
} from "./classifier_model.ts";

/** How a classifier was trained and how well it does. */
export interface ClassifierRecord {
  /** Share of held-out images that it classifies correctly, in [0, 1]. */
  readonly accuracy: number;
  /** Number of held-out images. */
  readonly heldOut: number;
  /** Training images seen, repeats counted. */
  readonly imagesSeen: number;
  /** Name of the training set. */
  readonly dataset: string;
  /** Content hash of the training set. */
  readonly datasetHash: string;
  /** Seed of the training. */
  readonly seed: number;
}

/** What a weight file of a classifier holds. */
export interface ClassifierFile {
  /** Settings. */
  readonly config: ClassifierConfig;
  /** Weights. */
  readonly params: ClassifierParams<HostTensor>;
  /** How it was trained. */
  readonly record: ClassifierRecord;
  /** See {@linkcode hashClassifier}. */
  readonly hash: string;
}

const FORMAT = "novae-classifier-1";

/** Rounds all weights to float16, as files hold them. */
export function roundClassifier(params: ClassifierParams<HostTensor>): ClassifierParams<HostTensor> {
  return mapTree(params, isHostTensor, (leaf) => {
    const tensor = leaf as HostTensor;
    return { ...tensor, data: fromFloat16Bits(toFloat16Bits(tensor.data as Float32Array)) };
  });
}

/**
 * The hash that names a feature extractor beside its results: SHA-256 of settings and float16 weights. It is the same
 * before saving and after loading.
 */
export function hashClassifier(config: ClassifierConfig, params: ClassifierParams<HostTensor>): string {
  const { imageSize, classes, widths, groupWidth } = config;
  const leaves = flattenTree<HostTensor>(params, isHostTensor);
  return hashBytes(
    JSON.stringify([imageSize, classes, widths, groupWidth]),
    ...leaves.flatMap((leaf) => [leaf.path, toFloat16Bits(leaf.value.data as Float32Array)]),
  );
}

/**
 * Writes a classifier as float16 safetensors, atomically.
 *
 * @throws WeightsError if a weight is too large for float16.
 * @throws NovaeError if the file cannot be written.
 */
export async function saveClassifier(
  path: string,
  config: ClassifierConfig,
  params: ClassifierParams<HostTensor>,
  record: ClassifierRecord,
): Promise<void> {
  const leaves = flattenTree<HostTensor>(params, isHostTensor);
  const tensors = new Map(leaves.map((leaf) => [leaf.path, leaf.value]));
  const metadata = {
    format: FORMAT,
    config: JSON.stringify(config),
    record: JSON.stringify(record),
    hash: hashClassifier(config, params),
  };
  await writeSafetensors(path, tensors, metadata, { dtype: "float16" });
}

/**
 * Reads a classifier, strictly: every weight must be there in its shape, no other, and all as they were saved.
 *
 * @throws WeightsError if the file is missing, damaged, not a classifier, or does not hold the weights of its
 * settings, listing what is wrong.
 */
export async function loadClassifier(path: string): Promise<ClassifierFile> {
  const what = `Cannot load classifier ${path}`, { tensors, metadata } = await readSafetensors(path);
  if (metadata.format !== FORMAT) {
    throw new WeightsError(`${what}: format must be ${FORMAT}, got ${metadata.format ?? "none"}`);
  }
  const config = parseConfig(what, metadata.config), record = parseRecord(what, metadata.record);
  const params = strictParams(what, tensors, initClassifier(new Rng(0), config));
  const hash = hashClassifier(config, params);
  if (hash !== metadata.hash) {
    throw new WeightsError(`${what}: the hash of its weights must be ${metadata.hash}, got ${hash}`);
  }
  return { config, params, record, hash };
}

function parseConfig(what: string, text: string | undefined): ClassifierConfig {
  try {
    return classifierConfig(JSON.parse(text ?? ""));
  } catch (error) {
    if (!(error instanceof ConfigError || error instanceof SyntaxError || error instanceof TypeError)) {
      throw error;
    }
    throw new WeightsError(`${what}: its settings must be valid: ${oneLine(error.message, 400)}`);
  }
}

function parseRecord(what: string, text: string | undefined): ClassifierRecord {
  const numbers = ["accuracy", "heldOut", "imagesSeen", "seed"], texts = ["dataset", "datasetHash"];
  let record: unknown = null;
  try {
    record = JSON.parse(text ?? "");
  } catch { /* told below */ }
  const values = (typeof record === "object" && record !== null ? record : {}) as Record<string, unknown>;
  const wrong = numbers.find((key) => !Number.isFinite(values[key])) ??
    texts.find((key) => typeof values[key] !== "string");
  if (wrong !== undefined) {
    throw new WeightsError(
      `${what}: its training record must have "${wrong}", got ${oneLine(text ?? "none")}`,
    );
  }
  return record as ClassifierRecord;
}
