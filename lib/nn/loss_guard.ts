/**
 * Watches the losses of a training: that they are finite, and that they do not settle far above where they were.
 *
 * @module
 */

/** When a finite loss counts as diverged. */
export interface DivergenceRule {
  /** How many times the lowest average before is too much, above 1. */
  readonly factor: number;
  /** Updates over which the loss is averaged, one window after the other. */
  readonly windowSteps: number;
}

/** What a guard has seen so far; plain numbers, to be kept with a checkpoint. */
export interface LossGuardState {
  /** How often the training has gone back. */
  readonly returns: number;
  /** Lowest average of the windows so far; null before the end of the first. */
  readonly lowest: number | null;
  /** Sum of the losses in the window that is under way. */
  readonly sum: number;
  /** Their number. */
  readonly count: number;
  /** The step of the last of them. */
  readonly judged: number;
}

/** What is wrong with a training. */
export interface Divergence {
  /** As part of a sentence. */
  readonly reason: string;
  /** The last step at which nothing was wrong yet. */
  readonly goodUntil: number;
}

/** The state of a guard that has seen nothing up to a step. */
export function freshGuard(step: number): LossGuardState {
  return { returns: 0, lowest: null, sum: 0, count: 0, judged: step };
}

/**
 * Judges the metrics of a training as they come.
 *
 * A `loss`, a metric whose name ends in `Loss` and a `gradNorm` must be finite. With a rule, the average of `loss` over
 * a window must also stay below `factor` times the lowest average of a window before, where that is positive. Healthy
 * losses fluctuate by some per cent around what they have reached; one that has diverged ends near that of an untrained
 * model, several times as high.
 */
export class LossGuard {
  readonly #rule: DivergenceRule | null;
  #state: LossGuardState;

  /** Goes on from what a guard had seen. */
  constructor(rule: DivergenceRule | null, state: LossGuardState) {
    this.#rule = rule;
    this.#state = state;
  }

  /** What it has seen, for a checkpoint. */
  get state(): LossGuardState {
    return this.#state;
  }

  /**
   * Judges the metrics of an update.
   *
   * @param step updates done.
   * @param counts whether the loss counts in the average; those that are read out of turn would change it.
   */
  judge(metrics: ReadonlyMap<string, number>, step: number, counts: boolean): Divergence | null {
    const infinite = guardedNames(metrics).find((name) => !Number.isFinite(metrics.get(name)));
    if (infinite !== undefined) {
      const reason = `the ${infinite} must be finite, got ${metrics.get(infinite)}`;
      return { reason, goodUntil: step - 1 };
    }
    if (!counts || this.#rule === null) return null;
    const { windowSteps } = this.#rule;
    const { sum, count, judged } = this.#state;
    this.#state = { ...this.#state, sum: sum + metrics.get("loss")!, count: count + 1, judged: step };
    if (Math.floor(step / windowSteps) === Math.floor(judged / windowSteps)) return null;
    return this.#endWindow(this.#rule, step);
  }

  #endWindow({ factor, windowSteps }: DivergenceRule, step: number): Divergence | null {
    const { lowest, sum, count } = this.#state, mean = sum / count;
    this.#state = { ...this.#state, lowest: Math.min(mean, lowest ?? Infinity), sum: 0, count: 0 };
    if (lowest === null || lowest <= 0 || mean <= factor * lowest) return null;
    const reason =
      `the loss was ${mean.toPrecision(4)} on average over the last ${windowSteps} updates, more than ` +
      `${factor} times the ${lowest.toPrecision(4)} that it had reached`;
    return { reason, goodUntil: Math.max(0, Math.floor(step / windowSteps) - 1) * windowSteps };
  }
}

function guardedNames(metrics: ReadonlyMap<string, number>): string[] {
  const named = [...metrics.keys()].filter((name) => name.endsWith("Loss"));
  return ["loss", ...named, ...(metrics.has("gradNorm") ? ["gradNorm"] : [])];
}
