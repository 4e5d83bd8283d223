import { join } from "node:path";
import { ConfigError, type HostTensor, Rng } from "novae/tensor/mod.ts";
import type { DeviceName } from "novae/engine/mod.ts";
import { pathExists, readJson, writeJson } from "novae/io/mod.ts";
import { isImageFiles, openShards, type ShardStore } from "novae/data/mod.ts";
import { DinoEncoder } from "novae/dino/mod.ts";
import {
  type AutoencoderConfig,
  type AutoencoderEvaluation,
  type AutoencoderSize,
  type AutoencoderState,
  type CropMode,
  initAutoencoderState,
  measureTrainingSpeed,
  namedAutoencoder,
  parseAutoencoderConfig,
  type ResolvedSchedule,
  resolveSchedule,
  type SpaceName,
  trainsWithFeatures,
  usualPatchSize,
} from "novae/autoencoder/mod.ts";
import { applyOverrides, type CheckpointStore } from "novae/experiment/mod.ts";
import { type ImageSplits, openSplits, type SplitsOptions, usualImageSize } from "./_splits.ts";

/** What `novae train autoencoder` is given. */
export interface AutoencoderOptions extends SplitsOptions {
  space: SpaceName;
  encoder?: string;
  features?: string;
  size: AutoencoderSize;
  patchSize?: number;
  images: number;
  minutes?: number;
  crop: CropMode;
  flip: boolean;
  seed: number;
  device: DeviceName;
  threads?: number;
  workers?: number;
  classifier?: string;
  evaluations: number;
  evaluationImages: number;
  checkpointEvery: number;
  run?: string;
  out?: string;
  set: string[];
  resume: boolean;
}

/** What decides the result; a checkpoint of another one is refused. */
export interface TrainingConfig {
  data: { name: string; train: number; test: number; hash: string };
  model: AutoencoderConfig;
  schedule: ResolvedSchedule;
  /** Hash of the frozen encoder; null without one. */
  encoder: string | null;
  /** Where features come from, as it was asked for; null if it was left to the training. */
  features: "online" | "memory" | "shards" | null;
}

/** What is carried from one part of an interrupted training to the next. */
export interface Progress {
  wallSec: number;
  curve: AutoencoderEvaluation[];
  log: string[];
}

/** Models and images of a training. */
export interface Materials {
  readonly splits: ImageSplits;
  readonly encoder: DinoEncoder | undefined;
  readonly features: "online" | "memory" | ShardStore | undefined;
  dispose(): Promise<void>;
}

/** Opens images, encoder and features; what is open is closed again if one of them cannot be had. */
export async function openMaterials(options: AutoencoderOptions, device: DeviceName): Promise<Materials> {
  const { space } = options, what = `Cannot train ${space}`;
  if (!Number.isSafeInteger(options.seed)) {
    throw new ConfigError(`${what}: seed must be a whole number, got ${options.seed}`);
  }
  const encoder = await loadFrozen(options, device);
  let store: ShardStore | undefined;
  const dispose = async () => {
    await encoder?.dispose();
    await store?.close();
  };
  try {
    const splits = await openSplits(what, options, cropOf(options));
    const features = await featuresOf(options.features);
    if (features !== undefined && typeof features !== "string") store = features;
    return { splits, encoder, features, dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

async function loadFrozen(
  { space, encoder }: AutoencoderOptions,
  device: DeviceName,
): Promise<DinoEncoder | undefined> {
  if (!trainsWithFeatures(space)) return undefined;
  if (encoder !== undefined) return await DinoEncoder.load(encoder, { device });
  throw new ConfigError(`Cannot train ${space}: --encoder must name its frozen encoder, got none`);
}

async function featuresOf(features: string | undefined): Promise<Materials["features"]> {
  if (features === undefined || features === "online" || features === "memory") return features;
  return await openShards(features);
}

function cropOf({ imageSize, data }: AutoencoderOptions): number {
  return imageSize ?? usualImageSize(data);
}

/** The configuration of a training, checked. */
export async function resolveTraining(
  options: AutoencoderOptions,
  { splits: { train, test }, encoder, features }: Materials,
  folder: string,
): Promise<TrainingConfig> {
  const { space, size, flip, crop, seed } = options, imageSize = cropOf(options);
  const named = namedAutoencoder(size, {
    space,
    imageSize,
    patchSize: patchSizeOf(options, encoder),
    featureChannels: encoder?.width,
  });
  const resize = isImageFiles(train) ? options.resize ?? null : null;
  const base = {
    model: named,
    schedule: resolveSchedule({ images: options.images, flip, crop, resize, seed }),
  };
  const changed = applyOverrides(base, options.set, "autoencoder configuration");
  const model = parseAutoencoderConfig(changed.model);
  const schedule = await withTime(changed.schedule, model, options, folder);
  return {
    data: { name: options.data, train: train.size, test: test.size, hash: train.hash },
    model,
    schedule,
    encoder: encoder?.hash ?? null,
    features: features === undefined ? null : typeof features === "string" ? features : "shards",
  };
}

/** The patch of the frozen encoder, or one that was chosen; a va-vae may have that of its name. */
function patchSizeOf(options: AutoencoderOptions, encoder: DinoEncoder | undefined): number | undefined {
  const { space, size, patchSize } = options, own = usualPatchSize(size, space, cropOf(options));
  return patchSize ?? (own === undefined ? undefined : encoder?.config.patchSize ?? own);
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

/** Where a training starts: at its newest checkpoint, or with new weights. */
export async function startingPoint(
  store: CheckpointStore,
  config: TrainingConfig,
  { resume }: AutoencoderOptions,
  folder: string,
): Promise<{ state?: AutoencoderState<HostTensor>; progress: Progress; resumed: number | null }> {
  const latest = await store.latest();
  if (latest === null) return { progress: { wallSec: 0, curve: [], log: [] }, resumed: null };
  if (!resume) {
    throw new ConfigError(
      `Cannot start a training in ${folder}: it has checkpoints up to step ${latest}; give --resume or another --run`,
    );
  }
  const like = initAutoencoderState(new Rng(0), config.model, config.schedule.alignmentMomentum);
  const { state, meta } = await store.load(latest, { weights: like.ema, state: like });
  return { state, progress: meta as unknown as Progress, resumed: latest };
}
