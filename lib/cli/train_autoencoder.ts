/**
 * `novae train autoencoder`: trains the autoencoder of one latent space and writes it with its record and log.
 *
 * @module
 */
import { join } from "node:path";
import { type Command, Option } from "commander";
import { resolveDevice } from "novae/engine/mod.ts";
import {
  AUTOENCODER_SIZES,
  FORMER_SCHEDULE,
  type PerceptualLoss,
  type ReconstructionMeasures,
  scheduleSteps,
  SPACE_NAMES,
  SVG_PRESETS,
  trainAutoencoder,
  type TrainedAutoencoder,
} from "novae/autoencoder/mod.ts";
import { CheckpointStore, type DeviceChoice } from "novae/experiment/mod.ts";
import {
  type AutoencoderOptions,
  type Materials,
  openMaterials,
  type Progress,
  resolveTraining,
  startingPoint,
  trainedBy,
  type TrainingConfig,
} from "./_autoencoder_config.ts";
import {
  announcement,
  drawReconstructions,
  evaluationLine,
  logLine,
  nameOf,
  outOf,
  writeResult,
} from "./_autoencoder_record.ts";
import { makeFolderOf } from "./_encoder_record.ts";
import { addLpipsOptions } from "./_lpips.ts";
import { type OpenedMeasures, openMeasures } from "./_measures.ts";
import { openMetrics } from "./_metrics.ts";
import { parseCount } from "./_options.ts";
import { expectIndependentLoss } from "./_perceptual.ts";
import { type AutoencoderFlags, PRESET_DECIDES, withPreset } from "./_preset.ts";
import { addSplitsOptions } from "./_splits.ts";

/** Adds `autoencoder` to the `train` command. */
export function registerTrainAutoencoder(train: Command): void {
  const command = train.command("autoencoder")
    .description("train the autoencoder of one latent space on images; no labels are used")
    .addOption(
      new Option("--space <name>", "latent space; needed without a preset").choices([...SPACE_NAMES]),
    )
    .addOption(
      new Option(
        "--preset <name>",
        "a published autoencoder: networks, losses and schedule; --set changes them",
      )
        .choices(Object.keys(SVG_PRESETS)).conflicts([...PRESET_DECIDES]),
    );
  addLpipsOptions(addSplitsOptions(command), "train by LPIPS and measure it")
    .option(
      "--perceptual <file>",
      "train by the maps of a classifier, not the one that measures; LPIPS is then only measured",
    )
    .option(
      "--adversarial",
      "train against a discriminator, as published; schedule.adversarial has its settings",
    )
    .option("--no-adversarial", "leave the discriminator of the preset out")
    .option(
      "--image-size <pixels>",
      "edge of the square crop; 64, of cifar10 32, of files 256 if omitted",
      parseCount,
    )
    .addOption(
      new Option("--crop <place>", "where the crop of larger images lies").choices(["center", "random"])
        .default("center"),
    )
    .option("--flip", "mirror each image with probability ½", false)
    .option("--encoder <reference>", "the frozen encoder; needed by spaces with its features and by va-vae")
    .option(
      "--features <source>",
      "online, memory, or a folder made by `novae extract`; memory if they fit and crops are not random, if omitted",
    )
    .addOption(
      new Option("--size <name>", "named size; kl-… are those of vae and va-vae").choices([
        ...AUTOENCODER_SIZES,
      ]).default("micro"),
    )
    .option(
      "--patch-size <pixels>",
      "edge of a token; the encoder's, or for 8 × 8 tokens, if omitted",
      parseCount,
    )
    .option(
      "--images <n>",
      "training images, repetitions counted; 100,000, of a preset 41 epochs, if omitted",
      parseCount,
    )
    .addOption(
      new Option("--epochs <n>", "runs through the training images, instead of --images").argParser(
        parseCount,
      )
        .conflicts(["images", "minutes"]),
    )
    .option("--minutes <n>", "as many images as can be trained on in this time, instead of --images", Number)
    .option("--seed <n>", "decides weights, order of images, crops and noise", Number, 0)
    .option("--device <name>", "where to train", "auto")
    .option("--threads <n>", "threads on the CPU; all cores if omitted", parseCount)
    .option("--workers <n>", "threads that decode image files; one a core if omitted", parseCount)
    .option(
      "--classifier <file>",
      "whose features measure Fréchet distances; the shipped one if it fits, if omitted",
    )
    .option("--evaluations <n>", "how often held-out images are reconstructed", parseCount, 10)
    .option("--evaluation-images <n>", "held-out images of an evaluation", parseCount, 256)
    .option("--checkpoint-every <steps>", "updates between checkpoints", parseCount, 500)
    .option(
      "--run <folder>",
      "folder of the checkpoints; experiments/runs/ae-<space or preset>-<data> if omitted",
    )
    .option(
      "--out <path>",
      "result without extension: .safetensors, .json, .log; ae-<space or preset>-<data> if omitted",
    )
    .option(
      "--set <key=value...>",
      "change settings, e.g. schedule.batchSize=64 or model.vae.klWeight=1e-5",
      [],
    )
    .option("--resume", "go on from the newest checkpoint of the run folder", false)
    .action((flags: AutoencoderFlags) => run(withPreset(flags)));
}

async function run(options: AutoencoderOptions): Promise<void> {
  const choice = await resolveDevice(options.device), { device } = choice;
  const materials = await openMaterials(options, device);
  try {
    const folder = options.run ?? `experiments/runs/${nameOf(options)}`;
    const config = await resolveTraining(options, materials, folder);
    const { imageSize } = config.model, { lpips: lpipsWeights } = materials.perceptual;
    const judge = await openMeasures({ ...options, imageSize, lpipsWeights, device });
    try {
      expectIndependentLoss(config.perceptual, judge.record);
      await trainAndWrite({ ...options, device }, config, materials, judge, folder, choice);
    } finally {
      await judge.dispose();
    }
  } finally {
    await materials.dispose();
  }
}

async function trainAndWrite(
  options: AutoencoderOptions,
  config: TrainingConfig,
  materials: Materials,
  judge: OpenedMeasures,
  folder: string,
  choice: DeviceChoice,
): Promise<void> {
  const store = new CheckpointStore(join(folder, "checkpoints"), {
    config,
    former: { schedule: FORMER_SCHEDULE, perceptual: null },
  });
  await makeFolderOf(`${outOf(options)}.safetensors`);
  const started = await startingPoint(store, config, options, folder), { progress, resumed } = started;
  const say = (line: string) => {
    console.log(line);
    progress.log.push(line);
  };
  if (resumed === null) {
    announcement(config, judge.record, `${choice.device} (${choice.reason})`).forEach(say);
    if (judge.note) say(judge.note);
  } else console.log(`going on from update ${resumed} of ${scheduleSteps(config.schedule)}`);
  const perceptual = trainedBy(materials, config.schedule)?.loss, { measures } = judge;
  const trained = await runTraining({
    ...{ options, config, materials, store, folder, say, measures, perceptual },
    ...started,
  });
  if (!trained.stopped) return await writeResult(options, config, judge.record, progress, trained, choice);
  console.log(`stopped after update ${trained.step}; --resume goes on from there`);
}

async function runTraining(
  { options, config, materials, store, folder, say, state, progress, resumed, measures, perceptual }:
    & Awaited<ReturnType<typeof startingPoint>>
    & {
      options: AutoencoderOptions;
      config: TrainingConfig;
      materials: Materials;
      store: CheckpointStore;
      folder: string;
      say: (line: string) => void;
      measures: ReconstructionMeasures;
      perceptual: PerceptualLoss | undefined;
    },
): Promise<TrainedAutoencoder> {
  const metrics = await openMetrics(folder, resumed, "evaluation"), takeTime = stopwatch(progress);
  const { model, schedule } = config,
    { splits, encoder, features } = materials,
    steps = scheduleSteps(schedule);
  const logEverySteps = Math.max(1, Math.round(steps / 60));
  const controller = new AbortController(), stop = () => controller.abort();
  Deno.addSignalListener("SIGINT", stop);
  try {
    return await trainAutoencoder({
      device: options.device,
      threads: options.threads,
      workers: options.workers,
      evaluations: options.evaluations,
      evaluationImages: options.evaluationImages,
      config: model,
      schedule,
      train: splits.train,
      heldOut: splits.test,
      encoder,
      features,
      resume: state,
      measures,
      perceptual,
      signal: controller.signal,
      logEverySteps,
      onLog: (entry) => {
        say(logLine(entry));
        metrics.append({ kind: "train", step: entry.step, imagesSeen: entry.imagesSeen, ...entry.metrics });
      },
      // At a log entry, so that the means of a resumed training are over the same updates.
      checkpointEverySteps: Math.ceil(options.checkpointEvery / logEverySteps) * logEverySteps,
      onCheckpoint: async (reached, step) => {
        takeTime();
        await store.save(step, { weights: reached.ema, state: reached, meta: { ...progress } });
      },
      onEvaluation: async (point, shown) => {
        if (progress.curve.some(({ step }) => step === point.step)) return;
        await drawReconstructions(folder, point.step, shown);
        progress.curve.push(point);
        const { metrics: others, ...own } = point;
        metrics.append({ kind: "evaluation", ...own, ...others });
        say(evaluationLine(point));
      },
    });
  } finally {
    Deno.removeSignalListener("SIGINT", stop);
    takeTime();
  }
}

/** Adds the time of this process to that of those before it. */
function stopwatch(progress: Progress): () => void {
  const started = performance.now() - 1000 * progress.wallSec;
  return () => progress.wallSec = (performance.now() - started) / 1000;
}
