/**
 * `novae train diffusion`: trains a diffusion transformer on the latents of one space.
 *
 * @module
 */
import type { Command } from "commander";
import {
  type LatentStats,
  latentStats,
  loadAutoencoder,
  normalizeLatents,
  openLatents,
} from "novae/autoencoder/mod.ts";
import { type DatasetName, loadDataset } from "novae/data/mod.ts";
import {
  countParameters,
  type DiffusionState,
  type DitConfig,
  ditConfig,
  type DitSize,
  initDiffusionState,
  type LabelledLatents,
  type LatentData,
  parseTrainingSettings,
  readLatents,
  saveDiffusion,
  type StoredLatents,
  storedLatents,
  trainDiffusion,
  writeLatents,
} from "novae/diffusion/mod.ts";
import { DinoEncoder } from "novae/dino/mod.ts";
import type { DeviceName } from "novae/engine/mod.ts";
import { hashValue } from "novae/io/mod.ts";
import { CheckpointStore } from "novae/experiment/mod.ts";
import { ChannelMoments, concatRows, ConfigError, DataError, type HostTensor } from "novae/tensor/mod.ts";
import { autoencoderHash } from "./_autoencoder_file.ts";
import { parseCount } from "./_options.ts";

interface TrainOptions {
  latents?: string;
  autoencoder?: string;
  encoder?: string;
  data: string;
  path?: string;
  train?: number;
  saveLatents?: string;
  space?: string;
  classes?: number;
  size: string;
  images: number;
  batchSize: number;
  learningRate: number;
  timestepShift: number;
  seed: number;
  device: string;
  checkpoints?: string;
  resume: boolean;
  out: string;
}

/** Adds `diffusion` to the `train` command. */
export function registerTrainDiffusion(train: Command): void {
  train.command("diffusion")
    .description("train a diffusion transformer on latents: from a file, or encoded by an autoencoder")
    .option(
      "--latents <path>",
      "folder made by `novae encode`, or npz or safetensors with `latents` [count, N, Z] and `labels` [count]",
    )
    .option(
      "--autoencoder <file>",
      "encode images with this autoencoder; with a folder of --latents: refuse those of another one",
    )
    .option("--encoder <file>", "the frozen encoder that the autoencoder was trained with")
    .option("--data <name>", "images to encode: solids, cifar10 or folder", "solids")
    .option("--path <path>", "where the data set lies; not needed for solids")
    .option("--train <n>", "number of images to encode", parseCount)
    .option("--save-latents <file>", "keep the encoded latents")
    .option("--space <name>", "name of the latent space, where the file does not say it")
    .option("--classes <n>", "number of classes; from the labels unless given", parseCount)
    .option("--size <name>", "size of the transformer: micro, nano, S, B, …", "micro")
    .option("--images <n>", "training images, repetitions counted", parseCount, 20_000)
    .option("--batch-size <n>", "images an update", parseCount, 64)
    .option("--learning-rate <rate>", "step size of AdamW", Number, 1e-3)
    .option("--timestep-shift <s>", "shift of the training times; below 1 towards noise", Number, 1)
    .option("--seed <n>", "decides initial weights and batches", Number, 0)
    .option("--device <name>", "where to run", "auto")
    .option("--checkpoints <folder>", "keep checkpoints here, for --resume")
    .option("--resume", "go on from the newest checkpoint", false)
    .option("--out <file>", "weights to write", "diffusion.safetensors")
    .action(run);
}

/** Normalised latents with what is known of them. */
interface TrainingLatents {
  readonly data: LatentData | StoredLatents;
  readonly stats: LatentStats;
  readonly space?: string;
  /** What must be the same when a training is gone on with, beside the space; absent for files that do not say it. */
  readonly source?: { readonly autoencoder: string; readonly data: string; readonly stats: string };
  close(): Promise<void>;
}

async function run(options: TrainOptions): Promise<void> {
  const latents = await openTrainingLatents(options);
  try {
    await train(latents, options);
  } finally {
    await latents.close();
  }
}

async function train(
  { data, stats, source, ...known }: TrainingLatents,
  options: TrainOptions,
): Promise<void> {
  const space = known.space ?? options.space;
  if (space === undefined) {
    throw new ConfigError("Cannot train on latents: --space must name their space, got none");
  }
  const config = configFor(data, options);
  const settings = parseTrainingSettings({
    images: options.images,
    batchSize: options.batchSize,
    learningRate: options.learningRate,
    timestepShift: options.timestepShift,
    seed: options.seed,
  });
  const store = options.checkpoints === undefined ? undefined : new CheckpointStore(options.checkpoints, {
    config: { config, settings, space, ...(source && { latents: source }) },
  });
  const initial = initDiffusionState(config, settings.seed);
  const resume = options.resume ? await newest(store, initial) : undefined;
  console.log(
    `${options.size}: ${countParameters(config).total.toLocaleString("en")} parameters, ${space} latents`,
  );
  const { ema } = await trainDiffusion({
    config,
    data,
    settings,
    device: options.device as DeviceName,
    resume,
    checkpointEveryImages: Math.ceil(settings.images / 5),
    onCheckpoint: (state, step) => store?.save(step, { weights: state.ema, state }),
    onProgress: ({ imagesSeen, metrics, imagesPerSec, leftSec }) =>
      console.log(
        `${imagesSeen} images  loss ${metrics.loss.toFixed(4)}  ${imagesPerSec.toFixed(0)} images/s  ` +
          `${Math.ceil(leftSec)} s left`,
      ),
  });
  const metadata = {
    settings: JSON.stringify(settings),
    ...(source && { autoencoder: source.autoencoder, dataset: source.data }),
  };
  await saveDiffusion(options.out, { config, params: ema, space, latents: stats, metadata });
  console.log(`averaged weights in ${options.out}`);
}

async function openTrainingLatents(options: TrainOptions): Promise<TrainingLatents> {
  const { latents, autoencoder } = options;
  if (latents !== undefined && await isFolder(latents)) return await openFolder(latents, autoencoder);
  if ((latents === undefined) === (autoencoder === undefined)) {
    throw new ConfigError("Cannot train: wanted either --latents or --autoencoder, got both or none");
  }
  const read = latents === undefined ? await encodeImages(autoencoder!, options) : await readLatents(latents);
  if (latents === undefined && options.saveLatents !== undefined) {
    await writeLatents(options.saveLatents, read);
  }
  const stats = measured(read.latents), normal = normalizeLatents(read.latents, stats);
  const data = { latents: normal, labels: read.labels };
  return { data, stats, space: read.space, close: () => Promise.resolve() };
}

async function openFolder(folder: string, autoencoder: string | undefined): Promise<TrainingLatents> {
  const wanted = autoencoder === undefined ? undefined : { hash: await autoencoderHash(autoencoder) };
  const set = await openLatents(folder, { autoencoder: wanted }), { stats, config } = set;
  return {
    data: storedLatents(set),
    stats,
    space: config.autoencoder.space,
    source: {
      autoencoder: config.autoencoder.hash,
      data: config.data.hash,
      stats: hashValue({ mean: [...stats.mean], std: [...stats.std], count: stats.count }),
    },
    close: () => set.close(),
  };
}

async function isFolder(path: string): Promise<boolean> {
  const info = await Deno.stat(path).catch(() => null);
  return info?.isDirectory ?? false;
}

async function encodeImages(path: string, options: TrainOptions): Promise<LabelledLatents> {
  const device = options.device as DeviceName;
  const encoder = options.encoder === undefined
    ? undefined
    : await DinoEncoder.load(options.encoder, { device });
  const autoencoder = await loadAutoencoder(path, { encoder, device });
  try {
    const { imageSize } = autoencoder;
    const { train } = await loadDataset({
      name: options.data as DatasetName,
      path: options.path,
      train: options.train,
      imageSize,
    });
    const parts: HostTensor[] = [];
    for (let start = 0; start < train.size; start += 256) {
      parts.push(await autoencoder.encode(train.images(range(start, Math.min(start + 256, train.size)))));
    }
    return {
      latents: concatRows(parts),
      labels: train.labels(range(0, train.size)),
      space: autoencoder.name,
    };
  } finally {
    await autoencoder.dispose();
    await encoder?.dispose();
  }
}

/** Statistics of latents. @throws DataError if a channel is constant. */
function measured(latents: HostTensor): ReturnType<typeof latentStats> {
  const moments = new ChannelMoments(latents.shape[2]);
  moments.add(latents);
  try {
    return latentStats([moments]);
  } catch (error) {
    throw error instanceof RangeError ? new DataError(error.message) : error;
  }
}

function configFor(data: LatentData | StoredLatents, options: TrainOptions): DitConfig {
  const { labels } = data, [, tokens, channels] = "latents" in data ? data.latents.shape : data.shape;
  const grid = Math.sqrt(tokens);
  if (!Number.isInteger(grid)) {
    throw new DataError(`Cannot train on latents: the number of tokens must be a square, got ${tokens}`);
  }
  let classes = 1;
  for (let i = 0; i < labels.length; i++) classes = Math.max(classes, labels[i] + 1);
  return ditConfig(options.size as DitSize, { channels, grid, classes: options.classes ?? classes });
}

async function newest(
  store: CheckpointStore | undefined,
  initial: DiffusionState,
): Promise<DiffusionState | undefined> {
  if (store === undefined) {
    throw new ConfigError("Cannot resume: --checkpoints must name the folder, got none");
  }
  const step = await store.latest();
  if (step === null) return undefined;
  return (await store.load(step, { weights: initial.ema, state: initial })).state;
}

function range(start: number, end: number): Int32Array {
  return Int32Array.from({ length: end - start }, (_, i) => start + i);
}
