/**
 * How good images are: Fréchet and kernel distances, precision and recall, inception score, reconstruction metrics,
 * and the classifier whose features they use.
 *
 * @module
 */
export { GaussianStats } from "novae/analysis/mod.ts";
export * from "./augmentation.ts";
export * from "./classifier_file.ts";
export * from "./classifier_maps.ts";
export * from "./classifier_model.ts";
export * from "./classifier_step.ts";
export * from "./classifier_training.ts";
export * from "./feature_classifier.ts";
export * from "./frechet.ts";
export * from "./inception_score.ts";
export * from "./jackknife.ts";
export * from "./kernel_distance.ts";
export * from "./manifold.ts";
export * from "./reconstruction.ts";
