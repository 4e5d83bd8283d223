/**
 * Layers as pure functions with their initialisers, optimisers, schedules, moving averages and the training loop.
 *
 * @module
 */
export * from "./attention.ts";
export * from "./conv.ts";
export * from "./ema.ts";
export * from "./embeddings.ts";
export * from "./gradients.ts";
export * from "./group_norm_silu.ts";
export * from "./leaf_groups.ts";
export * from "./linear.ts";
export type { DivergenceRule, LossGuardState } from "./loss_guard.ts";
export * from "./mlp.ts";
export * from "./norm.ts";
export * from "./optimizer.ts";
export * from "./patches.ts";
export * from "./positions.ts";
export * from "./pytorch_layout.ts";
export * from "./resize.ts";
export * from "./schedule.ts";
export * from "./training_loop.ts";
