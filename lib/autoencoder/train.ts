/**
 * Training of an autoencoder from images to measured weights.
 *
 * @module
 */
import { ConfigError, type HostTensor, Rng } from "novae/tensor/mod.ts";
import { type DeviceName, type DeviceTensor, disposeTree, jit, read } from "novae/engine/mod.ts";
import { type Dataset, type ImageFiles, isImageFiles } from "novae/data/mod.ts";
import { cosineSchedule, emaDecay, type TrainLogEntry, trainLoop } from "novae/nn/mod.ts";
import { CompiledAutoencoder, expectEncoder, type FrozenEncoder } from "./compiled.ts";
import type { AutoencoderConfig } from "./config.ts";
import { DEFAULT_RECONSTRUCTION_WEIGHTS, type PerceptualLoss, type ReconstructionWeights } from "./losses.ts";
import type { AutoencoderStats } from "./measure.ts";
import { type AutoencoderParams, roundToHalf } from "./model.ts";
import type { ReconstructionMeasures, ShownReconstructions } from "./reconstruction.ts";
import { batchSource } from "./training_data.ts";
import { TrainingEvaluation } from "./training_evaluation.ts";
import { type CropMode, type FeatureSource, TrainingImages } from "./training_images.ts";
import {
  type AutoencoderBatch,
  type AutoencoderState,
  autoencoderStep,
  initAutoencoderState,
} from "./train_step.ts";

/** How an autoencoder is trained. Everything here is plain data and part of what a checkpoint belongs to. */
export interface AutoencoderSchedule {
  /** Training images in all; rounded up to whole batches. */
  readonly images: number;
  /**
   * Images an update. Default 8: with few images in all, many small updates go further. On 4,000 images of `solids`
   * and the space `dino`, batches of 8, 16 and 32 reached 22.2, 21.6 and 20.6 dB at the same cost.
   */
  readonly batchSize?: number;
  /** Step size after the warm-up. Default 1e-3. */
  readonly learningRate?: number;
  /** Step size at the end, as a share of `learningRate`. Default 0.02. */
  readonly finalRate?: number;
  /** Updates of linear warm-up. Default 50. */
  readonly warmupSteps?: number;
  /** Half-life of the weights' moving average as a share of `images`. Default 0.01. */
  readonly emaHalflife?: number;
  /** Largest norm of the gradient. Default 1. */
  readonly maxGradientNorm?: number;
  /**
   * Share of the alignment's running statistics that an update keeps, in [0, 1). 0 aligns each batch by its own
   * statistics, as published for batches of 64. Default 0.99.
   */
  readonly alignmentMomentum?: number;
  /** Weights of the loss's parts. */
  readonly reconstruction?: Partial<ReconstructionWeights>;
  /** Whether each image is mirrored with probability ½ whenever it is seen. Default false. */
  readonly flip?: boolean;
  /**
   * Where the square lies that is cut from images larger than it: in the `center`, or anywhere, `random`, drawn anew
   * whenever an image is seen, as published. Held-out images are always cut from the middle. Default `center`.
   */
  readonly crop?: CropMode;
  /** Shorter side that image files are brought to before the crop; null, the default, for that of the crop. */
  readonly resize?: number | null;
  /** Seed of the initial weights, the order of the images and all noise. Default 0. */
  readonly seed?: number;
}

/** A schedule with every default filled in. */
export type ResolvedSchedule = Required<Omit<AutoencoderSchedule, "reconstruction">> & {
  readonly reconstruction: ReconstructionWeights;
};

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

/** A state between two updates: in host memory before the first, on the device after it. */
type OnDevice = AutoencoderState<HostTensor | DeviceTensor>;

/** Fills in the defaults of a schedule. */
export function resolveSchedule(schedule: AutoencoderSchedule): ResolvedSchedule {
  return {
    batchSize: 8,
    learningRate: 1e-3,
    finalRate: 0.02,
    warmupSteps: 50,
    emaHalflife: 0.01,
    maxGradientNorm: 1,
    alignmentMomentum: 0.99,
    flip: false,
    crop: "center",
    resize: null,
    seed: 0,
    ...schedule,
    reconstruction: { ...DEFAULT_RECONSTRUCTION_WEIGHTS, ...schedule.reconstruction },
  };
}

/** Updates of a schedule. */
export function scheduleSteps(schedule: ResolvedSchedule): number {
  return Math.ceil(schedule.images / schedule.batchSize);
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
  const { config, encoder, device = "auto", threads, onCheckpoint } = options;
  expectEncoder(config, encoder);
  const schedule = resolveSchedule(options.schedule), steps = scheduleSteps(schedule);
  expectImages(config, schedule.resize, options.train, options.heldOut);
  expectMomentum(schedule);
  const initial = options.resume ??
    initAutoencoderState(new Rng(schedule.seed).split("init"), config, schedule.alignmentMomentum);
  const autoencoder = new CompiledAutoencoder(config, initial.ema, { encoder, device, threads });
  const step = jit(autoencoderStep({ ...schedule, config, perceptual: options.perceptual }), {
    device,
    threads,
    donate: [0],
    name: `train-${config.space}`,
  });
  try {
    using images = await trainingImages(options, schedule);
    using evaluation = await TrainingEvaluation.prepare(options, schedule, images, autoencoder);
    const curve: AutoencoderEvaluation[] = [];
    const evaluate = async (ema: AutoencoderParams<HostTensor>, done: number) => {
      const { entry, shown } = await evaluation.evaluate(ema, done);
      curve.push(entry);
      await options.onEvaluation?.(entry, shown);
    };
    const result = await trainLoop<OnDevice, AutoencoderBatch<HostTensor>>({
      state: initial,
      startStep: initial.step.data[0],
      steps,
      batchSize: schedule.batchSize,
      batch: batchSource(images, { config, ...schedule, ...schedules(schedule, steps) }),
      step: async (state, batch) => await step(state, batch),
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
    await step.dispose();
    await autoencoder.dispose();
  }
}

async function onHost(state: OnDevice): Promise<AutoencoderState<HostTensor>> {
  return await read(state) as AutoencoderState<HostTensor>;
}

function expectMomentum({ alignmentMomentum }: ResolvedSchedule): void {
  if (alignmentMomentum >= 0 && alignmentMomentum < 1) return;
  throw new ConfigError(
    `Cannot train an autoencoder: alignmentMomentum must be in [0, 1), got ${alignmentMomentum}`,
  );
}

function expectImages(
  config: AutoencoderConfig,
  resize: number | null,
  ...sets: (Dataset | ImageFiles)[]
): void {
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

function schedules(schedule: ResolvedSchedule, steps: number) {
  const { learningRate, finalRate, warmupSteps, batchSize, images, emaHalflife } = schedule;
  return {
    learningRate: cosineSchedule({
      base: learningRate,
      final: learningRate * finalRate,
      steps,
      warmupSteps: Math.min(warmupSteps, Math.floor(steps / 4)),
    }),
    emaDecay: (step: number) => emaDecay(batchSize, emaHalflife * images, step * batchSize),
  };
}

function evaluationSteps(steps: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => Math.max(Math.round(steps * (i + 1) / count), 1));
}
