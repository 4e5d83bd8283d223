/**
 * Tensors in host memory, trees of them, seeded random numbers and the project's error classes. Depends on nothing.
 *
 * @module
 */
export * from "./channel_moments.ts";
export * from "./errors.ts";
export * from "./host_tensor.ts";
export * from "./rng.ts";
export * from "./strict_params.ts";
export * from "./told.ts";
export * from "./tree.ts";
