/**
 * Schedules: numbers as functions of the step, computed on the host and fed to the compiled step as inputs.
 *
 * @module
 */

/** Shape of {@linkcode cosineSchedule}. */
export interface CosineScheduleOptions {
  /** Value at the end of the warm-up. */
  readonly base: number;
  /** Value at the last step. */
  readonly final: number;
  /** Number of steps of the schedule, warm-up included. */
  readonly steps: number;
  /** Steps of linear warm-up. Default 0. */
  readonly warmupSteps?: number;
  /** Value at step 0 of the warm-up. Default 0. */
  readonly start?: number;
}

/**
 * Linear warm-up followed by half a cosine from `base` to `final`; constant `final` afterwards.
 *
 * @returns the value for a step counted from 0.
 */
export function cosineSchedule(options: CosineScheduleOptions): (step: number) => number {
  const { base, final, steps, warmupSteps = 0, start = 0 } = options;
  return (step) => {
    if (step < warmupSteps) return start + (base - start) * (step + 1) / warmupSteps;
    const progress = Math.min((step - warmupSteps) / Math.max(steps - 1 - warmupSteps, 1), 1);
    return final + (base - final) * 0.5 * (1 + Math.cos(Math.PI * progress));
  };
}

/** Linear change from `from` to `to` over `steps` steps, constant `to` afterwards. */
export function linearSchedule(from: number, to: number, steps: number): (step: number) => number {
  return (step) => from + (to - from) * Math.min(step / Math.max(steps, 1), 1);
}
