/**
 * What happens beside the updates of a training: rows, checkpoints, samples and their showing.
 *
 * @module
 */
import { learningRateAt, type TrainDiffusionOptions } from "novae/diffusion/mod.ts";
import type { CheckpointStore, RunFolder } from "novae/experiment/mod.ts";
import type { DiffusionRunConfig } from "./config.ts";
import type { CurveLog, TrainPoint } from "./curves.ts";
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
  callbacks(): Pick<TrainDiffusionOptions, "onProgress" | "onCheckpoint" | "evaluate"> {
    const { store, samples, config: { training, evaluation } } = this.#told, { images } = training;
    return {
      onProgress: (entry) => this.#row(entry),
      onCheckpoint: async (state, step) => await store.save(step, { weights: state.ema, state }),
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

  #row(entry: Parameters<NonNullable<TrainDiffusionOptions["onProgress"]>>[0]): void {
    const { run, log, display, config: { training } } = this.#told;
    const { metrics, leftSec, ...measured } = entry, { step, imagesSeen, imagesPerSec } = entry;
    const learningRate = learningRateAt(training, step - 1);
    log.add("train", { ...measured, ...metrics, learningRate } as unknown as TrainPoint);
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
