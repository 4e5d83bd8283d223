/**
 * Weights and statistics out of SVG's released files.
 *
 * @module
 */
import {
  ConfigError,
  expectTensors,
  flattenTree,
  type HostTensor,
  isHostTensor,
  oneLine,
  Rng,
  unflattenLike,
  WeightsError,
  zeros,
} from "novae/tensor/mod.ts";
import { openWeights } from "novae/io/mod.ts";
import type { StoredTensor, WeightSource } from "novae/dino/mod.ts";
import type { LatentStats } from "../autoencoder.ts";
import { type AutoencoderConfig, hasFeatures, hasResidual, latentChannels } from "../config.ts";
import { type AutoencoderParams, initAutoencoder } from "../model.ts";
import { groupCount } from "../resnet_block.ts";
import {
  ENCODER_PREFIX,
  fromPublished,
  publishedName,
  publishedShape,
  RESIDUAL_PREFIX,
  UNUSED_NAMES,
} from "./published_names.ts";

/** The weights of a released autoencoder. */
export interface PublishedWeights {
  /** Decoder and residual encoder. */
  readonly params: AutoencoderParams<HostTensor>;
  /** Tensors of the frozen encoder under Meta's names; empty if the checkpoint has none. */
  readonly encoder: WeightSource;
  /** Names of what an autoencoder does not need: discriminator, perceptual network, an unused normalisation. */
  readonly ignored: readonly string[];
}

/**
 * Opens a checkpoint of SVG's autoencoder: a Lightning checkpoint, or its `state_dict` alone in any format.
 *
 * Settings and callbacks of the trainer are kept as inert records; nothing of the file runs.
 *
 * @returns the tensors by name, without `state_dict.`.
 * @throws WeightsError if the file is missing, damaged or holds no tensors.
 */
export async function openPublishedCheckpoint(path: string): Promise<WeightSource> {
  const { tensors } = await openWeights(path, { foreign: "record" });
  const prefix = "state_dict.";
  const nested = [...tensors].filter(([name]) => name.startsWith(prefix));
  return nested.length === 0
    ? tensors
    : new Map(nested.map(([name, tensor]) => [name.slice(prefix.length), tensor]));
}

/**
 * Reads the weights of a released autoencoder, strictly: every weight of the settings must be there in its shape, and
 * no other tensor but those of the frozen encoder and of the training.
 *
 * *Source*: `DinoDecoder.init_from_ckpt` of SVG. *Differs*: SVG loads with `strict=False` and, without a path, not at
 * all, so that a residual encoder or decoder that is missing stays random without a word.
 *
 * @param source tensors by name, as {@linkcode openPublishedCheckpoint} gives them.
 * @param what the subject of messages.
 * @throws WeightsError that lists missing, unexpected and misshapen tensors by their names in the file, or says that
 * the residual encoder is missing; ConfigError if the settings are of no autoencoder that SVG's code can make.
 */
export async function readPublishedWeights(
  source: WeightSource,
  config: AutoencoderConfig,
  what = "Cannot load autoencoder",
): Promise<PublishedWeights> {
  expectPublishable(what, config);
  const names = [...source.keys()];
  const ofEncoder = names.filter((name) => name.startsWith(ENCODER_PREFIX));
  const ignored = names.filter((name) => UNUSED_NAMES.test(name));
  const rest = new Set(names).difference(new Set([...ofEncoder, ...ignored]));
  expectResidual(what, rest, config);
  const tensors = new Map([...rest].map((name) => [name, source.get(name)!]));
  return {
    params: await readParams(what, tensors, config),
    encoder: new Map(ofEncoder.map((name) => [name.slice(ENCODER_PREFIX.length), source.get(name)!])),
    ignored,
  };
}

function expectPublishable(what: string, { space, decoder }: AutoencoderConfig): void {
  if (!hasFeatures(space)) {
    throw new ConfigError(`${what}: the space must be svg, svg-noalign or dino, got ${space}`);
  }
  if (decoder.outPatch !== 1) {
    throw new ConfigError(`${what}: decoder.outPatch must be 1, got ${decoder.outPatch}`);
  }
  const narrow = decoder.channels.find((width) => groupCount(width) !== 32);
  if (narrow === undefined || decoder.groups !== undefined) return;
  throw new ConfigError(
    `${what}: decoder.groups must be given for ${narrow} channels (the released code has 32), got none`,
  );
}

function expectResidual(what: string, names: ReadonlySet<string>, { space }: AutoencoderConfig): void {
  const found = [...names].filter((name) => name.startsWith(RESIDUAL_PREFIX)).length;
  if (hasResidual(space) && found === 0) {
    throw new WeightsError(
      `${what}: space ${space} needs a residual encoder (${RESIDUAL_PREFIX}…), got none; ` +
        "a checkpoint of features alone needs settings of the space dino",
    );
  }
  if (!hasResidual(space) && found > 0) {
    throw new WeightsError(
      `${what}: space ${space} has no residual encoder, got ${found} tensors of one (${RESIDUAL_PREFIX}…)`,
    );
  }
}

async function readParams(
  what: string,
  tensors: ReadonlyMap<string, StoredTensor>,
  config: AutoencoderConfig,
): Promise<AutoencoderParams<HostTensor>> {
  const like = initAutoencoder(new Rng(0), config), levels = config.decoder.channels.length;
  const plan = flattenTree<HostTensor>(like, isHostTensor).map(({ path, value: { shape } }) => ({
    path,
    shape,
    name: publishedName(path, levels),
  }));
  // A model that is trained without masking has no mask token, and no use for one.
  const maskless = config.residual?.maskProbability === 0 && !tensors.has("mask_token");
  const stored = plan.filter(({ path }) => !(maskless && path === "residual.maskToken"));
  const got = [...tensors].map(([name, { shape }]): [string, HostTensor] => [
    name,
    { dtype: "float32", shape, data: NO_VALUES },
  ]);
  const wanted = stored.map(({ path, shape, name }) => [name, publishedShape(path, shape)] as const);
  expectTensors(what, new Map(got), new Map(wanted));
  const weights = new Map<string, HostTensor>();
  if (maskless) weights.set("residual.maskToken", zeros([1, 1, config.residual!.channels]));
  for (const { path, shape, name } of stored) {
    weights.set(path, fromPublished(await floats(what, name, tensors.get(name)!), shape));
  }
  return unflattenLike<AutoencoderParams<HostTensor>>(like, isHostTensor, weights);
}

const NO_VALUES = new Float32Array(0);

async function floats(what: string, name: string, stored: StoredTensor): Promise<HostTensor> {
  const tensor = await stored.read();
  if (tensor.dtype === "float32") return tensor;
  throw new WeightsError(`${what}: ${name} must hold floating-point numbers, got ${tensor.dtype}`);
}

/**
 * Reads the published means and standard deviations of latent channels, such as `dinov3_sp_stats.pt`: two tensors of
 * `[1, 1, Z]`, one whose name ends in `mean`, one in `std`.
 *
 * *Differs*: SVG cuts statistics that are too wide to the channels of the model. Those of a published model without
 * alignment were never made: its transformer was trained with the aligned ones, which do not fit its residual.
 *
 * @returns statistics whose `count` is 0, since the file does not say what was measured.
 * @throws WeightsError if they are of another width, a deviation is not positive, or the file holds something else.
 */
export async function readPublishedStats(path: string, config: AutoencoderConfig): Promise<LatentStats> {
  const what = `Cannot load statistics ${path}`;
  const { tensors } = await openWeights(path, { foreign: "record" });
  const values = async (ending: RegExp, label: string) => {
    const found = [...tensors].filter(([name]) => ending.test(name));
    if (found.length !== 1) {
      throw new WeightsError(
        `${what}: one tensor of ${label} is needed, got ${oneLine([...tensors.keys()].join(", "), 200)}`,
      );
    }
    const [name, tensor] = found[0];
    expectWidth(`${what}: ${name}`, tensor.shape, config);
    return (await floats(what, name, tensor)).data as Float32Array;
  };
  const stats = {
    mean: await values(/(^|[._])mean$/, "means (…mean)"),
    std: await values(/(^|[._])std$/, "deviations (…std)"),
    count: 0,
  };
  const mean = stats.mean.findIndex((value) => !Number.isFinite(value));
  if (mean >= 0) throw new WeightsError(`${what}: means must be finite, got ${stats.mean[mean]} at ${mean}`);
  const std = stats.std.findIndex((value) => !(value > 0 && value < Infinity));
  if (std >= 0) {
    throw new WeightsError(`${what}: deviations must be positive, got ${stats.std[std]} at ${std}`);
  }
  return stats;
}

function expectWidth(what: string, shape: readonly number[], config: AutoencoderConfig): void {
  const channels = latentChannels(config), width = shape.at(-1), { featureChannels, residual } = config;
  if (width === channels && shape.slice(0, -1).every((extent) => extent === 1)) return;
  const parts = residual ? ` (${featureChannels} of features and ${residual.channels} of the residual)` : "";
  const hint = width === featureChannels && residual
    ? "; these are of features alone"
    : !residual && width !== undefined && width > channels
    ? "; these are of features and a residual"
    : "";
  throw new WeightsError(
    `${what} must have ${channels} channels${parts}, got [${shape.join(", ")}]${hint}`,
  );
}
