/**
 * Settings of variational autoencoders, and the published ones.
 *
 * @module
 */
import type { DecoderConfig } from "../decoder.ts";
import type { FeatureMatchingConfig } from "./feature_matching.ts";

/** What `vae` and `va-vae` have and the other spaces lack. */
export interface VaeConfig {
  /** Latent channels Z. */
  readonly channels: number;
  /** Weight of the KL divergence beside a reconstruction loss that is summed over an image's values. */
  readonly klWeight: number;
  /** Residual blocks a level of the encoder; as many as the decoder's if omitted. Published ones have one fewer. */
  readonly encoderBlocks?: number;
  /** Whether 1×1 convolutions stand between encoder, latents and decoder. Default false. */
  readonly quantConvs?: boolean;
  /** For `va-vae` alone: how its latents are matched to frozen features in training. */
  readonly featureMatching?: FeatureMatchingConfig;
}

/** Published variational autoencoders by down-sampling factor and latent channels. */
export type PublishedVaeName = "kl-f8d4" | "kl-f8d16" | "kl-f16d16" | "kl-f16d32";

/** The networks of a published variational autoencoder. */
export interface PublishedVae {
  /** Form of the decoder, which the encoder mirrors. */
  readonly decoder: DecoderConfig;
  /** The other settings. */
  readonly vae: VaeConfig;
}

const F8: DecoderConfig = {
  channels: [512, 512, 256, 128],
  blocks: 3,
  midAttention: true,
  attentionLevels: 0,
  outPatch: 1,
};

const F16: DecoderConfig = {
  channels: [512, 256, 256, 128, 128],
  blocks: 3,
  midAttention: true,
  attentionLevels: 1,
  outPatch: 1,
};

const published = (decoder: DecoderConfig, channels: number, quantConvs = true): PublishedVae => ({
  decoder,
  vae: { channels, klWeight: 1e-6, encoderBlocks: decoder.blocks - 1, quantConvs },
});

/**
 * The published ones: `kl-f8d4` of latent diffusion and Stable Diffusion (83,653,863 parameters), `kl-f8d16` of
 * Stable Diffusion 3 and FLUX.1 (83,819,683, without 1×1 convolutions), `kl-f16d16` of latent diffusion and
 * `kl-f16d32` of LightningDiT, whose network is also that of VA-VAE.
 *
 * *Source*: `configs/autoencoder` and `models/first_stage_models` of CompVis/latent-diffusion, `vavae/configs` of
 * hustvl/LightningDiT, `AutoencoderKL` of Hugging Face's diffusers.
 */
export const PUBLISHED_VAES: Readonly<Record<PublishedVaeName, PublishedVae>> = {
  "kl-f8d4": published(F8, 4),
  "kl-f8d16": published(F8, 16, false),
  "kl-f16d16": published(F16, 16),
  "kl-f16d32": published(F16, 32),
};

/** Whether a text names a published variational autoencoder. */
export function isPublishedVaeName(name: string): name is PublishedVaeName {
  return Object.hasOwn(PUBLISHED_VAES, name);
}
