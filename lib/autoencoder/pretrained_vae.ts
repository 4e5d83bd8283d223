/**
 * Published weights of variational autoencoders: latent diffusion's checkpoints and diffusers' folders.
 *
 * @module
 */
import { join } from "node:path";
import { ConfigError, expectTensors, float32, type HostTensor, WeightsError } from "novae/tensor/mod.ts";
import { type LazyTensor, openWeights, pathExists, readJson, readTensors } from "novae/io/mod.ts";
import { CompiledAutoencoder, type CompiledAutoencoderOptions } from "./compiled.ts";
import { type AutoencoderConfig, parseAutoencoderConfig } from "./config.ts";
import { convEncoderTree, decoderTree, type WeightOf } from "./conv_tree.ts";
import type { AutoencoderParams } from "./model.ts";
import { convFromTorch, torchConvShape } from "./torch_layout.ts";
import { PUBLISHED_FEATURE_MATCHING } from "./vae/mod.ts";
import { foreignName, type VaeNames, vaeNames, type VaeNaming } from "./vae_names.ts";

/** A published variational autoencoder. */
export interface PretrainedVae {
  /** Settings, read off the shapes of the weights. */
  readonly config: AutoencoderConfig;
  /** Weights. */
  readonly params: AutoencoderParams<HostTensor>;
  /** Whose names the file uses. */
  readonly naming: VaeNaming;
  /** Names in the file of what an autoencoder does not need, such as discriminators and averages. */
  readonly ignored: readonly string[];
}

/** What shapes do not tell. */
export interface PretrainedVaeOptions {
  /** Rows and columns of the images, a multiple of the patch. Default 256. */
  readonly imageSize?: number;
  /** Groups of the normalisations; `norm_num_groups` of a `config.json` in the folder, else 32, if omitted. */
  readonly groups?: number;
}

/**
 * Reads a published variational autoencoder, strictly: every weight must be there in its shape, and no other but those
 * of other networks, which are listed.
 *
 * The space is `va-vae` if the file has VA-VAE's projection, else `vae`. Weights are those of the file: latents are
 * not scaled, so that a `scaling_factor` of diffusers does not occur.
 *
 * @param path a Lightning checkpoint of latent diffusion (`.ckpt`), of the autoencoder alone or within a diffusion
 * model; a safetensors file with such names; or a file or folder of diffusers' `AutoencoderKL`.
 * @throws WeightsError that says what is missing, unexpected or misshapen, or why the file cannot be read.
 */
export async function readPretrainedVae(
  path: string,
  options: PretrainedVaeOptions = {},
): Promise<PretrainedVae> {
  const what = `Cannot load autoencoder ${path}`, { tensors } = await openWeights(path);
  const names = vaeNames(what, tensors.keys());
  const file = new Map([...names.bare].map(([bare, name]) => [bare, tensors.get(name)!]));
  const ignored = [...names.others, ...dropOtherProjection(file)];
  const groups = options.groups ?? await groupsOf(what, path) ?? 32;
  const config = inferConfig(what, names, file, { groups, imageSize: options.imageSize ?? 256 });
  const wanted = new Map<string, Wanted>(), levels = config.decoder.channels.length;
  weightTree(config, (ours, shape) => {
    const name = foreignName(names.naming, ours, levels);
    wanted.set(ours, { name, shape, fileShape: torchConvShape(shape, file.get(name)?.shape.length) });
  });
  expectTensors(what, file, new Map([...wanted.values()].map((weight) => [weight.name, weight.fileShape])));
  const read = await readTensors(file);
  const params = weightTree(config, (ours) => {
    const { name, shape } = wanted.get(ours)!;
    return float32(convFromTorch(read.get(name)!.data as Float32Array, shape), shape);
  });
  return { config, params, naming: names.naming, ignored };
}

/**
 * {@linkcode readPretrainedVae}, compiled when it is first used.
 *
 * @param options what shapes do not tell, where it runs, and statistics of its latents if they are known.
 * @throws WeightsError as {@linkcode readPretrainedVae}.
 */
export async function loadPretrainedVae(
  path: string,
  options:
    & PretrainedVaeOptions
    & Pick<CompiledAutoencoderOptions, "stats" | "device" | "threads" | "batchSize"> = {},
): Promise<CompiledAutoencoder> {
  const { config, params } = await readPretrainedVae(path, options);
  return new CompiledAutoencoder(config, params, options);
}

/** A weight that the settings ask for. */
interface Wanted {
  /** Bare name in the file. */
  readonly name: string;
  /** Our shape. */
  readonly shape: readonly number[];
  /** Shape in the file. */
  readonly fileShape: readonly number[];
}

/** The weights that settings ask for. */
function weightTree<T>(config: AutoencoderConfig, weight: WeightOf<T>): AutoencoderParams<T> {
  const { decoder, featureChannels } = config, vae = config.vae!;
  return {
    decoder: decoderTree(decoder, vae.channels, vae.quantConvs ?? false, weight),
    encoder: convEncoderTree(decoder, vae, weight),
    ...(vae.featureMatching && { projection: weight("projection", [vae.channels, featureChannels]) }),
  };
}

/** VA-VAE can also project features to latents, with a bias: that map serves nothing else than its training. */
function dropOtherProjection(file: Map<string, LazyTensor>): string[] {
  if (!file.has("linear_proj.bias")) return [];
  const names = ["linear_proj.weight", "linear_proj.bias"];
  for (const name of names) file.delete(name);
  return names;
}

async function groupsOf(what: string, path: string): Promise<number | undefined> {
  const settings = join(path, "config.json");
  if (!await pathExists(settings)) return undefined;
  const { norm_num_groups: groups } = await readJson(settings, WeightsError) as Record<string, unknown>;
  if (groups === undefined || (Number.isInteger(groups) && groups as number > 0)) return groups as number;
  throw new WeightsError(
    `${what}: norm_num_groups of its config.json must be a positive integer, got ${groups}`,
  );
}

/** Settings from names and shapes. */
function inferConfig(
  what: string,
  { naming, bare }: VaeNames,
  file: ReadonlyMap<string, LazyTensor>,
  { groups, imageSize }: { groups: number; imageSize: number },
): AutoencoderConfig {
  const levels = countOf(bare, /^encoder\.down(?:_blocks)?\.(\d+)\./);
  const shapeOf = (path: string) => file.get(foreignName(naming, path, levels))?.shape;
  const needed = (path: string): readonly number[] => {
    const shape = shapeOf(path), name = foreignName(naming, path, levels);
    if (shape?.length === 4) return shape;
    const got = shape ? `[${shape}]` : "none";
    throw new WeightsError(`${what}: ${name} must be there with rank 4 to tell the settings, got ${got}`);
  };
  const level = Array.from({ length: levels }, (_, i) => `encoder.levels.${i}`);
  const channels = level.map((path) => needed(`${path}.blocks.0.conv1.weight`)[0]).toReversed();
  const projection = naming === "ldm" ? shapeOf("projection") : undefined;
  return checked(what, {
    space: projection ? "va-vae" : "vae",
    imageSize,
    patchSize: 2 ** (levels - 1),
    featureChannels: projection?.[0] ?? 0,
    decoder: {
      channels,
      blocks: countOf(bare, /^decoder\.up(?:_blocks)?\.\d+\.(?:block|resnets)\.(\d+)\./),
      midAttention: shapeOf("encoder.mid.attention.norm.weight") !== undefined,
      attentionLevels: level.filter((path) => shapeOf(`${path}.attentions.0.norm.weight`)).length,
      outPatch: 1,
      groups,
    },
    vae: {
      channels: needed("decoder.convIn.weight")[1],
      klWeight: 1e-6,
      encoderBlocks: countOf(bare, /^encoder\.down(?:_blocks)?\.\d+\.(?:block|resnets)\.(\d+)\./),
      quantConvs: shapeOf("encoder.quantConv.weight") !== undefined,
      ...(projection && { featureMatching: PUBLISHED_FEATURE_MATCHING }),
    },
  });
}

/** One more than the highest number that a pattern finds in names, so that gaps are told as missing weights. */
function countOf(names: ReadonlyMap<string, string>, pattern: RegExp): number {
  let count = 0;
  for (const name of names.keys()) count = Math.max(count, 1 + Number(pattern.exec(name)?.[1] ?? -1));
  return count;
}

function checked(what: string, config: AutoencoderConfig): AutoencoderConfig {
  try {
    return parseAutoencoderConfig(config);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new WeightsError(`${what}: its settings must be valid: ${error.message}`);
  }
}
