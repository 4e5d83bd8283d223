/** Images that `novae sample` draws, in one PNG or in a folder. */
import { type Autoencoder, denormalizeLatents, type LatentStats } from "novae/autoencoder/mod.ts";
import { imageBytes, writeGeneratedImages } from "novae/data/mod.ts";
import type { LatentSampler, SampleRequest } from "novae/diffusion/mod.ts";
import { formatDuration } from "novae/experiment/mod.ts";
import { imageGrid, writeNpz, writePng } from "novae/io/mod.ts";
import { ConfigError, type HostTensor, int32 } from "novae/tensor/mod.ts";
import { makeFolderOf } from "./_encoder_record.ts";
import { ShownImages } from "./_shown_images.ts";

/** Draws and decodes images by their numbers. */
export class ImageSource {
  readonly #sampler: LatentSampler;
  readonly #autoencoder: Autoencoder;
  readonly #latents: LatentStats;
  readonly #request: SampleRequest;

  /** @param latents statistics that take samples back to the autoencoder's latents. */
  constructor(
    sampler: LatentSampler,
    autoencoder: Autoencoder,
    latents: LatentStats,
    request: SampleRequest,
  ) {
    this.#sampler = sampler;
    this.#autoencoder = autoencoder;
    this.#latents = latents;
    this.#request = request;
  }

  /** One label an image. */
  get labels(): Int32Array {
    return Int32Array.from(this.#request.labels);
  }

  /** Images `first` … `last − 1`, [last − first, H, W, 3] in [0, 1]. */
  async make(first: number, last: number, onProgress?: SampleRequest["onProgress"]): Promise<HostTensor> {
    const labels = this.labels.subarray(first, last);
    const z = await this.#sampler.sample({ ...this.#request, labels, firstIndex: first, onProgress });
    return await this.#autoencoder.decode(denormalizeLatents(z, this.#latents));
  }
}

/** Files for all images in one piece. */
export interface PictureFiles {
  /** PNG of all images. */
  readonly out: string;
  /** Also `arr_0` uint8 [count, H, W, 3] and `arr_1` int32 [count]. */
  readonly npz?: string;
  /** Images in a row. */
  readonly columns: number;
}

/**
 * Makes the folders of files that are yet to be written, so that nothing is computed for nothing.
 *
 * @throws ConfigError if a file is a folder; NovaeError if a folder cannot be made.
 */
export async function prepareFiles(...paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    await makeFolderOf(path);
    const info = await Deno.stat(path).catch(() => null);
    if (info?.isDirectory) throw new ConfigError(`Cannot write ${path}: it is a folder, not a file`);
  }
}

/** Draws all images at once and says so. */
export async function writePicture(images: ImageSource, { out, npz, columns }: PictureFiles): Promise<void> {
  const { labels } = images, count = labels.length, started = performance.now();
  const shown = new ShownImages("Sample", "drawn");
  const report = (done: number) => shown.update({ done, total: count, made: done });
  try {
    report(0);
    const drawn = await images.make(0, count, report);
    await writePng(out, imageGrid(drawn, Math.min(columns, count)));
    if (npz !== undefined) {
      await writeNpz(npz, { arr_0: imageBytes(drawn), arr_1: { ...int32(labels, [count]), dtype: "int32" } });
    }
  } finally {
    shown.clear();
  }
  console.log(`${count} images in ${out}, drawn in ${secondsSince(started)}`);
}

/** A folder of images that processes share. */
export interface ImageFolder {
  readonly folder: string;
  readonly imagesPerPart: number;
  /** What the images are made with. */
  readonly config: unknown;
}

/** Draws what is not in a folder yet and says so. */
export async function writeImageFolder(
  images: ImageSource,
  { folder, imagesPerPart, config }: ImageFolder,
): Promise<void> {
  const { labels } = images, started = performance.now(), shown = new ShownImages("Sample", "drawn");
  try {
    shown.update({ done: 0, total: labels.length, made: 0 });
    const plan = { config, labels, imagesPerPart };
    const made = await writeGeneratedImages(folder, plan, (first, last) => images.make(first, last), {
      onProgress: (progress) => shown.update(progress),
    });
    shown.finish({ made, wallSec: (performance.now() - started) / 1000 });
    console.log(
      `${labels.length} images in ${folder}, ${made} of them drawn now in ${secondsSince(started)}`,
    );
  } finally {
    shown.clear();
  }
}

function secondsSince(started: number): string {
  return formatDuration((performance.now() - started) / 1000);
}
