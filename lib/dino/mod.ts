/**
 * Vision transformers of DINO, DINOv2 and DINOv3: forward pass, weight files of both naming schemes, feature
 * extraction and training by self-distillation.
 *
 * @module
 */
export * from "./batches.ts";
export * from "./collapse.ts";
export * from "./config.ts";
export * from "./distillation_state.ts";
export * from "./encoder.ts";
export * from "./export.ts";
export * from "./extraction.ts";
export * from "./gram.ts";
export * from "./head.ts";
export * from "./load_encoder.ts";
export * from "./losses.ts";
export * from "./open_encoder.ts";
export * from "./parameter_groups.ts";
export * from "./patch_masks.ts";
export * from "./positions.ts";
export * from "./preprocessing.ts";
export * from "./pretrained.ts";
export * from "./preprocessor_config.ts";
export * from "./published_recipes.ts";
export * from "./recipe.ts";
export * from "./recipe_check.ts";
export * from "./recipes.ts";
export * from "./self_distillation.ts";
export * from "./sizes.ts";
export * from "./standardise.ts";
export * from "./stem.ts";
export * from "./stochastic_depth.ts";
export * from "./training.ts";
export { type FamilyConfig, vitConfigFromTransformers } from "./transformers_config.ts";
export * from "./vit.ts";
export * from "./vit_params.ts";
export type { DinoFamily, WeightNaming } from "./weight_names.ts";
export * from "./weight_source.ts";
export { type EncoderFile, saveEncoder } from "./weights.ts";
