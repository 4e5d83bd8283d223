/**
 * The end of a diffusion training: weights, summary and report in the run folder.
 *
 * @module
 */
import { countParameters, type TrainedDiffusion } from "novae/diffusion/mod.ts";
import type { DeviceName } from "novae/engine/mod.ts";
import type { DeviceChoice, RunFolder } from "novae/experiment/mod.ts";
import { writeFileAtomic } from "novae/io/mod.ts";
import type { DiffusionRunConfig } from "./config.ts";
import type { CurveLog, DiffusionCurves } from "./curves.ts";
import type { DiffusionRunOptions, DiffusionRunResult } from "./options.ts";
import { diffusionReport } from "./report.ts";
import { endLine, type TrainingDisplay } from "./shown.ts";
import { summaryOf } from "./summary.ts";
import { saveWeights } from "./weights.ts";

/** A run at work. */
export interface Place {
  readonly run: RunFolder;
  readonly config: DiffusionRunConfig;
  readonly display: TrainingDisplay;
  readonly device: DeviceName;
  readonly choice: DeviceChoice;
  readonly signal: AbortSignal;
}

/** Writes weights, summary and report of a training that has come to its end. */
export async function finish(
  place: Place,
  { latents }: DiffusionRunOptions,
  log: CurveLog,
  trained: TrainedDiffusion,
  started: number,
): Promise<DiffusionRunResult> {
  const { run, config, display } = place, weights = await saveWeights(run, config, latents, trained);
  const parameters = countParameters(config.model).learned;
  const summary = summaryOf({ log, parameters, weights, step: trained.step });
  await writeReport(place, log);
  await run.finish(summary);
  await display.finish(endLine(run.name, false, trained.step, (performance.now() - started) / 1000));
  return {
    path: run.path,
    config,
    step: trained.step,
    stopped: false,
    params: trained.ema,
    curves: log,
    summary,
  };
}

/** Writes the report on what was measured so far. */
export async function writeReport({ run, config, choice }: Place, curves: DiffusionCurves): Promise<void> {
  await writeFileAtomic(
    run.file("report.html"),
    await diffusionReport({ run, config, curves, device: choice }),
  );
}
