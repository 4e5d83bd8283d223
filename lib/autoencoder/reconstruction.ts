/**
 * How well an autoencoder reconstructs, by measures that are given to it: images stream through it once, whatever their
 * number.
 *
 * @module
 */
import { concatRows, expectShape, type HostTensor, rows } from "novae/tensor/mod.ts";
import type { Autoencoder } from "./autoencoder.ts";
import { CompiledAutoencoder } from "./compiled.ts";
import type { MeasuredBatch } from "./measure.ts";

/**
 * A number that images and their reconstructions, both `imageUnit` `[B, H, W, 3]`, have in the mean, such as PSNR.
 */
export type ImageMeasure = (
  imageUnitBHWC: HostTensor,
  reconstructionUnit: HostTensor,
) => number | Promise<number>;

/** A number of a whole set of images and their reconstructions, such as the Fréchet distance, gathered by batches. */
export interface SetMeasure {
  /** Takes a batch of images and their reconstructions, both `imageUnit` `[B, H, W, 3]`. */
  add(imageUnitBHWC: HostTensor, reconstructionUnit: HostTensor): void | Promise<void>;
  /** The number once all batches were added. */
  value(): number | Promise<number>;
}

/** What is measured, by name. */
export interface ReconstructionMeasures {
  /** Means over the images. */
  readonly images?: Readonly<Record<string, ImageMeasure>>;
  /** Numbers of the whole set; each is begun anew for every measurement. */
  readonly sets?: Readonly<Record<string, () => SetMeasure>>;
}

/** What was measured. */
export interface ReconstructionQuality {
  /** Number of images. */
  readonly count: number;
  /** The measures by name. */
  readonly metrics: Readonly<Record<string, number>>;
  /** The first images with their reconstructions, both `imageUnit`, to be looked at. */
  readonly shown: ShownReconstructions;
}

/** Images beside their reconstructions. */
export interface ShownReconstructions {
  /** `imageUnit` `[B, H, W, 3]`. */
  readonly images: HostTensor;
  /** The same shape. */
  readonly reconstructions: HostTensor;
}

/** Options of {@linkcode measureReconstruction}. */
export interface ReconstructionOptions {
  /** Number of images to hand out for a picture. Default 8. */
  readonly shown?: number;
  /** Told of the latents of each batch, `[B, N, Z]`, not normalised. */
  readonly onLatents?: (zBNZ: HostTensor) => void;
}

/**
 * Encodes and decodes images and measures what comes back.
 *
 * @param batches images, with their frozen features where these are known.
 * @throws RangeError if there are no images.
 */
export async function measureReconstruction(
  autoencoder: Pick<Autoencoder, "encode" | "decode">,
  batches: Iterable<MeasuredBatch> | AsyncIterable<MeasuredBatch>,
  measures: ReconstructionMeasures,
  { shown = 8, onLatents }: ReconstructionOptions = {},
): Promise<ReconstructionQuality> {
  const sums = new Map(Object.keys(measures.images ?? {}).map((name) => [name, 0]));
  const sets = Object.entries(measures.sets ?? {}).map(([name, begin]) => [name, begin()] as const);
  const kept: ShownReconstructions[] = [];
  let count = 0;
  for await (const batch of batches) {
    const { images } = batch, size = images.shape[0];
    const latents = await latentsOf(autoencoder, batch), reconstructions = await autoencoder.decode(latents);
    onLatents?.(latents);
    expectShape("Cannot compare images", reconstructions.shape, images.shape);
    for (const [name, measure] of Object.entries(measures.images ?? {})) {
      sums.set(name, sums.get(name)! + size * await measure(images, reconstructions));
    }
    for (const [, set] of sets) await set.add(images, reconstructions);
    const first = Math.min(Math.max(shown - count, 0), size);
    if (first > 0) {
      kept.push({ images: rows(images, 0, first), reconstructions: rows(reconstructions, 0, first) });
    }
    count += size;
  }
  if (count === 0) {
    throw new RangeError("Cannot measure reconstructions: at least one image is needed, got none");
  }
  const metrics = Object.fromEntries([...sums].map(([name, sum]) => [name, sum / count]));
  for (const [name, set] of sets) metrics[name] = await set.value();
  const joined = (key: keyof ShownReconstructions) => concatRows(kept.map((part) => part[key]));
  return { count, metrics, shown: { images: joined("images"), reconstructions: joined("reconstructions") } };
}

/** Latents of images whose frozen features may be known. */
export async function latentsOf(
  autoencoder: Pick<Autoencoder, "encode">,
  { images, features }: MeasuredBatch,
): Promise<HostTensor> {
  if (!(autoencoder instanceof CompiledAutoencoder) || !features) return await autoencoder.encode(images);
  return autoencoder.join(await autoencoder.encodeParts(images, features));
}
