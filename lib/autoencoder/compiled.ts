/**
 * An autoencoder with weights, compiled, that takes any number of images.
 *
 * @module
 */
import type * as tf from "@tensorflow/tfjs";
import {
  concatRows,
  ConfigError,
  expectShape,
  float32,
  type HostTensor,
  rows,
  sizeOf,
} from "novae/tensor/mod.ts";
import { constantTree, type DeviceName, jit, type Jitted } from "novae/engine/mod.ts";
import { imageDinoFromUnit } from "novae/dino/mod.ts";
import type { Autoencoder, LatentStats, SpaceName } from "./autoencoder.ts";
import { type AutoencoderConfig, latentChannels, latentGrid } from "./config.ts";
import type { DecoderParams } from "./decoder.ts";
import { hashAutoencoder } from "./hash.ts";
import { type AutoencoderParams, decodeTokens, imageSignedFromUnit, imageUnitFromSigned } from "./model.ts";
import { type AlignmentStats, alignResidual, encodeResidual, type ResidualEncoderParams } from "./svg/mod.ts";
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
  /** The frozen encoder; needed by all spaces but `vae`. It is not disposed with the autoencoder. */
  readonly encoder?: FrozenEncoder;
  /** Statistics of the alignment; needed by `svg` to encode. */
  readonly alignment?: AlignmentStats;
  /** Statistics of the latents, carried along for whoever normalises them. */
  readonly stats?: LatentStats;
  /** Where it runs; default `auto`. */
  readonly device?: DeviceName;
  /** Threads on the CPU; default: the number of cores. */
  readonly threads?: number;
  /** Most images that run at once. Default 64. */
  readonly batchSize?: number;
}

/** Features and residual of images before they are joined; each absent where the space has none. */
export interface LatentParts {
  /** Frozen features `[B, N, D]`. */
  readonly features?: HostTensor;
  /** Residual `[B, N, R]`, not aligned. */
  readonly residual?: HostTensor;
  /** Mean of the `vae`'s posterior `[B, N, Z]`. */
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
  /** Images in [0, 1] to the residual or to the `vae`'s mean; absent for `dino`. */
  readonly encode?: Jitted<Network>;
  /** Latents to images in [0, 1]. */
  readonly decode: Jitted<Network>;
}

/** An autoencoder whose networks run compiled, in batches. */
export class CompiledAutoencoder implements Autoencoder {
  /** Its settings. */
  readonly config: AutoencoderConfig;
  /** The frozen encoder; undefined for `vae`. */
  readonly encoder: FrozenEncoder | undefined;
  readonly #batchSize: number;
  readonly #place: Place;
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
    const { device = "auto", threads, batchSize = 64, encoder } = options;
    expectEncoder(config, encoder);
    if (!Number.isInteger(batchSize) || batchSize < 1) {
      throw new RangeError(`Cannot run in batches: batch size must be a positive integer, got ${batchSize}`);
    }
    this.config = config;
    this.encoder = config.vae ? undefined : encoder;
    this.#batchSize = batchSize;
    this.#params = params;
    this.#alignment = options.alignment;
    this.#stats = options.stats;
    this.#place = { device, threads };
    this.#networks = compileNetworks(config, params, this.#place);
  }

  /** Which of the four spaces it is. */
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

  async encode(imageUnitBHWC: HostTensor): Promise<HostTensor> {
    return this.join(await this.encodeParts(imageUnitBHWC));
  }

  /**
   * Features and residual of images, or the mean of the `vae`'s posterior.
   *
   * @param features the frozen features of the images if they are known already.
   * @throws TypeError if the images do not have the autoencoder's size, or the features not its tokens and channels.
   */
  async encodeParts(imageUnitBHWC: HostTensor, features?: HostTensor): Promise<LatentParts> {
    const { imageSize } = this;
    expectShape(`Cannot encode images (${this.name})`, imageUnitBHWC.shape, [null, imageSize, imageSize, 3]);
    const { encode } = this.#networks;
    const own = encode && await inBatches(imageUnitBHWC, this.#batchSize, encode);
    if (this.config.vae) return { mean: own };
    const known = features ?? (await this.encoder!.features(imageUnitBHWC)).patchesBND;
    const wanted = [imageUnitBHWC.shape[0], this.grid ** 2, this.config.featureChannels];
    expectShape(`Cannot use features (${this.name})`, known.shape, wanted);
    return { features: known, residual: own };
  }

  /**
   * Joins the parts to latents, aligning the residual where the space does.
   *
   * @returns `[B, N, Z]`.
   * @throws ConfigError if the alignment's statistics were not measured.
   */
  join({ features, residual, mean }: LatentParts): HostTensor {
    if (mean) return mean;
    if (!residual) return features!;
    if (this.name !== "svg") return concatChannels(features!, residual);
    if (!this.#alignment) {
      throw new ConfigError("Cannot encode images (svg): the alignment must be measured first");
    }
    return concatChannels(features!, alignResidual(residual, this.#alignment));
  }

  async decode(zBNZ: HostTensor): Promise<HostTensor> {
    expectShape(`Cannot decode latents (${this.name})`, zBNZ.shape, [null, this.grid ** 2, this.channels]);
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
    imageUnitFromSigned(decodeTokens(zBNZ, constantTree<DecoderParams>(params.decoder)));
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
  const { encoder, residual } = params;
  if (encoder) {
    const mean: Network = (images) =>
      encodePosterior(imageSignedFromUnit(images), constantTree<ConvEncoderParams>(encoder)).meanBNZ;
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

function expectEncoder(config: AutoencoderConfig, encoder: FrozenEncoder | undefined): void {
  if (config.space === "vae") return;
  const got = encoder ? `one of width ${encoder.width}` : "none";
  if (encoder?.width !== config.featureChannels) {
    throw new ConfigError(
      `Cannot make autoencoder ${config.space}: a frozen encoder of width ${config.featureChannels} is needed, ` +
        `got ${got}`,
    );
  }
}

/**
 * Runs a compiled function over any number of rows. A rest is filled up with zeros to a power of two, so that few
 * sizes are ever compiled.
 */
async function inBatches(
  input: HostTensor,
  batchSize: number,
  run: (batch: HostTensor) => Promise<{ read(): Promise<HostTensor>; dispose(): void }>,
): Promise<HostTensor> {
  const count = input.shape[0], outputs: HostTensor[] = [];
  if (count === 0) throw new TypeError("Cannot run an autoencoder: at least one image is needed, got none");
  for (let start = 0; start < count; start += batchSize) {
    const wanted = Math.min(batchSize, count - start);
    const size = Math.min(2 ** Math.ceil(Math.log2(wanted)), batchSize);
    const output = await run(filledUp(rows(input, start, start + wanted), size));
    outputs.push(rows(await output.read(), 0, wanted));
    output.dispose();
  }
  return concatRows(outputs);
}

function filledUp(batch: HostTensor, size: number): HostTensor {
  if (batch.shape[0] === size) return batch;
  const shape = [size, ...batch.shape.slice(1)];
  const data = new Float32Array(sizeOf(shape));
  data.set(batch.data);
  return float32(data, shape);
}

function concatChannels(a: HostTensor, b: HostTensor): HostTensor {
  const [batch, tokens, left] = a.shape, right = b.shape[2], channels = left + right;
  const data = new Float32Array(batch * tokens * channels);
  for (let i = 0; i < batch * tokens; i++) {
    data.set(a.data.subarray(i * left, (i + 1) * left), i * channels);
    data.set(b.data.subarray(i * right, (i + 1) * right), i * channels + left);
  }
  return float32(data, [batch, tokens, channels]);
}
