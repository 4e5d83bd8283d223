/**
 * LPIPS, a distance between images that was calibrated on judgements of people, as a loss and as a function.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import type { HostTensor } from "novae/tensor/mod.ts";
import { constantTree } from "novae/engine/mod.ts";
import type { ConvParams } from "novae/nn/mod.ts";
import type { PerceptualLoss } from "../losses.ts";
import { expectTrunkImage, leastTrunkImage, type LpipsNetwork, trunkMaps } from "./trunk.ts";
import { unitNormalise } from "./unit_normalise.ts";

/** Weights of LPIPS. */
export interface LpipsParams<T = tf.Tensor> {
  /** Convolutions of the trunk, in order. */
  readonly trunk: readonly ConvParams<T>[];
  /** Weight of each channel of each compared map, `[C]`. */
  readonly heads: readonly T[];
}

/** LPIPS with its weights. */
export interface Lpips {
  /** The trunk. */
  readonly network: LpipsNetwork;
  /** Its weights and those of the heads. */
  readonly params: LpipsParams<HostTensor>;
  /** SHA-256 of network and weights; names the measure beside its results. */
  readonly hash: string;
}

/**
 * LPIPS distance of each pair of images.
 *
 * `d = Σ_k mean_{h,w} Σ_c w_kc·(f̂_kc − ĝ_kc)²`, where `f̂ = f / (‖f‖ + 1e-10)` are the maps of the trunk, normalised
 * over channels
 *
 * *Source*: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (arXiv 1801.03924),
 * version 0.1 of the weights; the same in `taming/modules/losses/lpips.py` of CompVis/taming-transformers. Both take
 * the root of the plain sum of squares and add 1e-10 behind it. *Differs*: where all channels of a place are 0 their
 * root has no slope, and the gradient there is 0 and not NaN.
 *
 * @param imageSignedBHWC images in [−1, 1], `[B, H, W, 3]`.
 * @param otherSignedBHWC images of the same shape.
 * @returns `[B]`, at least 0 with the published heads.
 * @throws ConfigError if the images are too small for the trunk.
 */
export function lpipsDistances(
  imageSignedBHWC: tf.Tensor,
  otherSignedBHWC: tf.Tensor,
  params: LpipsParams,
  network: LpipsNetwork,
): tf.Tensor1D {
  expectTrunkImage(network, imageSignedBHWC.shape[1]!, imageSignedBHWC.shape[2]);
  const maps = trunkMaps(imageSignedBHWC, params.trunk, network);
  const others = trunkMaps(otherSignedBHWC, params.trunk, network);
  const layers = params.heads.map((weights, k) => {
    const difference = tf.squaredDifference(unitNormalise(others[k], 1), unitNormalise(maps[k], 1));
    return tf.sum(tf.mul(tf.mean(difference, [2, 3]), weights), 1);
  });
  return layers.reduce((a, b) => tf.add(a, b)) as tf.Tensor1D;
}

/**
 * LPIPS as a loss, averaged over the batch. Its weights are constants of the graph and are not trained; gradients flow
 * to the reconstruction alone.
 */
export function lpipsLoss({ params, network }: Lpips): PerceptualLoss {
  const loss = (imageSigned: tf.Tensor, reconstructionSigned: tf.Tensor) =>
    tf.mean(
      lpipsDistances(imageSigned, reconstructionSigned, constantTree<LpipsParams>(params), network),
    ) as tf.Scalar;
  return Object.assign(loss, { leastImageSize: leastTrunkImage(network) });
}
