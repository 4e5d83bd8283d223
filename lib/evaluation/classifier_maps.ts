/**
 * A classifier's inner maps for a perceptual loss, and the guard that it is not the one that scores the result.
 *
 * @module
 */
import type * as tf from "@tensorflow/tfjs";
import { constantTree } from "novae/engine/mod.ts";
import { ConfigError, expectShape, type HostTensor } from "novae/tensor/mod.ts";
import { hashClassifier } from "./classifier_file.ts";
import { type ClassifierConfig, classifierMaps, type ClassifierParams } from "./classifier_model.ts";

/** A frozen classifier that tells its inner maps; what `classifierPerceptual` of the autoencoders takes. */
export interface ClassifierFeatureMaps {
  /** SHA-256 of its settings and weights, as of a `FeatureClassifier`. */
  readonly hash: string;
  /** Maps [B, S', S', C] of images in [0, 1], [B, S, S, 3]; the weights are constants of a graph. */
  maps(imageUnitBHWC: tf.Tensor): tf.Tensor[];
}

/**
 * A classifier as a source of maps, for a perceptual loss.
 *
 * It must not be the classifier that scores what is trained with it: see
 * {@linkcode expectIndependentClassifiers}.
 *
 * @param content settings and weights that fit them, as `trainFeatureClassifier` or `loadClassifier` give them.
 */
export function classifierFeatureMaps(
  content: { readonly config: ClassifierConfig; readonly params: ClassifierParams<HostTensor> },
): ClassifierFeatureMaps {
  const { config, params: { stem, stages, head } } = content, { imageSize } = config;
  return {
    hash: hashClassifier(config, { stem, stages, head }),
    maps: (imageUnitBHWC) => {
      expectShape("Cannot compare images", imageUnitBHWC.shape, [null, imageSize, imageSize, 3]);
      const weights = constantTree<Pick<ClassifierParams, "stem" | "stages">>({ stem, stages });
      return classifierMaps(imageUnitBHWC, weights, config);
    },
  };
}

/**
 * Refuses a classifier that would score what it has trained.
 *
 * @param trainedWith the classifier of the perceptual loss.
 * @param measuredWith the classifier of the measures.
 * @throws ConfigError if they are the same.
 */
export function expectIndependentClassifiers(
  trainedWith: { readonly hash: string },
  measuredWith: { readonly hash: string },
): void {
  if (trainedWith.hash !== measuredWith.hash) return;
  throw new ConfigError(
    "Cannot measure with the classifier of the perceptual loss: another one is needed, got twice " +
      trainedWith.hash.slice(0, 12),
  );
}
