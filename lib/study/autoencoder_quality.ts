/**
 * The quality of an autoencoder on held-out images: its reconstructions, and what simple classifiers read from its
 * latents beside what they read from the raw features.
 *
 * @module
 */
import { ChannelMoments, ConfigError, type HostTensor, type Matrix } from "novae/tensor/mod.ts";
import { knnClassify, type LabelledMatrix, linearProbe } from "novae/analysis/mod.ts";
import {
  type Autoencoder,
  latentsOf,
  measureReconstruction,
  type ReconstructionMeasures,
  type ShownReconstructions,
} from "novae/autoencoder/mod.ts";
import type { LabelledBatch, LabelledImages } from "./labelled_images.ts";
import { meanTokens } from "./mean_tokens.ts";

/** Top-1 accuracies on held-out images of simple classifiers on mean tokens. */
export interface PooledProbe {
  /** Softmax regression. */
  readonly linear: number;
  /** Cosine neighbours. */
  readonly knn: number;
  /** Neighbours that vote. */
  readonly k: number;
  /** Training images. */
  readonly train: number;
  /** Held-out images. */
  readonly test: number;
}

/** What is measured of an autoencoder. */
export interface AutoencoderQuality {
  /** Name of its latent space. */
  readonly space: string;
  /** Reconstruction by measure, e.g. `psnr`. */
  readonly reconstruction: Readonly<Record<string, number>>;
  /** Number of reconstructed images. */
  readonly count: number;
  /** Probes of its latents; null if no training images were given. */
  readonly probe: PooledProbe | null;
}

/** What an autoencoder is measured on. */
export interface QualityImages {
  /** Held-out images. */
  readonly test: LabelledImages;
  /** Images to fit the probes on; without them there are none. */
  readonly train?: LabelledImages;
}

/** How probes are fitted. */
export interface ProbeSettings {
  /** Neighbours that vote. Default 20. */
  readonly k?: number;
  /** Seed of the rows that choose the penalty. Default 0. */
  readonly seed?: number;
}

/** Options of {@linkcode measureQuality}. */
export interface QualityOptions extends ProbeSettings {
  /** What is measured of the reconstructions. */
  readonly measures: ReconstructionMeasures;
  /** Told of images that were gone through, of how many. */
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Measures an autoencoder in one pass over each data set; memory holds one token an image.
 *
 * @returns its quality, and the first held-out images with their reconstructions.
 * @throws ConfigError if there are fewer training images than neighbours, or a held-out class is not among them.
 */
export async function measureQuality(
  autoencoder: Pick<Autoencoder, "name" | "channels" | "encode" | "decode">,
  { train, test }: QualityImages,
  { measures, onProgress, ...settings }: QualityOptions,
): Promise<{ readonly quality: AutoencoderQuality; readonly shown: ShownReconstructions }> {
  if (train) expectProbeImages({ train, test }, settings);
  const { channels, name: space } = autoencoder, total = test.size + (train?.size ?? 0);
  const held = new PooledTokens(channels), learned = new PooledTokens(channels);
  const told = async function* (batches: AsyncIterable<LabelledBatch>, before: number, to: PooledTokens) {
    for await (const batch of batches) {
      yield batch;
      to.label(batch.labels);
      onProgress?.(before + to.count, total);
    }
  };
  const { metrics, count, shown } = await measureReconstruction(
    autoencoder,
    told(test.batches(), 0, held),
    measures,
    { onLatents: (zBNZ) => held.add(zBNZ) },
  );
  if (!train) return { quality: { space, reconstruction: metrics, count, probe: null }, shown };
  for await (const batch of told(train.batches(), test.size, learned)) {
    learned.add(await latentsOf(autoencoder, batch));
  }
  const probe = await probeTokens(learned, held, settings);
  return { quality: { space, reconstruction: metrics, count, probe }, shown };
}

/**
 * What simple classifiers read from the features of the frozen encoder: the level that latents are compared with.
 *
 * @param images with an encoder.
 * @throws ConfigError as {@linkcode measureQuality}.
 */
export async function probeFeatures(
  { train, test }: Required<QualityImages>,
  settings: ProbeSettings = {},
): Promise<PooledProbe> {
  expectProbeImages({ train, test }, settings);
  const { width } = train.encoder!, learned = new PooledTokens(width), held = new PooledTokens(width);
  for (const [images, to] of [[train, learned], [test, held]] as const) {
    for await (const { features, labels } of images.batches()) {
      to.add(features!);
      to.label(labels);
    }
  }
  return await probeTokens(learned, held, settings);
}

/**
 * Checks that probes can be fitted and scored on images, before hours are spent on them.
 *
 * @throws ConfigError if there are fewer training images than neighbours, or a held-out class is not among them.
 */
export function expectProbeImages(
  { train, test }: Required<QualityImages>,
  { k = 20 }: ProbeSettings = {},
): void {
  if (train.size < k) {
    throw new ConfigError(
      `Cannot probe latents: at least as many training images as neighbours (${k}) are needed, got ${train.size}`,
    );
  }
  const known = new Set(train.labels()), unknown = test.labels().find((label) => !known.has(label));
  if (unknown === undefined) return;
  throw new ConfigError(
    `Cannot probe latents: each class of ${test.source.name} must be among the training images, got ` +
      `"${test.source.classes[unknown]}", which is not`,
  );
}

/** Mean tokens of images with their classes, and the moments of all tokens. */
class PooledTokens {
  readonly #moments: ChannelMoments;
  readonly #means: Matrix[] = [];
  readonly #labels: number[] = [];
  readonly #channels: number;

  constructor(channels: number) {
    this.#channels = channels;
    this.#moments = new ChannelMoments(channels);
  }

  /** Number of images whose class is known. */
  get count(): number {
    return this.#labels.length;
  }

  add(tokensBND: HostTensor): void {
    this.#moments.add(tokensBND);
    this.#means.push(meanTokens(tokensBND));
  }

  label(labels: Int32Array): void {
    for (const label of labels) this.#labels.push(label);
  }

  /** Mean and standard deviation of each channel over all tokens. */
  scaling(): { mean: Float64Array; std: Float64Array } {
    return { mean: this.#moments.mean(), std: this.#moments.std() };
  }

  /** The mean tokens, each channel brought to mean 0 and standard deviation 1 over the tokens of the scaling. */
  labelled({ mean, std }: { mean: Float64Array; std: Float64Array }): LabelledMatrix {
    const cols = this.#channels, data = new Float32Array(this.count * cols);
    let at = 0;
    for (const { data: tokens } of this.#means) {
      // A constant channel tells nothing; it stays 0.
      for (let i = 0, c = 0; i < tokens.length; i++, c = (c + 1) % cols) {
        data[at++] = std[c] > 0 ? (tokens[i] - mean[c]) / std[c] : 0;
      }
    }
    return { features: { data, rows: this.count, cols }, labels: Int32Array.from(this.#labels) };
  }
}

async function probeTokens(
  learned: PooledTokens,
  held: PooledTokens,
  { k = 20, seed = 0 }: ProbeSettings,
): Promise<PooledProbe> {
  const scaling = learned.scaling(), train = learned.labelled(scaling), test = held.labelled(scaling);
  const linear = await linearProbe(train, test, { seed }), knn = await knnClassify(train, test, { k });
  return { linear: linear.accuracy, knn: knn.accuracy, k, train: learned.count, test: held.count };
}
