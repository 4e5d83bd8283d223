/**
 * A diffusion training in a run folder: metrics, checkpoints, samples, scores and a report, from the command line or
 * under a cell of a notebook.
 *
 * @module
 */
import { type DiffusionState, trainDiffusion, type TrainedDiffusion } from "novae/diffusion/mod.ts";
import { resolveDevice } from "novae/engine/mod.ts";
import { CheckpointStore, superviseRun } from "novae/experiment/mod.ts";
import type { LossGuardState } from "novae/nn/mod.ts";
import { newestState } from "./checkpoints.ts";
import { CurveLog } from "./curves.ts";
import { SampleEvaluation } from "./evaluation.ts";
import { openRun, resolveRun } from "./folder.ts";
import { TrainingObserver } from "./observer.ts";
import type { DiffusionRunOptions, DiffusionRunResult } from "./options.ts";
import { finish, type Place, writeReport } from "./outcome.ts";
import { endLine, openDisplay } from "./shown.ts";
import { startFrom } from "./weights.ts";

/**
 * Trains a diffusion transformer in a run folder.
 *
 * The folder holds the resolved configuration, the environment, the status, a row of metrics for each log entry,
 * checkpoints, samples with fixed seeds, their scores, a summary and a report. A run that was killed or stopped goes on
 * with `resume` from its newest checkpoint, and on the `cpu` device ends with the same weights. One that diverges goes
 * back to its last good checkpoint once. An interrupt (SIGINT) makes a checkpoint and stops; in a notebook the curves of loss and score redraw themselves under the cell.
 *
 * @throws NovaeError for anything that a person can mend: settings, latents or checkpoints that cannot be used,
 * divergence, a full disk. The status of the run says `failed` then, and why.
 */
export async function runDiffusionTraining(options: DiffusionRunOptions): Promise<DiffusionRunResult> {
  const config = resolveRun(options), choice = await resolveDevice(options.device ?? "auto");
  const run = await openRun(options, config, choice), label = run.name;
  const display = options.display ?? openDisplay(label), gentle = new AbortController();
  const stop = () => gentle.abort();
  options.signal?.addEventListener("abort", stop);
  if (options.signal?.aborted) stop();
  display.say(`run folder ${run.path}, on ${choice.device} (${choice.reason})`);
  try {
    const place = { run, config, display, device: choice.device, choice, signal: gentle.signal };
    return await superviseRun(run, () => trainIn(place, options), () => display.clear(), gentle);
  } catch (error) {
    await display.finish(`✗ ${label} · failed`);
    throw error;
  } finally {
    options.signal?.removeEventListener("abort", stop);
  }
}

async function trainIn(place: Place, options: DiffusionRunOptions): Promise<DiffusionRunResult> {
  const { run, config, display } = place, { model, training, keeping } = config, started = performance.now();
  const store = new CheckpointStore(run.file("checkpoints"), {
    config,
    keepLast: keeping.keepLast,
    warn: (line) => display.say(line),
  });
  const kept = await newestState(store, model, training);
  const steps = Math.ceil(training.images / training.batchSize);
  if (kept) display.say(`going on from update ${kept.step} of ${steps}`);
  const log = await CurveLog.open(run.metrics, kept?.step ?? 0);
  const samples = openSamples(place, options);
  const report = () => writeReport(place, log);
  const observer = new TrainingObserver({
    ...{ run, config, log, store, display, samples },
    guard: kept?.meta.guard as LossGuardState | undefined,
    writeReport: report,
  });
  try {
    const trained = await train(place, options, observer, kept?.state ?? startFrom(config, options.init));
    if (!trained.stopped) return await finish(place, options, log, trained, started);
    await writeReport(place, log);
    await display.finish(endLine(run.name, true, trained.step, (performance.now() - started) / 1000));
    return {
      path: run.path,
      config,
      step: trained.step,
      stopped: true,
      params: trained.ema,
      curves: log,
      summary: null,
    };
  } catch (error) {
    await writeReport(place, log).catch(() => {}); // what ended the run counts, not this
    throw error;
  } finally {
    await samples?.dispose();
  }
}

/** What draws samples, if there is a decoder; says what is left out. */
function openSamples(
  { run, config, display, device }: Place,
  { latents: { stats }, decoder, judge }: DiffusionRunOptions,
): SampleEvaluation | undefined {
  if (config.evaluation.samples === 0) return undefined;
  if (!decoder) {
    display.say("no autoencoder is given: there will be neither pictures nor scores of samples");
    return undefined;
  }
  if (!judge) display.say("no judge is given: samples are pictured, Fréchet distances are left out");
  return new SampleEvaluation({ run, config, stats, decoder, judge, device });
}

async function train(
  { config, device, signal }: Place,
  { latents }: DiffusionRunOptions,
  observer: TrainingObserver,
  resume: DiffusionState | undefined,
): Promise<TrainedDiffusion> {
  const { model, training, keeping, validation } = config, { batchSize } = training;
  // At a row of the metrics, so that the means of a resumed training are over the same updates.
  const perRow = keeping.logEverySteps * batchSize;
  return await trainDiffusion({
    config: model,
    data: latents.train,
    settings: training,
    device,
    resume,
    signal,
    utilisation: true,
    logEverySteps: keeping.logEverySteps,
    readEverySteps: keeping.readEverySteps ?? undefined,
    checkpointEveryImages: Math.ceil(keeping.checkpointEveryImages / perRow) * perRow,
    ...(latents.heldOut && {
      validation: { data: latents.heldOut, ...validation, run: (result) => observer.validated(result) },
    }),
    ...observer.callbacks(),
  });
}
