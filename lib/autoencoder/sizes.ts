/**
 * Named sizes of the networks of autoencoders.
 *
 * @module
 */
import { ConfigError } from "novae/tensor/mod.ts";
import type { SpaceName } from "./autoencoder.ts";
import {
  type AutoencoderConfig,
  hasResidual,
  isVariational,
  parseAutoencoderConfig,
  trainsWithFeatures,
} from "./config.ts";
import { type DecoderConfig, decoderScale } from "./decoder.ts";
import { PUBLISHED_RESIDUAL, type ResidualConfig } from "./svg/residual_encoder.ts";
import { PUBLISHED_FEATURE_MATCHING } from "./vae/feature_matching.ts";
import {
  isPublishedVaeName,
  PUBLISHED_VAES,
  type PublishedVaeName,
  type VaeConfig,
} from "./vae/vae_config.ts";

/** Named sizes with networks for every space. */
export type GeneralSize = "tiny" | "micro" | "small" | "published";

/** Named sizes of the networks; those of variational autoencoders say down-sampling and channels. */
export type AutoencoderSize = GeneralSize | PublishedVaeName;

/** All named sizes. */
export const AUTOENCODER_SIZES: readonly AutoencoderSize[] = [
  "tiny",
  "micro",
  "small",
  "published",
  ...Object.keys(PUBLISHED_VAES) as PublishedVaeName[],
];

/** The decoder of SVG and of latent diffusion at 16-fold up-sampling. */
export const PUBLISHED_DECODER: DecoderConfig = {
  channels: [512, 256, 256, 128, 128],
  blocks: 3,
  midAttention: true,
  attentionLevels: 1,
  outPatch: 1,
};

const LIGHT = { blocks: 1, midAttention: true, attentionLevels: 0, outPatch: 2 } as const;

/** Form of each size's decoder, and its channels by patch. */
const DECODERS: Readonly<
  Record<GeneralSize, Omit<DecoderConfig, "channels"> & { channels: Record<number, readonly number[]> }>
> = {
  tiny: { ...LIGHT, channels: { 4: [8, 4] } },
  micro: { ...LIGHT, channels: { 4: [64, 48], 8: [64, 48, 24] } },
  small: {
    ...LIGHT,
    attentionLevels: 1,
    outPatch: 1,
    channels: { 4: [256, 128, 64], 8: [256, 128, 128, 64], 16: [256, 128, 128, 64, 64] },
  },
  published: { ...PUBLISHED_DECODER, channels: { 16: PUBLISHED_DECODER.channels } },
};

const TINY_RESIDUAL: ResidualConfig = {
  channels: 2,
  width: 8,
  depth: 1,
  heads: 2,
  mlpRatio: 2,
  activation: "gelu",
  classToken: false,
  maskProbability: 0.1,
};

const MICRO_RESIDUAL: ResidualConfig = {
  channels: 8,
  width: 96,
  depth: 3,
  heads: 3,
  mlpRatio: 4,
  activation: "gelu",
  classToken: false,
  maskProbability: 0.1,
};

const SMALL_RESIDUAL: ResidualConfig = {
  channels: 8,
  width: 192,
  depth: 4,
  heads: 6,
  mlpRatio: 4,
  activation: "gelu",
  classToken: false,
  maskProbability: 0.1,
};

const RESIDUALS: Readonly<Record<GeneralSize, ResidualConfig>> = {
  tiny: TINY_RESIDUAL,
  micro: MICRO_RESIDUAL,
  small: SMALL_RESIDUAL,
  published: PUBLISHED_RESIDUAL,
};

/** What is chosen beside the size's name. */
export interface NamedAutoencoderOptions {
  /** The latent space. */
  readonly space: SpaceName;
  /** Rows and columns of the images. */
  readonly imageSize: number;
  /** Rows and columns of pixels that a latent token stands for; the fewest of the size if omitted. */
  readonly patchSize?: number;
  /** Width D of the frozen features; without meaning for spaces that are trained without them. */
  readonly featureChannels?: number;
  /** Residual channels R, e.g. 4, 8, 16 or 32; those of the size if omitted. */
  readonly residualChannels?: number;
  /** Noise τ with which the decoder is trained; none if omitted. */
  readonly noiseTau?: number;
}

/**
 * The settings of a named size.
 *
 * `published` is the paper's (patches of 16; `kl-f16d16` for `vae`, `kl-f16d32` for `va-vae`), `small` half its width
 * and a third of its blocks (patches of 4, 8 or 16), `micro` what two processor cores train in minutes (patches of 4
 * or 8), `tiny` for tests (patches of 4). The published variational autoencoders have names of their own, `kl-f8d4`
 * and so on. Only `published` has dropout. The residual of the space `residual` is never masked, since nothing stands
 * beside it.
 *
 * @throws ConfigError if the size has no decoder for the patch or is none of the space.
 */
export function namedAutoencoder(size: AutoencoderSize, options: NamedAutoencoderOptions): AutoencoderConfig {
  const { space, imageSize, noiseTau } = options, published = publishedVaeName(size, space);
  const decoder = namedDecoder(size, published, options.patchSize);
  return parseAutoencoderConfig({
    space,
    imageSize,
    patchSize: decoderScale(decoder),
    featureChannels: trainsWithFeatures(space) ? options.featureChannels ?? 0 : 0,
    decoder,
    ...(isVariational(space) && { vae: namedVae(size, published, space) }),
    ...(hasResidual(space) && { residual: namedResidual(options, generalSize(size)) }),
    ...(noiseTau !== undefined && { noiseTau }),
  });
}

/**
 * The patch that a space without a frozen encoder has if nobody chose one: that of the size which comes nearest to
 * 8 × 8 tokens.
 *
 * @returns undefined for published variational autoencoders, whose names say it.
 */
export function usualPatchSize(
  size: AutoencoderSize,
  space: SpaceName,
  imageSize: number,
): number | undefined {
  if (publishedVaeName(size, space)) return undefined;
  const distance = (patch: number) => Math.abs(Math.log2(8 * patch / imageSize));
  const patches = Object.keys(DECODERS[generalSize(size)].channels).map(Number);
  return patches.reduce((best, patch) => distance(patch) < distance(best) ? patch : best);
}

function namedVae(
  size: AutoencoderSize,
  published: PublishedVaeName | undefined,
  space: SpaceName,
): VaeConfig {
  const vae = published
    ? PUBLISHED_VAES[published].vae
    : { channels: size === "tiny" ? 4 : 16, klWeight: 1e-6 };
  return { ...vae, ...(space === "va-vae" && { featureMatching: PUBLISHED_FEATURE_MATCHING }) };
}

function namedResidual(
  { space, residualChannels }: NamedAutoencoderOptions,
  size: GeneralSize,
): ResidualConfig {
  return {
    ...RESIDUALS[size],
    ...(residualChannels !== undefined && { channels: residualChannels }),
    ...(space === "residual" && { maskProbability: 0 }),
  };
}

/** The size whose networks stand beside those of a published variational autoencoder. */
function generalSize(size: AutoencoderSize): GeneralSize {
  return isPublishedVaeName(size) ? "published" : size;
}

/** Which published variational autoencoder a size means in a space, if any. */
function publishedVaeName(size: AutoencoderSize, space: SpaceName): PublishedVaeName | undefined {
  if (!isPublishedVaeName(size)) {
    if (size !== "published" || !isVariational(space)) return undefined;
    return space === "vae" ? "kl-f16d16" : "kl-f16d32";
  }
  if (isVariational(space)) return size;
  throw new ConfigError(
    `Cannot use autoencoder settings: size "${size}" is one of vae and va-vae, got ${space}`,
  );
}

function namedDecoder(
  size: AutoencoderSize,
  published: PublishedVaeName | undefined,
  patchSize: number | undefined,
): DecoderConfig {
  const decoder = published
    ? PUBLISHED_VAES[published].decoder
    : generalDecoder(generalSize(size), patchSize);
  if (decoder !== undefined && (patchSize ?? decoderScale(decoder)) === decoderScale(decoder)) return decoder;
  throw new ConfigError(
    `Cannot use autoencoder settings: size "${size}" has no decoder for patches of ${patchSize}`,
  );
}

/** The decoder of a size for a patch, for its smallest if omitted. */
function generalDecoder(size: GeneralSize, patchSize: number | undefined): DecoderConfig | undefined {
  const { channels, ...form } = DECODERS[size];
  const found = channels[patchSize ?? Math.min(...Object.keys(channels).map(Number))];
  return found && { channels: found, ...form };
}
