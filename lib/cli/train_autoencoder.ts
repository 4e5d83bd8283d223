/**
 * `novae train autoencoder`: trains the autoencoder of one latent space and writes it with its record and log.
 *
 * @module
 */
import { join } from "node:path";
import { type Command, Option } from "commander";
import { ConfigError, type HostTensor, Rng } from "novae/tensor/mod.ts";
import { type DeviceName, resolveDevice } from "novae/engine/mod.ts";
import { hashFile, pathExists, readJson, writeFileAtomic, writeJson } from "novae/io/mod.ts";
import { type DatasetName, type DatasetSplits, loadDataset } from "novae/data/mod.ts";
import type { TrainLogEntry } from "novae/nn/mod.ts";
import { DinoEncoder } from "novae/dino/mod.ts";
import {
  AUTOENCODER_SIZES,
  type AutoencoderConfig,
  type AutoencoderEvaluation,
  type AutoencoderSize,
  type AutoencoderState,
  countParameters,
  FORMER_SCHEDULE,
  initAutoencoderState,
  isPublishedVaeName,
  measureTrainingSpeed,
  namedAutoencoder,
  parseAutoencoderConfig,
  type ResolvedSchedule,
  resolveSchedule,
  saveAutoencoder,
  scheduleSteps,
  SPACE_NAMES,
  type SpaceName,
  trainAutoencoder,
  type TrainedAutoencoder,
  trainsWithFeatures,
} from "novae/autoencoder/mod.ts";
import { applyOverrides, CheckpointStore, describeEnvironment } from "novae/experiment/mod.ts";
import { parseCount } from "./_options.ts";

interface AutoencoderOptions {
  space: SpaceName;
  data: DatasetName;
  path?: string;
  train: number;
  test: number;
  encoder?: string;
  size: AutoencoderSize;
  images: number;
  minutes?: number;
  flip: boolean;
  seed: number;
  device: DeviceName;
  threads?: number;
  evaluations: number;
  checkpointEvery: number;
  run?: string;
  out?: string;
  set: string[];
  resume: boolean;
}

/** What decides the result; a checkpoint of another one is refused. */
interface TrainingConfig {
  data: { name: string; train: number; test: number; hash: string };
  model: AutoencoderConfig;
  schedule: ResolvedSchedule;
  /** Hash of the frozen encoder, null for spaces that are trained without one. */
  encoder: string | null;
}

/** What is carried from one part of an interrupted training to the next. */
interface Progress {
  wallSec: number;
  curve: AutoencoderEvaluation[];
  log: string[];
}

/** Adds `autoencoder` to the `train` command. */
export function registerTrainAutoencoder(train: Command): void {
  train.command("autoencoder")
    .description("train the autoencoder of one latent space on images; no labels are used")
    .addOption(
      new Option("--space <name>", "latent space").choices([...SPACE_NAMES]).makeOptionMandatory(),
    )
    .addOption(
      new Option("--data <name>", "data set").choices(["solids", "cifar10", "folder"]).default("solids"),
    )
    .option("--path <path>", "where the data set lies; not needed for solids")
    .option("--train <n>", "images to learn from", parseCount, 10_000)
    .option("--test <n>", "held-out images", parseCount, 2_000)
    .option("--encoder <file>", "the frozen encoder; needed by spaces with its features and by va-vae")
    .addOption(
      new Option("--size <name>", "named size; kl-… are those of vae and va-vae").choices([
        ...AUTOENCODER_SIZES,
      ]).default("micro"),
    )
    .option("--images <n>", "training images, repetitions counted", parseCount, 100_000)
    .option("--minutes <n>", "as many images as can be trained on in this time, instead of --images", Number)
    .option("--flip", "train on mirrored images too", false)
    .option("--seed <n>", "decides weights, order of images and noise", Number, 0)
    .option("--device <name>", "where to train", "auto")
    .option("--threads <n>", "threads on the CPU; all cores if omitted", parseCount)
    .option("--evaluations <n>", "how often held-out images are reconstructed", parseCount, 10)
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
  const { data: name, path, train, test, space } = options;
  const splits = await loadDataset({ name, path, train, test });
  const { device, reason } = await resolveDevice(options.device);
  const encoder = await loadFrozen(options, device);
  try {
    const folder = options.run ?? `experiments/runs/ae-${space}-${name}`;
    const config = await resolveConfig(options, splits, encoder, folder);
    const former = { schedule: FORMER_SCHEDULE };
    const store = new CheckpointStore(join(folder, "checkpoints"), { config, former });
    const { state, progress } = await startingPoint(store, config, options, folder);
    const say = (line: string) => {
      console.log(line);
      progress.log.push(line);
    };
    if (!state) announce(say, config, splits, `${device} (${reason})`);
    const trained = await runTraining(options, config, {
      splits,
      encoder,
      device,
      store,
      state,
      progress,
      say,
    });
    if (trained.stopped) {
      console.log(`stopped after update ${trained.step}; --resume goes on from there`);
      return;
    }
    await writeResult(options, config, progress, trained, { device, reason });
  } finally {
    await encoder?.dispose();
  }
}

async function loadFrozen(options: AutoencoderOptions, device: DeviceName): Promise<DinoEncoder | undefined> {
  if (!trainsWithFeatures(options.space)) return undefined;
  if (options.encoder === undefined) {
    throw new ConfigError(`Cannot train ${options.space}: --encoder must name its frozen encoder, got none`);
  }
  return await DinoEncoder.load(options.encoder, { device });
}

async function resolveConfig(
  options: AutoencoderOptions,
  { train, test }: DatasetSplits,
  encoder: DinoEncoder | undefined,
  folder: string,
): Promise<TrainingConfig> {
  const { space, size, flip, seed } = options, { imageSize } = train;
  if (!Number.isSafeInteger(seed)) {
    throw new ConfigError(`Cannot train ${space}: seed must be a whole number, got ${seed}`);
  }
  const named = namedAutoencoder(size, {
    space,
    imageSize,
    patchSize: isPublishedVaeName(size) ? undefined : encoder?.config.patchSize ?? imageSize / 8,
    featureChannels: encoder?.width,
  });
  const base = { model: named, schedule: resolveSchedule({ images: options.images, flip, seed }) };
  const changed = applyOverrides(base, options.set, "autoencoder configuration");
  const model = parseAutoencoderConfig(changed.model);
  const schedule = await withTime(resolveSchedule(changed.schedule), model, options, folder);
  return {
    data: { name: options.data, train: train.size, test: test.size, hash: train.hash },
    model,
    schedule,
    encoder: encoder?.hash ?? null,
  };
}

/** With `--minutes` the number of images follows from the speed; it is kept so that a resumed training has the same. */
async function withTime(
  schedule: ResolvedSchedule,
  config: AutoencoderConfig,
  { minutes, device, threads, resume }: AutoencoderOptions,
  folder: string,
): Promise<ResolvedSchedule> {
  if (minutes === undefined) return schedule;
  if (!(minutes > 0)) throw new ConfigError(`Cannot train: --minutes must be positive, got ${minutes}`);
  const plan = join(folder, "plan.json");
  if (resume && await pathExists(plan)) {
    const { images } = await readJson(plan) as { images: number };
    return { ...schedule, images };
  }
  const speed = await measureTrainingSpeed({ config, schedule, device, threads });
  // Evaluations, checkpoints and preparing batches take about a tenth.
  const images = Math.max(Math.round(0.9 * 60 * minutes * speed), schedule.batchSize);
  await Deno.mkdir(folder, { recursive: true });
  await writeJson(plan, { minutes, imagesPerSec: speed, images });
  return { ...schedule, images };
}

async function startingPoint(
  store: CheckpointStore,
  config: TrainingConfig,
  options: AutoencoderOptions,
  folder: string,
): Promise<{ state?: AutoencoderState<HostTensor>; progress: Progress }> {
  const latest = await store.latest();
  if (latest === null) return { progress: { wallSec: 0, curve: [], log: [] } };
  if (!options.resume) {
    throw new ConfigError(
      `Cannot start a training in ${folder}: it has checkpoints up to step ${latest}; give --resume or another --run`,
    );
  }
  const like = initAutoencoderState(new Rng(0), config.model, config.schedule);
  const { state, meta } = await store.load(latest, { weights: like.ema, state: like });
  console.log(`going on from update ${latest} of ${scheduleSteps(config.schedule)}`);
  return { state, progress: meta as unknown as Progress };
}

function announce(
  say: (line: string) => void,
  { data, model, schedule, encoder }: TrainingConfig,
  { train }: DatasetSplits,
  device: string,
): void {
  const params = initAutoencoderState(new Rng(0), model).params;
  say(`${data.name}: ${data.train} images to learn from, ${data.test} held out, ${train.hash.slice(0, 12)}`);
  say(
    `${model.space}: ${countParameters(params)} parameters, ${
      countParameters(params.decoder)
    } of them the decoder` +
      (encoder ? `, frozen encoder ${encoder.slice(0, 12)}` : ""),
  );
  say(`${scheduleSteps(schedule)} updates of ${schedule.batchSize} images on ${device}`);
}

async function runTraining(
  options: AutoencoderOptions,
  config: TrainingConfig,
  { splits, encoder, device, store, state, progress, say }: {
    splits: DatasetSplits;
    encoder?: DinoEncoder;
    device: DeviceName;
    store: CheckpointStore;
    state?: AutoencoderState<HostTensor>;
    progress: Progress;
    say: (line: string) => void;
  },
): Promise<TrainedAutoencoder> {
  const started = performance.now() - 1000 * progress.wallSec;
  const clock = () => (performance.now() - started) / 1000;
  const { model, schedule } = config, steps = scheduleSteps(schedule);
  const controller = new AbortController(), stop = () => controller.abort();
  Deno.addSignalListener("SIGINT", stop);
  try {
    return await trainAutoencoder({
      config: model,
      schedule,
      train: splits.train,
      heldOut: splits.test,
      encoder,
      device,
      threads: options.threads,
      resume: state,
      signal: controller.signal,
      evaluations: options.evaluations,
      logEverySteps: Math.max(1, Math.round(steps / 60)),
      onLog: (entry) => say(logLine(entry)),
      checkpointEverySteps: options.checkpointEvery,
      onCheckpoint: async (reached, step) => {
        progress.wallSec = clock();
        await store.save(step, { weights: reached.ema, state: reached, meta: { ...progress } });
      },
      onEvaluation: (point) => {
        if (progress.curve.some(({ step }) => step === point.step)) return;
        progress.curve.push(point);
        say(`update ${point.step}: PSNR ${point.psnr.toFixed(2)} dB on ${point.count} held-out images`);
      },
    });
  } finally {
    Deno.removeSignalListener("SIGINT", stop);
    progress.wallSec = clock();
  }
}

function logLine({ step, imagesSeen, imagesPerSec, leftSec, metrics }: TrainLogEntry): string {
  const values = Object.entries(metrics).map(([name, value]) => `${name} ${value.toPrecision(4)}`);
  return `update ${step}, ${imagesSeen} images, ${imagesPerSec.toFixed(0)}/s, ${
    Math.round(leftSec)
  } s left: ${values.join(", ")}`;
}

/** Writes weights, record and log; each file is whole or absent. */
async function writeResult(
  options: AutoencoderOptions,
  config: TrainingConfig,
  progress: Progress,
  trained: TrainedAutoencoder,
  choice: { device: string; reason: string },
): Promise<void> {
  const out = options.out ?? `ae-${options.space}-${options.data}`, weights = `${out}.safetensors`;
  const { data, model, schedule, encoder } = config, { params, stats, alignment } = trained;
  const { version, cpu, cores, os } = await describeEnvironment(choice, schedule.seed);
  const psnr = progress.curve.at(-1)?.psnr;
  await saveAutoencoder(weights, {
    config: model,
    params,
    stats,
    alignment,
    encoderHash: encoder ?? undefined,
    metadata: { dataset: data.name, datasetHash: data.hash, imagesSeen: String(schedule.images) },
  });
  await writeFileAtomic(`${out}.log`, progress.log.join("\n") + "\n");
  await writeJson(`${out}.json`, {
    command: ["deno task novae", ...Deno.args].join(" "),
    ...config,
    parameters: { total: countParameters(params), decoder: countParameters(params.decoder) },
    curve: progress.curve,
    wallSec: Math.round(progress.wallSec),
    machine: { cpu, cores, os, device: choice.device },
    version,
    sha256: await hashFile(weights),
  });
  console.log(
    `${weights}: PSNR ${psnr?.toFixed(2)} dB on held-out images, ${
      Math.round(progress.wallSec)
    } s of training`,
  );
}
