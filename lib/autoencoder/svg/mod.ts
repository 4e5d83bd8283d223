/**
 * The latent space of SVG: residual encoder and distribution alignment.
 *
 * @module
 */
export * from "./alignment.ts";
export * from "./residual_encoder.ts";
