/**
 * Numbers that were measured several times.
 *
 * @module
 */

/** Mean and spread of a number over the seeds. */
export interface Spread {
  /** Mean. */
  readonly mean: number;
  /** Sample standard deviation; null with one seed. */
  readonly std: number | null;
  /** Number of seeds. */
  readonly n: number;
}

/** Mean and sample standard deviation of numbers. */
export function spreadOf(values: readonly number[]): Spread {
  const n = values.length, mean = values.reduce((sum, value) => sum + value, 0) / n;
  if (n < 2) return { mean, std: null, n };
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, std: Math.sqrt(squares / (n - 1)), n };
}

/** Where the mean of more and more seeds would lie, with 95 % confidence by Student's t; null with one seed. */
export function meanInterval({ mean, std, n }: Spread): readonly [number, number] | null {
  if (std === null) return null;
  const half = studentQuantile(n - 1) * std / Math.sqrt(n);
  return [mean - half, mean + half];
}

/** 97.5 % quantiles of Student's t with 1 to 10 degrees of freedom. */
const STUDENT = [12.7062, 4.30265, 3.18245, 2.77645, 2.57058, 2.44691, 2.36462, 2.306, 2.26216, 2.22814];

/**
 * The 97.5 % quantile of Student's t.
 *
 * *Source*: for more than 10 degrees of freedom the expansion of Abramowitz and Stegun, 26.7.5; it is right to 1e-4.
 */
export function studentQuantile(freedom: number): number {
  if (freedom <= STUDENT.length) return STUDENT[freedom - 1];
  const z = 1.959964, [z3, z5, z7] = [3, 5, 7].map((power) => z ** power);
  return z + (z3 + z) / (4 * freedom) + (5 * z5 + 16 * z3 + 3 * z) / (96 * freedom ** 2) +
    (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * freedom ** 3);
}
