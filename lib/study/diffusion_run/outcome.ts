/**
 * The end of a diffusion training: weights, summary and report in the run folder.
 *
 * @module
 */
import { countParameters, saveDiffusion, type TrainedDiffusion } from "novae/diffusion/mod.ts";
import type { DeviceName } from "novae/engine/mod.ts";
import type { DeviceChoice, RunFolder } from "novae/experiment/mod.ts";
import { hashFile, writeFileAtomic } from "novae/io/mod.ts";
import type { DiffusionRunConfig } from "./config.ts";
import type { CurveLog, DiffusionCurves } from "./curves.ts";
import type { DiffusionRunOptions, DiffusionRunResult } from "./options.ts";
import { diffusionReport } from "./report.ts";
import { endLine, type TrainingDisplay } from "./shown.ts";
import { summaryOf } from "./summary.ts";

/** The file of the final weights in a run folder. */
export const WEIGHTS_FILE = "dit.safetensors";

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
  const { run, config, display } = place, weights = run.file(WEIGHTS_FILE), { record } = latents;
  await saveDiffusion(weights, {
    config: config.model,
    params: trained.ema,
    space: record.space,
    latents: latents.stats,
    metadata: {
      settings: JSON.stringify(config.training),
      dataset: record.data.hash,
      ...(record.autoencoder !== null && { autoencoder: record.autoencoder }),
      ...(config.init !== null && { init: config.init }),
    },
  });
  const sha256 = await hashFile(weights), parameters = countParameters(config.model).learned;
  const summary = summaryOf({ log, parameters, weights: { file: WEIGHTS_FILE, sha256 }, step: trained.step });
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
