/**
 * The baselines: the KL autoencoder of latent diffusion, and VA-VAE, which matches its latents to frozen features.
 *
 * @module
 */
export * from "./conv_encoder.ts";
export * from "./feature_matching.ts";
export * from "./vae_config.ts";
export * from "./vae_loss.ts";
