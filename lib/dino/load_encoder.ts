/**
 * Encoders by reference: from the model hub, from a folder or from a file, in any of the formats.
 *
 * @module
 */
import { basename, join } from "node:path";
import { WeightsError } from "novae/tensor/mod.ts";
import {
  type CheckpointOptions,
  fetchModelWeights,
  hashFile,
  type HubOptions,
  openWeights,
  pathExists,
  readJson,
  type Weights,
} from "novae/io/mod.ts";
import { ownPreprocessing, PREPROCESSING, type Preprocessing } from "./preprocessing.ts";
import { parsePreprocessorConfig } from "./preprocessor_config.ts";
import { type PretrainedOptions, readPretrained } from "./pretrained.ts";
import type { DinoFamily } from "./weight_names.ts";
import { type EncoderFile, isOwnEncoder, readOwnEncoder } from "./weights.ts";

/** Where an encoder came from: plain data, to be kept beside results. */
export interface EncoderSource {
  /** What was asked for. */
  readonly reference: string;
  /** Repository on the hub; null for files of this machine. */
  readonly repository: string | null;
  /** The commit of the repository. */
  readonly commit: string | null;
  /** The files that were read. */
  readonly files: readonly EncoderSourceFile[];
}

/** A file that an encoder was read from. */
export interface EncoderSourceFile {
  /** Name without its folder. */
  readonly name: string;
  /** Its size. */
  readonly bytes: number;
  /** Its SHA-256, hexadecimal. */
  readonly sha256: string;
}

/** An encoder with all that is needed to use it. */
export interface LoadedEncoder extends EncoderFile {
  /** Generation of a published encoder; `novae` for the project's own. */
  readonly family: DinoFamily | "novae";
  /** How images are prepared for it: what its folder says, else what its family was evaluated with. */
  readonly preprocessing: Preprocessing;
  /** Names in the file of what an encoder does not need, such as heads. */
  readonly ignored: readonly string[];
  /** Where it came from. */
  readonly source: EncoderSource;
}

/**
 * Options of {@link loadEncoder}: those of the hub, what is known of weights that do not say it themselves, and what
 * happens to foreign classes in a trainer's checkpoint.
 */
export type LoadEncoderOptions =
  & HubOptions
  & CheckpointOptions
  & Pick<PretrainedOptions, "config" | "network">;

/** Files beside the weights that Hugging Face's format has. */
const SETTINGS = "config.json", PREPROCESSOR = "preprocessor_config.json";

/** `org/name`, and a branch, tag or commit behind an `@`. */
const REPOSITORY = /^([\w-][\w.-]*\/[\w-][\w.-]*?)(?:@(.+))?$/;
const FILE_ENDING = /\.(safetensors|pth|pt|ckpt|bin|json)$/;

/**
 * Loads an encoder of DINO, DINOv2 or DINOv3, or one that this project trained.
 *
 * @example
 * ```ts
 * import { Rng } from "novae/tensor/mod.ts";
 * import { initVit, loadEncoder, saveEncoder, VIT_SIZES } from "novae/dino/mod.ts";
 * const path = `${await Deno.makeTempDir()}/encoder.safetensors`;
 * await saveEncoder(path, VIT_SIZES.tiny, initVit(new Rng(0), VIT_SIZES.tiny));
 * const { config, family } = await loadEncoder(path);
 * if (config.width !== 16 || family !== "novae") throw new Error("another encoder");
 * ```
 * @param reference one of
 * - a repository of the Hugging Face hub, such as `facebook/dinov3-vits16plus-pretrain-lvd1689m`, with `@` and a
 *   branch, tag or commit if it is not to be `main`; a file or folder of that name on this machine comes first;
 * - a folder with weights and, in Hugging Face's format, their `config.json` and `preprocessor_config.json`;
 * - a file of Meta's, such as `dinov2_vits14_pretrain.pth`, or one written by `saveEncoder`. Only the file itself is
 *   read, so that weights of an unusual width need `config`.
 * @throws WeightsError if there is no such thing, if it cannot be had from the hub, or if it holds missing, unexpected
 * or misshapen weights, listing them; ConfigError if its preprocessor file asks for what there is not.
 */
export async function loadEncoder(
  reference: string,
  options: LoadEncoderOptions = {},
): Promise<LoadedEncoder> {
  const what = `Cannot load encoder ${reference}`, located = await locate(what, reference, options);
  const { config, network, foreign } = options, weights = await openWeights(located.path, { foreign });
  const source = await describeSource(reference, located, weights);
  if (isOwnEncoder(what, weights.metadata)) {
    const own = await readOwnEncoder(what, weights);
    const preprocessing = ownPreprocessing(own.config.imageSize);
    return { ...own, family: "novae", preprocessing, ignored: [], source };
  }
  const transformersConfig = located.settings && await readJson(located.settings, WeightsError);
  const { family, config: found, params, ignored } = await readPretrained(weights.tensors, {
    config,
    network,
    name: `encoder ${reference}`,
    ...(located.settings && { transformersConfig }),
  });
  const preprocessing = located.preprocessor
    ? parsePreprocessorConfig(await readJson(located.preprocessor, WeightsError), located.preprocessor)
    : PREPROCESSING[family];
  return { config: found, params, metadata: weights.metadata, family, preprocessing, ignored, source };
}

/** Where the files of a reference are. */
interface Located {
  /** A file or a folder. */
  readonly path: string;
  readonly settings: string | null;
  readonly preprocessor: string | null;
  readonly repository: string | null;
  readonly commit: string | null;
}

async function locate(what: string, reference: string, options: LoadEncoderOptions): Promise<Located> {
  if (await pathExists(reference)) return await inFolder(reference, null, null);
  const [, repository, revision] = REPOSITORY.exec(reference) ?? [];
  if (repository === undefined || FILE_ENDING.test(reference)) {
    throw new WeightsError(
      `${what}: no such file or folder; a repository of the hub is named like facebook/dinov2-small`,
    );
  }
  const { commit, folder } = await fetchModelWeights(repository, {
    ...options,
    ...(revision !== undefined && { revision }),
    optional: [SETTINGS, PREPROCESSOR],
  });
  return await inFolder(folder, repository, commit);
}

async function inFolder(path: string, repository: string | null, commit: string | null): Promise<Located> {
  const isFolder = (await Deno.stat(path)).isDirectory;
  const beside = async (name: string) =>
    isFolder && await pathExists(join(path, name)) ? join(path, name) : null;
  const [settings, preprocessor] = await Promise.all([beside(SETTINGS), beside(PREPROCESSOR)]);
  return { path, settings, preprocessor, repository, commit };
}

async function describeSource(
  reference: string,
  { settings, preprocessor, repository, commit }: Located,
  weights: Weights,
): Promise<EncoderSource> {
  const paths = [...weights.files, settings, preprocessor].filter((path) => path !== null);
  const files = await Promise.all(paths.map(async (path) => {
    const { size: bytes } = await Deno.stat(path);
    return { name: basename(path), bytes, sha256: await hashFile(path) };
  }));
  return { reference, repository, commit, files };
}
