/**
 * The parts of a set of generated images while it is being made: one npy file each, `parts/part-00000.npy` …
 *
 * @module
 */
import { join } from "node:path";
import { type HostTensor, NovaeError } from "novae/tensor/mod.ts";
import {
  fileError,
  imageFromUnit,
  type NpyArray,
  type NpyHeader,
  parseNpyHeader,
  pathExists,
  writeNpy,
} from "novae/io/mod.ts";

/** Images of one part: `first` … `last − 1`. */
export interface PartRange {
  /** Number of its first image. */
  readonly first: number;
  /** One more than the number of its last. */
  readonly last: number;
}

/** The folder of parts of a set of images. */
export class ImageParts {
  /** Number of parts. */
  readonly count: number;
  readonly #folder: string;
  readonly #images: number;
  readonly #imagesPerPart: number;

  /**
   * Nothing is read or written yet.
   *
   * @param folder where the set lies.
   * @param images in all, 1 or more.
   * @param imagesPerPart 1 or more; the last part may have fewer.
   */
  constructor(folder: string, images: number, imagesPerPart: number) {
    this.count = Math.ceil(images / imagesPerPart);
    this.#folder = join(folder, "parts");
    this.#images = images;
    this.#imagesPerPart = imagesPerPart;
  }

  /** Which images a part holds. */
  range(part: number): PartRange {
    const first = part * this.#imagesPerPart;
    return { first, last: Math.min(first + this.#imagesPerPart, this.#images) };
  }

  /** The file of a part. */
  path(part: number): string {
    return join(this.#folder, `part-${String(part).padStart(5, "0")}.npy`);
  }

  /** Makes the folder. */
  async make(): Promise<void> {
    await makeFolder(this.#folder);
  }

  /** Writes a part, atomically. */
  async write(part: number, imageUnitBHWC: HostTensor): Promise<void> {
    await writeNpy(this.path(part), imageBytes(imageUnitBHWC));
  }

  /** The header of a part that is whole; null if there is none. */
  async header(part: number): Promise<NpyHeader | null> {
    const path = this.path(part), { first, last } = this.range(part);
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

  /**
   * The bytes of all parts, one part in memory at a time.
   *
   * @param shape of an image.
   * @throws NovaeError if a part is not there or of images of another shape.
   */
  async *bytes(shape: readonly number[]): AsyncGenerator<Uint8Array> {
    for (let part = 0; part < this.count; part++) {
      const header = await this.header(part);
      if (header === null || header.shape.slice(1).join() !== shape.join()) {
        throw new NovaeError(
          `Cannot join images: ${this.path(part)} must hold images like the first, got others or none`,
        );
      }
      yield (await Deno.readFile(this.path(part))).subarray(header.start);
    }
  }

  /** Removes the folder; false if somebody claims a part just then, only to see that it is there. */
  async remove(): Promise<boolean> {
    try {
      await Deno.remove(this.#folder, { recursive: true });
    } catch (error) {
      if ((error as { code?: string }).code === "ENOTEMPTY") return false;
      if (await pathExists(this.#folder)) throw error;
    }
    return true;
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

/** Makes a folder if it is absent. @throws NovaeError if it cannot be made. */
export async function makeFolder(path: string): Promise<void> {
  try {
    await Deno.mkdir(path, { recursive: true });
  } catch (error) {
    throw fileError(`Cannot make folder ${path}`, error);
  }
}
