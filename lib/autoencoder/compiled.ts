/**
 * An autoencoder with weights, compiled, that takes any number of images.
 *
 * @module
 */
import type * as tf from "@tensorflow/tfjs";
import { ConfigError, expectShape, type HostTensor } from "novae/tensor/mod.ts";
import { constantTree, type DeviceName, jit, type Jitted } from "novae/engine/mod.ts";
import { imageDinoFromUnit } from "novae/dino/mod.ts";
import type { AlignmentMode, Autoencoder, EncodeOptions, LatentStats, SpaceName } from "./autoencoder.ts";
import { concatChannels, imagesAtOnce, inBatches } from "./_batches.ts";
import { expectLatents, expectUnit } from "./_inputs.ts";
import { type AutoencoderConfig, hasFeatures, latentChannels, latentGrid } from "./config.ts";
import type { DecoderParams } from "./decoder.ts";
import { hashAutoencoder } from "./hash.ts";
import { type AutoencoderParams, decodeTokens, imageSignedFromUnit, imageUnitFromSigned } from "./model.ts";
import {
  type AlignmentStats,
  alignResidual,
  batchAlignment,
  encodeResidual,
  type ResidualEncoderParams,
} from "./svg/mod.ts";
import { type ConvEncoderParams, encodePosterior } from "./vae/mod.ts";

/** What an autoencoder needs of the frozen encoder; a `DinoEncoder` is one. */
export interface FrozenEncoder {
  /** D, channels of the patch features. */
  readonly width: number;
  /** Identifies settings and weights. */
  readonly hash: string;
  /** Patch features `[B, N, D]` of images in [0, 1]. */
  features(imageUnitBHWC: HostTensor): Promise<{ readonly patchesBND: HostTensor }>;
}

/** What belongs to an autoencoder beside its parameters. */
export interface CompiledAutoencoderOptions {
  /** The frozen encoder; needed by spaces whose latents hold its features. It is not disposed with the autoencoder. */
  readonly encoder?: FrozenEncoder;
  /** Statistics of the alignment; needed by `svg` to encode, unless those of each batch are used. */
  readonly alignment?: AlignmentStats;
  /** What `encode` does unless it is told otherwise; default `stored`. */
  readonly alignmentMode?: AlignmentMode;
  /** Statistics of the latents, carried along for whoever normalises them. */
  readonly stats?: LatentStats;
  /** Where it runs; default `auto`. */
  readonly device?: DeviceName;
  /** Threads on the CPU; default: the number of cores. */
  readonly threads?: number;
  /** Most images that run at once. Default 64, fewer for images of more than 64 × 64 pixels. */
  readonly batchSize?: number;
}

/** Features and residual of images before they are joined; each absent where the space has none. */
export interface LatentParts {
  /** Frozen features `[B, N, D]`. */
  readonly features?: HostTensor;
  /** Residual `[B, N, R]`, not aligned. */
  readonly residual?: HostTensor;
  /** Mean of a variational autoencoder's posterior `[B, N, Z]`. */
  readonly mean?: HostTensor;
}

type Network = (input: tf.Tensor) => tf.Tensor;

/** Where networks run. */
interface Place {
  readonly device: DeviceName;
  readonly threads?: number;
}

/** The compiled networks of one set of weights. */
interface Networks {
  /** Images in [0, 1] to the residual or to the posterior's mean; absent for `dino`. */
  readonly encode?: Jitted<Network>;
  /** Latents to images in [0, 1]. */
  readonly decode: Jitted<Network>;
}

/** An autoencoder whose networks run compiled, in batches. */
export class CompiledAutoencoder implements Autoencoder {
  /** Its settings. */
  readonly config: AutoencoderConfig;
  /** The frozen encoder; undefined for spaces whose latents do not hold its features. */
  readonly encoder: FrozenEncoder | undefined;
  readonly #batchSize: number;
  readonly #place: Place;
  readonly #alignmentMode: AlignmentMode;
  #networks: Networks;
  #params: AutoencoderParams<HostTensor>;
  #alignment: AlignmentStats | undefined;
  #stats: LatentStats | undefined;
  #hash: string | undefined;

  /**
   * Compiles nothing before it is first used.
   *
   * @throws ConfigError if the space needs an encoder and none or one of another width is given.
   */
  constructor(
    config: AutoencoderConfig,
    params: AutoencoderParams<HostTensor>,
    options: CompiledAutoencoderOptions = {},
  ) {
    const { device = "auto", threads, encoder, batchSize = imagesAtOnce(config.imageSize) } = options;
    if (hasFeatures(config.space)) expectEncoder(config, encoder);
    if (!Number.isInteger(batchSize) || batchSize < 1) {
      throw new RangeError(`Cannot run in batches: batch size must be a positive integer, got ${batchSize}`);
    }
    this.config = config;
    this.encoder = hasFeatures(config.space) ? encoder : undefined;
    this.#batchSize = batchSize;
    this.#params = params;
    this.#alignment = options.alignment;
    this.#stats = options.stats;
    this.#place = { device, threads };
    this.#alignmentMode = options.alignmentMode ?? "stored";
    this.#networks = compileNetworks(config, params, this.#place);
  }

  /** Which of the spaces it is. */
  get name(): SpaceName {
    return this.config.space;
  }

  get channels(): number {
    return latentChannels(this.config);
  }

  get grid(): number {
    return latentGrid(this.config);
  }

  get imageSize(): number {
    return this.config.imageSize;
  }

  /** SHA-256 of what decides latents and reconstructions; see {@linkcode hashAutoencoder}. */
  get hash(): string {
    const { config, params, alignment, encoder } = this;
    return this.#hash ??= hashAutoencoder({ config, params, alignment, encoderHash: encoder?.hash });
  }

  /** Its weights. */
  get params(): AutoencoderParams<HostTensor> {
    return this.#params;
  }

  /** Statistics of the alignment; undefined for spaces without it and before they are measured. */
  get alignment(): AlignmentStats | undefined {
    return this.#alignment;
  }

  /**
   * Statistics of the latents.
   *
   * @throws ConfigError if they were not measured.
   */
  get stats(): LatentStats {
    if (this.#stats) return this.#stats;
    throw new ConfigError(
      `Cannot normalise latents of ${this.name}: their statistics are needed, got an untrained model`,
    );
  }

  /** Replaces weights and statistics, as between the evaluations of a training. */
  async update(
    params: AutoencoderParams<HostTensor>,
    measured: { readonly alignment?: AlignmentStats; readonly stats?: LatentStats } = {},
  ): Promise<void> {
    this.#alignment = measured.alignment;
    this.#stats = measured.stats;
    this.#hash = undefined;
    if (params === this.#params) return;
    await this.dispose();
    this.#params = params;
    this.#networks = compileNetworks(this.config, params, this.#place);
  }

  async encode(imageUnitBHWC: HostTensor, { alignment }: EncodeOptions = {}): Promise<HostTensor> {
    return this.join(await this.encodeParts(imageUnitBHWC), alignment);
  }

  /**
   * Features and residual of images, or the mean of a variational autoencoder's posterior.
   *
   * @param features the frozen features of the images if they are known already.
   * @throws TypeError if the images do not have the autoencoder's size, or the features not its tokens and channels;
   * RangeError if the images are not in [0, 1].
   */
  async encodeParts(imageUnitBHWC: HostTensor, features?: HostTensor): Promise<LatentParts> {
    const { imageSize } = this;
    expectShape(`Cannot encode images (${this.name})`, imageUnitBHWC.shape, [null, imageSize, imageSize, 3]);
    expectUnit(`Cannot encode images (${this.name})`, imageUnitBHWC);
    const { encode } = this.#networks;
    const own = encode && await inBatches(imageUnitBHWC, this.#batchSize, encode);
    if (this.config.vae) return { mean: own };
    if (!hasFeatures(this.name)) return { residual: own };
    const known = features ?? (await this.encoder!.features(imageUnitBHWC)).patchesBND;
    const wanted = [imageUnitBHWC.shape[0], this.grid ** 2, this.config.featureChannels];
    expectShape(`Cannot use features (${this.name})`, known.shape, wanted);
    return { features: known, residual: own };
  }

  /**
   * Joins the parts to latents, aligning the residual where the space does.
   *
   * @param mode statistics of the alignment; as the autoencoder was opened if omitted.
   * @returns `[B, N, Z]`.
   * @throws ConfigError if stored statistics of the alignment are wanted and were not measured.
   */
  join({ features, residual, mean }: LatentParts, mode: AlignmentMode = this.#alignmentMode): HostTensor {
    if (mean) return mean;
    if (!residual) return features!;
    if (!features) return residual;
    if (this.name !== "svg") return concatChannels(features, residual);
    const stats = mode === "batch" ? batchAlignment(features, residual) : this.#alignment;
    if (stats) return concatChannels(features, alignResidual(residual, stats));
    throw new ConfigError("Cannot encode images (svg): the alignment must be measured first");
  }

  async decode(zBNZ: HostTensor): Promise<HostTensor> {
    expectLatents(`Cannot decode latents (${this.name})`, zBNZ, this.grid ** 2, this.channels);
    return await inBatches(zBNZ, this.#batchSize, this.#networks.decode);
  }

  async dispose(): Promise<void> {
    await this.#networks.encode?.dispose();
    await this.#networks.decode.dispose();
  }
}

/**
 * Compiles the networks around their weights: constant kernels are laid out once, which makes convolutions faster than
 * kernels that are fed.
 */
function compileNetworks(
  config: AutoencoderConfig,
  params: AutoencoderParams<HostTensor>,
  place: Place,
): Networks {
  const decode: Network = (zBNZ) =>
    imageUnitFromSigned(
      decodeTokens(zBNZ, constantTree<DecoderParams>(params.decoder), config.decoder.groups),
    );
  return {
    encode: compileEncoder(config, params, place),
    decode: jit(decode, { ...place, name: "decoder" }),
  };
}

function compileEncoder(
  config: AutoencoderConfig,
  params: AutoencoderParams<HostTensor>,
  place: Place,
): Jitted<Network> | undefined {
  const { encoder, residual } = params, { groups } = config.decoder;
  if (encoder) {
    const mean: Network = (images) =>
      encodePosterior(imageSignedFromUnit(images), constantTree<ConvEncoderParams>(encoder), groups).meanBNZ;
    return jit(mean, { ...place, name: "vae-encoder" });
  }
  if (!residual) return undefined;
  const encode: Network = (images) =>
    encodeResidual(
      imageDinoFromUnit(images),
      constantTree<ResidualEncoderParams>(residual),
      config.residual!,
    );
  return jit(encode, { ...place, name: "residual-encoder" });
}

/**
 * Checks that a frozen encoder has the width of the features that the settings name, if they name any.
 *
 * @throws ConfigError if it has not, or there is none.
 */
export function expectEncoder(config: AutoencoderConfig, encoder: FrozenEncoder | undefined): void {
  if (config.featureChannels === 0) return;
  const got = encoder ? `one of width ${encoder.width}` : "none";
  if (encoder?.width !== config.featureChannels) {
    throw new ConfigError(
      `Cannot make autoencoder ${config.space}: a frozen encoder of width ${config.featureChannels} is needed, ` +
        `got ${got}`,
    );
  }
}
