/**
 * The course of a diffusion training, as the rows of `metrics.jsonl` have it.
 *
 * @module
 */
import type { FrechetResult } from "novae/evaluation/mod.ts";
import type { MetricsLog } from "novae/experiment/mod.ts";

/** Where in a training something was measured. */
export interface TrainingPlace {
  /** Updates done. */
  readonly step: number;
  /** Training images seen, repetitions counted. */
  readonly imagesSeen: number;
}

/** Means over the updates since the row before. */
export interface TrainPoint extends TrainingPlace {
  /** Mean squared error of the velocity. */
  readonly loss: number;
  /** The same by tenths of time, noise first, where it is measured; null where no time fell. */
  readonly lossByTime?: readonly (number | null)[];
  /** Norm of the joint gradient before clipping. */
  readonly gradNorm: number;
  /** Step size of the last of these updates. */
  readonly learningRate: number;
  /** Training speed, evaluations and checkpoints not counted. */
  readonly imagesPerSec: number;
  /** Floating-point operations a second, where they are counted. */
  readonly flopsPerSec?: number;
  /** Share of what the device can do, in [0, 1], where that is known. */
  readonly utilisation?: number | null;
}

/** The loss of the averaged weights on held-out latents. */
export interface ValidationPoint extends TrainingPlace {
  /** Mean squared error of the velocity. */
  readonly loss: number;
  /** The same by tenths of time, noise first. */
  readonly lossByTime?: readonly (number | null)[];
}

/** The score of samples of the averaged weights. */
export interface ScorePoint extends TrainingPlace {
  /** Distance to the reference images. */
  readonly frechet: FrechetResult;
  /** Share of samples that the classifier gives the class they were asked for; null where that is not known. */
  readonly accuracy: number | null;
}

/** Everything that was measured, in the order of the training. */
export interface DiffusionCurves {
  /** Training losses and speed. */
  readonly train: readonly TrainPoint[];
  /** Validation losses. */
  readonly validation: readonly ValidationPoint[];
  /** Scores of samples. */
  readonly scores: readonly ScorePoint[];
}

/** What rows of each kind hold. */
export interface PointOf {
  /** Means of updates. */
  readonly train: TrainPoint;
  /** A loss on held-out latents. */
  readonly validation: ValidationPoint;
  /** A score of samples. */
  readonly evaluation: ScorePoint;
}

/** Kinds of rows. */
export type RowKind = keyof PointOf;

/** Collects what is measured and keeps it in `metrics.jsonl`; nothing of one step and kind comes twice. */
export class CurveLog implements DiffusionCurves {
  readonly train: TrainPoint[] = [];
  readonly validation: ValidationPoint[] = [];
  readonly scores: ScorePoint[] = [];
  readonly #metrics: MetricsLog;

  private constructor(metrics: MetricsLog) {
    this.#metrics = metrics;
  }

  /** Opens the rows of a run; those after `step` are dropped, since the training will make them again. */
  static async open(metrics: MetricsLog, step: number): Promise<CurveLog> {
    await metrics.retain((row) => Number(row.step) <= step);
    const log = new CurveLog(metrics);
    for (const { kind, ...point } of await metrics.read()) log.#list(kind as RowKind)?.push(point as never);
    return log;
  }

  /** Drops what was measured after an update, which the training will make again. */
  async discardAfter(step: number): Promise<void> {
    await this.#metrics.retain((row) => Number(row.step) <= step);
    for (const list of [this.train, this.validation, this.scores]) {
      const first = list.findIndex((point) => point.step > step);
      if (first >= 0) list.length = first;
    }
  }

  /** Adds a point and its row; does nothing if there is one of this kind and step. */
  add<K extends RowKind>(kind: K, point: PointOf[K]): void {
    const list = this.#list(kind) as TrainingPlace[];
    if (list.some(({ step }) => step === point.step)) return;
    list.push(point);
    this.#metrics.append({ kind, ...point });
  }

  #list(kind: RowKind): TrainingPlace[] | undefined {
    return { train: this.train, validation: this.validation, evaluation: this.scores }[kind];
  }
}

/** Reads the course of a training from the rows of its run. */
export async function readCurves(metrics: MetricsLog): Promise<DiffusionCurves> {
  return await CurveLog.open(metrics, Infinity);
}
