/**
 * The cache file of rendered `solids`: a text header of fixed length, then labels, pixels, masks and depths.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { DataError } from "novae/tensor/mod.ts";
import { fileError, hashBytes, writeFileAtomic } from "novae/io/mod.ts";
import { SOLID_KINDS, solidsLabel, type SolidsSplit } from "./solids_factors.ts";
import type { SolidsImages } from "./solids_pool.ts";
import { DEPTH_STEP, renderRange } from "./solids_render.ts";

/** What a cache file holds. */
export interface SolidsFileConfig {
  /** Seed of the factors. */
  readonly seed: number;
  /** Stream of images. */
  readonly split: SolidsSplit;
  /** Number of images, from index 0 on. */
  readonly count: number;
  /** Height and width in pixels. */
  readonly imageSize: number;
  /** Which picture of each solid. */
  readonly view: number;
}

/** SHA-256 of each section, hexadecimal. */
export interface SolidsHashes {
  /** Of the labels, [N] bytes. */
  readonly labels: string;
  /** Of the pixels, [N, H, W, 3] bytes. */
  readonly pixels: string;
  /** Of the masks, [N, H, W] bytes. */
  readonly mask: string;
  /** Of the depths, [N, H, W] two-byte integers. */
  readonly depth: string;
}

/** The part of a cache file that is kept in memory. */
export interface SolidsFileContent {
  /** Labels, [N]. */
  readonly labels: Uint8Array<ArrayBuffer>;
  /** sRGB bytes, [N, H, W, 3]. */
  readonly pixels: Uint8Array<ArrayBuffer>;
  /** Hashes of all sections. */
  readonly hashes: SolidsHashes;
}

/** Masks and depths by image, wherever they are kept. */
export interface SolidsAnnotations {
  /** Copies the mask of an image. */
  mask(index: number, out: Uint8Array): void;
  /** Copies the depths of an image in steps of `DEPTH_STEP`. */
  depth(index: number, out: Uint16Array): void;
}

const HEADER_BYTES = 2048;
/** Images that are rendered again to see whether a file was made by this renderer. */
const PROBES = 10;

/** Labels of the first `count` images. */
export function solidsLabels(count: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length: count }, (_, i) => solidsLabel(i));
}

/** The hashes of all sections. */
export function hashSolids(labels: Uint8Array, images: SolidsImages): SolidsHashes {
  const { pixels, mask, depth } = images;
  return {
    labels: hashBytes(labels),
    pixels: hashBytes(pixels),
    mask: hashBytes(mask),
    depth: hashBytes(depth),
  };
}

/** Writes a cache file atomically; its folder must exist. */
export async function writeSolidsFile(
  path: string,
  config: SolidsFileConfig,
  labels: Uint8Array,
  images: SolidsImages,
  hashes: SolidsHashes,
): Promise<void> {
  const depth = new Uint8Array(images.depth.buffer, images.depth.byteOffset, images.depth.byteLength);
  await writeFileAtomic(path, [headerBytes(config, hashes), labels, images.pixels, images.mask, depth]);
}

/**
 * Reads a cache file and checks its size, its configuration, every section's hash and the first images against fresh
 * renderings.
 *
 * @throws DataError saying what is wrong with it.
 */
export async function readSolidsFile(path: string, config: SolidsFileConfig): Promise<SolidsFileContent> {
  try {
    using file = await Deno.open(path);
    const { size } = await file.stat(), { ends } = sections(config);
    if (size !== ends.depth) throw new DataError(`it must have ${ends.depth} bytes, got ${size}`);
    const head = await readExactly(file, HEADER_BYTES);
    const labels = await readExactly(file, ends.labels - HEADER_BYTES);
    const pixels = await readExactly(file, ends.pixels - ends.labels);
    const hashes: SolidsHashes = {
      labels: hashBytes(labels),
      pixels: hashBytes(pixels),
      mask: await hashNext(file, ends.mask - ends.pixels),
      depth: await hashNext(file, ends.depth - ends.mask),
    };
    if (hashBytes(head) !== hashBytes(headerBytes(config, hashes))) {
      throw new DataError("its content does not fit its header");
    }
    const fresh = renderRange({ ...config, start: 0, count: Math.min(PROBES, config.count) }).pixels;
    if (fresh.some((byte, i) => byte !== pixels[i])) throw new DataError("another renderer made it");
    return { labels, pixels, hashes };
  } catch (error) {
    if (error instanceof DataError) throw new DataError(`Cannot use ${path}: ${error.message}`);
    throw fileError(`Cannot read ${path}`, error, DataError);
  }
}

/** Masks and depths read from a cache file when asked for, so that they take no memory. */
export function annotationsInFile(path: string, config: SolidsFileConfig): SolidsAnnotations {
  const area = config.imageSize * config.imageSize, { ends } = sections(config);
  const read = (offset: number, out: Uint8Array) => {
    try {
      using file = Deno.openSync(path);
      file.seekSync(offset, Deno.SeekMode.Start);
      for (let done = 0; done < out.length;) {
        const got = file.readSync(out.subarray(done));
        if (got === null) {
          throw new DataError(`Cannot read ${path}: it was cut while in use; load the data again`);
        }
        done += got;
      }
    } catch (error) {
      throw fileError(`Cannot read ${path}`, error, DataError);
    }
  };
  return {
    mask: (index, out) => read(ends.pixels + index * area, out),
    depth: (index, out) =>
      read(ends.mask + index * area * 2, new Uint8Array(out.buffer, out.byteOffset, out.byteLength)),
  };
}

/** Masks and depths kept in memory. */
export function annotationsInMemory(images: SolidsImages, imageSize: number): SolidsAnnotations {
  const area = imageSize * imageSize;
  return {
    mask: (index, out) => out.set(images.mask.subarray(index * area, (index + 1) * area)),
    depth: (index, out) => out.set(images.depth.subarray(index * area, (index + 1) * area)),
  };
}

/** Where each section ends, in bytes from the start of the file. */
function sections({ count, imageSize }: SolidsFileConfig): { ends: Record<keyof SolidsHashes, number> } {
  const area = count * imageSize * imageSize, labels = HEADER_BYTES + count;
  return { ends: { labels, pixels: labels + 3 * area, mask: labels + 4 * area, depth: labels + 6 * area } };
}

function headerBytes(config: SolidsFileConfig, sha256: SolidsHashes): Uint8Array {
  const { seed, split, count, imageSize, view } = config;
  const text = JSON.stringify({
    format: "novae solids",
    layout: "labels u8 [N], pixels u8 [N,H,W,3], mask u8 [N,H,W], depth u16 little-endian [N,H,W]",
    depthStep: DEPTH_STEP,
    classes: SOLID_KINDS,
    seed,
    split,
    count,
    imageSize,
    ...(view > 0 && { view }),
    sha256,
  });
  return new TextEncoder().encode(text.padEnd(HEADER_BYTES - 1) + "\n");
}

async function readExactly(file: Deno.FsFile, bytes: number): Promise<Uint8Array<ArrayBuffer>> {
  const data = new Uint8Array(bytes);
  for (let done = 0; done < bytes;) {
    const got = await file.read(data.subarray(done));
    if (got === null) throw new DataError(`it ended ${bytes - done} bytes too early`);
    done += got;
  }
  return data;
}

async function hashNext(file: Deno.FsFile, bytes: number): Promise<string> {
  const hash = createHash("sha256"), piece = 1 << 20;
  for (let done = 0; done < bytes; done += piece) {
    hash.update(await readExactly(file, Math.min(piece, bytes - done)));
  }
  return hash.digest("hex");
}
