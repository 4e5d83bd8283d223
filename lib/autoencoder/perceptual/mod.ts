/**
 * Perceptual distances: LPIPS as a loss and as a measure, and a loss on a classifier of one's own.
 *
 * @module
 */
export * from "./classifier_perceptual.ts";
export * from "./lpips.ts";
export * from "./lpips_files.ts";
export * from "./lpips_metric.ts";
export { expectTrunkImage, leastTrunkImage, type LpipsNetwork } from "./trunk.ts";
