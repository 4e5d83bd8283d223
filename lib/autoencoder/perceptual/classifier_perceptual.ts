/**
 * A perceptual loss on the maps of a classifier of one's own: what there is where the weights of LPIPS are not at hand.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import type { PerceptualLoss } from "../losses.ts";
import { unitNormalise } from "./unit_normalise.ts";

/** A frozen network that tells its inner maps. */
export interface FeatureMaps {
  /** SHA-256 of its settings and weights. */
  readonly hash: string;
  /**
   * Maps `[B, H', W', C]` of images in [0, 1], `[B, H, W, 3]`; pure, so that it can be compiled and differentiated.
   */
  maps(imageUnitBHWC: tf.Tensor): tf.Tensor[];
}

/**
 * Mean squared distance of a classifier's maps, normalised over channels, averaged over maps, places and images:
 * `mean_k mean_{b,h,w} Σ_c (f̂_kc − ĝ_kc)²`, in [0, 4].
 *
 * It is not LPIPS: the network is another one, nothing is calibrated on people, and its values compare with nothing
 * but themselves. The network must not be the one that scores the result, nor share weights with it: a decoder that is
 * trained to please a classifier is no longer measured by it. Train a second one, on another seed; its hash belongs
 * to the settings of the training.
 *
 * *Source*: Johnson et al., "Perceptual Losses for Real-Time Style Transfer and Super-Resolution" (arXiv 1603.08155).
 * *Differs*: maps are normalised over channels as in LPIPS, so that each layer counts the same.
 */
export function classifierPerceptual(features: FeatureMaps): PerceptualLoss {
  return (imageSigned, reconstructionSigned) => {
    const unit = (signed: tf.Tensor) => tf.mul(tf.add(signed, 1), 0.5);
    const maps = features.maps(unit(imageSigned)), others = features.maps(unit(reconstructionSigned));
    const layers = maps.map((map, k) => {
      const difference = tf.squaredDifference(unitNormalise(others[k], 3), unitNormalise(map, 3));
      return tf.mean(tf.sum(difference, 3));
    });
    return tf.div(layers.reduce((a, b) => tf.add(a, b)), layers.length) as tf.Scalar;
  };
}
