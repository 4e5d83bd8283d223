import { dirname } from "node:path";
import type { HostTensor } from "novae/tensor/mod.ts";
import { fileError, hashFile, writeFileAtomic, writeJson } from "novae/io/mod.ts";
import type { DatasetSplits } from "novae/data/mod.ts";
import type { TrainLogEntry } from "novae/nn/mod.ts";
import { countVitParams, saveEncoder, type VitParams } from "novae/dino/mod.ts";
import { describeEnvironment } from "novae/experiment/mod.ts";
import type { EncoderConfig, EncoderOptions, Progress } from "./_encoder_config.ts";
import { knnOfPixels } from "./_encoder_features.ts";

/** Made before the training, so that hours are not spent on a result that has no place. */
export async function makeFolderOf(path: string): Promise<void> {
  const folder = dirname(path);
  try {
    await Deno.mkdir(folder, { recursive: true });
  } catch (error) {
    throw fileError(`Cannot make folder ${folder}`, error);
  }
}

/** The lines at the beginning of a log. */
export async function announcement(
  { vit, data, recipe }: EncoderConfig,
  recipeName: string,
  splits: DatasetSplits,
  { device, reason }: { device: string; reason: string },
): Promise<string[]> {
  const { width, depth, patchSize } = vit,
    images = `${data.train} images to learn from, ${data.test} held out`;
  return [
    `${data.name}: ${images}, ${splits.train.hash.slice(0, 12)}`,
    `vision transformer: width ${width}, depth ${depth}, patch ${patchSize}, ${
      countVitParams(vit)
    } parameters`,
    `recipe ${recipeName}: ${recipe.steps} steps of ${recipe.batchSize} images on ${device} (${reason})`,
    `k-NN accuracy of raw pixels: ${(await knnOfPixels(splits)).toFixed(3)}`,
  ];
}

/** One line for an entry of the training's log. */
export function logLine({ step, imagesSeen, imagesPerSec, leftSec, metrics }: TrainLogEntry): string {
  const values = Object.entries(metrics).map(([name, value]) => `${name} ${value.toFixed(3)}`);
  return `step ${step}, ${imagesSeen} images, ${imagesPerSec.toFixed(0)}/s, ${Math.round(leftSec)} s left: ${
    values.join(", ")
  }`;
}

/** Writes weights, record and log; each file is whole or absent. */
export async function writeResult(
  options: EncoderOptions,
  config: EncoderConfig,
  progress: Progress,
  encoder: VitParams<HostTensor>,
  choice: { device: string; reason: string },
): Promise<void> {
  const weights = `${options.out}.safetensors`, { knn, standardised } = progress;
  const { version, cpu, cores, os } = await describeEnvironment(choice, config.seed);
  await saveEncoder(weights, config.vit, encoder, {
    dataset: config.data.name,
    datasetHash: config.data.hash,
    recipe: options.recipe,
    imagesSeen: String(config.recipe.steps * config.recipe.batchSize),
    knnAccuracy: String((standardised ?? knn.at(-1))?.clsAccuracy ?? ""),
  });
  await writeFileAtomic(`${options.out}.log`, progress.log.join("\n") + "\n");
  await writeJson(`${options.out}.json`, {
    command: ["deno task novae", ...Deno.args].join(" "),
    recipeName: options.recipe,
    ...config,
    parameters: countVitParams(config.vit),
    knn,
    standardised: standardised ?? null,
    wallSec: Math.round(progress.wallSec),
    machine: { cpu, cores, os, device: choice.device },
    version,
    sha256: await hashFile(weights),
  });
}
