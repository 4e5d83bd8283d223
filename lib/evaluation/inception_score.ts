/**
 * Inception score from class probabilities.
 *
 * @module
 */
import { type Matrix, Rng } from "novae/tensor/mod.ts";

/** An inception score and what it depends on. */
export interface InceptionScoreResult {
  /** Mean over the parts, from 1 to the number of classes. */
  readonly mean: number;
  /** Standard deviation over the parts (divisor: number of parts). */
  readonly std: number;
  /** Parts that the samples were split into. */
  readonly splits: number;
  /** Number of samples. */
  readonly samples: number;
  /** Number of classes. */
  readonly classes: number;
}

/** Settings of {@linkcode inceptionScore}. */
export interface InceptionScoreOptions {
  /** Parts of the samples. Default 10. */
  readonly splits?: number;
  /** Seed of the order of the samples; `null` keeps theirs. Default 0. */
  readonly seed?: number | null;
}

/**
 * `IS = exp(mean_x KL(p(y|x) ‖ p(y)))`, the mean over parts of the samples: large if each sample is clearly of one
 * class and all classes occur.
 *
 * *Source*: Salimans et al., arXiv 1606.03498. *Differs*: the classifier is the caller's, so values compare only with
 * those of the same classifier.
 *
 * @param probabilities shape [n, classes], rows that sum to 1.
 * @throws RangeError if there are fewer samples than parts, or a row is no distribution.
 */
export function inceptionScore(
  probabilities: Matrix,
  options: InceptionScoreOptions = {},
): InceptionScoreResult {
  const { splits = 10, seed = 0 } = options, { data, rows, cols } = probabilities;
  if (!Number.isInteger(splits) || splits < 1 || rows < splits) {
    throw new RangeError(
      `Cannot give an inception score: at least ${splits} samples are needed, got ${rows}`,
    );
  }
  expectDistributions(probabilities);
  const order = seed === null
    ? Int32Array.from({ length: rows }, (_, i) => i)
    : new Rng(seed).split("splits").permutation(rows);
  const scores: number[] = [];
  for (let s = 0; s < splits; s++) {
    const part = order.subarray(Math.floor(s * rows / splits), Math.floor((s + 1) * rows / splits));
    const marginal = new Float64Array(cols);
    for (const i of part) for (let c = 0; c < cols; c++) marginal[c] += data[i * cols + c] / part.length;
    let divergence = 0;
    for (const i of part) {
      for (let c = 0; c < cols; c++) {
        const p = data[i * cols + c];
        if (p > 0) divergence += p * (Math.log(p) - Math.log(marginal[c]));
      }
    }
    scores.push(Math.exp(divergence / part.length));
  }
  const mean = scores.reduce((a, b) => a + b, 0) / splits;
  const std = Math.sqrt(scores.reduce((sum, v) => sum + (v - mean) ** 2, 0) / splits);
  return { mean, std, splits, samples: rows, classes: cols };
}

function expectDistributions({ data, rows, cols }: Matrix): void {
  for (let i = 0; i < rows; i++) {
    let sum = 0;
    for (let c = 0; c < cols; c++) sum += data[i * cols + c];
    if (!(Math.abs(sum - 1) < 1e-3)) {
      throw new RangeError(`Cannot give an inception score: rows must sum to 1, row ${i} sums to ${sum}`);
    }
  }
}
