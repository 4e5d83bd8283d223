/**
 * Tells when a self-distillation has collapsed: all images give one feature, or one assignment.
 *
 * @module
 */
import { ConfigError, DivergenceError } from "novae/tensor/mod.ts";

/** When a training counts as collapsed. */
export interface CollapseLimits {
  /** Least spread of the teacher's class tokens over a batch; 1 is even, 0 all alike. Default 0.02. */
  readonly featureSpread?: number;
  /** Least entropy of the student's mean assignment, as a share of the most that the batch allows. Default 0.1. */
  readonly usage?: number;
  /** Largest mean entropy of the teacher's assignments, as a share of log P. Default 0.999. */
  readonly uniformity?: number;
  /** Steps in a row that must be beyond a limit. Default 50. */
  readonly patience?: number;
}

/** The metrics that tell of a collapse. */
export interface CollapseSigns {
  /** Spread of the teacher's class tokens. */
  readonly featureSpread: number;
  /** Entropy of the student's mean assignment, nats. */
  readonly usageEntropy: number;
  /** Mean entropy of the teacher's assignments, nats. */
  readonly teacherEntropy: number;
}

/**
 * Watches the metrics of each step.
 *
 * @param crops global crops in a batch.
 * @returns for each step's metrics the reason why the training has collapsed, once when `patience` steps in a row
 * were beyond a limit, else null. It tells of a limit again only after a step within it.
 * @throws ConfigError if a limit is no number of at least 0 or the patience no whole number of at least 1.
 */
export function watchCollapse(
  prototypes: number,
  crops: number,
  limits: CollapseLimits = {},
): (signs: CollapseSigns) => string | null {
  const { featureSpread = 0.02, usage = 0.1, uniformity = 0.999, patience = 50 } = limits;
  checkLimits({ featureSpread, usage, uniformity, patience });
  const most = Math.log(Math.min(prototypes, crops)), uniform = Math.log(prototypes);
  const tests: [(signs: CollapseSigns) => boolean, (signs: CollapseSigns) => string][] = [
    [
      (s) => s.featureSpread < featureSpread,
      (s) =>
        `features are all alike: their spread is ${s.featureSpread.toPrecision(3)}, below ${featureSpread}`,
    ],
    [
      (s) => s.usageEntropy < usage * most,
      (s) =>
        `all crops go to a few prototypes: the entropy of their use is ${
          s.usageEntropy.toPrecision(3)
        } nats, ` +
        `below ${(usage * most).toPrecision(3)}`,
    ],
    [
      (s) => s.teacherEntropy > uniformity * uniform,
      (s) =>
        `the teacher tells no prototypes apart: the entropy of its assignments is ` +
        `${s.teacherEntropy.toPrecision(4)} of ${uniform.toPrecision(4)} nats`,
    ],
  ];
  const beyond = tests.map(() => 0);
  return (signs) => {
    const reasons = tests.flatMap(([fails, reason], i) => {
      beyond[i] = fails(signs) ? beyond[i] + 1 : 0;
      return beyond[i] === patience ? [reason(signs)] : [];
    });
    return reasons.length > 0 ? `${reasons.join("; ")}, for ${patience} steps` : null;
  };
}

/** The error of a training that is to stop when it collapses. */
export function collapseError(step: number, reason: string): DivergenceError {
  return new DivergenceError(`Training stopped at step ${step}: ${reason}`);
}

function checkLimits({ patience, ...shares }: Required<CollapseLimits>): void {
  for (const [key, value] of Object.entries(shares)) {
    if (!(value >= 0)) {
      throw new ConfigError(`Cannot watch training: ${key} must be at least 0, got ${value}`);
    }
  }
  if (!Number.isInteger(patience) || patience < 1) {
    throw new ConfigError(
      `Cannot watch training: patience must be a whole number of at least 1, got ${patience}`,
    );
  }
}
