/**
 * Settings of an autoencoder: which latent space, of which images, with networks of which size.
 *
 * @module
 */
import { z } from "zod";
import { ConfigError } from "novae/tensor/mod.ts";
import { SPACE_NAMES, type SpaceName } from "./autoencoder.ts";
import { type DecoderConfig, decoderScale } from "./decoder.ts";
import { PUBLISHED_RESIDUAL, type ResidualConfig } from "./svg/residual_encoder.ts";
import { PUBLISHED_FEATURE_MATCHING } from "./vae/feature_matching.ts";
import {
  isPublishedVaeName,
  PUBLISHED_VAES,
  type PublishedVaeName,
  type VaeConfig,
} from "./vae/vae_config.ts";

/** Settings of an autoencoder. */
export interface AutoencoderConfig {
  /** The latent space. */
  readonly space: SpaceName;
  /** Rows and columns of the images, H = W. */
  readonly imageSize: number;
  /** Rows and columns of pixels that a latent token stands for. */
  readonly patchSize: number;
  /** Width D of the frozen features; 0 for the `vae`. The `va-vae` needs them in training alone. */
  readonly featureChannels: number;
  /** Form of the decoder. */
  readonly decoder: DecoderConfig;
  /** For `vae` and `va-vae` alone. */
  readonly vae?: VaeConfig;
  /** For `svg` and `svg-noalign` alone. */
  readonly residual?: ResidualConfig;
}

/** Named sizes of the networks; those of variational autoencoders say down-sampling and channels. */
export type AutoencoderSize = "tiny" | "micro" | "published" | PublishedVaeName;

/** All named sizes. */
export const AUTOENCODER_SIZES: readonly AutoencoderSize[] = [
  "tiny",
  "micro",
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

/** What is chosen beside the size's name. */
export interface NamedAutoencoderOptions {
  /** The latent space. */
  readonly space: SpaceName;
  /** Rows and columns of the images. */
  readonly imageSize: number;
  /** Rows and columns of pixels that a latent token stands for; by the size's name if omitted. */
  readonly patchSize?: number;
  /** Width D of the frozen features; without meaning for the `vae`. */
  readonly featureChannels?: number;
}

/**
 * The settings of a named size.
 *
 * `published` is the paper's (patches of 16; `kl-f16d16` for `vae`, `kl-f16d32` for `va-vae`), `micro` what two
 * processor cores train in minutes (patches of 4 or 8), `tiny` for tests (patches of 4). The published variational
 * autoencoders have names of their own, `kl-f8d4` and so on.
 *
 * @throws ConfigError if the size has no decoder for the patch or is none of the space.
 */
export function namedAutoencoder(size: AutoencoderSize, options: NamedAutoencoderOptions): AutoencoderConfig {
  const { space, imageSize } = options, published = publishedVaeName(size, space);
  const decoder = published ? PUBLISHED_VAES[published].decoder : decoderFor(size, options.patchSize);
  const scale = decoderScale(decoder), { patchSize = scale } = options;
  if (scale !== patchSize) {
    throw new ConfigError(
      `Cannot use autoencoder settings: size "${size}" has no decoder for patches of ${patchSize}`,
    );
  }
  const residual = size === "tiny" ? TINY_RESIDUAL : size === "micro" ? MICRO_RESIDUAL : PUBLISHED_RESIDUAL;
  const vae = published
    ? PUBLISHED_VAES[published].vae
    : { channels: size === "tiny" ? 4 : 16, klWeight: 1e-6 };
  const matched = space === "va-vae" ? { featureMatching: PUBLISHED_FEATURE_MATCHING } : {};
  return parseAutoencoderConfig({
    space,
    imageSize,
    patchSize,
    featureChannels: space === "vae" ? 0 : options.featureChannels ?? 0,
    decoder,
    ...(isVariational(space) ? { vae: { ...vae, ...matched } } : {}),
    ...(hasResidual(space) ? { residual } : {}),
  });
}

/** Whether a latent space is that of a variational autoencoder, whose latents hold no frozen features. */
export function isVariational(space: SpaceName): boolean {
  return space === "vae" || space === "va-vae";
}

/** Whether a latent space has a residual encoder. */
export function hasResidual(space: SpaceName): boolean {
  return space === "svg" || space === "svg-noalign";
}

/** Latent channels Z. */
export function latentChannels(config: AutoencoderConfig): number {
  return config.vae ? config.vae.channels : config.featureChannels + (config.residual?.channels ?? 0);
}

/** Rows and columns of the token grid, I = J. */
export function latentGrid(config: AutoencoderConfig): number {
  return config.imageSize / config.patchSize;
}

/**
 * Checks settings from outside.
 *
 * @throws ConfigError if a key is unknown or missing, a value has the wrong type, or values contradict each other.
 */
export function parseAutoencoderConfig(input: unknown): AutoencoderConfig {
  const parsed = autoencoderSchema.safeParse(input);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const where = issue.path.length === 0 ? "" : `${issue.path.join(".")}: `;
    throw new ConfigError(`Cannot use autoencoder settings: ${where}${issue.message}`);
  }
  return parsed.data;
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

function decoderFor(size: AutoencoderSize, patchSize: number | undefined): DecoderConfig {
  const small = { blocks: 1, midAttention: true, attentionLevels: 0 };
  if (size === "published") return PUBLISHED_DECODER;
  if (size === "tiny") return { ...small, channels: [8, 4], outPatch: 2 };
  return { ...small, channels: patchSize === 8 ? [64, 48, 24] : [64, 48], outPatch: 2 };
}

const count = z.int().positive();

const decoderSchema = z.strictObject({
  channels: z.array(count).min(1),
  blocks: count,
  midAttention: z.boolean(),
  attentionLevels: z.int().nonnegative(),
  outPatch: count,
  groups: count.optional(),
});

const vaeSchema = z.strictObject({
  channels: count,
  klWeight: z.number().nonnegative(),
  encoderBlocks: count.optional(),
  quantConvs: z.boolean().optional(),
  featureMatching: z.strictObject({
    weight: z.number().nonnegative(),
    cosineMargin: z.number().min(0).max(2),
    distanceMargin: z.number().min(0).max(2),
  }).optional(),
});

const autoencoderSchema = z.strictObject({
  space: z.enum(SPACE_NAMES as [SpaceName, ...SpaceName[]]),
  imageSize: count,
  patchSize: count,
  featureChannels: z.int().nonnegative(),
  decoder: decoderSchema,
  vae: vaeSchema.optional(),
  residual: z.strictObject({
    channels: count,
    width: count,
    depth: count,
    heads: count,
    mlpRatio: z.number().positive(),
    activation: z.enum(["gelu", "geluErf"]),
    classToken: z.boolean(),
    maskProbability: z.number().min(0).max(1),
  }).optional(),
}).superRefine((config, context) => {
  const complain = (message: string) => context.addIssue({ code: "custom", message });
  if (config.imageSize % config.patchSize !== 0) {
    complain(`imageSize must be a multiple of patchSize ${config.patchSize}, got ${config.imageSize}`);
  }
  if (decoderScale(config.decoder) !== config.patchSize) {
    complain(`the decoder must scale by patchSize ${config.patchSize}, got ${decoderScale(config.decoder)}`);
  }
  const { groups } = config.decoder,
    odd = config.decoder.channels.find((width) => width % (groups ?? 1) !== 0);
  if (odd !== undefined) complain(`decoder.groups must divide ${odd} channels, got ${groups}`);
  if (isVariational(config.space) !== (config.vae !== undefined)) {
    complain('"vae" belongs to the spaces vae and va-vae alone');
  }
  if ((config.space === "va-vae") !== (config.vae?.featureMatching !== undefined)) {
    complain('"vae.featureMatching" belongs to the space va-vae alone');
  }
  if (hasResidual(config.space) !== (config.residual !== undefined)) {
    complain('"residual" belongs to the spaces svg and svg-noalign alone');
  }
  if ((config.space === "vae") !== (config.featureChannels === 0)) {
    complain(`featureChannels must be 0 for vae and positive otherwise, got ${config.featureChannels}`);
  }
  const { residual } = config;
  if (residual && residual.width % residual.heads !== 0) {
    complain(`residual.heads must divide the width ${residual.width}, got ${residual.heads}`);
  }
});
