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
import { ConfigError, expectShape, type HostTensor, NovaeError } from "novae/tensor/mod.ts";
import {
  type Claim,
  type ClaimOptions,
  Claims,
  describeDifference,
  fileError,
  firstDifference,
  imageFromUnit,
  type NpyArray,
  type NpyHeader,
  parseNpyHeader,
  pathExists,
  readJson,
  writeJson,
  writeNpy,
  writeNpzStream,
  writePng,
} from "novae/io/mod.ts";

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
  let pending = Array.from({ length: work.parts }, (_, part) => part);
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
  readonly parts: number;
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
    this.parts = Math.ceil(labels.length / imagesPerPart);
    this.#folder = folder;
    this.#plan = plan;
    this.#makeImages = makeImages;
    this.#claims = new Claims(options);
    this.#onProgress = options.onProgress;
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
    if (!await pathExists(this.#npz)) await makeFolder(join(this.#folder, "parts"));
  }

  /** Sees to it that a part is there, unless somebody else is at work on it. */
  async settle(part: number): Promise<boolean> {
    const { first, last } = this.#range(part);
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
      await writeNpy(this.#partPath(part), imageBytes(images));
      return this.#count(last - first, last - first);
    } finally {
      await claim.release();
    }
  }

  async #claim(part: number): Promise<Claim | null> {
    try {
      return await this.#claims.take(`${this.#partPath(part)}.claim`);
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
      if (!await this.#removeParts()) return false;
      for (const folder of [this.#folder, join(this.#folder, "images")]) await removeTemporaries(folder);
      return true;
    } catch (error) {
      throw fileError(`Cannot finish ${this.#folder}`, error);
    } finally {
      await claim.release();
    }
  }

  /** Removes the folder of parts; false if somebody claims one just then, only to see that it is there. */
  async #removeParts(): Promise<boolean> {
    try {
      await Deno.remove(join(this.#folder, "parts"), { recursive: true });
    } catch (error) {
      if ((error as { code?: string }).code === "ENOTEMPTY") return false;
      ignoreMissing(error);
    }
    return true;
  }

  async #writeNpz(): Promise<void> {
    const labels = Int32Array.from(this.#plan.labels), count = labels.length;
    const { shape } = await this.#header(0) ?? { shape: [] };
    await writeNpzStream(this.#npz, {
      arr_0: { dtype: "uint8", shape: [count, ...shape.slice(1)], bytes: this.#values(shape) },
      arr_1: { dtype: "int32", shape: [count], bytes: [new Uint8Array(labels.buffer)] },
    });
  }

  #count(images: number, made: number): true {
    this.#done += images;
    this.made += made;
    this.#onProgress?.({ done: this.#done, total: this.#plan.labels.length, made: this.made });
    return true;
  }

  #range(part: number): { first: number; last: number } {
    const { labels, imagesPerPart } = this.#plan, first = part * imagesPerPart;
    return { first, last: Math.min(first + imagesPerPart, labels.length) };
  }

  #partPath(part: number): string {
    return join(this.#folder, "parts", `part-${String(part).padStart(5, "0")}.npy`);
  }

  async #isThere(part: number): Promise<boolean> {
    // In this order: parts are removed after the npz is there.
    return await this.#header(part) !== null || await pathExists(this.#npz);
  }

  /** The header of a part that is whole; null if there is none. */
  async #header(part: number): Promise<NpyHeader | null> {
    const path = this.#partPath(part), { first, last } = this.#range(part);
    try {
      using file = await Deno.open(path);
      const head = new Uint8Array(256), got = await file.read(head) ?? 0, { size } = await file.stat();
      const header = parseNpyHeader(head.subarray(0, got), path), { type, shape, start } = header;
      const bytes = shape.reduce((product, extent) => product * extent, 1);
      return type === "|u1" && shape[0] === last - first && size === start + bytes ? header : null;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return null;
      if (error instanceof NovaeError) return null; // cut short: it is made again
      throw fileError(`Cannot read ${path}`, error);
    }
  }

  /** The bytes of all parts, one part in memory at a time. */
  async *#values(shape: readonly number[]): AsyncGenerator<Uint8Array> {
    for (let part = 0; part < this.parts; part++) {
      const header = await this.#header(part);
      if (header === null || header.shape.slice(1).join() !== shape.slice(1).join()) {
        throw new NovaeError(
          `Cannot write ${this.#npz}: ${
            this.#partPath(part)
          } must hold images like the first, got others or none`,
        );
      }
      yield (await Deno.readFile(this.#partPath(part))).subarray(header.start);
    }
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

/**
 * Images as bytes, which PNG files and evaluators hold.
 *
 * @param imageUnitBHWC images in [0, 1], [B, H, W, 3].
 * @returns the same as uint8, rounded and clamped.
 */
export function imageBytes(imageUnitBHWC: HostTensor): NpyArray & { readonly data: Uint8Array } {
  const { shape } = imageUnitBHWC, data = new Uint8Array(imageUnitBHWC.data.length);
  const size = data.length / shape[0];
  for (let i = 0; i < shape[0]; i++) data.set(imageFromUnit(imageUnitBHWC, i).data, i * size);
  return { dtype: "uint8", shape, data };
}

async function makeFolder(path: string): Promise<void> {
  try {
    await Deno.mkdir(path, { recursive: true });
  } catch (error) {
    throw fileError(`Cannot make folder ${path}`, error);
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
