/**
 * The training loop that all models share. It knows nothing of models, files or plots: a step is a function, a batch
 * is a pure function of the step's index (so that resuming is starting at a later index), and what happens with
 * logs and checkpoints is the caller's.
 *
 * @module
 */
import { DivergenceError, type HostTensor } from "novae/tensor/mod.ts";

/** Something whose value can be fetched from a device, such as a compiled function's output. */
export interface Readable {
  /** Fetches the value. */
  read(): Promise<HostTensor>;
  /** Releases the memory it holds. */
  dispose(): void;
}

/** Mean metrics since the previous entry, and how far the training is. */
export interface TrainLogEntry {
  /** Updates done. */
  readonly step: number;
  /** Images in all batches so far, repeats counted. */
  readonly imagesSeen: number;
  /** Seconds spent in this call of the loop, evaluation and checkpoints included. */
  readonly wallSec: number;
  /** Training speed since the previous entry, without evaluations and checkpoints. */
  readonly imagesPerSec: number;
  /** Seconds to go at that speed, evaluations not included. */
  readonly leftSec: number;
  /** Means over the steps since the previous entry. */
  readonly metrics: Readonly<Record<string, number>>;
}

/** What the loop runs and whom it tells. */
export interface TrainLoopOptions<S, B> {
  /** State before step `startStep`. Donated to the step, so not to be used afterwards. */
  readonly state: S;
  /** Updates done already, 0 for a new training. */
  readonly startStep?: number;
  /** Updates in all, counted from 0. */
  readonly steps: number;
  /** Images of a batch. */
  readonly batchSize: number;
  /** Batch of update `step`; must be a pure function of it. It is prepared while the step before runs, where that leaves the thread free. */
  batch(step: number): B | Promise<B>;
  /**
   * One update, normally a compiled function that donates its state. `metrics` must hold scalars and a `loss`; it, and
   * those whose names end in `Loss`, are guarded against divergence.
   */
  step(state: S, batch: B): Promise<[S, Record<string, Readable>]>;
  /** Steps between log entries. Default 20. */
  readonly logEverySteps?: number;
  /** Steps between reads of the metrics; on a GPU each read waits for the device. Default 1. */
  readonly readEverySteps?: number;
  /** Called with the metrics of each step whose metrics are read, after the guard against divergence. */
  onMetrics?(metrics: Readonly<Record<string, number>>, step: number): void;
  /** Called every `logEverySteps` steps and after the last. */
  onLog?(entry: TrainLogEntry): void | Promise<void>;
  /** Steps after which `onCheckpoint` is called, beside the last one. */
  readonly checkpointEverySteps?: number;
  /** Called with the state as it is on the device; it must be read before this returns. */
  onCheckpoint?(state: S, step: number): void | Promise<void>;
  /**
   * Steps after which `onEvaluate` is called, e.g. to sample and score. A loop that starts at such a step calls it
   * at once, so the caller skips what it has already.
   */
  readonly evaluateAtSteps?: readonly number[];
  /** Called with the state as it is on the device. */
  onEvaluate?(state: S, step: number): void | Promise<void>;
  /** When aborted, the loop checkpoints after the current step and returns. */
  readonly signal?: AbortSignal;
}

/** Where the loop ended. */
export interface TrainLoopResult<S> {
  /** State after the last step. */
  readonly state: S;
  /** Updates done. */
  readonly step: number;
  /** Whether it ended because of `signal`, before the last step. */
  readonly stopped: boolean;
}

/**
 * Runs a training from `startStep` to `steps`.
 *
 * @throws DivergenceError if a loss is not finite; nothing is checkpointed from then on.
 */
export async function trainLoop<S, B>(options: TrainLoopOptions<S, B>): Promise<TrainLoopResult<S>> {
  const { startStep = 0, steps, batchSize, logEverySteps = 20, readEverySteps = 1, checkpointEverySteps } =
    options;
  const evaluateAt = new Set(options.evaluateAtSteps ?? []);
  const started = performance.now();
  let state = options.state, step = startStep, checkpointed = startStep;
  let read = new Map<string, number[]>(), trainSec = 0, loggedStep = startStep;
  const prepare = async (index: number): Promise<B> => await options.batch(index);
  let next = step < steps ? prepare(step) : undefined;

  // A run that was killed while it evaluated resumes here with that evaluation still to do.
  if (step > 0 && evaluateAt.has(step)) await options.onEvaluate?.(state, step);

  while (step < steps) {
    // ---- 1) one update, while the host prepares the next batch
    const stepStarted = performance.now();
    const running = options.step(state, await next!);
    next = step + 1 < steps ? prepare(step + 1) : undefined;
    next?.catch(() => {}); // reported when it is awaited, even if the step itself fails first
    const [newState, metrics] = await running;
    state = newState;
    step++;

    // ---- 2) metrics and the guard against divergence
    const evaluates = evaluateAt.has(step);
    const stops = options.signal?.aborted ?? false;
    const checkpoints = stops || step === steps ||
      (checkpointEverySteps && step % checkpointEverySteps === 0);
    const logs = step % logEverySteps === 0 || step === steps;
    if (step % readEverySteps === 0 || logs || checkpoints || evaluates) {
      const values = await readScalars(metrics);
      expectFiniteLosses(values, step, checkpointed);
      for (const [name, value] of values) {
        if (read.get(name)?.push(value) === undefined) read.set(name, [value]);
      }
      options.onMetrics?.(Object.fromEntries(values), step);
    }
    for (const metric of Object.values(metrics)) metric.dispose();
    trainSec += (performance.now() - stepStarted) / 1000;

    // ---- 3) log, checkpoint, evaluate
    if (logs) {
      const imagesPerSec = (step - loggedStep) * batchSize / trainSec;
      await options.onLog?.({
        step,
        imagesSeen: step * batchSize,
        wallSec: (performance.now() - started) / 1000,
        imagesPerSec,
        leftSec: (steps - step) * batchSize / imagesPerSec,
        metrics: Object.fromEntries([...read].map(([name, values]) => [name, mean(values)])),
      });
      read = new Map();
      [trainSec, loggedStep] = [0, step];
    }
    if (checkpoints) {
      await options.onCheckpoint?.(state, step);
      checkpointed = step;
    }
    if (evaluates) await options.onEvaluate?.(state, step);
    if (stops) break;
  }
  return { state, step, stopped: step < steps };
}

async function readScalars(metrics: Record<string, Readable>): Promise<Map<string, number>> {
  const values = await Promise.all(
    Object.entries(metrics).map(async ([name, metric]) => [name, (await metric.read()).data[0]] as const),
  );
  return new Map(values);
}

/** A metric may be new or gone within the steps of an entry: it counts those that have it. */
function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Refuses a `loss`, or a metric whose name ends in `Loss`, that is not finite. */
function expectFiniteLosses(values: ReadonlyMap<string, number>, step: number, checkpointed: number): void {
  const wrong = ["loss", ...[...values.keys()].filter((name) => name.endsWith("Loss"))]
    .find((name) => !Number.isFinite(values.get(name)));
  if (wrong === undefined) return;
  const kept = checkpointed > 0
    ? `the last good checkpoint is of step ${checkpointed}`
    : "no checkpoint was made yet";
  throw new DivergenceError(
    `Training stopped at step ${step}: the ${wrong} must be finite, got ${values.get(wrong)}; ${kept}`,
  );
}
