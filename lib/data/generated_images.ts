/**
 * Sets of generated images of any number, made part by part: by one process or by several at once, and gone on with
 * after a kill at any moment.
 *
 * ```
 * images.json              what is to be in the folder, written first
 * images/000000.png  …     every image
 * parts/part-00000.npy  …  the same, uint8 [images, H, W, 3]; removed at the end
 * samples.npz              arr_0 uint8 [count, H, W, 3] and arr_1 int32 [count], written when all parts are there
 * ```
 *
 * `samples.npz` is what the evaluator of openai/guided-diffusion reads.
 *
 * @module
 */
import { join } from "node:path";
import { ConfigError, expectShape, type HostTensor } from "novae/tensor/mod.ts";
import {
  type Claim,
  type ClaimOptions,
  Claims,
  describeDifference,
  fileError,
  firstDifference,
  imageFromUnit,
  pathExists,
  readJson,
  writeJson,
  writeNpzStream,
  writePng,
} from "novae/io/mod.ts";
import { ImageParts, makeFolder } from "./image_parts.ts";

/** What is to be in a folder of generated images; all of it must agree for work to go on in that folder. */
export interface ImagePlan {
  /** What the images are made with: plain JSON. */
  readonly config: unknown;
  /** Label of each image. */
  readonly labels: ArrayLike<number>;
  /** Images a part, 1 or more; the last one may have fewer. */
  readonly imagesPerPart: number;
}

/**
 * Makes the images `first` … `last − 1`, in [0, 1], [last − first, H, W, 3]. It must give the same images whenever it is
 * asked for them.
 */
export type MakeImages = (first: number, last: number) => Promise<HostTensor>;

/** How far the images have come. */
export interface ImageProgress {
  /** Images that are there. */
  readonly done: number;
  /** Images in all. */
  readonly total: number;
  /** Images that this call made. */
  readonly made: number;
}

/** Options of {@link writeGeneratedImages}. */
export interface GeneratedImagesOptions extends ClaimOptions {
  /** Told of each part that is there. */
  readonly onProgress?: (progress: ImageProgress) => void;
}

const POLL_MS = 500, PNGS_AT_ONCE = 8, FORMAT = "novae-images-1";

/**
 * Makes all images of a plan that are not there yet, then `samples.npz`. Any number of processes may do so at once: each
 * takes the next part that nobody is at work on and waits at the end until all are there.
 *
 * @param folder made if absent.
 * @returns number of images that this call made.
 * @throws ConfigError if the folder holds images of another plan, naming the first key that differs; NovaeError if
 * something cannot be written or read.
 */
export async function writeGeneratedImages(
  folder: string,
  plan: ImagePlan,
  makeImages: MakeImages,
  options: GeneratedImagesOptions = {},
): Promise<number> {
  const work = new ImageWork(folder, plan, makeImages, options);
  await work.begin();
  let pending = Array.from({ length: work.partCount }, (_, part) => part);
  while (pending.length > 0) {
    const left: number[] = [];
    for (const part of pending) if (!await work.settle(part)) left.push(part);
    if (left.length === pending.length) await pause();
    pending = left;
  }
  while (!await work.finish()) await pause();
  return work.made;
}

class ImageWork {
  made = 0;
  readonly #parts: ImageParts;
  readonly #folder: string;
  readonly #plan: ImagePlan;
  readonly #makeImages: MakeImages;
  readonly #claims: Claims;
  readonly #onProgress: GeneratedImagesOptions["onProgress"];
  #done = 0;

  constructor(folder: string, plan: ImagePlan, makeImages: MakeImages, options: GeneratedImagesOptions) {
    const { labels, imagesPerPart } = plan;
    if (!(labels.length >= 1 && Number.isSafeInteger(imagesPerPart) && imagesPerPart >= 1)) {
      throw new RangeError(
        `Cannot write images: labels and imagesPerPart must be 1 or more, got ${labels.length} and ${imagesPerPart}`,
      );
    }
    this.#parts = new ImageParts(folder, labels.length, imagesPerPart);
    this.#folder = folder;
    this.#plan = plan;
    this.#makeImages = makeImages;
    this.#claims = new Claims(options);
    this.#onProgress = options.onProgress;
  }

  get partCount(): number {
    return this.#parts.count;
  }

  get #npz(): string {
    return join(this.#folder, "samples.npz");
  }

  /** Makes the folders and sees to it that they are this plan's. */
  async begin(): Promise<void> {
    const { config, labels, imagesPerPart } = this.#plan, path = join(this.#folder, "images.json");
    const plan = JSON.parse(
      JSON.stringify({ format: FORMAT, config, imagesPerPart, labels: Array.from(labels) }),
    );
    await makeFolder(join(this.#folder, "images"));
    if (!await pathExists(path)) await writeJson(path, plan);
    const difference = firstDifference(await readJson(path), plan);
    if (difference !== null) {
      throw new ConfigError(
        `Cannot write images to ${this.#folder}: it holds others, ${
          describeDifference(difference)
        }; use another folder`,
      );
    }
    if (!await pathExists(this.#npz)) await this.#parts.make();
  }

  /** Sees to it that a part is there, unless somebody else is at work on it. */
  async settle(part: number): Promise<boolean> {
    const { first, last } = this.#parts.range(part);
    if (await this.#isThere(part)) return this.#count(last - first, 0);
    const claim = await this.#claim(part);
    if (claim === null) return false;
    try {
      if (await this.#isThere(part)) return this.#count(last - first, 0); // made meanwhile
      const images = await this.#makeImages(first, last);
      expectShape("Cannot write images", images.shape, [last - first, null, null, 3]);
      if (!await claim.holds()) return false; // taken for dead; somebody else makes it
      await this.#writePngs(images, first);
      // The part is written last: where it is, its images are.
      await this.#parts.write(part, images);
      return this.#count(last - first, last - first);
    } finally {
      await claim.release();
    }
  }

  async #claim(part: number): Promise<Claim | null> {
    try {
      return await this.#claims.take(`${this.#parts.path(part)}.claim`);
    } catch (error) {
      if (await this.#isThere(part)) return null; // others have just finished and removed the folder of parts
      throw error;
    }
  }

  /** Puts the parts together; false if somebody else is just at it. */
  async finish(): Promise<boolean> {
    const claim = await this.#claims.take(`${this.#npz}.claim`);
    if (claim === null) return false;
    try {
      if (!await pathExists(this.#npz)) await this.#writeNpz();
      if (!await this.#parts.remove()) return false;
      for (const folder of [this.#folder, join(this.#folder, "images")]) await removeTemporaries(folder);
      return true;
    } catch (error) {
      throw fileError(`Cannot finish ${this.#folder}`, error);
    } finally {
      await claim.release();
    }
  }

  async #writeNpz(): Promise<void> {
    const labels = Int32Array.from(this.#plan.labels), count = labels.length;
    const { shape: [, ...shape] } = await this.#parts.header(0) ?? { shape: [] };
    await writeNpzStream(this.#npz, {
      arr_0: { dtype: "uint8", shape: [count, ...shape], bytes: this.#parts.bytes(shape) },
      arr_1: { dtype: "int32", shape: [count], bytes: [new Uint8Array(labels.buffer)] },
    });
  }

  #count(images: number, made: number): true {
    this.#done += images;
    this.made += made;
    this.#onProgress?.({ done: this.#done, total: this.#plan.labels.length, made: this.made });
    return true;
  }

  async #isThere(part: number): Promise<boolean> {
    // In this order: parts are removed after the npz is there.
    return await this.#parts.header(part) !== null || await pathExists(this.#npz);
  }

  async #writePngs(images: HostTensor, first: number): Promise<void> {
    const folder = join(this.#folder, "images"),
      digits = Math.max(6, String(this.#plan.labels.length).length);
    for (let start = 0; start < images.shape[0]; start += PNGS_AT_ONCE) {
      const count = Math.min(PNGS_AT_ONCE, images.shape[0] - start);
      await Promise.all(Array.from({ length: count }, (_, i) => {
        const name = `${String(first + start + i).padStart(digits, "0")}.png`;
        return writePng(join(folder, name), imageFromUnit(images, start + i));
      }));
    }
  }
}

/** Removes what killed processes left. */
async function removeTemporaries(folder: string): Promise<void> {
  for await (const { name } of Deno.readDir(folder)) {
    if (name.includes(".tmp-")) await Deno.remove(join(folder, name)).catch(ignoreMissing);
  }
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, POLL_MS));
}
