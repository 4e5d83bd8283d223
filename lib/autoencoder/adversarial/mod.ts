/**
 * Training against a discriminator: PatchGAN, its losses, and one update of either side.
 *
 * @module
 */
export * from "./batch_norm.ts";
export * from "./discriminator.ts";
export * from "./discriminator_file.ts";
export * from "./discriminator_step.ts";
export * from "./generator.ts";
export * from "./losses.ts";
export * from "./settings.ts";
