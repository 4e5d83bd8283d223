/**
 * What a study will take: time by stage, parameters and memory, known before it starts.
 *
 * @module
 */
import type { StagePlan } from "novae/experiment/mod.ts";
import { latentChannels, latentGrid } from "novae/autoencoder/mod.ts";
import { countParameters, ditConfig, type DitSize } from "novae/diffusion/mod.ts";
import type { StudyConfig } from "./config.ts";
import { autoencoderConfig, requireModels } from "./materials.ts";

/** Classes of the data sets that the project knows; those of an image folder are counted when it is read. */
const CLASSES = 10;
/** What the runtime and the compiled graphs take. */
const BASE_BYTES = 1.4e9;

/**
 * Seconds of one unit of each kind of work, from runs on two cores of an AMD EPYC; where the size of the images counts,
 * for 64 pixels.
 */
const COST = {
  encoderImage: 1 / 130,
  classifierImage: 1 / 180,
  autoencoderImage: 1 / 70,
  diffusionImage: 1 / 280,
  forward: 1 / 1500,
  decode: 1 / 280,
  measuredImage: 1 / 550,
  spaceImage: 1 / 400,
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
    { name: `latents-${space}`, expectedSec: 2 + images * COST.spaceImage },
    {
      name: `diffusion-${space}`,
      expectedSec: 5 + diffusion.images * COST.diffusionImage + sampling.samples * sampled,
    },
  ]);
  return [
    { name: "data", expectedSec: data.name === "solids" ? images / 450 : 2 },
    {
      name: "classifier",
      expectedSec: 1 + (classifier.path === "" ? classifier.images * size * COST.classifierImage : 0),
    },
    { name: "encoder", expectedSec: 1 + (encoder.path === "" ? encoder.images * COST.encoderImage : 0) },
    { name: "references", expectedSec: 2 + images * COST.measuredImage },
    ...spaceStages,
  ];
}

/** The configuration, the parameter counts, and what it will take, for `--dry-run`. */
export async function describeStudy(config: StudyConfig): Promise<string> {
  await requireModels(config);
  const { data, sampling, diffusion } = config;
  const lines: string[] = [];
  let latentValues = 0;
  for (const space of config.spaces) {
    const autoencoder = await autoencoderConfig(config, space);
    const channels = latentChannels(autoencoder), grid = latentGrid(autoencoder);
    const dit = ditConfig(diffusion.size as DitSize, { channels, grid, classes: CLASSES });
    const { learned } = countParameters(dit);
    lines.push(`  ${space}: ${grid} × ${grid} × ${channels} latents, transformer of ${learned} parameters`);
    latentValues = Math.max(latentValues, grid * grid * channels);
  }
  const seconds = stagePlan(config).reduce((sum, stage) => sum + (stage.expectedSec ?? 0), 0);
  const pixels = data.imageSize ** 2 * 3, pictures = Math.max(sampling.samples, data.test);
  // 8-bit images, latents of the widest space, samples and reconstructions as floats.
  const bytes = (data.train + data.test) * pixels + 4 * data.train * latentValues + 16 * pictures * pixels;
  return [
    JSON.stringify(config, null, 2),
    `with ${CLASSES} classes:`,
    ...lines,
    `about ${Math.ceil(seconds / 60)} minutes on two cores, about ${
      ((bytes + BASE_BYTES) / 1e9).toFixed(1)
    } GB of memory`,
  ].join("\n");
}
