/**
 * Weights files of diffusion transformers: safetensors that say what they were trained on, so that a file can be
 * used with nothing but the decoder of its latent space.
 *
 * @module
 */
import {
  CheckpointError,
  ConfigError,
  expectTensors,
  flattenTree,
  float32,
  type HostTensor,
  isHostTensor,
  mapTree,
  oneLine,
} from "novae/tensor/mod.ts";
import type { LatentStats } from "novae/autoencoder/mod.ts";
import { readSafetensors, writeSafetensors } from "novae/io/mod.ts";
import { type DitConfig, parseDitConfig } from "./config.ts";
import { type DitParams, ditShapes, isShape } from "./dit_params.ts";

/** A diffusion transformer with what is needed to use it. */
export interface DiffusionModel {
  /** Shape of the transformer. */
  readonly config: DitConfig;
  /** Weights, usually the moving average. */
  readonly params: DitParams<HostTensor>;
  /** Name of the latent space, e.g. `svg`. */
  readonly space: string;
  /** Statistics with which the training latents were normalised; samples need them to be undone. */
  readonly latents: LatentStats;
  /** Free text kept with the weights, e.g. settings of the training. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** What a caller needs a file to be. */
export interface ExpectedDiffusion {
  /** Shape of the transformer. */
  readonly config?: DitConfig;
  /** Name of the latent space. */
  readonly space?: string;
  /** Hash of the autoencoder that will decode; refuses a model whose metadata say `autoencoder` and name another. */
  readonly autoencoder?: string;
}

const FORMAT = "novae.diffusion.1";
const OWN_KEYS = ["format", "config", "space", "latentCount"];

/**
 * Writes a model to a safetensors file, atomically.
 *
 * @param options.dtype storage of the weights; means and deviations are stored alike. Default `float32`.
 * @throws WeightsError if a tensor does not have the shape that the configuration gives it.
 */
export async function saveDiffusion(
  path: string,
  model: DiffusionModel,
  options: { readonly dtype?: "float32" | "float16" } = {},
): Promise<void> {
  const { config, params, space, latents, metadata = {} } = model;
  const tensors = new Map<string, HostTensor>();
  for (const { path: name, value } of flattenTree<HostTensor>(params, isHostTensor)) {
    tensors.set(`transformer.${name}`, value);
  }
  tensors.set("latents.mean", float32(latents.mean, [latents.mean.length]));
  tensors.set("latents.std", float32(latents.std, [latents.std.length]));
  fittedTensors(`Cannot save weights ${path}`, tensors, config);
  const reserved = OWN_KEYS.find((key) => key in metadata);
  if (reserved !== undefined) {
    throw new RangeError(`Cannot save weights ${path}: the metadata key "${reserved}" is reserved`);
  }
  const own = {
    format: FORMAT,
    config: JSON.stringify(config),
    space,
    latentCount: String(latents.count),
  };
  await writeSafetensors(path, tensors, { ...metadata, ...own }, options);
}

/**
 * Reads a model from a file that {@linkcode saveDiffusion} wrote, strictly.
 *
 * *Differs* from SVG: its `find_model` returns nothing for a checkpoint of averaged weights, the only ones that its
 * training writes, and its scripts load with `strict=False`, so that what is missing stays random.
 *
 * @param expected refuse a model of another configuration or latent space.
 * @throws CheckpointError if the file holds something else or a model of another configuration; WeightsError if it
 * is missing or damaged, or if a tensor is missing, unexpected or misshapen.
 */
export async function loadDiffusion(
  path: string,
  expected: ExpectedDiffusion = {},
): Promise<Required<DiffusionModel>> {
  const { tensors, metadata } = await readSafetensors(path);
  const { format, config: configText, space, latentCount, ...rest } = metadata;
  if (format !== FORMAT) {
    throw new CheckpointError(
      `Cannot load diffusion model ${path}: format must be ${FORMAT}, got ${format ?? "none"}`,
    );
  }
  const config = storedConfig(path, configText);
  if (expected.config) requireSameConfig(path, expected.config, config);
  if (expected.space !== undefined && expected.space !== space) {
    throw new CheckpointError(
      `Cannot load diffusion model ${path}: latent space must be ${expected.space}, got ${space}`,
    );
  }
  const { autoencoder } = rest, wanted = expected.autoencoder ?? autoencoder;
  if (autoencoder !== undefined && autoencoder !== wanted) {
    throw new CheckpointError(
      `Cannot load diffusion model ${path}: it was trained on latents of autoencoder ${
        autoencoder.slice(0, 12)
      }…, got ${wanted.slice(0, 12)}…`,
    );
  }
  const { params, mean, std } = fittedTensors(`Cannot load weights ${path}`, tensors, config);
  return { config, params, space, latents: { mean, std, count: Number(latentCount) }, metadata: rest };
}

function storedConfig(path: string, text: string | undefined): DitConfig {
  try {
    return parseDitConfig(JSON.parse(text ?? ""));
  } catch (error) {
    if (!(error instanceof SyntaxError) && !(error instanceof ConfigError)) throw error;
    throw new CheckpointError(
      `Cannot load diffusion model ${path}: its configuration must be valid: ${oneLine(error.message, 400)}`,
    );
  }
}

/**
 * Checks that two configurations agree.
 *
 * @throws CheckpointError naming the first setting that differs.
 */
export function requireSameConfig(path: string, wanted: DitConfig, got: DitConfig): void {
  const [ours, theirs] = [wanted, got].map((config) => new Map(Object.entries(parseDitConfig(config))));
  for (const key of new Set([...ours.keys(), ...theirs.keys()])) {
    const [want, have] = [ours, theirs].map((config) => JSON.stringify(config.get(key)) ?? "the default");
    if (want === have) continue;
    throw new CheckpointError(`Cannot use diffusion model ${path}: ${key} must be ${want}, got ${have}`);
  }
}

/** Builds the parameters from named tensors; each must be there once, in its shape, and none besides. */
function fittedTensors(
  what: string,
  tensors: ReadonlyMap<string, HostTensor>,
  config: DitConfig,
): { params: DitParams<HostTensor>; mean: Float32Array; std: Float32Array } {
  const shapes = ditShapes(config), prefix = "transformer.";
  const wanted = new Map(
    flattenTree<number[]>(shapes, isShape).map((leaf) => [prefix + leaf.path, leaf.value]),
  );
  for (const name of ["latents.mean", "latents.std"]) wanted.set(name, [config.channels]);
  expectTensors(what, tensors, wanted);
  const take = (name: string) => tensors.get(name)!;
  return {
    params: mapTree<DitParams<HostTensor>>(shapes, isShape, (_, path) => take(prefix + path)),
    mean: take("latents.mean").data as Float32Array,
    std: take("latents.std").data as Float32Array,
  };
}
