/**
 * What happens beside the updates of a training: rows, checkpoints, samples and their showing.
 *
 * @module
 */
import {
  type CheckpointNotes,
  type DiffusionGuard,
  type DiffusionLogEntry,
  type DiffusionState,
  type DiffusionValidationResult,
  learningRateAt,
  type TrainDiffusionOptions,
} from "novae/diffusion/mod.ts";
import type { LossGuardState } from "novae/nn/mod.ts";
import type { CheckpointStore, RunFolder } from "novae/experiment/mod.ts";
import { stateUpTo } from "./checkpoints.ts";
import type { DiffusionRunConfig } from "./config.ts";
import type { CurveLog } from "./curves.ts";
import type { SampleEvaluation } from "./evaluation.ts";
import type { TrainingDisplay } from "./shown.ts";

/** Whom an observer tells. */
interface Observed {
  readonly run: RunFolder;
  readonly config: DiffusionRunConfig;
  readonly log: CurveLog;
  readonly store: CheckpointStore;
  readonly display: TrainingDisplay;
  readonly samples: SampleEvaluation | undefined;
  /** What the guard against divergence had seen where the training goes on. */
  readonly guard: LossGuardState | undefined;
  /** Called after samples, so that the report of a long run can be read while it goes on. */
  writeReport(): Promise<void>;
}

/** Keeps and shows what a training tells. */
export class TrainingObserver {
  readonly #told: Observed;

  constructor(told: Observed) {
    this.#told = told;
  }

  /** What the training calls. */
  callbacks(): Pick<TrainDiffusionOptions, "onProgress" | "onCheckpoint" | "evaluate" | "guard"> {
    const { samples, config: { training, evaluation } } = this.#told, { images } = training;
    return {
      guard: this.#guard(),
      onProgress: (entry) => this.#row(entry),
      onCheckpoint: (state, step, notes) => this.#checkpoint(state, step, notes),
      evaluate: samples && {
        at: multiples(evaluation.everyImages, images),
        run: async (ema, place) => {
          const { display, log } = this.#told, { picture, score } = await samples.run(ema, place);
          if (score) log.add("evaluation", score);
          if (score) {
            display.say(scoreLine(place.imagesSeen, score.frechet.value, score.frechet.standardError));
          }
          display.samples(picture);
          display.curves(log);
          await this.#told.writeReport();
        },
      },
    };
  }

  /** Takes a measurement on held-out latents. */
  validated(result: DiffusionValidationResult): void {
    const { log, display } = this.#told;
    log.add("validation", result);
    display.curves(log);
  }

  /** Keeps a checkpoint; the one with the lowest loss on held-out latents stays beside the newest. */
  async #checkpoint(
    state: DiffusionState,
    step: number,
    { guard, validation }: CheckpointNotes,
  ): Promise<void> {
    const meta = { guard }, score = validation?.loss;
    await this.#told.store.save(step, { weights: state.ema, state, meta, score });
  }

  #guard(): DiffusionGuard {
    const { store, log, display, samples, guard, config: { model, training } } = this.#told;
    return {
      state: guard,
      restore: async (goodUntil) => {
        const kept = await stateUpTo(store, model, training, goodUntil);
        if (kept === null) return null;
        await store.discardAfter(kept.step);
        return { state: kept.state, guard: kept.meta.guard as LossGuardState };
      },
      onReturn: async ({ step, backTo, reason }) => {
        await log.discardAfter(backTo);
        await samples?.discardAfter(backTo);
        const line = `update ${step}: ${reason}; going on from update ${backTo} with other batches`;
        this.#told.run.log(line);
        display.say(line);
      },
    };
  }

  #row({ metrics, leftSec, vectors: _, ...measured }: DiffusionLogEntry): void {
    const { run, log, display, config: { training } } = this.#told,
      { step, imagesSeen, imagesPerSec } = measured;
    const learningRate = learningRateAt(training, step - 1), { loss, gradNorm, ...losses } = metrics;
    log.add("train", { ...measured, loss, gradNorm, ...losses, learningRate });
    run.heartbeat(step);
    display.progress({
      ...{ imagesSeen, leftSec, images: training.images },
      note: `loss ${metrics.loss.toFixed(4)} · ${imagesPerSec.toFixed(0)} images/s`,
    });
    display.curves(log);
  }
}

/** Every so many images, and at the end. */
function multiples(every: number, last: number): number[] {
  const before = Array.from({ length: Math.ceil(last / every) - 1 }, (_, i) => (i + 1) * every);
  return [...before, last];
}

function scoreLine(imagesSeen: number, value: number, error: number): string {
  return `${imagesSeen.toLocaleString("en")} images: Fréchet distance ${value.toFixed(2)} ± ${
    error.toFixed(2)
  }`;
}
