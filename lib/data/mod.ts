/**
 * Data sets, their transforms and seeded batches.
 *
 * @module
 */
export * from "./cache_folder.ts";
export * from "./cifar10.ts";
export * from "./dataset.ts";
export * from "./load_dataset.ts";
export * from "./solids.ts";
export * from "./solids_factors.ts";
