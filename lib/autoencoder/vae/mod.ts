/**
 * The baseline: the KL autoencoder of latent diffusion.
 *
 * @module
 */
export * from "./conv_encoder.ts";
