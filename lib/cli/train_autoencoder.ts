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
  type ReconstructionMeasures,
  scheduleSteps,
  SPACE_NAMES,
  trainAutoencoder,
  type TrainedAutoencoder,
} from "novae/autoencoder/mod.ts";
import { CheckpointStore } from "novae/experiment/mod.ts";
import {
  type AutoencoderOptions,
  type Materials,
  openMaterials,
  type Progress,
  resolveTraining,
  startingPoint,
  type TrainingConfig,
} from "./_autoencoder_config.ts";
import {
  announcement,
  drawReconstructions,
  evaluationLine,
  logLine,
  outOf,
  writeResult,
} from "./_autoencoder_record.ts";
import { makeFolderOf } from "./_encoder_record.ts";
import { openMeasures } from "./_measures.ts";
import { openMetrics } from "./_metrics.ts";
import { parseCount } from "./_options.ts";
import { addSplitsOptions } from "./_splits.ts";

/** Adds `autoencoder` to the `train` command. */
export function registerTrainAutoencoder(train: Command): void {
  const command = train.command("autoencoder")
    .description("train the autoencoder of one latent space on images; no labels are used")
    .addOption(
      new Option("--space <name>", "latent space").choices([...SPACE_NAMES]).makeOptionMandatory(),
    );
  addSplitsOptions(command)
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
    .option("--images <n>", "training images, repetitions counted", parseCount, 100_000)
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
    .option("--run <folder>", "folder of the checkpoints; experiments/runs/ae-<space>-<data> if omitted")
    .option(
      "--out <path>",
      "result without extension: .safetensors, .json, .log; ae-<space>-<data> if omitted",
    )
    .option(
      "--set <key=value...>",
      "change settings, e.g. schedule.batchSize=64 or model.vae.klWeight=1e-5",
      [],
    )
    .option("--resume", "go on from the newest checkpoint of the run folder", false)
    .action((options: AutoencoderOptions) => run(options));
}

async function run(options: AutoencoderOptions): Promise<void> {
  const choice = await resolveDevice(options.device), { device } = choice;
  const materials = await openMaterials(options, device);
  try {
    const folder = options.run ?? `experiments/runs/ae-${options.space}-${options.data}`;
    const config = await resolveTraining(options, materials, folder);
    const store = new CheckpointStore(join(folder, "checkpoints"), {
      config,
      former: { schedule: FORMER_SCHEDULE },
    });
    await makeFolderOf(`${outOf(options)}.safetensors`);
    const started = await startingPoint(store, config, options, folder), { progress, resumed } = started;
    const say = (line: string) => {
      console.log(line);
      progress.log.push(line);
    };
    if (resumed === null) announcement(config, `${device} (${choice.reason})`).forEach(say);
    else console.log(`going on from update ${resumed} of ${scheduleSteps(config.schedule)}`);
    const judge = await openMeasures({ ...options, imageSize: config.model.imageSize, device });
    try {
      if (judge.note && resumed === null) say(judge.note);
      const training = { options: { ...options, device }, config, materials, store, folder, say };
      const trained = await runTraining({ ...training, ...started, measures: judge.measures });
      if (!trained.stopped) return await writeResult(options, config, progress, trained, choice);
      console.log(`stopped after update ${trained.step}; --resume goes on from there`);
    } finally {
      await judge.dispose();
    }
  } finally {
    await materials.dispose();
  }
}

async function runTraining(
  { options, config, materials, store, folder, say, state, progress, resumed, measures }:
    & Awaited<ReturnType<typeof startingPoint>>
    & {
      options: AutoencoderOptions;
      config: TrainingConfig;
      materials: Materials;
      store: CheckpointStore;
      folder: string;
      say: (line: string) => void;
      measures: ReconstructionMeasures;
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
