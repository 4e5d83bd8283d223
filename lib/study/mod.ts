/**
 * The paper's comparison of latent spaces: configuration, stages, scores and report; and autoencoders by themselves, over
 * several seeds.
 *
 * @module
 */
export * from "./autoencoder_comparison.ts";
export * from "./autoencoder_quality.ts";
export * from "./comparison_config.ts";
export * from "./comparison_results.ts";
export * from "./comparison_table.ts";
export * from "./comparison_verdicts.ts";
export * from "./config.ts";
export * from "./diffusion_comparison.ts";
export * from "./diffusion_comparison_config.ts";
export * from "./diffusion_comparison_results.ts";
export { diffusionComparisonTable } from "./diffusion_comparison_table.ts";
export * from "./diffusion_comparison_verdicts.ts";
export * from "./diffusion_run/mod.ts";
export type { GenerationContext } from "./generation.ts";
export { describeStudy, stagePlan } from "./estimates.ts";
export { defaultStudy, shippedModel } from "./defaults.ts";
export * from "./feature_extractor.ts";
export * from "./findings.ts";
export * from "./labelled_images.ts";
export { loadStudyData } from "./materials.ts";
export { meanTokens } from "./mean_tokens.ts";
export { type ReportContent, studyReport } from "./report.ts";
export * from "./reconstruction_measures.ts";
export * from "./reproduce.ts";
export * from "./results.ts";
export * from "./spread.ts";
export { finalScore, studyTable } from "./tables.ts";
