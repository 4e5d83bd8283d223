/**
 * Images of a data set with the features of the frozen encoder, which the spaces built on it and the scores share.
 *
 * @module
 */
import type { HostTensor } from "novae/tensor/mod.ts";
import type { Dataset } from "novae/data/mod.ts";
import type { DinoEncoder, DinoFeatures } from "novae/dino/mod.ts";

/** Images that are in memory as floats at once. */
export const CHUNK = 500;

/** A data set in chunks; features are computed when they are first asked for, and kept if all of them fit. */
export class EncodedImages {
  /** The images. */
  readonly dataset: Dataset;
  readonly #encoder: DinoEncoder;
  readonly #keeps: boolean;
  readonly #kept = new Map<number, DinoFeatures>();

  /**
   * Computes nothing yet.
   *
   * @param maxBytes features that would take more are computed anew each time. Default 1 GiB.
   */
  constructor(encoder: DinoEncoder, dataset: Dataset, maxBytes = 2 ** 30) {
    this.dataset = dataset;
    this.#encoder = encoder;
    const tokens = (dataset.imageSize / encoder.config.patchSize) ** 2 + 1;
    this.#keeps = 4 * dataset.size * tokens * encoder.width <= maxBytes;
  }

  /** The chunks in order: where each starts, its images `[B, H, W, 3]` in [0, 1], and a way to their features. */
  *chunks(): Generator<
    { start: number; end: number; images: HostTensor; features(): Promise<DinoFeatures> }
  > {
    const { size } = this.dataset;
    for (let start = 0; start < size; start += CHUNK) {
      const end = Math.min(start + CHUNK, size);
      const images = this.dataset.images(Int32Array.from({ length: end - start }, (_, i) => start + i));
      yield { start, end, images, features: () => this.#features(start, images) };
    }
  }

  async #features(start: number, images: HostTensor): Promise<DinoFeatures> {
    const known = this.#kept.get(start);
    if (known) return known;
    const features = await this.#encoder.features(images);
    if (this.#keeps) this.#kept.set(start, features);
    return features;
  }
}
