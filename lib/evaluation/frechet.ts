/**
 * Fréchet distance between two sets of features.
 *
 * @module
 */
import {
  GaussianStats,
  type Matrix64,
  multiply,
  multiplyTransposed,
  rowOf,
  symmetricEigen,
  symmetricEigenvalues,
  takeRows,
  trace,
  zeroMatrix,
} from "novae/analysis/mod.ts";
import type { Matrix } from "novae/tensor/mod.ts";
import { jackknifeGroups, jackknifeSpread } from "./jackknife.ts";

/** A Fréchet distance and everything that it depends on. */
export interface FrechetResult {
  /** The distance, at least 0. Estimated from few samples it is too large; see `biasCorrected`. */
  readonly value: number;
  /** Standard error of `value` from the choice of the samples, by the jackknife. */
  readonly standardError: number;
  /** `value` without the part of its bias that falls as one over the number of samples; may be below 0. */
  readonly biasCorrected: number;
  /** Number of samples. */
  readonly samples: number;
  /** Number of reference images. */
  readonly references: number;
  /** Number of features. */
  readonly dims: number;
  /** Hash of the feature extractor. */
  readonly extractor: string;
  /** Hash of the reference images. */
  readonly reference: string;
}

/** What {@linkcode fidFromFeatures} cannot know by itself. */
export interface FidOptions {
  /** Hash of the feature extractor. */
  readonly extractor: string;
  /** Hash of the reference images. */
  readonly reference: string;
  /** Groups of the jackknife, at least 2. Default 10. */
  readonly groups?: number;
}

/** Moments of a reference set, with the root of its covariance prepared for many comparisons. */
export class FrechetReference {
  /** Number of reference rows. */
  readonly count: number;
  /** Number of features. */
  readonly dims: number;
  readonly #mean: Float64Array;
  readonly #trace: number;
  /** `√Λ·Vᵀ`, so that `Σ = BᵀB`. */
  readonly #root: Matrix64;

  /**
   * Decomposes the covariance.
   *
   * @param stats moments of at least two rows.
   * @throws RangeError with fewer rows.
   */
  constructor(stats: GaussianStats) {
    const covariance = stats.covariance(), { values, vectors } = symmetricEigen(covariance);
    this.count = stats.count;
    this.dims = stats.dims;
    this.#mean = stats.mean;
    this.#trace = trace(covariance);
    this.#root = zeroMatrix(stats.dims, stats.dims);
    for (let i = 0; i < stats.dims; i++) {
      const scale = Math.sqrt(Math.max(values[i], 0));
      this.#root.data.set(rowOf(vectors, i).map((v) => scale * v), i * stats.dims);
    }
  }

  /** The reference set of the rows of a matrix. */
  static of(features: Matrix): FrechetReference {
    return new FrechetReference(GaussianStats.of(features));
  }

  /**
   * The squared Fréchet distance of a set of samples to this set, see {@linkcode frechetDistance}.
   *
   * @throws TypeError if the numbers of features differ.
   */
  distanceTo(samples: GaussianStats): number {
    if (samples.dims !== this.dims) {
      throw new TypeError(
        `Cannot give a Fréchet distance: samples must have ${this.dims} features, got ${samples.dims}`,
      );
    }
    const covariance = samples.covariance(), mean = samples.mean;
    const apart = mean.reduce((sum, v, i) => sum + (v - this.#mean[i]) ** 2, 0);
    // BΣBᵀ has the eigenvalues of Σ_r^½ Σ Σ_r^½ and those of Σ_r Σ, and is symmetric.
    const inner = multiplyTransposed(multiply(this.#root, covariance), this.#root);
    const overlap = symmetricEigenvalues(inner).reduce((sum, v) => sum + Math.sqrt(Math.max(v, 0)), 0);
    return Math.max(apart + this.#trace + trace(covariance) - 2 * overlap, 0);
  }
}

/**
 * The squared Fréchet (2-Wasserstein) distance of the normal distributions with the moments of two sets.
 *
 * `d² = ‖μ₁ − μ₂‖² + tr Σ₁ + tr Σ₂ − 2·tr (Σ₁^½ Σ₂ Σ₁^½)^½`
 *
 * *Source*: Dowson and Landau (1982); Heusel et al., arXiv 1706.08500. *Differs*: the root's trace is the sum of the
 * roots of the eigenvalues of a symmetric matrix, with rounding below 0 clipped, in place of a general matrix
 * square root with `1e-6·I` added where it fails; the result is never below 0.
 *
 * A set of `n` rows has a covariance of rank `n − 1` at most. With fewer rows than features the distance still exists
 * and equal sets are at 0, but the noise of unseen directions dominates it, and packages that add `1e-6·I` differ by
 * about `1e-7` here. Take several times as many rows as features, and compare only distances of equal `n`.
 *
 * @param a moments of one set.
 * @param b moments of the other, with as many features.
 * @throws RangeError if a set has fewer than two rows.
 */
export function frechetDistance(a: GaussianStats, b: GaussianStats): number {
  return new FrechetReference(a).distanceTo(b);
}

/**
 * The Fréchet distance of samples to a reference set with its standard error, from features.
 *
 * The samples fall into `g` random groups (the same each time); `θ₍ᵢ₎` is the distance without group `i`. With their mean `θ̄` the
 * jackknife gives `SE² = (g−1)/g·Σ(θ₍ᵢ₎ − θ̄)²` and `θ_corrected = g·θ − (g−1)·θ̄`. Both concern the samples only: the
 * reference set is taken as it is. Where each class has a fixed number of samples the error is somewhat too large, as
 * it counts the number as chance.
 *
 * *Source*: Efron and Stein, "The jackknife estimate of variance" (1981); Chong and Forsyth, arXiv 1911.07023, for
 * the bias. Groups rather than a bootstrap, since repeated rows would add a bias of their own.
 *
 * @param samples features of shape [n, d], n ≥ 2·groups.
 * @param reference features of shape [m, d], or a prepared reference.
 * @throws RangeError if there are too few samples for the groups.
 */
export function fidFromFeatures(
  samples: Matrix,
  reference: Matrix | FrechetReference,
  options: FidOptions,
): FrechetResult {
  const { extractor, reference: referenceHash, groups = 10 } = options;
  if (!Number.isInteger(groups) || groups < 2 || samples.rows < 2 * groups) {
    throw new RangeError(
      `Cannot give a Fréchet distance: at least 2 groups of 2 samples are needed, ` +
        `got ${samples.rows} samples in ${groups} groups`,
    );
  }
  const prepared = reference instanceof FrechetReference ? reference : FrechetReference.of(reference);
  const parts = jackknifeGroups(samples.rows, groups).map((rows) =>
    GaussianStats.of(takeRows(samples, rows))
  );
  const mergedWithout = (left: number) => {
    const merged = new GaussianStats(samples.cols);
    parts.forEach((part, g) => g !== left && merged.merge(part));
    return merged;
  };
  const value = prepared.distanceTo(mergedWithout(-1));
  const without = parts.map((_, g) => prepared.distanceTo(mergedWithout(g)));
  const { mean, standardError } = jackknifeSpread(without);
  return {
    value,
    standardError,
    biasCorrected: groups * value - (groups - 1) * mean,
    samples: samples.rows,
    references: prepared.count,
    dims: prepared.dims,
    extractor,
    reference: referenceHash,
  };
}
