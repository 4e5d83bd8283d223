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
  expectDiscriminatorImage,
  expectTrunkImage,
  initAutoencoderState,
  measureTrainingSpeed,
  namedAutoencoder,
  parseAutoencoderConfig,
  type PerceptualLoss,
  type ResolvedSchedule,
  resolveSchedule,
  type SpaceName,
  svgPreset,
  type SvgPresetName,
  trainsWithFeatures,
  usualPatchSize,
} from "novae/autoencoder/mod.ts";
import { applyOverrides, type CheckpointStore } from "novae/experiment/mod.ts";
import {
  expectPerceptualImages,
  type OpenedPerceptual,
  openPerceptual,
  type PerceptualFunctions,
  type PerceptualOptions,
  type PerceptualRecord,
} from "./_perceptual.ts";
import { expectPresetEncoder, presetTraining } from "./_preset.ts";
import { type ImageSplits, openSplits, type SplitsOptions, usualImageSize } from "./_splits.ts";

/** What `novae train autoencoder` is given. */
export interface AutoencoderOptions extends SplitsOptions, PerceptualOptions {
  /** Decides space, image size, crop and flip. */
  preset?: SvgPresetName;
  space: SpaceName;
  encoder?: string;
  features?: string;
  size: AutoencoderSize;
  patchSize?: number;
  images?: number;
  epochs?: number;
  minutes?: number;
  crop: CropMode;
  flip: boolean;
  /** Undefined if the preset decides, or else none. */
  adversarial?: boolean;
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
  /** The perceptual loss; null without one, or if its weight is 0. */
  perceptual: PerceptualRecord | null;
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
  readonly perceptual: PerceptualFunctions;
  dispose(): Promise<void>;
}

/** Images of a training, repetitions counted, if neither their number nor that of epochs is given. */
const USUAL_IMAGES = 100_000;

/** The first half of messages. */
export function trainingOf({ preset, space }: Pick<AutoencoderOptions, "preset" | "space">): string {
  return `Cannot train ${preset ?? space}`;
}

/** Opens images, encoder, losses and features; what is open is closed again if one of them cannot be had. */
export async function openMaterials(options: AutoencoderOptions, device: DeviceName): Promise<Materials> {
  const what = trainingOf(options);
  if (!Number.isSafeInteger(options.seed)) {
    throw new ConfigError(`${what}: seed must be a whole number, got ${options.seed}`);
  }
  const perceptual = await openPerceptual(what, options), encoder = await loadFrozen(options, device);
  let store: ShardStore | undefined;
  const dispose = async () => {
    await encoder?.dispose();
    await store?.close();
  };
  try {
    const splits = await openSplits(what, options, cropOf(options));
    const features = await featuresOf(options.features);
    if (features !== undefined && typeof features !== "string") store = features;
    return { splits, encoder, features, perceptual, dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

async function loadFrozen(options: AutoencoderOptions, device: DeviceName): Promise<DinoEncoder | undefined> {
  const { space, encoder, preset } = options;
  if (!trainsWithFeatures(space)) return undefined;
  if (encoder !== undefined) return await DinoEncoder.load(encoder, { device });
  const known = preset ? ` (${svgPreset(preset).encoder})` : "";
  throw new ConfigError(
    `${trainingOf(options)}: --encoder must name its frozen encoder${known}, got none`,
  );
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
  materials: Materials,
  folder: string,
): Promise<TrainingConfig> {
  const { splits: { train, test }, encoder, features } = materials;
  const changed = applyOverrides(baseOf(options, materials), options.set, "autoencoder configuration");
  const model = parseAutoencoderConfig(changed.model), resolved = resolveSchedule(changed.schedule);
  if (options.preset && encoder) expectPresetEncoder(options.preset, model, encoder);
  const perceptual = perceptualOf(options, materials, model, resolved);
  if (resolved.adversarial) expectDiscriminatorImage(resolved.adversarial.discriminator, model.imageSize);
  const schedule = await withTime(resolved, { model, perceptual: perceptual?.loss }, options, folder);
  expectStart(options, schedule);
  return {
    data: { name: options.data, train: train.size, test: test.size, hash: train.hash },
    model,
    schedule,
    encoder: encoder?.hash ?? null,
    features: features === undefined ? null : typeof features === "string" ? features : "shards",
    perceptual: perceptual?.record ?? null,
  };
}

/** Settings before any is changed. */
function baseOf(
  options: AutoencoderOptions,
  { splits: { train }, encoder }: Materials,
): { model: AutoencoderConfig; schedule: ResolvedSchedule } {
  const { preset, space, size, flip, crop, seed, adversarial, epochs } = options;
  const images = options.images ?? (epochs === undefined ? undefined : epochs * train.size);
  const resize = isImageFiles(train) ? options.resize ?? null : null;
  const own = { seed, resize, ...(images !== undefined && { images }) };
  if (preset) {
    const { model, schedule } = presetTraining(preset, train.size);
    const changed = { ...schedule, ...own, ...(adversarial === false && { adversarial: null }) };
    return { model, schedule: resolveSchedule(changed) };
  }
  const model = namedAutoencoder(size, {
    space,
    imageSize: cropOf(options),
    patchSize: patchSizeOf(options, encoder),
    featureChannels: encoder?.width,
  });
  const against = adversarial ? { adversarial: {} } : {};
  return { model, schedule: resolveSchedule({ images: USUAL_IMAGES, flip, crop, ...own, ...against }) };
}

/** The perceptual loss that the weights of a schedule ask for. */
export function trainedBy(
  { perceptual: { loss } }: Pick<Materials, "perceptual">,
  { reconstruction }: ResolvedSchedule,
): OpenedPerceptual | undefined {
  return reconstruction.perceptual === 0 ? undefined : loss;
}

/** The perceptual loss of a training, once it is sure that it can be had and compares images of this size. */
function perceptualOf(
  options: AutoencoderOptions,
  materials: Materials,
  { imageSize }: AutoencoderConfig,
  schedule: ResolvedSchedule,
): OpenedPerceptual | undefined {
  const what = trainingOf(options), { lpips } = materials.perceptual, used = trainedBy(materials, schedule);
  const weight = schedule.reconstruction.perceptual;
  if (options.preset && !used && weight !== 0) {
    throw new ConfigError(
      `${what}: --lpips must name the files of its perceptual loss, or schedule.reconstruction.perceptual be 0, ` +
        `got none and ${weight}`,
    );
  }
  if (options.perceptual !== undefined && !used) {
    throw new ConfigError(`${what}: --perceptual needs a weight schedule.reconstruction.perceptual, got 0`);
  }
  if (lpips) expectTrunkImage(lpips.network, imageSize);
  if (used) expectPerceptualImages(used, imageSize);
  return used;
}

/** A discriminator that was asked for must take part. */
function expectStart(options: AutoencoderOptions, { adversarial, images }: ResolvedSchedule): void {
  if (!options.adversarial || !adversarial || adversarial.startImages < images) return;
  throw new ConfigError(
    `${
      trainingOf(options)
    }: schedule.adversarial.startImages must be less than the ${images} images of the ` +
      `training, got ${adversarial.startImages}`,
  );
}

/** The patch of the frozen encoder, or one that was chosen; a va-vae may have that of its name. */
function patchSizeOf(options: AutoencoderOptions, encoder: DinoEncoder | undefined): number | undefined {
  const { space, size, patchSize } = options, own = usualPatchSize(size, space, cropOf(options));
  return patchSize ?? (own === undefined ? undefined : encoder?.config.patchSize ?? own);
}

/** With `--minutes` the number of images follows from the speed; it is kept so that a resumed training has the same. */
async function withTime(
  schedule: ResolvedSchedule,
  { model, perceptual }: { model: AutoencoderConfig; perceptual: PerceptualLoss | undefined },
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
  const speed = await measureTrainingSpeed({ config: model, schedule, perceptual, device, threads });
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
  const like = initAutoencoderState(new Rng(0), config.model, config.schedule);
  const { state, meta } = await store.load(latest, { weights: like.ema, state: like });
  return { state, progress: meta as unknown as Progress, resumed: latest };
}
