/**
 * Layers as pure functions with their initialisers, optimisers, schedules, moving averages and the training loop.
 *
 * @module
 */
export * from "./attention.ts";
export * from "./embeddings.ts";
export * from "./linear.ts";
export * from "./mlp.ts";
export * from "./norm.ts";
export * from "./positions.ts";
