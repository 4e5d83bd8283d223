/**
 * What a study will take: time by stage, parameters and memory, known before it starts.
 *
 * @module
 */
import type { StagePlan } from "novae/experiment/mod.ts";
import { countParameters, ditConfig, type DitSize } from "novae/diffusion/mod.ts";
import type { StudyConfig } from "./config.ts";

/** Seconds of one unit of each kind of work on two cores, estimated from short trials. */
const COST = {
  encoderImage: 1 / 130,
  classifierImage: 1 / 250,
  autoencoderImage: 1 / 70,
  diffusionImage: 1 / 330,
  forward: 1 / 1300,
  decode: 1 / 350,
  measuredImage: 1 / 400,
};

/** The stages of a study with the seconds that each is expected to take on two processor cores. */
export function stagePlan(config: StudyConfig): StagePlan[] {
  const { data, encoder, classifier, autoencoder, diffusion, sampling } = config;
  const images = data.train + data.test, size = (data.imageSize / 64) ** 2;
  const settings = (steps: readonly number[], guided: boolean) =>
    steps.reduce(
      (sum, n) => sum + (n + (guided ? 2 * n : 0)) * COST.forward + (guided ? 2 : 1) * size * COST.decode,
      0,
    );
  const sampled = settings(sampling.steps, true) +
    (sampling.checkpoints.length - 1) * settings(sampling.curveSteps, sampling.curveGuided);
  const spaceStages = config.spaces.flatMap((space): StagePlan[] => [
    {
      name: `autoencoder-${space}`,
      expectedSec: 1 + (autoencoder.folder === "" ? autoencoder.images * size * COST.autoencoderImage : 0),
    },
    { name: `latents-${space}`, expectedSec: 5 + images * COST.measuredImage },
    {
      name: `diffusion-${space}`,
      expectedSec: 5 + diffusion.images * COST.diffusionImage + sampling.samples * sampled,
    },
  ]);
  return [
    { name: "data", expectedSec: data.name === "solids" ? images / 350 : 2 },
    {
      name: "classifier",
      expectedSec: 1 + (classifier.path === "" ? classifier.images * COST.classifierImage : 0),
    },
    { name: "encoder", expectedSec: 1 + (encoder.path === "" ? encoder.images * COST.encoderImage : 0) },
    { name: "references", expectedSec: 2 + images * COST.measuredImage },
    ...spaceStages,
  ];
}

/** The configuration, the parameter counts, and what it will take, for `--dry-run`. */
export function describeStudy(config: StudyConfig): string {
  const channels: Record<string, number> = { vae: 16, dino: 64, "svg-noalign": 72, svg: 72 };
  const lines = config.spaces.map((space) => {
    const dit = ditConfig(config.diffusion.size as DitSize, {
      channels: channels[space],
      grid: 8,
      classes: 10,
    });
    return `  ${space}: ${channels[space]} channels, transformer of ${
      countParameters(dit).learned
    } parameters`;
  });
  const seconds = stagePlan(config).reduce((sum, stage) => sum + (stage.expectedSec ?? 0), 0);
  const { data, sampling } = config, pixels = data.imageSize ** 2 * 3;
  // 8-bit images, float latents of the widest space, one set of decoded samples with its reconstructions, runtime.
  const bytes = (data.train + data.test) * pixels + data.train * 64 * 72 * 4 +
    4 * pixels * Math.max(sampling.samples, data.test) * 2 + 900e6;
  return [
    JSON.stringify(config, null, 2),
    "with the models of this project (10 classes, 8 × 8 tokens):",
    ...lines,
    `about ${Math.ceil(seconds / 60)} minutes on two cores, about ${(bytes / 1e9).toFixed(1)} GB of memory`,
  ].join("\n");
}
