/**
 * Published encoders: weights of DINO, DINOv2 and DINOv3 in Meta's and in Hugging Face's format.
 *
 * @module
 */
import { ConfigError, expectTensors, type HostTensor, WeightsError } from "novae/tensor/mod.ts";
import type { VitConfig } from "./config.ts";
import { fileLayout, gather, planWeights } from "./foreign_layout.ts";
import { inferVitConfig } from "./inferred_config.ts";
import { checkSpecials } from "./special_weights.ts";
import { vitConfigFromTransformers } from "./transformers_config.ts";
import { type VitParams, vitTree } from "./vit_params.ts";
import {
  bareNames,
  detectFamily,
  type DinoFamily,
  type NamedFamily,
  OTHER_MODULES,
  type WeightNaming,
} from "./weight_names.ts";
import type { StoredTensor, WeightSource } from "./weight_source.ts";

/** What is known of weights beside their names and shapes. */
export interface PretrainedOptions {
  /** Settings, if they are to be neither read from `transformersConfig` nor off the shapes. */
  readonly config?: VitConfig;
  /** The parsed `config.json` beside weights in Hugging Face's format. */
  readonly transformersConfig?: unknown;
  /** Which network of a training checkpoint; default `teacher`. */
  readonly network?: "teacher" | "student";
  /** What is loaded, for messages; default `weights`. */
  readonly name?: string;
}

/** An encoder that others published. */
export interface PretrainedVit {
  /** Generation. */
  readonly family: DinoFamily;
  /** Whose names the weights had. */
  readonly naming: WeightNaming;
  /** Settings. */
  readonly config: VitConfig;
  /** Weights. */
  readonly params: VitParams<HostTensor>;
  /** Names in the file of what an encoder does not need, such as heads. */
  readonly ignored: readonly string[];
}

/**
 * Reads a published encoder, strictly: every weight must be there in its shape, and nothing else but what is known
 * not to matter (see `ignored`). Names, family and settings are found out: settings from `transformersConfig` if
 * given, else from the shapes.
 *
 * *Source*: the files of facebookresearch/dino, dinov2 and dinov3, of their repositories on Hugging Face, and
 * checkpoints of their trainings. *Differs*: Hugging Face's configuration of DINO has an epsilon of 1e-12 where
 * the authors' code has 1e-6; the configuration is followed if given.
 *
 * @throws WeightsError that lists missing, unexpected and misshapen tensors; or if the tensors are no DINO
 * transformer, or do not tell its settings.
 */
export async function readPretrained(
  source: WeightSource,
  options: PretrainedOptions = {},
): Promise<PretrainedVit> {
  const what = `Cannot load ${options.name ?? "weights"}`;
  const { bare, others } = bareNames(what, source.keys(), options.network);
  const named = detectFamily(what, (name) => bare.has(name));
  const other = [...bare].filter(([name]) => OTHER_MODULES[named.naming].test(name));
  const tensors = new Map(
    [...bare].filter(([name]) => !OTHER_MODULES[named.naming].test(name))
      .map(([name, inFile]) => [name, source.get(inFile)!]),
  );
  const shapes = new Map([...tensors].map(([name, tensor]) => [name, tensor.shape]));
  const config = settingsOf(what, named, shapes, options);
  const specials = await checkSpecials(what, tensors, config);
  for (const name of specials) tensors.delete(name);
  const params = await readParams(what, tensors, named, config);
  const ignored = [...others, ...other.map(([, name]) => name), ...specials.map((name) => bare.get(name)!)];
  return { ...named, config, params, ignored };
}

function settingsOf(
  what: string,
  named: NamedFamily,
  shapes: ReadonlyMap<string, readonly number[]>,
  { config, transformersConfig }: PretrainedOptions,
): VitConfig {
  if (config) return config;
  if (transformersConfig === undefined) return inferVitConfig(what, named, shapes);
  try {
    const described = vitConfigFromTransformers(transformersConfig);
    if (described.family === named.family) return described.config;
    throw new WeightsError(
      `${what}: weights must be of ${described.family} as in config.json, got the names of ${named.family}`,
    );
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new WeightsError(`${what}: its config.json must fit: ${error.message}`);
  }
}

async function readParams(
  what: string,
  tensors: ReadonlyMap<string, StoredTensor>,
  named: NamedFamily,
  config: VitConfig,
): Promise<VitParams<HostTensor>> {
  const plan = planWeights(what, named, config);
  const wanted = new Map(plan.flatMap((weight) => [...fileLayout(weight)]));
  const got = [...tensors].map(([name, { shape }]): [string, HostTensor] => [
    name,
    { dtype: "float32", shape: withRankOf(wanted.get(name), shape), data: NO_VALUES },
  ]);
  expectTensors(what, new Map(got), wanted);
  const weights = new Map<string, HostTensor>();
  for (const weight of plan) {
    weights.set(weight.path, await gather(what, weight, async (name) => await tensors.get(name)!.read()));
  }
  return vitTree(config, (path) => weights.get(path)!);
}

const NO_VALUES = new Float32Array(0);

/** Tokens have one or two leading axes of extent 1, depending on the file. */
function withRankOf(wanted: readonly number[] | undefined, shape: readonly number[]): readonly number[] {
  if (wanted?.length !== 2 || shape.length < 3) return shape;
  return shape.slice(0, -2).every((extent) => extent === 1) ? shape.slice(-2) : shape;
}
