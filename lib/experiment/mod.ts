/**
 * Experiments: configurations, run folders, stages, checkpoints, metrics, progress and tables.
 *
 * @module
 */
export * from "./checkpoint_store.ts";
export * from "./comparison.ts";
export * from "./counted_work.ts";
export * from "./duration.ts";
export * from "./environment.ts";
export { MetricsLog, type MetricsRecord } from "./metrics_log.ts";
export * from "./overrides.ts";
export * from "./progress.ts";
export * from "./run_folder.ts";
export { readStatus, type RunState, type RunStatus } from "./run_status.ts";
export * from "./schema.ts";
export * from "./stages.ts";
export * from "./supervise.ts";
export * from "./text_table.ts";
