/**
 * SVG's released autoencoder, ready to encode and decode.
 *
 * @module
 */
import { ConfigError, type HostTensor, WeightsError } from "novae/tensor/mod.ts";
import {
  DinoEncoder,
  hashEncoder,
  readPretrained,
  type VitConfig,
  vitConfig,
  type WeightSource,
} from "novae/dino/mod.ts";
import { CompiledAutoencoder, type CompiledAutoencoderOptions } from "../compiled.ts";
import type { AutoencoderConfig } from "../config.ts";
import { measureAutoencoder, type MeasuredBatch } from "../measure.ts";
import type { AlignmentStats } from "./alignment.ts";
import { SVG_PRESETS } from "./presets.ts";
import { openPublishedCheckpoint, readPublishedStats, readPublishedWeights } from "./published_weights.ts";

/**
 * Where the alignment's statistics come from, which the released files do not hold:
 * - `batch`: from each batch that is encoded, as published; an image's latents then depend on its neighbours;
 * - `images`: measured once on a set of images in [0, 1], batch by batch `[B, H, W, 3]`;
 * - statistics that were measured before.
 */
export type PublishedAlignment =
  | "batch"
  | { readonly images: Iterable<HostTensor> | AsyncIterable<HostTensor> }
  | AlignmentStats;

/** The files of a released autoencoder, and how it is opened. */
export interface LoadPublishedSvgOptions
  extends Pick<CompiledAutoencoderOptions, "device" | "threads" | "batchSize"> {
  /** Checkpoint of the autoencoder (`.ckpt`). */
  readonly autoencoder: string;
  /**
   * Statistics of the latents (`dinov3_sp_stats.pt`). If omitted, those that are measured with the alignment, if it is
   * measured on images.
   */
  readonly stats?: string;
  /** The frozen encoder; that of the checkpoint if omitted. It must be the same as the one in the checkpoint. */
  readonly encoder?: DinoEncoder;
  /** Where the alignment's statistics come from; needed by the space `svg`. */
  readonly alignment?: PublishedAlignment;
  /** Settings of the autoencoder; those of `svg-vits16plus-256` if omitted. */
  readonly config?: AutoencoderConfig;
  /** Settings of the frozen encoder in the checkpoint; those of `dinov3-vits16plus` if omitted. */
  readonly encoderConfig?: VitConfig;
}

/** A released autoencoder that is ready to run. */
export interface PublishedSvg {
  /** The autoencoder, with the statistics of its latents; dispose of it. */
  readonly autoencoder: CompiledAutoencoder;
  /** Its frozen encoder; dispose of it after the autoencoder, unless it was given. */
  readonly encoder: DinoEncoder;
  /** Names in the checkpoint of what is not needed. */
  readonly ignored: readonly string[];
}

const PRESET = SVG_PRESETS["svg-vits16plus-256"];

/**
 * Opens SVG's released autoencoder.
 *
 * @example
 * ```ts
 * import { loadPublishedSvg } from "novae/autoencoder/mod.ts";
 * const refused = await loadPublishedSvg({ autoencoder: "none.ckpt", alignment: "batch" }).catch(String);
 * if (!/none.ckpt/.test(`${refused}`)) throw new Error("not refused");
 * ```
 *
 * *Source*: shiml20/SVG. *Differs*: weights are loaded strictly (see `readPublishedWeights`) and statistics must have
 * the latents' width (see `readPublishedStats`); images are aligned with stored statistics unless `batch` is asked
 * for; the grid follows from the settings, where SVG's `encode` divides by 16 whatever the patch.
 *
 * @throws WeightsError if a file is missing or damaged, or does not fit the settings, listing what is missing,
 * unexpected or misshapen; if there is no frozen encoder, or the given one is another than the checkpoint's.
 * ConfigError if it is not said how to align, or the settings do not fit the encoder.
 */
export async function loadPublishedSvg(options: LoadPublishedSvgOptions): Promise<PublishedSvg> {
  const { autoencoder: path, config = PRESET.model, device, threads, batchSize, alignment } = options;
  const what = `Cannot load autoencoder ${path}`;
  expectAlignment(what, config, alignment);
  const source = await openPublishedCheckpoint(path);
  const { params, encoder: stored, ignored } = await readPublishedWeights(source, config, what);
  const stats = options.stats === undefined ? undefined : await readPublishedStats(options.stats, config);
  const encoder = await frozenEncoder(what, stored, options);
  const known = typeof alignment === "object" && !("images" in alignment) ? alignment : undefined;
  const autoencoder = new CompiledAutoencoder(config, params, {
    device,
    threads,
    batchSize,
    encoder,
    stats,
    alignment: known,
    alignmentMode: alignment === "batch" ? "batch" : "stored",
  });
  if (typeof alignment === "object" && "images" in alignment) {
    try {
      const measured = await measureAutoencoder(autoencoder, imagesOnly(alignment.images));
      await autoencoder.update(params, { alignment: measured.alignment, stats: stats ?? measured.stats });
    } catch (error) {
      await autoencoder.dispose();
      if (encoder !== options.encoder) await encoder.dispose();
      throw error;
    }
  }
  return { autoencoder, encoder, ignored };
}

function expectAlignment(
  what: string,
  { space }: AutoencoderConfig,
  alignment: PublishedAlignment | undefined,
): void {
  if (space !== "svg" || alignment !== undefined) return;
  throw new ConfigError(
    `${what}: its alignment must be "batch" (as published), images to measure it on, or statistics, got none`,
  );
}

/** The frozen encoder that was given, if it is the checkpoint's, or the checkpoint's own. */
async function frozenEncoder(
  what: string,
  stored: WeightSource,
  options: LoadPublishedSvgOptions,
): Promise<DinoEncoder> {
  const { autoencoder: path, encoder, encoderConfig = vitConfig(PRESET.encoderSize), device, batchSize } =
    options;
  if (stored.size === 0) {
    if (encoder) return encoder;
    throw new WeightsError(`${what}: its frozen encoder must be in it (encoder.…) or given, got neither`);
  }
  const config = encoder?.config ?? encoderConfig;
  const { params } = await readPretrained(stored, { config, name: `frozen encoder of ${path}` });
  if (!encoder) return new DinoEncoder(config, params, { device, batchSize });
  const hash = hashEncoder(config, params);
  if (hash === encoder.hash) return encoder;
  throw new WeightsError(
    `${what}: it was trained with encoder ${hash.slice(0, 12)}…, got ${encoder.hash.slice(0, 12)}…`,
  );
}

async function* imagesOnly(
  batches: Iterable<HostTensor> | AsyncIterable<HostTensor>,
): AsyncGenerator<MeasuredBatch> {
  for await (const images of batches) yield { images };
}
