import { join } from "node:path";
import { Rng } from "novae/tensor/mod.ts";
import { hashFile, writeFileAtomic, writeJson, writePng } from "novae/io/mod.ts";
import type { TrainLogEntry } from "novae/nn/mod.ts";
import {
  type AutoencoderEvaluation,
  countParameters,
  initAutoencoderState,
  type ResolvedSchedule,
  saveAutoencoder,
  scheduleSteps,
  type ShownReconstructions,
  type TrainedAutoencoder,
} from "novae/autoencoder/mod.ts";
import { describeEnvironment } from "novae/experiment/mod.ts";
import { reconstructionGrid } from "novae/plot/mod.ts";
import type { AutoencoderOptions, Progress, TrainingConfig } from "./_autoencoder_config.ts";
import { makeFolderOf } from "./_encoder_record.ts";
import type { MeasuresRecord } from "./_measures.ts";

/** The lines at the beginning of a log. */
export function announcement(
  { data, model, schedule, encoder, perceptual }: TrainingConfig,
  { lpips }: MeasuresRecord,
  device: string,
): string[] {
  const params = initAutoencoderState(new Rng(0), model).params;
  const [all, decoder] = [params, params.decoder].map(countParameters);
  return [
    `${data.name}: ${data.train} images to learn from, ${data.test} held out, ${data.hash.slice(0, 12)}`,
    `${model.space}: ${all} parameters, ${decoder} of them the decoder` +
    (encoder ? `, frozen encoder ${encoder.slice(0, 12)}` : ""),
    ...(perceptual
      ? [
        `perceptual loss: ${perceptual.name} ${
          perceptual.hash.slice(0, 12)
        }, weight ${schedule.reconstruction.perceptual}`,
      ]
      : []),
    ...discriminatorLine(schedule),
    ...(lpips ? [`measured too: LPIPS (${lpips.network}) ${lpips.hash.slice(0, 12)}`] : []),
    `${scheduleSteps(schedule)} updates of ${schedule.batchSize} images on ${device}`,
  ];
}

function discriminatorLine({ adversarial, images }: ResolvedSchedule): string[] {
  if (!adversarial) return [];
  const { startImages, weight } = adversarial;
  const never = startImages < images ? "" : `, which a training of ${images} does not reach`;
  return [`discriminator: from image ${startImages} on, weight ${weight}${never}`];
}

/** One line for an entry of the training's log. */
export function logLine({ step, imagesSeen, imagesPerSec, leftSec, metrics }: TrainLogEntry): string {
  const values = Object.entries(metrics).map(([name, value]) => `${name} ${value.toPrecision(4)}`);
  return `update ${step}, ${imagesSeen} images, ${imagesPerSec.toFixed(0)}/s, ${
    Math.round(leftSec)
  } s left: ${values.join(", ")}`;
}

/** One line for a point of the curve. */
export function evaluationLine({ step, psnr, count, metrics = {} }: AutoencoderEvaluation): string {
  const others = Object.entries(metrics).map(([name, value]) => `, ${name} ${value.toPrecision(4)}`);
  return `update ${step}: PSNR ${psnr.toFixed(2)} dB${others.join("")} on ${count} held-out images`;
}

/** Draws held-out images, their reconstructions and the differences, five times as bright, into the run folder. */
export async function drawReconstructions(
  run: string,
  step: number,
  shown: ShownReconstructions,
): Promise<void> {
  const path = join(run, "samples", `step-${String(step).padStart(6, "0")}.png`);
  await makeFolderOf(path);
  await writePng(path, reconstructionGrid(shown.images, shown.reconstructions, { gain: 5 }));
}

/** Writes weights, record and log; each file is whole or absent. */
export async function writeResult(
  options: AutoencoderOptions,
  config: TrainingConfig,
  measures: MeasuresRecord,
  progress: Progress,
  trained: TrainedAutoencoder,
  choice: { device: string; reason: string },
): Promise<void> {
  const out = outOf(options), weights = `${out}.safetensors`;
  const { data, model, schedule, encoder, perceptual } = config, { params, stats, alignment } = trained;
  const { version, cpu, cores, os } = await describeEnvironment(choice, schedule.seed);
  await saveAutoencoder(weights, {
    config: model,
    params,
    stats,
    alignment,
    encoderHash: encoder ?? undefined,
    metadata: {
      dataset: data.name,
      datasetHash: data.hash,
      imagesSeen: String(schedule.images),
      ...(perceptual && { perceptualLoss: perceptual.name, perceptualHash: perceptual.hash }),
    },
  });
  await writeFileAtomic(`${out}.log`, progress.log.join("\n") + "\n");
  await writeJson(`${out}.json`, {
    command: ["deno task novae", ...Deno.args].join(" "),
    ...config,
    parameters: { total: countParameters(params), decoder: countParameters(params.decoder) },
    measures,
    curve: progress.curve,
    wallSec: Math.round(progress.wallSec),
    machine: { cpu, cores, os, device: choice.device },
    version,
    sha256: await hashFile(weights),
  });
  const seconds = Math.round(progress.wallSec), psnr = progress.curve.at(-1)?.psnr;
  console.log(`${weights}: PSNR ${psnr?.toFixed(2)} dB on held-out images, ${seconds} s of training`);
}

/** Path of the result without its extension. */
export function outOf(options: AutoencoderOptions): string {
  return options.out ?? nameOf(options);
}

/** Name of a training. */
export function nameOf({ preset, space, data }: AutoencoderOptions): string {
  return `ae-${preset ?? space}-${data}`;
}
