/**
 * Pretrained tiny autoencoders behind the interface of all latent spaces.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { basename, join } from "node:path";
import { ConfigError, expectShape, type HostTensor, WeightsError } from "novae/tensor/mod.ts";
import { constantTree, type DeviceName, jit, type Jitted } from "novae/engine/mod.ts";
import { fileError } from "novae/io/mod.ts";
import type { Autoencoder } from "../autoencoder.ts";
import { imagesAtOnce, inBatches } from "../_batches.ts";
import { decodeTaesd, encodeTaesd, type TaesdNetworkParams } from "./networks.ts";
import { readTaesd } from "./weights.ts";

/** Rows and columns of pixels that a latent token stands for. */
const PATCH_SIZE = 8;

/** The two networks of a tiny autoencoder. */
export interface TaesdParams<T = tf.Tensor> {
  /** From the image to the latents. */
  encoder: TaesdNetworkParams<T>;
  /** From the latents to the image. */
  decoder: TaesdNetworkParams<T>;
}

/** How a tiny autoencoder is used. */
export interface TaesdOptions {
  /** Rows and columns of the images, a multiple of 8. Default 256. */
  readonly imageSize?: number;
  /** Where it runs; default `auto`. */
  readonly device?: DeviceName;
  /** Threads on the CPU; default: the number of cores. */
  readonly threads?: number;
  /** Most images that run at once. Default 64, fewer for images of more than 64 × 64 pixels. */
  readonly batchSize?: number;
}

/** The two files of a tiny autoencoder. */
export interface TaesdFiles {
  /** File of the encoder. */
  readonly encoder: string;
  /** File of the decoder. */
  readonly decoder: string;
}

/** Images to latents or back. */
type Network = (input: tf.Tensor) => tf.Tensor;

/**
 * A tiny autoencoder whose networks run compiled, in batches. Its latents are those of the large autoencoder that it
 * was distilled from, as a diffusion model of that one sees them.
 */
export class TaesdAutoencoder implements Autoencoder {
  readonly name: string;
  readonly channels: number;
  readonly imageSize: number;
  readonly grid: number;
  /** Its weights. */
  readonly params: TaesdParams<HostTensor>;
  readonly #batchSize: number;
  readonly #encode: Jitted<Network>;
  readonly #decode: Jitted<Network>;

  /**
   * Compiles nothing before it is first used.
   *
   * @param name of the latent space, e.g. `taef2`.
   * @throws ConfigError if 8 does not divide the image size.
   */
  constructor(name: string, params: TaesdParams<HostTensor>, options: TaesdOptions = {}) {
    const { imageSize = 256, device = "auto", threads, batchSize = imagesAtOnce(imageSize) } = options;
    if (!Number.isInteger(imageSize) || imageSize < PATCH_SIZE || imageSize % PATCH_SIZE !== 0) {
      throw new ConfigError(
        `Cannot use ${name}: image size must be a multiple of ${PATCH_SIZE}, got ${imageSize}`,
      );
    }
    if (!Number.isInteger(batchSize) || batchSize < 1) {
      throw new RangeError(`Cannot run in batches: batch size must be a positive integer, got ${batchSize}`);
    }
    this.name = name;
    this.params = params;
    this.channels = params.encoder.convOut.bias.shape[0];
    this.imageSize = imageSize;
    this.grid = imageSize / PATCH_SIZE;
    this.#batchSize = batchSize;
    const { grid, channels } = this, place = { device, threads };
    const encode: Network = (images) => {
      const z = encodeTaesd(images, constantTree<TaesdNetworkParams>(params.encoder));
      return tf.reshape(z, [images.shape[0], grid * grid, channels]);
    };
    const decode: Network = (zBNZ) => {
      const z = tf.reshape(zBNZ, [zBNZ.shape[0], grid, grid, channels]);
      return tf.clipByValue(decodeTaesd(z, constantTree<TaesdNetworkParams>(params.decoder)), 0, 1);
    };
    this.#encode = jit(encode, { ...place, name: `${name}-encoder` });
    this.#decode = jit(decode, { ...place, name: `${name}-decoder` });
  }

  async encode(imageUnitBHWC: HostTensor): Promise<HostTensor> {
    const { imageSize, name } = this;
    expectShape(`Cannot encode images (${name})`, imageUnitBHWC.shape, [null, imageSize, imageSize, 3]);
    return await inBatches(imageUnitBHWC, this.#batchSize, this.#encode);
  }

  async decode(zBNZ: HostTensor): Promise<HostTensor> {
    expectShape(`Cannot decode latents (${this.name})`, zBNZ.shape, [null, this.grid ** 2, this.channels]);
    return await inBatches(zBNZ, this.#batchSize, this.#decode);
  }

  async dispose(): Promise<void> {
    await this.#encode.dispose();
    await this.#decode.dispose();
  }
}

/**
 * Loads a tiny autoencoder of 8-fold down-sampling: TAESD, TAESDXL, TAESD3, TAEF1 or TAEF2.
 *
 * @param source a folder with `<name>_encoder.pth` and `<name>_decoder.pth`, or these two files.
 * @throws WeightsError if a file is missing, holds other layers, or the two do not fit each other; ConfigError if 8
 * does not divide the image size.
 */
export async function loadTaesd(
  source: string | TaesdFiles,
  options: TaesdOptions = {},
): Promise<TaesdAutoencoder> {
  const files = typeof source === "string" ? await filesOf(source) : source;
  const encoder = await readTaesd(files.encoder, "encoder"),
    decoder = await readTaesd(files.decoder, "decoder");
  if (encoder.latentChannels !== decoder.latentChannels) {
    throw new WeightsError(
      `Cannot load TAESD ${files.encoder}: its decoder must have ${encoder.latentChannels} latent channels, ` +
        `got ${decoder.latentChannels} in ${files.decoder}`,
    );
  }
  const name = basename(files.encoder).replace(/_?encoder.*$/, "") || "taesd";
  return new TaesdAutoencoder(name, { encoder: encoder.params, decoder: decoder.params }, options);
}

/** The files of a folder; the first of each kind by name would be a guess if there were several. */
async function filesOf(folder: string): Promise<TaesdFiles> {
  const names: string[] = [];
  try {
    for await (const { name } of Deno.readDir(folder)) names.push(name);
  } catch (error) {
    throw fileError(`Cannot load TAESD ${folder}`, error, WeightsError);
  }
  const only = (part: string) => {
    const found = names.filter((name) => new RegExp(`_${part}\\.(pth|pt|safetensors)$`).test(name)).sort();
    if (found.length === 1) return join(folder, found[0]);
    throw new WeightsError(
      `Cannot load TAESD ${folder}: it must hold one *_${part}.pth, got ${found.join(", ") || "none"}`,
    );
  };
  return { encoder: only("encoder"), decoder: only("decoder") };
}
