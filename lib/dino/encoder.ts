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
  mapTree,
  rows,
} from "novae/tensor/mod.ts";
import {
  constantTree,
  type DeviceName,
  type DeviceTensor,
  disposeTree,
  jit,
  type Jitted,
  read,
} from "novae/engine/mod.ts";
import { hashBytes } from "novae/io/mod.ts";
import { countVitParams, type VitConfig } from "./config.ts";
import { loadEncoder, type LoadEncoderOptions } from "./load_encoder.ts";
import { imageDinoFromUnit, preprocess, type Preprocessing } from "./preprocessing.ts";
import { type PretrainedOptions, readPretrained } from "./pretrained.ts";
import { vit, type VitOptions } from "./vit.ts";
import type { VitParams } from "./vit_params.ts";
import type { WeightSource } from "./weight_source.ts";

/** Class and patch tokens of a batch of images. */
export interface DinoTokens<T = HostTensor> {
  /** Class token of each image [B, D]. */
  clsBD: T;
  /** Patch tokens of each image, row by row [B, N, D]. */
  patchesBND: T;
}

/** Features of a batch of images, after the final normalisation. */
export interface DinoFeatures<T = HostTensor> extends DinoTokens<T> {
  /** Tokens behind each of the last blocks, the last block last, if asked for. */
  lastBlocks?: DinoTokens<T>[];
  /** Attention weights of the last block, if asked for: [B, A, T, T], or [B, A, T] for the class token. */
  attention?: T;
}

/** What {@linkcode DinoEncoder.features} gives beside class and patch tokens; see `VitOptions`. */
export type DinoFeatureOptions = Pick<VitOptions, "lastBlocks" | "norm" | "attention">;

/** Options of {@linkcode DinoEncoder}. */
export interface DinoEncoderOptions {
  /** Where the encoder runs; default `auto`. */
  readonly device?: DeviceName;
  /** Images that run at once; default 64. */
  readonly batchSize?: number;
  /**
   * Whether the weights are constants of the graph, which the runtime lays out for its products once, or are fed at
   * each run. Default `constants` as far as a graph can hold them, 2 GB (about 500 million weights), else `fed`.
   */
  readonly weights?: "constants" | "fed";
  /** What happens to images in the graph, before the encoder; ImageNet's normalisation alone if omitted. */
  readonly preprocessing?: Preprocessing;
}

type Forward = (
  imageUnitBHWC: tf.Tensor,
  options: DinoFeatureOptions,
  fed: VitParams | null,
) => DinoFeatures<tf.Tensor>;

/** The limit of a serialised graph, less room for its nodes. */
const MAX_CONSTANT_BYTES = 2 ** 31 - 2 ** 26;

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
  #hash: string | null = null;
  readonly #batchSize: number;
  readonly #fed: VitParams<HostTensor> | null;
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
    const fits = 4 * countVitParams(config) <= MAX_CONSTANT_BYTES;
    const { weights = fits ? "constants" : "fed", preprocessing: spec } = options;
    this.config = config;
    this.params = params;
    this.#batchSize = batchSize;
    this.#fed = weights === "fed" ? params : null;
    this.#forward = jit(
      ((imageUnitBHWC, wanted, fed) => {
        const given = fed ?? constantTree<VitParams>(params);
        const imageDino = spec ? preprocess(imageUnitBHWC, spec) : imageDinoFromUnit(imageUnitBHWC);
        const out = vit(imageDino, given, config, wanted);
        const tokens = ({ clsBD, patchesBND }: DinoTokens<tf.Tensor>) => ({ clsBD, patchesBND });
        return {
          ...tokens(out),
          ...(wanted.lastBlocks && { lastBlocks: out.lastBlocks.map(tokens) }),
          ...(out.attention && { attention: out.attention }),
        };
      }) as Forward,
      { device, name: "dino-encoder" },
    );
  }

  /**
   * Loads an encoder from the model hub, a folder or a file.
   *
   * @param reference as `loadEncoder` takes it.
   * @throws WeightsError as `loadEncoder` does.
   */
  static async load(
    reference: string,
    options: DinoEncoderOptions & LoadEncoderOptions = {},
  ): Promise<DinoEncoder> {
    const { config, params } = await loadEncoder(reference, options);
    return new DinoEncoder(config, params, options);
  }

  /**
   * Takes a published encoder of DINO, DINOv2 or DINOv3 from its weights.
   *
   * @param source the tensors of its files.
   * @throws WeightsError as `readPretrained` does.
   */
  static async fromPretrained(
    source: WeightSource,
    options: DinoEncoderOptions & PretrainedOptions = {},
  ): Promise<DinoEncoder> {
    const { config, params } = await readPretrained(source, options);
    return new DinoEncoder(config, params, options);
  }

  /** SHA-256 of settings and weights, to name the encoder beside results. */
  get hash(): string {
    return this.#hash ??= hashEncoder(this.config, this.params);
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
   * @param imageUnitBHWC pixels in [0, 1], [B, H, W, 3] with B ≥ 1, H and W multiples of the patch once prepared.
   * @param options more features than class and patch tokens.
   * @returns class tokens [B, D] and patch tokens [B, N, D], and what was asked for.
   * @throws TypeError if the images do not have this shape; RangeError if there are fewer blocks than asked for.
   */
  async features(imageUnitBHWC: HostTensor, options: DinoFeatureOptions = {}): Promise<DinoFeatures> {
    expectShape("Cannot encode images", imageUnitBHWC.shape, [null, null, null, 3]);
    const count = imageUnitBHWC.shape[0];
    if (count === 0) throw new TypeError("Cannot encode images: at least one is needed, got none");
    const batches: DinoFeatures[] = [];
    for (let start = 0; start < count; start += this.#batchSize) {
      const batch = rows(imageUnitBHWC, start, Math.min(start + this.#batchSize, count));
      const out = await this.featuresOnDevice(batch, options);
      batches.push(await read(out) as DinoFeatures);
      disposeTree(out);
    }
    return joinBatches(batches);
  }

  /**
   * Encodes one batch, however large, and leaves the features on the device, so that only those are read that are
   * wanted.
   *
   * @param imageUnitBHWC as {@link features} takes it.
   * @returns tensors that the caller disposes of.
   * @throws TypeError and RangeError as {@link features}.
   */
  async featuresOnDevice(
    imageUnitBHWC: HostTensor,
    options: DinoFeatureOptions = {},
  ): Promise<DinoFeatures<DeviceTensor>> {
    return await this.#forward(imageUnitBHWC, options, this.#fed) as DinoFeatures<DeviceTensor>;
  }

  /** Releases the compiled graphs. */
  async dispose(): Promise<void> {
    await this.#forward.dispose();
  }
}

function joinBatches(batches: readonly DinoFeatures[]): DinoFeatures {
  const leaves = batches.map((batch) => flattenTree<HostTensor>(batch, isHostTensor));
  let at = 0;
  return mapTree<DinoFeatures>(batches[0], isHostTensor, () => {
    const joined = concatRows(leaves.map((ofBatch) => ofBatch[at].value));
    at++;
    return joined;
  });
}

/** SHA-256 of settings and weights of an encoder, hexadecimal. */
export function hashEncoder(config: VitConfig, params: VitParams<HostTensor>): string {
  const leaves = flattenTree<HostTensor>(params, isHostTensor);
  return hashBytes(JSON.stringify(config), ...leaves.flatMap((leaf) => [leaf.path, leaf.value.data]));
}
