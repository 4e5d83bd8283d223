/**
 * Samples of a diffusion transformer as images: drawn, decoded, pictured.
 *
 * @module
 */
import { type HostTensor, rows } from "novae/tensor/mod.ts";
import {
  CompiledAutoencoder,
  denormalizeLatents,
  type FrozenEncoder,
  hasFeatures,
  type LatentStats,
  readAutoencoder,
} from "novae/autoencoder/mod.ts";
import type { LatentSampler, SampleRequest } from "novae/diffusion/mod.ts";
import type { DeviceName } from "novae/engine/mod.ts";
import { decodeImage, encodePng, imageGrid } from "novae/io/mod.ts";

/** Decodes latents that are not normalised; an autoencoder is one. */
export interface SampleDecoder {
  /** Rows and columns of the images. */
  readonly imageSize: number;
  /** Identifies the autoencoder. */
  readonly hash: string;
  /** Images [B, H, W, 3] in [0, 1]. */
  decode(zBNZ: HostTensor): Promise<HostTensor>;
}

/** What draws images. */
export interface ImageDrawing {
  /** Draws latents. */
  readonly sampler: LatentSampler;
  /** Decodes them. */
  readonly decoder: Pick<SampleDecoder, "decode">;
  /** Statistics with which the training latents were normalised. */
  readonly stats: LatentStats;
}

/** Draws latents and decodes them: images [B, H, W, 3] in [0, 1]. */
export async function drawImages(
  { sampler, decoder, stats }: ImageDrawing,
  request: SampleRequest,
): Promise<HostTensor> {
  return await decoder.decode(denormalizeLatents(await sampler.sample(request), stats));
}

/** The first images as a PNG, in rows of `columns`, each at least 64 pixels wide. */
export async function picture(images: HostTensor, shown: number, columns: number): Promise<Uint8Array> {
  const scale = Math.max(1, Math.round(64 / images.shape[1]));
  return await encodePng(imageGrid(rows(images, 0, Math.min(shown, images.shape[0])), columns, { scale }));
}

/** The classes in turn. */
export function labelsInTurn(count: number, classes: number): Int32Array {
  return Int32Array.from({ length: count }, (_, i) => classes === 0 ? 0 : i % classes);
}

/**
 * Opens an autoencoder to decode with; spaces with frozen features need no encoder for it.
 *
 * @throws WeightsError if the file cannot be used.
 */
export async function openDecoder(path: string, device: DeviceName): Promise<CompiledAutoencoder> {
  const file = await readAutoencoder(path), { config, params, alignment, stats } = file;
  const encoder = hasFeatures(config.space)
    ? absentEncoder(config.featureChannels, file.encoderHash ?? "")
    : undefined;
  return new CompiledAutoencoder(config, params, { encoder, alignment, stats, device });
}

function absentEncoder(width: number, hash: string): FrozenEncoder {
  return {
    width,
    hash,
    features: () =>
      Promise.reject(new TypeError("Cannot encode images: the autoencoder was opened to decode alone")),
  };
}

/** Width and height of a PNG, from its header. */
export function readImageSize(png: Uint8Array): { width: number; height: number } {
  const view = new DataView(png.buffer, png.byteOffset);
  return { width: view.getUint32(16), height: view.getUint32(20) };
}

/** The first of the rows of a sheet that {@linkcode picture} made. */
export async function firstRow(png: Uint8Array, rows: number): Promise<Uint8Array> {
  const { width, height, data } = await decodeImage(png), gap = 2;
  const top = (height + gap) / rows - gap;
  return await encodePng({ width, height: top, data: data.slice(0, 3 * width * top) });
}
