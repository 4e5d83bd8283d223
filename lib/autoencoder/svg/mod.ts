/**
 * The latent space of SVG: residual encoder, dropout, distribution alignment and the published settings.
 *
 * @module
 */
export * from "./alignment.ts";
export * from "./dropout.ts";
export * from "./presets.ts";
export * from "./residual_encoder.ts";
