/**
 * A frozen encoder that turns images into features.
 *
 * @module
 */
import type * as tf from "@tensorflow/tfjs";
import {
  concatRows,
  expectShape,
  flattenTree,
  type HostTensor,
  isHostTensor,
  rows,
} from "novae/tensor/mod.ts";
import { constantTree, type DeviceName, jit, type Jitted } from "novae/engine/mod.ts";
import { hashBytes } from "novae/io/mod.ts";
import { countVitParams, type VitConfig } from "./config.ts";
import { imageDinoFromUnit } from "./preprocessing.ts";
import { vit, type VitParams } from "./vit.ts";
import { loadEncoder } from "./weights.ts";

/** Features of a batch of images, after the final normalisation. */
export interface DinoFeatures<T = HostTensor> {
  /** Class token of each image [B, D]. */
  clsBD: T;
  /** Patch tokens of each image, row by row [B, N, D]. */
  patchesBND: T;
}

/** Options of {@linkcode DinoEncoder}. */
export interface DinoEncoderOptions {
  /** Where the encoder runs; default `auto`. */
  readonly device?: DeviceName;
  /** Images that run at once; default 64. */
  readonly batchSize?: number;
}

type Forward = (imageUnitBHWC: tf.Tensor) => DinoFeatures<tf.Tensor>;

/**
 * A frozen vision transformer, compiled, which takes any number of images and runs them in batches.
 *
 * @example
 * ```ts
 * import { Rng, zeros } from "novae/tensor/mod.ts";
 * import { DinoEncoder, initVit, VIT_SIZES } from "novae/dino/mod.ts";
 * const encoder = new DinoEncoder(VIT_SIZES.tiny, initVit(new Rng(0), VIT_SIZES.tiny), { device: "cpu" });
 * const { patchesBND } = await encoder.features(zeros([3, 16, 16, 3]));
 * if (`${patchesBND.shape}` !== "3,16,16") throw new Error("unexpected shape");
 * await encoder.dispose();
 * ```
 */
export class DinoEncoder {
  /** Settings of the transformer. */
  readonly config: VitConfig;
  /** Its weights. */
  readonly params: VitParams<HostTensor>;
  /** SHA-256 of settings and weights, to name the encoder beside results. */
  readonly hash: string;
  readonly #batchSize: number;
  readonly #forward: Jitted<Forward>;

  /**
   * Nothing is compiled yet.
   *
   * @param params weights that fit `config`.
   * @throws RangeError if the batch size is not a positive integer.
   */
  constructor(config: VitConfig, params: VitParams<HostTensor>, options: DinoEncoderOptions = {}) {
    const { device = "auto", batchSize = 64 } = options;
    if (!Number.isInteger(batchSize) || batchSize < 1) {
      throw new RangeError(
        `Cannot encode in batches: batch size must be a positive integer, got ${batchSize}`,
      );
    }
    this.config = config;
    this.params = params;
    this.hash = hashEncoder(config, params);
    this.#batchSize = batchSize;
    this.#forward = jit(
      ((imageUnitBHWC) => {
        // Weights are constants of the graph, so that the runtime can lay them out for its products once.
        const weights = constantTree<VitParams>(params);
        const { clsBD, patchesBND } = vit(imageDinoFromUnit(imageUnitBHWC), weights, config);
        return { clsBD, patchesBND };
      }) as Forward,
      { device, name: "dino-encoder" },
    );
  }

  /**
   * Reads an encoder from a file written by `saveEncoder`.
   *
   * @throws WeightsError as `loadEncoder` does.
   */
  static async load(path: string, options: DinoEncoderOptions = {}): Promise<DinoEncoder> {
    const { config, params } = await loadEncoder(path);
    return new DinoEncoder(config, params, options);
  }

  /** D, width of class and patch tokens. */
  get width(): number {
    return this.config.width;
  }

  /** Number of weights. */
  get parameterCount(): number {
    return countVitParams(this.config);
  }

  /**
   * Encodes images, in batches of the encoder's batch size; a rest is encoded in a batch of its own size.
   *
   * @param imageUnitBHWC pixels in [0, 1], [B, H, W, 3] with B ≥ 1, H and W multiples of the patch.
   * @returns class tokens [B, D] and patch tokens [B, N, D].
   * @throws TypeError if the images do not have this shape.
   */
  async features(imageUnitBHWC: HostTensor): Promise<DinoFeatures> {
    expectShape("Cannot encode images", imageUnitBHWC.shape, [null, null, null, 3]);
    const count = imageUnitBHWC.shape[0];
    if (count === 0) throw new TypeError("Cannot encode images: at least one is needed, got none");
    const cls: HostTensor[] = [], patches: HostTensor[] = [];
    for (let start = 0; start < count; start += this.#batchSize) {
      const batch = rows(imageUnitBHWC, start, Math.min(start + this.#batchSize, count));
      const out = await this.#forward(batch);
      cls.push(await out.clsBD.read());
      patches.push(await out.patchesBND.read());
      out.clsBD.dispose();
      out.patchesBND.dispose();
    }
    return { clsBD: concatRows(cls), patchesBND: concatRows(patches) };
  }

  /** Releases the compiled graphs. */
  async dispose(): Promise<void> {
    await this.#forward.dispose();
  }
}

function hashEncoder(config: VitConfig, params: VitParams<HostTensor>): string {
  const leaves = flattenTree<HostTensor>(params, isHostTensor);
  return hashBytes(JSON.stringify(config), ...leaves.flatMap((leaf) => [leaf.path, leaf.value.data]));
}
