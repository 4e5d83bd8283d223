/**
 * `novae train encoder`: trains a DINO encoder by self-distillation and writes it with its record and log.
 *
 * @module
 */
import { dirname, join } from "node:path";
import { type Command, Option } from "commander";
import { ConfigError, type HostTensor, Rng } from "novae/tensor/mod.ts";
import { type DeviceName, resolveDevice } from "novae/engine/mod.ts";
import { fileError, hashFile, writeFileAtomic, writeJson } from "novae/io/mod.ts";
import { type DatasetName, type DatasetSplits, loadDataset } from "novae/data/mod.ts";
import type { TrainLogEntry } from "novae/nn/mod.ts";
import {
  countVitParams,
  type DinoRecipe,
  type DinoState,
  initDinoState,
  parseVitConfig,
  saveEncoder,
  SMALL_RECIPE,
  trainDino,
  VIT_SIZES,
  type VitConfig,
  type VitParams,
  type VitSize,
} from "novae/dino/mod.ts";
import { applyOverrides, CheckpointStore, describeEnvironment } from "novae/experiment/mod.ts";
import { parseCount } from "./_options.ts";
import { knnOfEncoder, knnOfPixels, type KnnPoint } from "./_encoder_knn.ts";

interface EncoderOptions {
  data: DatasetName;
  path?: string;
  train: number;
  test: number;
  size: VitSize;
  seed: number;
  device: DeviceName;
  evaluations: number;
  checkpointEvery: number;
  run: string;
  out: string;
  set: string[];
  resume: boolean;
}

/** What decides the result; a checkpoint of another one is refused. */
interface EncoderConfig {
  data: { name: string; train: number; test: number; hash: string };
  vit: VitConfig;
  recipe: DinoRecipe;
  seed: number;
}

/** What is carried from one part of an interrupted training to the next. */
interface Progress {
  wallSec: number;
  knn: KnnPoint[];
  log: string[];
}

/** Adds `encoder` to the `train` command. */
export function registerTrainEncoder(program: Command): void {
  program.command("encoder")
    .description(
      "train a DINO encoder by self-distillation; no labels are used, except to score it on the way",
    )
    .addOption(
      new Option("--data <name>", "data set").choices(["solids", "cifar10", "folder"]).default("solids"),
    )
    .option("--path <path>", "where the data set lies; not needed for solids")
    .option("--train <n>", "images to learn from", parseCount, 20_000)
    .option("--test <n>", "held-out images for the k-NN score", parseCount, 2_000)
    .addOption(new Option("--size <name>", "named size").choices(Object.keys(VIT_SIZES)).default("solids"))
    .option("--seed <n>", "decides weights, crops and masks", Number, 0)
    .option("--device <name>", "where to train", "auto")
    .option("--evaluations <n>", "how often the k-NN accuracy is measured", parseCount, 8)
    .option("--checkpoint-every <steps>", "steps between checkpoints", parseCount, 100)
    .option("--run <folder>", "folder of the checkpoints", "experiments/runs/encoder")
    .option("--out <path>", "result without extension: .safetensors, .json and .log", "encoder")
    .option("--set <key=value...>", "change the recipe, e.g. recipe.steps=2000 or vit.depth=4", [])
    .option("--resume", "go on from the newest checkpoint of the run folder", false)
    .action((options: EncoderOptions) => trainEncoder(options));
}

async function trainEncoder(options: EncoderOptions): Promise<void> {
  const { data: name, path, train, test } = options;
  const splits = await loadDataset({ name, path, train, test });
  const config = resolveConfig(options, splits), { steps } = config.recipe;
  const choice = await resolveDevice(options.device);
  const store = new CheckpointStore(join(options.run, "checkpoints"), { config });
  await makeFolder(dirname(options.out));
  const { state, progress } = await startingPoint(store, config, options);
  const started = performance.now() - 1000 * progress.wallSec;
  const takeTime = () => progress.wallSec = (performance.now() - started) / 1000;
  const say = (line: string) => {
    console.log(line);
    progress.log.push(line);
  };
  if (state === undefined) await announce(say, config, splits, choice);
  const { encoder } = await trainDino({
    dataset: splits.train,
    ...config,
    device: choice.device,
    state,
    logEverySteps: Math.max(1, Math.round(steps / 40)),
    onLog: (entry) => say(logLine(entry)),
    checkpointEverySteps: options.checkpointEvery,
    onCheckpoint: async (trained, step) => {
      takeTime();
      await store.save(step, { weights: trained.teacher.vit, state: trained, meta: { ...progress } });
    },
    evaluateAtSteps: evenSteps(steps, options.evaluations),
    onEvaluate: async (trained, step) => {
      if (progress.knn.some((point) => point.step === step)) return;
      const point = await knnOfEncoder(config.vit, trained, splits, choice.device);
      progress.knn.push({ step, imagesSeen: step * config.recipe.batchSize, ...point });
      const [cls, patches] = [point.clsAccuracy, point.patchAccuracy].map((share) => share.toFixed(3));
      say(`step ${step}: k-NN accuracy ${cls} (class), ${patches} (patches)`);
    },
  });
  takeTime();
  await writeResult(options, config, progress, encoder, choice);
  console.log(
    `${options.out}.safetensors: ${countVitParams(config.vit)} parameters, ${Math.round(progress.wallSec)} s`,
  );
}

/** `count` steps at equal distances, the last one being the end of the training. */
function evenSteps(steps: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => Math.round(steps * (i + 1) / count));
}

function resolveConfig(options: EncoderOptions, splits: DatasetSplits): EncoderConfig {
  const { train, test } = splits;
  const base = {
    vit: { ...VIT_SIZES[options.size], imageSize: train.imageSize },
    recipe: structuredClone(SMALL_RECIPE),
  };
  if (!Number.isSafeInteger(options.seed)) {
    throw new ConfigError(`Cannot train encoder: seed must be a whole number, got ${options.seed}`);
  }
  const changed = applyOverrides(base, options.set, "encoder configuration");
  return {
    data: { name: options.data, train: train.size, test: test.size, hash: train.hash },
    vit: parseVitConfig(changed.vit),
    recipe: changed.recipe,
    seed: options.seed,
  };
}

/** Made before the training, so that hours are not spent on a result that has no place. */
async function makeFolder(folder: string): Promise<void> {
  try {
    await Deno.mkdir(folder, { recursive: true });
  } catch (error) {
    throw fileError(`Cannot make folder ${folder}`, error);
  }
}

async function startingPoint(
  store: CheckpointStore,
  config: EncoderConfig,
  options: EncoderOptions,
): Promise<{ state?: DinoState<HostTensor>; progress: Progress }> {
  const latest = await store.latest();
  if (latest === null) return { progress: { wallSec: 0, knn: [], log: [] } };
  if (!options.resume) {
    throw new ConfigError(
      `Cannot start a training in ${options.run}: it has checkpoints up to step ${latest}; give --resume or another --run`,
    );
  }
  const like = initDinoState(new Rng(0), config.vit, config.recipe);
  const { state, meta } = await store.load(latest, { weights: like.teacher.vit, state: like });
  const progress = meta as unknown as Progress;
  console.log(`going on from step ${latest} of ${config.recipe.steps}`);
  return { state, progress };
}

async function announce(
  say: (line: string) => void,
  config: EncoderConfig,
  splits: DatasetSplits,
  { device, reason }: { device: string; reason: string },
): Promise<void> {
  const { vit, data, recipe } = config;
  say(
    `${data.name}: ${data.train} images to learn from, ${data.test} held out, ${
      splits.train.hash.slice(0, 12)
    }`,
  );
  say(
    `vision transformer: width ${vit.width}, depth ${vit.depth}, patch ${vit.patchSize}, ${
      countVitParams(vit)
    } parameters`,
  );
  say(`${recipe.steps} steps of ${recipe.batchSize} images on ${device} (${reason})`);
  say(`k-NN accuracy of raw pixels: ${(await knnOfPixels(splits)).toFixed(3)}`);
}

function logLine({ step, imagesSeen, imagesPerSec, leftSec, metrics }: TrainLogEntry): string {
  const values = Object.entries(metrics).map(([name, value]) => `${name} ${value.toFixed(3)}`);
  return `step ${step}, ${imagesSeen} images, ${imagesPerSec.toFixed(0)}/s, ${Math.round(leftSec)} s left: ${
    values.join(", ")
  }`;
}

/** Writes weights, record and log; each file is whole or absent. */
async function writeResult(
  options: EncoderOptions,
  config: EncoderConfig,
  progress: Progress,
  encoder: VitParams<HostTensor>,
  choice: { device: string; reason: string },
): Promise<void> {
  const weights = `${options.out}.safetensors`, last = progress.knn.at(-1);
  const { version, cpu, cores, os } = await describeEnvironment(choice, config.seed);
  await saveEncoder(weights, config.vit, encoder, {
    dataset: config.data.name,
    datasetHash: config.data.hash,
    imagesSeen: String(config.recipe.steps * config.recipe.batchSize),
    knnAccuracy: String(last?.clsAccuracy ?? ""),
  });
  await writeFileAtomic(`${options.out}.log`, progress.log.join("\n") + "\n");
  await writeJson(`${options.out}.json`, {
    command: ["deno task novae", ...Deno.args].join(" "),
    ...config,
    parameters: countVitParams(config.vit),
    knn: progress.knn,
    wallSec: Math.round(progress.wallSec),
    machine: { cpu, cores, os, device: choice.device },
    version,
    sha256: await hashFile(weights),
  });
}
