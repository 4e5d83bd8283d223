/**
 * Training of one diffusion transformer in a run folder.
 *
 * @module
 */
export * from "./checkpoints.ts";
export * from "./config.ts";
export * from "./curves.ts";
export { describeRun, trainingBytes } from "./estimate.ts";
export * from "./evaluation.ts";
export * from "./figures.ts";
export { newestDiffusionRun, resolveRun } from "./folder.ts";
export * from "./judge.ts";
export * from "./latents.ts";
export * from "./options.ts";
export * from "./report.ts";
export * from "./run.ts";
export * from "./samples.ts";
export * from "./shown.ts";
export * from "./summary.ts";
export * from "./weights.ts";
