/**
 * Training of the diffusion transformer from beginning to end.
 *
 * @module
 */
import type { HostTensor } from "novae/tensor/mod.ts";
import { type DeviceName, disposeTree, peakFlops, read, resolveDevice } from "novae/engine/mod.ts";
import {
  type DivergenceRule,
  type LossGuardState,
  type TrainLogEntry,
  trainLoop,
  type TrainReturn,
} from "novae/nn/mod.ts";
import type { DitConfig } from "./config.ts";
import type { DitParams } from "./dit.ts";
import { trainingFlops } from "./flops.ts";
import { lossByTime } from "./time_bins.ts";
import { type DiffusionBatch, diffusionBatches } from "./training_data.ts";
import type { LatentData, StoredLatents } from "./training_latents.ts";
import {
  type DiffusionTrainingInput,
  type DiffusionTrainingSettings,
  parseTrainingSettings,
} from "./training_settings.ts";
import { type DiffusionState, startingState } from "./training_state.ts";
import { DiffusionUpdate, type LoopState } from "./training_step.ts";
import { HeldOutLoss, type HeldOutScore } from "./training_validation.ts";

/** What {@linkcode trainDiffusion} needs and whom it tells. */
export interface TrainDiffusionOptions {
  /** Shape of the transformer. */
  readonly config: DitConfig;
  /** What it learns to make: latents in memory, or in files that are read as they are needed. */
  readonly data: LatentData | StoredLatents;
  /** How it learns. */
  readonly settings: DiffusionTrainingInput;
  /** Where the updates run. Default `auto`. */
  readonly device?: DeviceName;
  /** Threads of the compiled step on the CPU; those of the engine unless given. */
  readonly threads?: number;
  /** State to go on from; its `step` says how far it is. Default: initial weights. */
  readonly resume?: DiffusionState;
  /** Measures the loss of the averaged weights on held-out latents as the training goes on. */
  readonly validation?: DiffusionValidation;
  /** Called with the averaged weights once the given numbers of images have been seen. */
  readonly evaluate?: DiffusionEvaluation;
  /** Images between calls of `onCheckpoint`, beside the one at the end. */
  readonly checkpointEveryImages?: number;
  /** Called with everything that is needed to go on: the state, and what to keep beside it. */
  onCheckpoint?(state: DiffusionState, step: number, notes: CheckpointNotes): void | Promise<void>;
  /** Going on from before when the training diverges. */
  readonly guard?: DiffusionGuard;
  /** Called with mean metrics and the time left. */
  onProgress?(entry: DiffusionLogEntry): void | Promise<void>;
  /** Updates between calls of `onProgress`. Default 20. */
  readonly logEverySteps?: number;
  /**
   * Updates between reads of the losses, which wait for the device. Default 1 where tensors lie in host memory, 10 on
   * other devices: there the state never leaves the device, and the losses only now and then.
   */
  readonly readEverySteps?: number;
  /** Whether the log tells how much of the device's speed is used, which takes a second to measure at first. Default false. */
  readonly utilisation?: boolean;
  /** When aborted, the training checkpoints and returns. */
  readonly signal?: AbortSignal;
}

/** Evaluations during a training. */
export interface DiffusionEvaluation {
  /** Numbers of images seen, each rounded to the nearest update. */
  readonly at: readonly number[];
  /** Scores the averaged weights. */
  run(ema: DitParams<HostTensor>, progress: { step: number; imagesSeen: number }): void | Promise<void>;
}

/** Measurements on held-out latents during a training. */
export interface DiffusionValidation {
  /** Latents that the training does not see. */
  readonly data: LatentData | StoredLatents;
  /** How many, see {@linkcode HeldOutOptions.images}. Default 1,024. */
  readonly images?: number;
  /** Images seen between measurements, beside the one at the end. */
  readonly everyImages: number;
  /** Takes a measurement; called before the checkpoint of the same update. */
  run?(result: DiffusionValidationResult): void | Promise<void>;
}

/** A measurement on held-out latents. */
export interface DiffusionValidationResult extends HeldOutScore {
  /** Updates done. */
  readonly step: number;
  /** Training images seen. */
  readonly imagesSeen: number;
}

/** How a training that diverged goes on. */
export interface DiffusionGuard {
  /** What the guard had seen where the training is resumed: {@linkcode CheckpointNotes.guard} of that checkpoint. */
  readonly state?: LossGuardState;
  /**
   * Loads the newest checkpoint of an update up to `goodUntil`, with its notes, or gives null if there is none. From
   * there the training goes on with other batches; if it diverges again it ends, and at once without this.
   */
  restore?(goodUntil: number): Promise<{ state: DiffusionState; guard?: LossGuardState } | null>;
  /** Called when the training goes back; what was told of updates after `backTo` comes again. */
  onReturn?(event: TrainReturn): void | Promise<void>;
}

/** What belongs to a checkpoint beside its state, as plain values. */
export interface CheckpointNotes {
  /** What the guard against divergence has seen; give it back as {@linkcode DiffusionGuard.state}. */
  readonly guard: LossGuardState;
  /** The measurement on held-out latents after this very update, if there was one. */
  readonly validation?: DiffusionValidationResult;
}

/** {@linkcode TrainLogEntry} of a diffusion training. */
export interface DiffusionLogEntry extends TrainLogEntry {
  /** Mean squared error of the velocity in ten bins of the time, from noise to data; null where no sample fell. */
  readonly lossByTime: readonly (number | null)[];
  /** Floating-point operations of the model a second, see {@linkcode trainingFlops}. */
  readonly flopsPerSec: number;
  /** Their share of what the device does in products of large matrices, if it was asked for. */
  readonly utilisation?: number;
}

/** A training's outcome. */
export interface TrainedDiffusion {
  /** Moving average of the weights, for use. */
  readonly ema: DitParams<HostTensor>;
  /** Final state, for going on. */
  readonly state: DiffusionState;
  /** Updates done. */
  readonly step: number;
  /** Whether it was stopped by `signal` before the last update. */
  readonly stopped: boolean;
}

/**
 * Trains a diffusion transformer on latents.
 *
 * On the `cpu` device a training that is resumed from a checkpoint equals an uninterrupted one bit for bit.
 *
 * @throws DivergenceError if a loss is not finite or far above where it was, and the training cannot go back;
 * ConfigError, DataError or CheckpointError if settings, latents or the state to resume cannot be used.
 */
export async function trainDiffusion(options: TrainDiffusionOptions): Promise<TrainedDiffusion> {
  const { config, evaluate, validation, guard, threads } = options;
  const settings = parseTrainingSettings(options.settings), { batchSize } = settings;
  const steps = Math.ceil(settings.images / batchSize);
  const toStep = (images: number) => Math.min(Math.max(Math.round(images / batchSize), 1), steps);
  const batch = diffusionBatches(config, options.data, settings);
  const { device } = await resolveDevice(options.device ?? "auto");
  const peak = options.utilisation ? await peakFlops(device, threads) : undefined;
  const heldOut = validation && new HeldOutLoss({
    config,
    data: validation.data,
    images: validation.images,
    batchSize: batchSize / settings.accumulation,
    device,
    threads,
  });
  let validated: DiffusionValidationResult | undefined;
  const startFrom = (state?: DiffusionState) => startingState(config, settings, steps, state);
  const { state, startStep } = startFrom(options.resume);
  const update = new DiffusionUpdate({ config, settings, device, threads });
  try {
    const end = await trainLoop<LoopState, DiffusionBatch>({
      state,
      startStep,
      steps,
      batchSize,
      batch,
      step: async (s, b) => {
        const [next, metrics] = await update.run(s, b);
        return [next, { ...metrics }];
      },
      logEverySteps: options.logEverySteps,
      readEverySteps: options.readEverySteps ?? (HOST_DEVICES.includes(device) ? 1 : 10),
      onLog: async (entry) =>
        await options.onProgress?.(described(entry, trainingFlops(config, settings.repa), peak)),
      divergence: divergenceRule(settings),
      guard: guard?.state,
      restore: guard?.restore && (async (goodUntil, diverged) => {
        const found = await guard.restore!(goodUntil);
        if (!found) return null;
        disposeTree(diverged);
        update.forget();
        const restored = startFrom(found.state);
        return { state: restored.state, step: restored.startStep, guard: found.guard };
      }),
      onReturn: guard?.onReturn,
      validateEverySteps: validation && toStep(validation.everyImages),
      onValidate: heldOut && (async (s, at) => {
        validated = { step: at, imagesSeen: at * batchSize, ...await heldOut.measure(s.ema) };
        await validation!.run?.(validated);
      }),
      checkpointEverySteps: options.checkpointEveryImages && toStep(options.checkpointEveryImages),
      onCheckpoint: async (s, at, seen) => {
        const notes = { guard: seen, ...(validated?.step === at && { validation: validated }) };
        await options.onCheckpoint?.(await read(s), at, notes);
      },
      evaluateAtSteps: evaluate?.at.map(toStep),
      onEvaluate: async (s, at) =>
        await evaluate?.run(await read(s.ema), { step: at, imagesSeen: at * batchSize }),
      signal: options.signal,
    });
    const final = await read(end.state);
    disposeTree(end.state);
    return { ema: final.ema, state: final, step: end.step, stopped: end.stopped };
  } finally {
    await update.dispose();
    await heldOut?.dispose();
  }
}

/** Devices whose tensors lie in host memory. */
const HOST_DEVICES: readonly string[] = ["cpu", "tfjs-cpu", "tfjs-wasm"];

/** An entry of the log with what only a diffusion training can tell. */
function described(entry: TrainLogEntry, flopsPerImage: number, peak: number | undefined): DiffusionLogEntry {
  const flopsPerSec = entry.imagesPerSec * flopsPerImage;
  return {
    ...entry,
    lossByTime: lossByTime(entry.vectors.timeBins),
    flopsPerSec,
    ...(peak !== undefined && { utilisation: flopsPerSec / peak }),
  };
}

/** The settings' rule, counted in updates. */
function divergenceRule({ divergence, batchSize }: DiffusionTrainingSettings): DivergenceRule | null {
  return divergence && {
    factor: divergence.factor,
    windowSteps: Math.max(Math.ceil(divergence.window / batchSize), 1),
  };
}
