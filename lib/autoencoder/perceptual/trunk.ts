/**
 * The trunks of LPIPS: the convolutions of VGG16 and AlexNet up to their last rectifier, on channels-first maps.
 *
 * *Source*: `features` of torchvision's `vgg16` and `alexnet`, cut where `lpips/pretrained_networks.py` of
 * richzhang/PerceptualSimilarity cuts them (relu1_2 to relu5_3, and relu1 to relu5). *Differs*: the number of channels
 * is that of the weights.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { ConfigError, type HostTensor } from "novae/tensor/mod.ts";
import { conv2dCHW, type ConvParams } from "novae/nn/mod.ts";
import { TO_CHW, TO_HWC } from "../decoder.ts";

/** The networks that LPIPS has been calibrated for and that can be read here. */
export type LpipsNetwork = "vgg16" | "alexnet";

/** A convolution and the rectifier behind it. */
export interface TrunkLayer {
  /** Its place in torchvision's `features`. */
  readonly place: number;
  /** Rows and columns of the kernel. */
  readonly kernel: number;
  /** Step in both directions. */
  readonly stride: number;
  /** Zeros on each side. */
  readonly padding: number;
  /** Rows and columns of a maximum pooling before it, with steps of 2. */
  readonly pool?: number;
  /** Whether its map is compared. */
  readonly tap: boolean;
}

/** A VGG layer: 3×3, same size. */
const vgg = (place: number, pool = false, tap = false): TrunkLayer => ({
  place,
  kernel: 3,
  stride: 1,
  padding: 1,
  pool: pool ? 2 : undefined,
  tap,
});

/** The layers of each trunk in order. */
export const TRUNK_LAYERS: Readonly<Record<LpipsNetwork, readonly TrunkLayer[]>> = {
  vgg16: [
    ...[vgg(0), vgg(2, false, true)],
    ...[vgg(5, true), vgg(7, false, true)],
    ...[vgg(10, true), vgg(12), vgg(14, false, true)],
    ...[vgg(17, true), vgg(19), vgg(21, false, true)],
    ...[vgg(24, true), vgg(26), vgg(28, false, true)],
  ],
  alexnet: [
    { place: 0, kernel: 11, stride: 4, padding: 2, tap: true },
    { place: 3, kernel: 5, stride: 1, padding: 2, pool: 3, tap: true },
    { place: 6, kernel: 3, stride: 1, padding: 1, pool: 3, tap: true },
    { place: 8, kernel: 3, stride: 1, padding: 1, tap: true },
    { place: 10, kernel: 3, stride: 1, padding: 1, tap: true },
  ],
};

/** Means and spreads of the colours of images in [−1, 1] that the trunks expect, as LPIPS's scaling layer has them. */
export const LPIPS_SHIFT: readonly number[] = [-0.030, -0.088, -0.188],
  LPIPS_SCALE: readonly number[] = [0.458, 0.448, 0.450];

/** Fewest rows and columns of images from which a trunk has maps at all its taps: 16 for VGG16, 31 for AlexNet. */
export function leastTrunkImage(network: LpipsNetwork): number {
  let size = 1;
  while (!fits(network, size)) size++;
  return size;
}

function fits(network: LpipsNetwork, imageSize: number): boolean {
  let size = imageSize;
  for (const { kernel, stride, padding, pool } of TRUNK_LAYERS[network]) {
    if (pool) size = Math.floor((size - pool) / 2) + 1;
    size = Math.floor((size + 2 * padding - kernel) / stride) + 1;
    if (size < 1) return false;
  }
  return true;
}

/**
 * Checks that images are large enough for a trunk.
 *
 * @throws ConfigError if they are not.
 */
export function expectTrunkImage(network: LpipsNetwork, height: number, width = height): void {
  const least = leastTrunkImage(network);
  if (Math.min(height, width) >= least) return;
  throw new ConfigError(
    `Cannot compare images by LPIPS (${network}): they must have at least ${least} × ${least} pixels, ` +
      `got ${height} × ${width}`,
  );
}

/**
 * The maps of a trunk behind the rectifiers that LPIPS compares.
 *
 * @param imageSignedBHWC images in [−1, 1].
 * @param params convolutions in the order of {@linkcode TRUNK_LAYERS}.
 * @returns five maps `[B, C, H', W']`, the finest first.
 */
export function trunkMaps(
  imageSignedBHWC: tf.Tensor,
  params: readonly ConvParams[],
  network: LpipsNetwork,
): tf.Tensor[] {
  const scaled = tf.div(tf.sub(imageSignedBHWC, [...LPIPS_SHIFT]), [...LPIPS_SCALE]);
  let x: tf.Tensor = tf.transpose(scaled, TO_CHW);
  const maps: tf.Tensor[] = [];
  TRUNK_LAYERS[network].forEach(({ stride, padding, pool, tap }, i) => {
    if (pool) x = maxPoolCHW(x, pool);
    x = tf.relu(conv2dCHW(x, params[i], { stride, padding }));
    if (tap) maps.push(x);
  });
  return maps;
}

/** Channels of the maps that are compared. */
export function tapWidths(params: readonly ConvParams<HostTensor>[], network: LpipsNetwork): number[] {
  return TRUNK_LAYERS[network].flatMap(({ tap }, i) => tap ? [params[i].bias.shape[0]] : []);
}

function maxPoolCHW(xBCHW: tf.Tensor, size: number): tf.Tensor {
  const pooled = tf.maxPool(tf.transpose(xBCHW, TO_HWC) as tf.Tensor4D, size, 2, "valid");
  return tf.transpose(pooled, TO_CHW);
}
