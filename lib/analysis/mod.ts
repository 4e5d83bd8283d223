/**
 * What a feature space holds, on plain matrices: moments, principal components, neighbours, linear probes,
 * separability of classes, their velocities on the path from noise, and pictures by UMAP.
 *
 * @module
 */
export * from "./distances.ts";
export * from "./eigen.ts";
export * from "./labels.ts";
export * from "./lbfgs.ts";
export * from "./linear_probe.ts";
export * from "./matrix.ts";
export * from "./mixture_velocity.ts";
export * from "./moments.ts";
export * from "./neighbor_vote.ts";
export * from "./pca.ts";
export * from "./products.ts";
export * from "./ridge.ts";
export * from "./separability.ts";
export * from "./similarity.ts";
export * from "./standardized_products.ts";
export * from "./umap.ts";
export * from "./velocity_dispersion.ts";
