/**
 * A diffusion training in a run folder: metrics, checkpoints, samples, scores and a report, from the command line or
 * under a cell of a notebook.
 *
 * @module
 */
import { ConfigError, type HostTensor } from "novae/tensor/mod.ts";
import {
  countParameters,
  type DiffusionState,
  type DitParams,
  trainDiffusion,
  type TrainedDiffusion,
} from "novae/diffusion/mod.ts";
import { type DeviceName, resolveDevice } from "novae/engine/mod.ts";
import {
  CheckpointStore,
  type DeviceChoice,
  listRuns,
  RunFolder,
  superviseRun,
} from "novae/experiment/mod.ts";
import type { LossGuardState } from "novae/nn/mod.ts";
import { writeFileAtomic } from "novae/io/mod.ts";
import { newestState } from "./checkpoints.ts";
import { type DiffusionRunConfig, type DiffusionRunInput, parseRunSettings } from "./config.ts";
import { CurveLog, type DiffusionCurves } from "./curves.ts";
import { SampleEvaluation } from "./evaluation.ts";
import type { SampleJudge } from "./judge.ts";
import type { TrainingLatents } from "./latents.ts";
import { TrainingObserver } from "./observer.ts";
import { diffusionReport } from "./report.ts";
import type { SampleDecoder } from "./samples.ts";
import { endLine, openDisplay, type TrainingDisplay } from "./shown.ts";
import { type DiffusionSummary, summaryOf } from "./summary.ts";
import { saveWeights, startFrom, type StartingWeights } from "./weights.ts";

/** What {@linkcode runDiffusionTraining} needs. */
export interface DiffusionRunOptions extends DiffusionRunInput {
  /** What it learns from; it stays open. */
  readonly latents: TrainingLatents;
  /** Decodes samples; without it there are neither pictures nor scores. It is not disposed of. */
  readonly decoder?: SampleDecoder;
  /** Scores samples; without it they are only pictured. */
  readonly judge?: SampleJudge;
  /** Weights to start from. Random ones by default. */
  readonly init?: StartingWeights;
  /** Where to train. Default `auto`. */
  readonly device?: DeviceName;
  /** Folder of all runs. Default `experiments/runs`. */
  readonly root?: string;
  /** What kind of run it is, behind its number. Default `dit-<space>`. */
  readonly name?: string;
  /** Goes on with the newest run of this name (true) or with a run folder; its configuration must be the same. */
  readonly resume?: boolean | string;
  /** Arguments of the command, for the record; those of the process if omitted. */
  readonly argv?: readonly string[];
  /** What a person gave, for the record; the settings if omitted. */
  readonly input?: unknown;
  /** Where it is shown. Default: the notebook where there is one, else a bar or lines on standard error. */
  readonly display?: TrainingDisplay;
  /** When aborted, the training makes a checkpoint after the running update and returns. */
  readonly signal?: AbortSignal;
}

/** Where a run has got to. */
export interface DiffusionRunResult {
  /** The run folder. */
  readonly path: string;
  /** The resolved configuration. */
  readonly config: DiffusionRunConfig;
  /** Updates done. */
  readonly step: number;
  /** Whether it was stopped before the last update; `resume` goes on. */
  readonly stopped: boolean;
  /** Moving average of the weights. */
  readonly params: DitParams<HostTensor>;
  /** Everything that was measured. */
  readonly curves: DiffusionCurves;
  /** What `summary.json` holds; null as long as the run has not ended. */
  readonly summary: DiffusionSummary | null;
}

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

/**
 * The resolved configuration of a run.
 *
 * @throws ConfigError if a setting cannot be used or does not fit the latents.
 */
export function resolveRun(options: DiffusionRunOptions): DiffusionRunConfig {
  const settings = parseRunSettings(options), { latents: { record }, decoder, judge, init } = options;
  const { grid, channels, classes } = settings.model;
  const [got, wanted] = [[grid ** 2, channels, classes], [record.tokens, record.channels, record.classes]];
  if (got.join() !== wanted.join()) {
    throw new ConfigError(
      `Cannot train a diffusion transformer: tokens, channels and classes must be ${
        wanted.join(", ")
      } as those of ` +
        `the latents, got ${got.join(", ")}`,
    );
  }
  if (record.autoencoder !== null && decoder && decoder.hash !== record.autoencoder) {
    throw new ConfigError(
      `Cannot decode samples: the autoencoder must be the one that made the latents, ` +
        `${record.autoencoder.slice(0, 12)}…, got ${decoder.hash.slice(0, 12)}…`,
    );
  }
  return {
    kind: "diffusion",
    ...settings,
    latents: record,
    init: init?.hash ?? null,
    decoder: decoder?.hash ?? null,
    judge: judge?.record ?? null,
  };
}

/** A run at work. */
interface Place {
  readonly run: RunFolder;
  readonly config: DiffusionRunConfig;
  readonly display: TrainingDisplay;
  readonly device: DeviceName;
  readonly choice: DeviceChoice;
  readonly signal: AbortSignal;
}

async function openRun(
  { root = "experiments/runs", resume = false, argv, input, latents, name, ...options }: DiffusionRunOptions,
  config: DiffusionRunConfig,
  device: DeviceChoice,
): Promise<RunFolder> {
  const { seed } = config.training, kind = name ?? `dit-${latents.record.space}`;
  if (resume === false) {
    const { model, training, evaluation, validation, keeping } = options;
    const configInput = input ?? { model, training, evaluation, validation, keeping };
    return await RunFolder.create({ root, name: kind, config, configInput, argv, seed, device });
  }
  const path = resume === true ? await RunFolder.latest(root, kind) : resume;
  if (path === null) {
    throw new ConfigError(
      `Cannot resume: ${root} must hold a run named ${kind}, found none; leave resume away`,
    );
  }
  return await RunFolder.open(path, { config, argv, seed, device });
}

/** The newest run of any diffusion training under a root; null if there is none. */
export async function newestDiffusionRun(root: string): Promise<string | null> {
  const runs = (await listRuns(root)).filter(({ name }) => name.startsWith("dit-"));
  return runs.length === 0 ? null : await RunFolder.latest(root, runs.at(-1)!.name);
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

async function finish(
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

async function writeReport({ run, config, choice }: Place, curves: DiffusionCurves): Promise<void> {
  await writeFileAtomic(
    run.file("report.html"),
    await diffusionReport({ run, config, curves, device: choice }),
  );
}
