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

/** The part of the `vae` that the other spaces lack. */
export interface VaeConfig {
  /** Latent channels Z. */
  readonly channels: number;
  /** Weight of the KL divergence beside a reconstruction loss that is summed over an image's values. */
  readonly klWeight: number;
}

/** Settings of an autoencoder. */
export interface AutoencoderConfig {
  /** The latent space. */
  readonly space: SpaceName;
  /** Rows and columns of the images, H = W. */
  readonly imageSize: number;
  /** Rows and columns of pixels that a latent token stands for. */
  readonly patchSize: number;
  /** Width D of the frozen features; 0 for the `vae`. */
  readonly featureChannels: number;
  /** Form of the decoder. */
  readonly decoder: DecoderConfig;
  /** For `vae` alone. */
  readonly vae?: VaeConfig;
  /** For `svg` and `svg-noalign` alone. */
  readonly residual?: ResidualConfig;
}

/** Named sizes of the networks. */
export type AutoencoderSize = "tiny" | "micro" | "published";

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
  /** Rows and columns of pixels that a latent token stands for. */
  readonly patchSize: number;
  /** Width D of the frozen features; without meaning for the `vae`. */
  readonly featureChannels?: number;
}

/**
 * The settings of a named size.
 *
 * `published` is the paper's (patches of 16), `micro` what two processor cores train in minutes (patches of 4 or 8),
 * `tiny` for tests (patches of 4).
 *
 * @throws ConfigError if the size has no decoder for the patch.
 */
export function namedAutoencoder(size: AutoencoderSize, options: NamedAutoencoderOptions): AutoencoderConfig {
  const { space, imageSize, patchSize } = options;
  const decoder = decoderFor(size, patchSize);
  const residual = size === "tiny" ? TINY_RESIDUAL : size === "micro" ? MICRO_RESIDUAL : PUBLISHED_RESIDUAL;
  return parseAutoencoderConfig({
    space,
    imageSize,
    patchSize,
    featureChannels: space === "vae" ? 0 : options.featureChannels ?? 0,
    decoder,
    ...(space === "vae" ? { vae: { channels: size === "tiny" ? 4 : 16, klWeight: 1e-6 } } : {}),
    ...(hasResidual(space) ? { residual } : {}),
  });
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

function decoderFor(size: AutoencoderSize, patchSize: number): DecoderConfig {
  const small = { blocks: 1, midAttention: true, attentionLevels: 0 };
  const found = size === "published"
    ? PUBLISHED_DECODER
    : size === "tiny"
    ? { ...small, channels: [8, 4], outPatch: 2 }
    : patchSize === 8
    ? { ...small, channels: [64, 48, 24], outPatch: 2 }
    : { ...small, channels: [64, 48], outPatch: 2 };
  if (decoderScale(found) !== patchSize) {
    throw new ConfigError(
      `Cannot use autoencoder settings: size "${size}" has no decoder for patches of ${patchSize}`,
    );
  }
  return found;
}

const count = z.int().positive();

const decoderSchema = z.strictObject({
  channels: z.array(count).min(1),
  blocks: count,
  midAttention: z.boolean(),
  attentionLevels: z.int().nonnegative(),
  outPatch: count,
});

const autoencoderSchema = z.strictObject({
  space: z.enum(SPACE_NAMES as [SpaceName, ...SpaceName[]]),
  imageSize: count,
  patchSize: count,
  featureChannels: z.int().nonnegative(),
  decoder: decoderSchema,
  vae: z.strictObject({ channels: count, klWeight: z.number().nonnegative() }).optional(),
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
  if ((config.space === "vae") !== (config.vae !== undefined)) {
    complain('"vae" belongs to the space vae alone');
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
