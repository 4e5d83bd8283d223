/**
 * Settings of an autoencoder: which latent space, of which images, with networks of which size.
 *
 * @module
 */
import { z } from "zod";
import { ConfigError } from "novae/tensor/mod.ts";
import { SPACE_NAMES, type SpaceName } from "./autoencoder.ts";
import { type DecoderConfig, decoderScale } from "./decoder.ts";
import type { ResidualConfig } from "./svg/residual_encoder.ts";
import type { VaeConfig } from "./vae/vae_config.ts";

/** Settings of an autoencoder. */
export interface AutoencoderConfig {
  /** The latent space. */
  readonly space: SpaceName;
  /** Rows and columns of the images, H = W. */
  readonly imageSize: number;
  /** Rows and columns of pixels that a latent token stands for. */
  readonly patchSize: number;
  /** Width D of the frozen features; 0 for spaces without them. The `va-vae` needs them in training alone. */
  readonly featureChannels: number;
  /** Form of the decoder. */
  readonly decoder: DecoderConfig;
  /** For `vae` and `va-vae` alone. */
  readonly vae?: VaeConfig;
  /** For `svg`, `svg-noalign` and `residual` alone. */
  readonly residual?: ResidualConfig;
  /**
   * Noise τ with which the decoder is trained, to make it robust to imperfect latents; not for `vae` and `va-vae`.
   * Each image's latents get normal noise of a standard deviation drawn uniformly from [0, τ]. None if omitted.
   */
  readonly noiseTau?: number;
}

/** Whether a latent space is that of a variational autoencoder, whose latents hold no frozen features. */
export function isVariational(space: SpaceName): boolean {
  return space === "vae" || space === "va-vae";
}

/** Whether a latent space has a residual encoder. */
export function hasResidual(space: SpaceName): boolean {
  return space === "svg" || space === "svg-noalign" || space === "residual";
}

/** Whether the latents of a space hold the features of a frozen encoder. */
export function hasFeatures(space: SpaceName): boolean {
  return space === "svg" || space === "svg-noalign" || space === "dino";
}

/** Whether the training of a space needs the features of a frozen encoder, in its latents or to match them. */
export function trainsWithFeatures(space: SpaceName): boolean {
  return hasFeatures(space) || space === "va-vae";
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
    dropout: z.number().min(0).lt(1).optional(),
    attentionDropout: z.number().min(0).lt(1).optional(),
  }).optional(),
  noiseTau: z.number().nonnegative().optional(),
}).superRefine((config, context) => {
  const complain = (message: string) => context.addIssue({ code: "custom", message });
  if (config.imageSize % config.patchSize !== 0) {
    complain(`imageSize must be a multiple of patchSize ${config.patchSize}, got ${config.imageSize}`);
  }
  if (decoderScale(config.decoder) !== config.patchSize) {
    complain(`the decoder must scale by patchSize ${config.patchSize}, got ${decoderScale(config.decoder)}`);
  }
  if (isVariational(config.space) !== (config.vae !== undefined)) {
    complain('"vae" belongs to the spaces vae and va-vae alone');
  }
  if ((config.space === "va-vae") !== (config.vae?.featureMatching !== undefined)) {
    complain('"vae.featureMatching" belongs to the space va-vae alone');
  }
  if (hasResidual(config.space) !== (config.residual !== undefined)) {
    complain('"residual" belongs to the spaces svg, svg-noalign and residual alone');
  }
  if (trainsWithFeatures(config.space) !== (config.featureChannels > 0)) {
    const wanted = trainsWithFeatures(config.space) ? "positive" : "0";
    complain(`featureChannels must be ${wanted} for ${config.space}, got ${config.featureChannels}`);
  }
  if (config.vae && config.noiseTau !== undefined) {
    complain('"noiseTau" is not for the spaces vae and va-vae');
  }
  checkNetworks(config, complain);
});

function checkNetworks(
  { space, decoder, residual }: AutoencoderConfig,
  complain: (message: string) => void,
): void {
  const { groups } = decoder;
  const undivided = groups === undefined ? undefined : decoder.channels.find((width) => width % groups !== 0);
  if (undivided !== undefined) {
    complain(`decoder.groups must divide ${undivided} channels, got ${groups}`);
  }
  if (!residual) return;
  if (residual.width % residual.heads !== 0) {
    complain(`residual.heads must divide the width ${residual.width}, got ${residual.heads}`);
  }
  if (space === "residual" && residual.maskProbability > 0) {
    complain(`residual.maskProbability must be 0 for residual, got ${residual.maskProbability}`);
  }
}
