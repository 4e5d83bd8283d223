/**
 * Vision transformers of the DINOv3 kind: forward pass, weight files, feature extraction and training by
 * self-distillation.
 *
 * @module
 */
export * from "./config.ts";
export * from "./encoder.ts";
export * from "./export.ts";
export * from "./head.ts";
export * from "./losses.ts";
export * from "./preprocessing.ts";
export * from "./preprocessor_config.ts";
export * from "./recipe.ts";
export * from "./self_distillation.ts";
export * from "./training.ts";
export * from "./vit.ts";
export * from "./weights.ts";
