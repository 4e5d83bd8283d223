/**
 * What a diffusion training came to, in a few numbers.
 *
 * @module
 */
import type { FrechetResult } from "novae/evaluation/mod.ts";
import type { DiffusionCurves, TrainPoint } from "./curves.ts";

/** What `summary.json` of a run holds. */
export interface DiffusionSummary {
  /** Updates done. */
  readonly step: number;
  /** Training images seen, repetitions counted. */
  readonly imagesSeen: number;
  /** Learned parameters. */
  readonly parameters: number;
  /** Training loss of the last row. */
  readonly loss: number;
  /** Last validation loss; null if none was measured. */
  readonly validationLoss: number | null;
  /** Lowest validation loss and where it was; null if none was measured. */
  readonly best: { readonly step: number; readonly validationLoss: number } | null;
  /** Score of the last samples; null if none were scored. */
  readonly frechet: FrechetResult | null;
  /** Share of the last samples that have the class they were asked for; null if that is not known. */
  readonly accuracy: number | null;
  /** Seconds of all updates, evaluations and checkpoints not counted. */
  readonly trainSec: number;
  /** Training images a second. */
  readonly imagesPerSec: number;
  /** The file of the averaged weights. */
  readonly weights: { readonly file: string; readonly sha256: string };
}

/** Sums a training up. */
export function summaryOf(
  { log, ...known }: Pick<DiffusionSummary, "step" | "parameters" | "weights"> & {
    readonly log: DiffusionCurves;
  },
): DiffusionSummary {
  const last = log.train.at(-1)!, score = log.scores.at(-1), { validation } = log;
  const best = validation.reduce<typeof validation[number] | null>(
    (least, point) => least === null || point.loss < least.loss ? point : least,
    null,
  );
  const trainSec = secondsOf(log.train);
  return {
    ...known,
    imagesSeen: last.imagesSeen,
    loss: last.loss,
    validationLoss: validation.at(-1)?.loss ?? null,
    best: best && { step: best.step, validationLoss: best.loss },
    frechet: score?.frechet ?? null,
    accuracy: score?.accuracy ?? null,
    trainSec,
    imagesPerSec: last.imagesSeen / trainSec,
  };
}

/** Seconds of all updates. */
export function secondsOf(train: readonly TrainPoint[]): number {
  return train.reduce(
    (sum, { imagesSeen, imagesPerSec }, i) =>
      sum + (imagesSeen - (train[i - 1]?.imagesSeen ?? 0)) / imagesPerSec,
    0,
  );
}
