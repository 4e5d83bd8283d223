/**
 * Defaults of the study for each data set and scale. The amounts aim at two processor cores: `quick` at
 * three minutes, `standard` at a quarter of an hour on `solids`, `full` at an evening.
 *
 * @module
 */
import { relative } from "node:path";
import { fileURLToPath } from "node:url";
import type { DatasetName } from "novae/data/mod.ts";
import { PAPER_SPACES } from "novae/autoencoder/mod.ts";
import type { Scale, StudyConfig } from "./config.ts";

/** What a scale decides for a data set. */
interface Amounts {
  readonly train: number;
  readonly test: number;
  readonly encoder: number;
  readonly classifier: number;
  readonly autoencoder: number;
  readonly diffusion: number;
  readonly samples: number;
  readonly checkpoints: number[];
  readonly curveSteps: number[];
  readonly umapPoints: number;
}

const SOLIDS: Readonly<Record<Scale, Amounts>> = {
  quick: {
    train: 2000,
    test: 500,
    encoder: 4000,
    classifier: 6400,
    autoencoder: 1500,
    diffusion: 2400,
    samples: 128,
    checkpoints: [0.5, 1],
    curveSteps: [10],
    umapPoints: 400,
  },
  standard: {
    train: 10_000,
    test: 2000,
    encoder: 64_000,
    classifier: 64_000,
    autoencoder: 16_000,
    diffusion: 12_000,
    samples: 1000,
    checkpoints: [0.25, 0.5, 1],
    curveSteps: [10],
    umapPoints: 1000,
  },
  full: {
    train: 20_000,
    test: 5000,
    encoder: 400_000,
    classifier: 200_000,
    autoencoder: 200_000,
    diffusion: 400_000,
    samples: 5000,
    checkpoints: [0.05, 0.1, 0.2, 0.4, 0.7, 1],
    curveSteps: [5, 10, 25],
    umapPoints: 2000,
  },
};

const SMALL_IMAGES: Readonly<Record<Scale, Amounts>> = {
  quick: { ...SOLIDS.quick, encoder: 1600, classifier: 4000, autoencoder: 600, diffusion: 1600 },
  standard: {
    ...SOLIDS.standard,
    encoder: 32_000,
    classifier: 40_000,
    autoencoder: 16_000,
    diffusion: 12_000,
  },
  full: SOLIDS.full,
};

/**
 * The configuration of a data set at a scale.
 *
 * @param fromScratch whether to train also what is shipped in `data/models`.
 */
export function defaultStudy(data: DatasetName, scale: Scale, fromScratch: boolean): StudyConfig {
  const amounts = data === "cifar10" ? SMALL_IMAGES[scale] : SOLIDS[scale];
  const shipped = data !== "folder" && !fromScratch;
  return {
    data: {
      name: data,
      path: "",
      train: amounts.train,
      test: amounts.test,
      imageSize: data === "cifar10" ? 32 : 64,
    },
    encoder: { path: shipped ? shippedModel(`encoder-${data}.safetensors`) : "", images: amounts.encoder },
    classifier: {
      path: shipped ? shippedModel(`classifier-${data}.safetensors`) : "",
      images: amounts.classifier,
    },
    autoencoder: { folder: shipped ? shippedModel("") : "", images: amounts.autoencoder },
    diffusion: {
      size: scale === "full" ? "micro" : "pico",
      images: amounts.diffusion,
      // At equal time: on `svg`, batches of 8, 16 and 32 reached Fréchet distances of 4.0, 3.7 and 3.9.
      batchSize: 16,
      learningRate: 1.5e-3,
      warmupImages: 1000,
      cooldown: 0.3,
      emaHalflifeImages: Math.max(amounts.diffusion / 20, 200),
      timestepShift: 1,
      labelDropout: 0.1,
    },
    sampling: {
      samples: amounts.samples,
      steps: [5, 10, 25],
      cfgScale: 1.5,
      timestepShift: 1,
      checkpoints: [...amounts.checkpoints],
      curveSteps: [...amounts.curveSteps],
      curveGuided: false,
    },
    analysis: { neighbours: 20, umapPoints: amounts.umapPoints },
    spaces: [...PAPER_SPACES],
    seed: 0,
    device: "cpu",
  };
}

/** Path of a file in `data/models`, relative to the working folder. */
export function shippedModel(name: string): string {
  const path = fileURLToPath(new URL(`../../data/models/${name}`, import.meta.url));
  return relative(Deno.cwd(), path) || ".";
}
