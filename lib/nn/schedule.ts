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
  /** Steps of the cosine, after which the value stays `final`. Default: all after the warm-up. */
  readonly cosineSteps?: number;
  /**
   * Where the ends are, as codes differ by a step. `steps` (default): the first step is already one part of the
   * warm-up up, the last is `final`. `dino`: step 0 is `start`, the warm-up's last step `base`, and the step after the
   * last would be `final`. `dinov3`: step 0 is `start`, the step after the warm-up `base`, the last step `final`.
   */
  readonly ends?: ScheduleEnds;
}

/** Which step of a schedule has which of its ends; see {@linkcode CosineScheduleOptions}. */
export type ScheduleEnds = "steps" | "dino" | "dinov3";

/**
 * Linear warm-up followed by half a cosine from `base` to `final`; constant `final` afterwards.
 *
 * *Source*: for `dino` `cosine_scheduler` of facebookresearch/dino and `CosineScheduler` of facebookresearch/dinov2,
 * for `dinov3` `linear_warmup_cosine_decay` of facebookresearch/dinov3.
 *
 * @returns the value for a step counted from 0.
 */
export function cosineSchedule(options: CosineScheduleOptions): (step: number) => number {
  const { base, final, steps, warmupSteps = 0, start = 0, ends = "steps" } = options;
  const cosineSteps = options.cosineSteps ?? steps - warmupSteps;
  const span = Math.max(ends === "dino" ? cosineSteps : cosineSteps - 1, 1);
  return (step) => {
    if (step < warmupSteps) return start + (base - start) * warmedUp(step, warmupSteps, ends);
    if (step - warmupSteps >= cosineSteps) return final;
    const progress = Math.min((step - warmupSteps) / span, 1);
    return final + (base - final) * 0.5 * (1 + Math.cos(Math.PI * progress));
  };
}

/** The part of a warm-up that is done at a step within it. */
function warmedUp(step: number, steps: number, ends: ScheduleEnds): number {
  if (ends === "dino") return step / Math.max(steps - 1, 1);
  return (ends === "steps" ? step + 1 : step) / steps;
}

/** Linear change from `from` to `to` over `steps` steps, constant `to` afterwards. */
export function linearSchedule(from: number, to: number, steps: number): (step: number) => number {
  return (step) => from + (to - from) * Math.min(step / Math.max(steps, 1), 1);
}
