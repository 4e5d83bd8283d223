/**
 * The training loop that all models share. It knows nothing of models, files or plots: a step is a function, a batch
 * is a pure function of the step's index (so that resuming is starting at a later index), and what happens with
 * logs and checkpoints is the caller's.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import { DivergenceError, type HostTensor } from "novae/tensor/mod.ts";
import {
  type Divergence,
  type DivergenceRule,
  freshGuard,
  LossGuard,
  type LossGuardState,
} from "./loss_guard.ts";

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
  /** The same for metrics of several values, element by element. */
  readonly vectors: Readonly<Record<string, readonly number[]>>;
}

/** Where a training goes on after it has diverged. */
export interface RestoredState<S> {
  /** State after update `step`. */
  readonly state: S;
  /** Updates done. */
  readonly step: number;
  /** What was kept of the guard at that step; one that has seen nothing if omitted. */
  readonly guard?: LossGuardState;
}

/** That a training diverged and goes on from before. */
export interface TrainReturn {
  /** Updates done when it was noticed. */
  readonly step: number;
  /** Updates done where it goes on. */
  readonly backTo: number;
  /** What was wrong, as part of a sentence. */
  readonly reason: string;
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
  /**
   * Batch of update `step`; must be a pure function of it and of how often the training has gone back, and should
   * differ after a return, or what diverged is repeated. It is prepared while the step before runs, where that leaves
   * the thread free.
   */
  batch(step: number, returns: number): B | Promise<B>;
  /**
   * One update, normally a compiled function that donates its state. `metrics` must hold a scalar `loss`; it, those
   * whose names end in `Loss`, and a `gradNorm` are guarded against divergence.
   */
  step(state: S, batch: B): Promise<[S, Record<string, Readable>]>;
  /** Steps between log entries. Default 20. */
  readonly logEverySteps?: number;
  /** Steps between reads of the metrics; on a GPU each read waits for the device. Default 1. */
  readonly readEverySteps?: number;
  /** When a finite loss counts as diverged. Never by default. */
  readonly divergence?: DivergenceRule | null;
  /** What the guard had seen at `startStep`, as it was given to `onCheckpoint`. */
  readonly guard?: LossGuardState;
  /**
   * Loads the newest checkpoint of a step up to `goodUntil`, or gives null if there is none. A training that diverges
   * goes on from there once, with other batches; the second time it ends. It ends at once without this.
   *
   * @param diverged the state that is given up, to be released.
   */
  restore?(goodUntil: number, diverged: S): Promise<RestoredState<S> | null>;
  /** Called when a training goes back; what was logged after `backTo` comes again. */
  onReturn?(event: TrainReturn): void | Promise<void>;
  /** Called with the scalar metrics of each step whose metrics are read, after the guard against divergence. */
  onMetrics?(metrics: Readonly<Record<string, number>>, step: number): void;
  /** Called every `logEverySteps` steps and after the last. */
  onLog?(entry: TrainLogEntry): void | Promise<void>;
  /** Steps after which `onCheckpoint` is called, beside the last one. */
  readonly checkpointEverySteps?: number;
  /** Called with the state as it is on the device; it must be read before this returns. */
  onCheckpoint?(state: S, step: number, guard: LossGuardState): void | Promise<void>;
  /**
   * Steps after which `onValidate` is called, beside the last one. It comes before the checkpoint of the same step,
   * which can hold its result, and so not again where a loop resumes.
   */
  readonly validateEverySteps?: number;
  /** Called with the state as it is on the device. */
  onValidate?(state: S, step: number): void | Promise<void>;
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

/** How often a training may go back. */
const MAX_RETURNS = 1;

/**
 * Runs a training from `startStep` to `steps`.
 *
 * @throws DivergenceError if a loss is not finite, or far above where it was, and the training has gone back once
 * already or cannot; nothing is checkpointed from then on.
 */
export async function trainLoop<S, B>(options: TrainLoopOptions<S, B>): Promise<TrainLoopResult<S>> {
  const { startStep = 0, steps, batchSize, logEverySteps = 20, readEverySteps = 1, divergence = null } =
    options;
  const evaluateAt = new Set(options.evaluateAtSteps ?? []);
  const falls = (at: number, every: number | undefined) =>
    every !== undefined && every > 0 && at % every === 0;
  const started = performance.now();
  let state = options.state, step = startStep, checkpoints = [startStep];
  let guard = new LossGuard(divergence, options.guard ?? freshGuard(startStep));
  let means = new MetricMeans(), trainSec = 0, loggedStep = startStep;
  const prepare = async (index: number): Promise<B> => await options.batch(index, guard.state.returns);
  let next = step < steps ? prepare(step) : undefined;

  // A run that was killed while it evaluated resumes here with that evaluation still to do.
  if (step > 0 && evaluateAt.has(step)) await options.onEvaluate?.(state, step);

  while (step < steps) {
    // ---- 1) one update, while the host prepares the next batch
    const stepStarted = performance.now();
    const running = options.step(state, await next!);
    running.catch(() => {}); // reported when it is awaited
    await setImmediate(); // the step is on its way before the host is busy
    next = step + 1 < steps ? prepare(step + 1) : undefined;
    next?.catch(() => {}); // reported when it is awaited, even if the step itself fails first
    const [newState, metrics] = await running;
    state = newState;
    step++;

    // ---- 2) metrics and the guard against divergence
    const evaluates = evaluateAt.has(step), last = step === steps;
    const stops = options.signal?.aborted ?? false;
    const validates = options.onValidate !== undefined && (last || falls(step, options.validateEverySteps));
    const saves = stops || last || falls(step, options.checkpointEverySteps);
    const logs = last || falls(step, logEverySteps), regular = falls(step, readEverySteps);
    let wrong: Divergence | null = null;
    if (regular || logs || saves || evaluates || validates) {
      const { scalars, vectors } = await readMetrics(metrics);
      wrong = guard.judge(scalars, step, regular);
      means.add(scalars, vectors);
      if (!wrong) options.onMetrics?.(Object.fromEntries(scalars), step);
    }
    for (const metric of Object.values(metrics)) metric.dispose();
    trainSec += (performance.now() - stepStarted) / 1000;

    // ---- 3) back to where nothing was wrong, on other batches
    if (wrong) {
      const restored = await goBack(options, guard.state.returns, wrong, { state, step, checkpoints });
      guard = new LossGuard(divergence, restored.guard);
      ({ state, step } = restored);
      [means, trainSec, loggedStep] = [new MetricMeans(), 0, step];
      checkpoints = checkpoints.filter((at) => at <= step);
      next = step < steps ? prepare(step) : undefined;
      continue;
    }

    // ---- 4) log, validate, checkpoint, evaluate
    if (logs) {
      const imagesPerSec = (step - loggedStep) * batchSize / trainSec;
      await options.onLog?.({
        step,
        imagesSeen: step * batchSize,
        wallSec: (performance.now() - started) / 1000,
        imagesPerSec,
        leftSec: (steps - step) * batchSize / imagesPerSec,
        ...means.result(),
      });
      [means, trainSec, loggedStep] = [new MetricMeans(), 0, step];
    }
    if (validates) await options.onValidate?.(state, step);
    if (saves) {
      await options.onCheckpoint?.(state, step, guard.state);
      checkpoints.push(step);
    }
    if (evaluates) await options.onEvaluate?.(state, step);
    if (stops) break;
  }
  return { state, step, stopped: step < steps };
}

/** The state with which a diverged training goes on. @throws DivergenceError if it does not. */
async function goBack<S, B>(
  { restore, onReturn }: TrainLoopOptions<S, B>,
  returns: number,
  { reason, goodUntil }: Divergence,
  { state, step, checkpoints }: { state: S; step: number; checkpoints: readonly number[] },
): Promise<Required<RestoredState<S>>> {
  const good = checkpoints.findLast((at) => at <= goodUntil) ?? 0;
  const restored = returns < MAX_RETURNS ? await restore?.(goodUntil, state) : null;
  if (!restored) {
    throw new DivergenceError(
      `Training stopped at step ${step}: ${reason}; ${
        good > 0 ? `the last good checkpoint is of step ${good}` : "no checkpoint was made yet"
      }${returns > 0 ? "; it had gone back and on with other batches once already" : ""}`,
    );
  }
  await onReturn?.({ step, backTo: restored.step, reason });
  const guard = { ...restored.guard ?? freshGuard(restored.step), returns: returns + 1 };
  return { ...restored, guard };
}

interface MetricValues {
  readonly scalars: ReadonlyMap<string, number>;
  readonly vectors: ReadonlyMap<string, ArrayLike<number>>;
}

async function readMetrics(metrics: Record<string, Readable>): Promise<MetricValues> {
  const values = await Promise.all(
    Object.entries(metrics).map(async ([name, metric]) => [name, (await metric.read()).data] as const),
  );
  return {
    scalars: new Map(values.filter(([, { length }]) => length === 1).map(([name, [value]]) => [name, value])),
    vectors: new Map(values.filter(([, { length }]) => length > 1)),
  };
}

/** Means of metrics. One may be new or gone within the steps of an entry: it counts those that have it. */
class MetricMeans {
  readonly #scalars = new Map<string, number[]>();
  readonly #vectors = new Map<string, ArrayLike<number>[]>();

  add(scalars: ReadonlyMap<string, number>, vectors: ReadonlyMap<string, ArrayLike<number>>): void {
    for (const [name, value] of scalars) append(this.#scalars, name, value);
    for (const [name, values] of vectors) append(this.#vectors, name, values);
  }

  result(): Pick<TrainLogEntry, "metrics" | "vectors"> {
    const metrics = Object.fromEntries([...this.#scalars].map(([name, values]) => [name, mean(values)]));
    const vectors = [...this.#vectors].map(([name, read]) =>
      [name, Array.from(read[0], (_, i) => mean(read.map((values) => values[i])))] as const
    );
    return { metrics, vectors: Object.fromEntries(vectors) };
  }
}

function append<T>(lists: Map<string, T[]>, name: string, value: T): void {
  if (lists.get(name)?.push(value) === undefined) lists.set(name, [value]);
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
