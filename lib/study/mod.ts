/**
 * The paper's comparison of latent spaces: configuration, stages, scores and report.
 *
 * @module
 */
export * from "./config.ts";
export { describeStudy, stagePlan } from "./estimates.ts";
export * from "./findings.ts";
export { loadStudyData } from "./materials.ts";
export { type ReportContent, studyReport } from "./report.ts";
export * from "./reproduce.ts";
export * from "./results.ts";
export { finalScore, studyTable } from "./tables.ts";
