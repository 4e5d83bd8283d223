/**
 * A latent space before diffusion: latents of all training images, quality of reconstructions, what simple
 * classifiers read from the latents, and a map of them.
 *
 * @module
 */
import { asMatrix, concatRows, float32, type HostTensor, rows } from "novae/tensor/mod.ts";
import type { Dataset, DatasetSplits } from "novae/data/mod.ts";
import {
  type CompiledAutoencoder,
  countParameters,
  denormalizeLatents,
  hasFeatures,
  type LatentStats,
  normalizeLatents,
} from "novae/autoencoder/mod.ts";
import { knnClassify, linearProbe, umap } from "novae/analysis/mod.ts";
import { reconstructionMetrics } from "novae/evaluation/mod.ts";
import { encodePng, imageGrid, writeFileAtomic } from "novae/io/mod.ts";
import type { StageContext } from "novae/experiment/mod.ts";
import type { StudyConfig } from "./config.ts";
import { CHUNK, type EncodedImages } from "./encoded_images.ts";
import { meanTokens } from "./mean_tokens.ts";
import type { MapRecord, ModelRecord, ProbeRecord, ReconstructionRecord, SpaceRecord } from "./results.ts";
import type { Scorer, ScoreReference } from "./scorer.ts";

/** Images on a picture of originals or reconstructions. */
const SHOWN = 10;

/** What a space is measured with. */
export interface SpaceTools {
  /** Settings of the study. */
  readonly config: StudyConfig;
  /** The images. */
  readonly data: DatasetSplits;
  /** Extracts and compares features. */
  readonly scorer: Scorer;
  /** The held-out images with their features. */
  readonly test: EncodedImages;
  /** Features of the held-out images, to compare reconstructions with. */
  readonly heldOut: ScoreReference;
}

/**
 * Normalised latents of a data set.
 *
 * @param stats what they are normalised with; the autoencoder's own unless given.
 * @returns zBNZ [size, N, Z], with the autoencoder's own statistics each channel with mean 0 and variance 1 over the
 * training images.
 */
export async function encodeDataset(
  autoencoder: CompiledAutoencoder,
  encoded: EncodedImages,
  onProgress?: (done: number) => void,
  stats: LatentStats = autoencoder.stats,
): Promise<HostTensor> {
  const { grid, channels } = autoencoder, { size } = encoded.dataset;
  const latents = new Float32Array(size * grid * grid * channels);
  for (const { start, end, images, features } of encoded.chunks()) {
    const known = hasFeatures(autoencoder.name) ? (await features()).patchesBND : undefined;
    const z = autoencoder.join(await autoencoder.encodeParts(images, known));
    latents.set(normalizeLatents(z, stats).data, start * grid * grid * channels);
    onProgress?.(end);
  }
  return float32(latents, [size, grid * grid, channels]);
}

/** Measures a space; writes pictures of originals and reconstructions to the stage's folder. */
export async function measureSpace(
  tools: SpaceTools,
  autoencoder: CompiledAutoencoder,
  record: ModelRecord,
  trainLatents: HostTensor,
  stage: StageContext,
): Promise<SpaceRecord> {
  const { data, config } = tools;
  stage.update(1, 10, "held-out latents");
  const testLatents = await encodeDataset(autoencoder, tools.test);
  stage.update(2, 10, "reconstructions");
  const reconstruction = await measureReconstruction(tools, autoencoder, testLatents, stage);
  stage.update(5, 10, "probes");
  const probes = await measureProbes(tools, trainLatents, testLatents);
  stage.update(8, 10, "map");
  return {
    space: autoencoder.name,
    channels: autoencoder.channels,
    grid: autoencoder.grid,
    autoencoder: record,
    decoderParameters: countParameters(autoencoder.params.decoder),
    reconstruction,
    probes,
    umap: await mapLatents(config, data.test, testLatents),
  };
}

async function measureReconstruction(
  { data: { test }, scorer, heldOut }: SpaceTools,
  autoencoder: CompiledAutoencoder,
  latents: HostTensor,
  stage: StageContext,
): Promise<ReconstructionRecord> {
  const parts: HostTensor[] = [];
  let psnr = 0, ssim = 0;
  for (let start = 0; start < test.size; start += CHUNK) {
    const size = Math.min(CHUNK, test.size - start);
    const images = test.images(Int32Array.from({ length: size }, (_, i) => start + i));
    const z = denormalizeLatents(rows(latents, start, start + size), autoencoder.stats);
    const decoded = await autoencoder.decode(z);
    const metrics = reconstructionMetrics(images, decoded);
    psnr += metrics.psnr * size / test.size;
    ssim += metrics.ssim * size / test.size;
    if (start === 0) {
      const shown = Math.min(SHOWN, size), scale = Math.max(1, Math.round(64 / test.imageSize));
      const picture = async (content: HostTensor) =>
        await encodePng(imageGrid(rows(content, 0, shown), shown, { scale }));
      await writeFileAtomic(stage.file("originals.png"), await picture(images));
      await writeFileAtomic(stage.file("reconstructions.png"), await picture(decoded));
    }
    parts.push(decoded);
  }
  const features = await scorer.features(concatRows(parts));
  return { psnr, ssim, frechet: scorer.frechet(features, heldOut), n: test.size };
}

async function measureProbes(
  { data, config }: SpaceTools,
  trainLatents: HostTensor,
  testLatents: HostTensor,
): Promise<ProbeRecord> {
  const { neighbours: k } = config.analysis;
  const labels = { train: allLabels(data.train), test: allLabels(data.test) };
  const pooled = {
    train: { features: meanTokens(trainLatents), labels: labels.train },
    test: { features: meanTokens(testLatents), labels: labels.test },
  };
  const tokens = {
    train: { features: asMatrix(trainLatents, 2), labels: labels.train },
    test: { features: asMatrix(testLatents, 2), labels: labels.test },
  };
  const linearPooled = await linearProbe(pooled.train, pooled.test, { seed: config.seed });
  const linearTokens = await linearProbe(tokens.train, tokens.test, {
    loss: "ridge",
    l2: [10, 1],
    seed: config.seed,
  });
  const knn = await knnClassify(pooled.train, pooled.test, { k });
  return {
    linearPooled: linearPooled.accuracy,
    linearTokens: linearTokens.accuracy,
    knn: knn.accuracy,
    k,
    train: data.train.size,
    n: data.test.size,
  };
}

async function mapLatents(config: StudyConfig, test: Dataset, latents: HostTensor): Promise<MapRecord> {
  const count = Math.min(config.analysis.umapPoints, test.size);
  const { data } = await umap(meanTokens(rows(latents, 0, count)), { seed: config.seed });
  const labels = test.labels(Int32Array.from({ length: count }, (_, i) => i));
  return { xy: Array.from(data, (v) => Number(v.toFixed(3))), labels: [...labels] };
}

/** Labels of a whole data set. */
export function allLabels(dataset: Dataset): Int32Array {
  return dataset.labels(Int32Array.from({ length: dataset.size }, (_, i) => i));
}
