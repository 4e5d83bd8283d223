/**
 * LPIPS as a measure: compiled, for any number of images.
 *
 * @module
 */
import type * as tf from "@tensorflow/tfjs";
import { expectShape, gatherRows, type HostTensor } from "novae/tensor/mod.ts";
import { constantTree, type DeviceName, jit, type Jitted } from "novae/engine/mod.ts";
import { imageSignedFromUnit } from "../model.ts";
import { type Lpips, lpipsDistances, type LpipsParams } from "./lpips.ts";
import { expectTrunkImage, type LpipsNetwork } from "./trunk.ts";

/** Options of {@linkcode LpipsMetric}. */
export interface LpipsMetricOptions {
  /** Where it runs. Default `auto`. */
  readonly device?: DeviceName;
  /** Threads on the CPU; default: the number of cores. */
  readonly threads?: number;
  /** Pairs that are compared at once. Default 16. */
  readonly batchSize?: number;
}

type Compare = (imageUnitBHWC: tf.Tensor, otherUnitBHWC: tf.Tensor) => tf.Tensor;

/** Rounding that images in [0, 1] may leave their range by. */
const TOLERANCE = 1e-3;

/** LPIPS distances of pairs of images, in batches. */
export class LpipsMetric {
  /** The trunk. */
  readonly network: LpipsNetwork;
  /** SHA-256 of network and weights, the `extractor` of results. */
  readonly hash: string;
  readonly #batchSize: number;
  readonly #compare: Jitted<Compare>;

  /**
   * Compiles on first use.
   *
   * @throws RangeError if the batch size is not a positive integer.
   */
  constructor(lpips: Lpips, options: LpipsMetricOptions = {}) {
    const { device = "auto", threads, batchSize = 16 } = options;
    if (!Number.isInteger(batchSize) || batchSize < 1) {
      throw new RangeError(
        `Cannot compare in batches: batch size must be a positive integer, got ${batchSize}`,
      );
    }
    this.network = lpips.network;
    this.hash = lpips.hash;
    this.#batchSize = batchSize;
    const compare: Compare = (image, other) =>
      lpipsDistances(
        imageSignedFromUnit(image),
        imageSignedFromUnit(other),
        constantTree<LpipsParams>(lpips.params),
        lpips.network,
      );
    this.#compare = jit(compare, { device, threads, name: `lpips-${lpips.network}` });
  }

  /**
   * The distance of each pair; 0 for equal images.
   *
   * @param imageUnitBHWC images in [0, 1], `[B, H, W, 3]`, B ≥ 1.
   * @param otherUnitBHWC images of the same shape.
   * @returns B distances.
   * @throws TypeError if the shapes differ, RangeError if pixels are not in [0, 1], ConfigError if the images are too
   * small for the network.
   */
  async distances(imageUnitBHWC: HostTensor, otherUnitBHWC: HostTensor): Promise<Float32Array> {
    const [count, height, width] = imageUnitBHWC.shape;
    expectShape("Cannot compare images", imageUnitBHWC.shape, [null, null, null, 3]);
    expectShape("Cannot compare images", otherUnitBHWC.shape, imageUnitBHWC.shape);
    if (count === 0) throw new TypeError("Cannot compare images: at least one pair is needed, got none");
    expectTrunkImage(this.network, height, width);
    for (const images of [imageUnitBHWC, otherUnitBHWC]) expectUnitRange(images);
    const distances = new Float32Array(count);
    for (let start = 0; start < count; start += this.#batchSize) {
      const wanted = Math.min(this.#batchSize, count - start);
      // A rest is filled up with its last pair to a power of two, so that few sizes are ever compiled.
      const size = Math.min(2 ** Math.ceil(Math.log2(wanted)), this.#batchSize);
      const indices = Int32Array.from({ length: size }, (_, i) => Math.min(start + i, count - 1));
      const output = await this.#compare(
        gatherRows(imageUnitBHWC, indices),
        gatherRows(otherUnitBHWC, indices),
      );
      distances.set((await output.read()).data.subarray(0, wanted), start);
      output.dispose();
    }
    return distances;
  }

  /** The mean of {@linkcode distances}. */
  async mean(imageUnitBHWC: HostTensor, otherUnitBHWC: HostTensor): Promise<number> {
    const distances = await this.distances(imageUnitBHWC, otherUnitBHWC);
    return distances.reduce((sum, distance) => sum + distance, 0) / distances.length;
  }

  /** Releases the compiled graphs. */
  async dispose(): Promise<void> {
    await this.#compare.dispose();
  }
}

function expectUnitRange({ data }: HostTensor): void {
  for (const value of data) {
    if (value >= -TOLERANCE && value <= 1 + TOLERANCE) continue;
    throw new RangeError(`Cannot compare images: pixels must be in [0, 1], got ${value}`);
  }
}
