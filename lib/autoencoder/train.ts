/**
 * Training of an autoencoder from images to measured weights.
 *
 * @module
 */
import { CheckpointError, ConfigError, type HostTensor, Rng } from "novae/tensor/mod.ts";
import { type DeviceName, disposeTree, read } from "novae/engine/mod.ts";
import { type Dataset, type ImageFiles, isImageFiles } from "novae/data/mod.ts";
import { type TrainLogEntry, trainLoop } from "novae/nn/mod.ts";
import { CompiledAutoencoder, expectEncoder, type FrozenEncoder } from "./compiled.ts";
import type { AutoencoderConfig } from "./config.ts";
import type { PerceptualLoss } from "./losses.ts";
import type { AutoencoderStats } from "./measure.ts";
import { type AutoencoderParams, roundToHalf } from "./model.ts";
import type { ReconstructionMeasures, ShownReconstructions } from "./reconstruction.ts";
import {
  type AutoencoderSchedule,
  type ResolvedSchedule,
  resolveSchedule,
  scheduleSteps,
  stepSchedules,
} from "./schedule.ts";
import { batchSource } from "./training_data.ts";
import { TrainingEvaluation } from "./training_evaluation.ts";
import { type FeatureSource, TrainingImages } from "./training_images.ts";
import { type AutoencoderBatch, type AutoencoderState, initAutoencoderState } from "./train_step.ts";
import { type StateOnDevice, TrainingUpdate } from "./training_update.ts";

/** A point of the curve of a training. */
export interface AutoencoderEvaluation {
  /** Updates done. */
  readonly step: number;
  /** Training images seen, repetitions counted. */
  readonly imagesSeen: number;
  /** Mean PSNR in decibels of held-out images under the averaged weights; on floats, unless `measures` has its own. */
  readonly psnr: number;
  /** Number of held-out images. */
  readonly count: number;
  /** What else was measured, by name. */
  readonly metrics?: Readonly<Record<string, number>>;
}

/** What an autoencoder is trained on, and whom the training tells. */
export interface TrainAutoencoderOptions {
  /** Settings of the autoencoder. */
  readonly config: AutoencoderConfig;
  /** How long and how it is trained. */
  readonly schedule: AutoencoderSchedule;
  /** Images to learn from: a data set in memory, or files that are decoded as they are needed. */
  readonly train: Dataset | ImageFiles;
  /** Images that are never trained on, for the curve. */
  readonly heldOut: Dataset | ImageFiles;
  /** The frozen encoder; needed by spaces with its features, and by `va-vae` in training alone. */
  readonly encoder?: FrozenEncoder;
  /** A perceptual loss that does not share weights with any measure of quality. Default: none. */
  readonly perceptual?: PerceptualLoss;
  /** Where it trains; default `auto`. */
  readonly device?: DeviceName;
  /** Threads on the CPU; default: the number of cores. One each is best for trainings side by side. */
  readonly threads?: number;
  /** State to go on from, of a training with the same settings. */
  readonly resume?: AutoencoderState<HostTensor>;
  /** Updates between log entries. Default 20. */
  readonly logEverySteps?: number;
  /** Updates between checkpoints, beside the last one. */
  readonly checkpointEverySteps?: number;
  /** Number of points of the curve, the last update among them. Default 8. */
  readonly evaluations?: number;
  /** Held-out images that an evaluation reconstructs. Default 256. */
  readonly evaluationImages?: number;
  /** What an evaluation measures beside PSNR, by name. */
  readonly measures?: ReconstructionMeasures;
  /** Where features come from. Default: `memory` if they take at most `cacheBytes`, else `online`. */
  readonly features?: FeatureSource;
  /** Default 1 GiB. */
  readonly cacheBytes?: number;
  /** Threads that decode image files; one a core, but at most 16, if omitted. */
  readonly workers?: number;
  /** When aborted, the training checkpoints after the current update and returns. */
  readonly signal?: AbortSignal;
  /** Told while the frozen features of the training images are computed. */
  onFeatures?(done: number, total: number): void;
  /** Told of progress. */
  onLog?(entry: TrainLogEntry): void | Promise<void>;
  /**
   * Told of each point of the curve, with the first held-out images and their reconstructions; a resumed training may
   * repeat the one it starts at.
   */
  onEvaluation?(evaluation: AutoencoderEvaluation, shown: ShownReconstructions): void | Promise<void>;
  /** Given the state to keep. */
  onCheckpoint?(state: AutoencoderState<HostTensor>, step: number): void | Promise<void>;
}

/** What a training leaves. */
export interface TrainedAutoencoder extends AutoencoderStats {
  /** Averaged weights, rounded to 16-bit floats as a file holds them. */
  readonly params: AutoencoderParams<HostTensor>;
  /** PSNR of held-out images over the training, from where it was resumed. */
  readonly curve: readonly AutoencoderEvaluation[];
  /** Updates done. */
  readonly step: number;
  /** Whether `signal` ended it early. */
  readonly stopped: boolean;
}

/**
 * Trains an autoencoder and measures the statistics stored with it.
 *
 * The frozen encoder is only asked for features. The result is a pure function of the options on one device: a
 * training that goes on from a checkpoint ends with the same weights.
 *
 * @throws ConfigError if images or encoder do not fit the settings; DivergenceError if the loss is not finite.
 */
export async function trainAutoencoder(options: TrainAutoencoderOptions): Promise<TrainedAutoencoder> {
  const { config, encoder, perceptual, device = "auto", threads, onCheckpoint } = options;
  expectEncoder(config, encoder);
  const schedule = resolveSchedule(options.schedule), steps = scheduleSteps(schedule);
  expectImages(options, schedule.resize, options.train, options.heldOut);
  const initial = initialState(options, schedule);
  const autoencoder = new CompiledAutoencoder(config, initial.ema, { encoder, device, threads });
  const name = `train-${config.space}`;
  const update = new TrainingUpdate({ ...schedule, config, perceptual, device, threads, name });
  let index = initial.step.data[0];
  try {
    using images = await trainingImages(options, schedule);
    using evaluation = await TrainingEvaluation.prepare(options, schedule, images, autoencoder);
    const curve: AutoencoderEvaluation[] = [];
    const evaluate = async (ema: AutoencoderParams<HostTensor>, done: number) => {
      const { entry, shown } = await evaluation.evaluate(ema, done);
      curve.push(entry);
      await options.onEvaluation?.(entry, shown);
    };
    const result = await trainLoop<StateOnDevice, AutoencoderBatch<HostTensor>>({
      state: initial,
      startStep: index,
      steps,
      batchSize: schedule.batchSize,
      batch: batchSource(images, { config, ...schedule, ...stepSchedules(schedule, steps) }),
      step: async (state, batch) => await update.run(state, batch, index++),
      logEverySteps: options.logEverySteps,
      onLog: options.onLog,
      checkpointEverySteps: options.checkpointEverySteps,
      onCheckpoint: onCheckpoint && (async (state, done) => await onCheckpoint(await onHost(state), done)),
      evaluateAtSteps: evaluationSteps(steps, options.evaluations ?? 8),
      onEvaluate: async (state, done) => await evaluate((await onHost(state)).ema, done),
      signal: options.signal,
    });
    const params = roundToHalf((await onHost(result.state)).ema);
    disposeTree(result.state);
    const { step: done, stopped } = result;
    const measured = await evaluation.statistics(params, stopped);
    return { params, ...measured, curve, step: done, stopped };
  } finally {
    await update.dispose();
    await autoencoder.dispose();
  }
}

/** The state to begin with; one to go on from must have a discriminator if and only if the settings do. */
function initialState(
  { config, resume }: TrainAutoencoderOptions,
  schedule: ResolvedSchedule,
): AutoencoderState<HostTensor> {
  if (!resume) return initAutoencoderState(new Rng(schedule.seed).split("init"), config, schedule);
  const { discriminator, alignment } = resume, { adversarial, alignmentMomentum } = schedule;
  expectPart("a discriminator", adversarial !== null, discriminator !== undefined);
  expectPart(
    "running statistics",
    alignmentMomentum > 0 && config.space === "svg",
    alignment !== undefined,
  );
  return resume;
}

function expectPart(part: string, wanted: boolean, got: boolean): void {
  if (wanted === got) return;
  const [want, have] = wanted ? ["with", "without"] : ["without", "with"];
  throw new CheckpointError(`Cannot resume: a state ${want} ${part} is needed, got one ${have}`);
}

async function onHost(state: StateOnDevice): Promise<AutoencoderState<HostTensor>> {
  return await read(state) as AutoencoderState<HostTensor>;
}

function expectImages(
  { config, perceptual }: TrainAutoencoderOptions,
  resize: number | null,
  ...sets: (Dataset | ImageFiles)[]
): void {
  const least = perceptual?.leastImageSize ?? 0;
  if (config.imageSize < least) {
    throw new ConfigError(
      `Cannot train with this perceptual loss: images must have at least ${least} pixels a side, ` +
        `got ${config.imageSize}`,
    );
  }
  for (const images of sets) {
    const { name, size } = images;
    if (size === 0) throw new ConfigError(`Cannot train on ${name}: at least one image is needed, got none`);
    if (isImageFiles(images)) continue;
    if (images.imageSize < config.imageSize) {
      throw new ConfigError(
        `Cannot train on ${name}: images of at least ${config.imageSize} pixels are needed, got ${images.imageSize}`,
      );
    }
    if (resize === null || resize === images.imageSize) continue;
    throw new ConfigError(
      `Cannot train on ${name}: images in memory are not resized, resize must be null or ${images.imageSize}, got ${resize}`,
    );
  }
}

async function trainingImages(
  options: TrainAutoencoderOptions,
  { flip, crop, resize }: ResolvedSchedule,
): Promise<TrainingImages> {
  const { config, encoder, features, workers, cacheBytes = 2 ** 30, onFeatures } = options;
  return await TrainingImages.prepare(options.train, config, {
    encoder,
    features,
    flip,
    crop,
    resize,
    cacheBytes,
    workers,
    onProgress: onFeatures && ((done, total) => onFeatures(done, total)),
  });
}

function evaluationSteps(steps: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => Math.max(Math.round(steps * (i + 1) / count), 1));
}
