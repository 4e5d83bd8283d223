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
  /** Width D of the frozen features; 0 for spaces without them. */
  readonly featureChannels: number;
  /** Form of the decoder. */
  readonly decoder: DecoderConfig;
  /** For `vae` alone. */
  readonly vae?: VaeConfig;
  /** For `svg`, `svg-noalign` and `residual` alone. */
  readonly residual?: ResidualConfig;
  /**
   * Noise τ with which the decoder is trained, to make it robust to imperfect latents; for spaces other than `vae`.
   * Each image's latents get normal noise of a standard deviation drawn uniformly from [0, τ]. None if omitted.
   */
  readonly noiseTau?: number;
}

/** Named sizes of the networks, from the smallest. */
export const AUTOENCODER_SIZES = ["tiny", "micro", "small", "published"] as const;

/** Name of a size. */
export type AutoencoderSize = typeof AUTOENCODER_SIZES[number];

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
  Record<AutoencoderSize, Omit<DecoderConfig, "channels"> & { channels: Record<number, readonly number[]> }>
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

const RESIDUALS: Readonly<Record<AutoencoderSize, ResidualConfig>> = {
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
  /** Rows and columns of pixels that a latent token stands for. */
  readonly patchSize: number;
  /** Width D of the frozen features; without meaning for spaces without them. */
  readonly featureChannels?: number;
  /** Residual channels R, e.g. 4, 8, 16 or 32; those of the size if omitted. */
  readonly residualChannels?: number;
  /** Noise τ with which the decoder is trained; none if omitted. */
  readonly noiseTau?: number;
}

/**
 * The settings of a named size.
 *
 * `published` is the paper's (patches of 16), `small` half its width and a third of its blocks (patches of 4, 8 or
 * 16), `micro` what two processor cores train in minutes (patches of 4 or 8), `tiny` for tests (patches of 4). Only
 * `published` has dropout. The residual of the space `residual` is never masked, since nothing stands beside it.
 *
 * @throws ConfigError if the size has no decoder for the patch.
 */
export function namedAutoencoder(size: AutoencoderSize, options: NamedAutoencoderOptions): AutoencoderConfig {
  const { space, imageSize, patchSize, noiseTau } = options;
  const decoder = decoderFor(size, patchSize);
  const residual = {
    ...RESIDUALS[size],
    ...(options.residualChannels !== undefined && { channels: options.residualChannels }),
    ...(space === "residual" && { maskProbability: 0 }),
  };
  return parseAutoencoderConfig({
    space,
    imageSize,
    patchSize,
    featureChannels: hasFeatures(space) ? options.featureChannels ?? 0 : 0,
    decoder,
    ...(space === "vae" ? { vae: { channels: size === "tiny" ? 4 : 16, klWeight: 1e-6 } } : {}),
    ...(hasResidual(space) ? { residual } : {}),
    ...(noiseTau !== undefined && { noiseTau }),
  });
}

/** Whether a latent space has a residual encoder. */
export function hasResidual(space: SpaceName): boolean {
  return space === "svg" || space === "svg-noalign" || space === "residual";
}

/** Whether the latents of a space hold the features of a frozen encoder. */
export function hasFeatures(space: SpaceName): boolean {
  return space === "svg" || space === "svg-noalign" || space === "dino";
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
  const { channels, ...form } = DECODERS[size], found = channels[patchSize];
  if (found !== undefined) return { channels: found, ...form };
  throw new ConfigError(
    `Cannot use autoencoder settings: size "${size}" has no decoder for patches of ${patchSize}`,
  );
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
  if ((config.space === "vae") !== (config.vae !== undefined)) {
    complain('"vae" belongs to the space vae alone');
  }
  if (hasResidual(config.space) !== (config.residual !== undefined)) {
    complain('"residual" belongs to the spaces svg, svg-noalign and residual alone');
  }
  if (hasFeatures(config.space) !== (config.featureChannels > 0)) {
    const wanted = hasFeatures(config.space) ? "positive" : "0";
    complain(`featureChannels must be ${wanted} for ${config.space}, got ${config.featureChannels}`);
  }
  if (config.vae && config.noiseTau !== undefined) complain('"noiseTau" is not for the space vae');
  checkNetworks(config, complain);
});

function checkNetworks(
  { space, decoder, residual }: AutoencoderConfig,
  complain: (message: string) => void,
): void {
  const { groups } = decoder;
  const undivided = groups === undefined ? undefined : decoder.channels.find((width) => width % groups !== 0);
  if (undivided !== undefined) {
    complain(`decoder.groups must divide the channels ${undivided}, got ${groups}`);
  }
  if (groups !== undefined && space === "vae") complain("decoder.groups is not for the space vae");
  if (!residual) return;
  if (residual.width % residual.heads !== 0) {
    complain(`residual.heads must divide the width ${residual.width}, got ${residual.heads}`);
  }
  if (space === "residual" && residual.maskProbability > 0) {
    complain(`residual.maskProbability must be 0 for residual, got ${residual.maskProbability}`);
  }
}
