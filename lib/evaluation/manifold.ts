/**
 * Precision, recall, density and coverage: whether samples lie where the references do, and reach everywhere they do.
 *
 * @module
 */
import { nearestNeighbors, type ProductOptions, visitSquaredDistances } from "novae/analysis/mod.ts";
import type { Matrix } from "novae/tensor/mod.ts";

/** Precision, recall, density and coverage, and what they depend on. */
export interface ManifoldResult {
  /** Share of the samples within the reach of a reference, in [0, 1]. */
  readonly precision: number;
  /** Share of the references within the reach of a sample, in [0, 1]. */
  readonly recall: number;
  /** Mean number of references in whose reach a sample lies, divided by `k`; can exceed 1. */
  readonly density: number;
  /** Share of the references that have a sample within their reach, in [0, 1]. */
  readonly coverage: number;
  /** Neighbours that set a point's reach. */
  readonly k: number;
  /** Number of samples. */
  readonly samples: number;
  /** Number of references. */
  readonly references: number;
}

/** Settings of {@linkcode manifoldMetrics}. */
export interface ManifoldOptions extends ProductOptions {
  /** The reach of a point is the distance to its `k`-th neighbour in its own set. Default 5. */
  readonly k?: number;
}

/**
 * Compares two sets through balls around each point that reach to its `k`-th neighbour in its own set.
 *
 * *Source*: Kynkäänniemi et al., arXiv 1904.06991 (precision and recall; they use k = 3) and Naeem et al., arXiv
 * 2002.09797 (density and coverage, k = 5). *Differs*: balls hold their surface in all four.
 *
 * @param samples shape [n, d], n > k.
 * @param references shape [m, d], m > k.
 * @throws RangeError if a set has too few rows.
 */
export async function manifoldMetrics(
  samples: Matrix,
  references: Matrix,
  options: ManifoldOptions = {},
): Promise<ManifoldResult> {
  const { k = 5 } = options, n = samples.rows, m = references.rows;
  const sampleReach = await squaredReach(samples, k, options);
  const referenceReach = await squaredReach(references, k, options);
  const reached = new Uint8Array(m), covered = new Uint8Array(m);
  let precise = 0, inside = 0;
  await visitSquaredDistances(samples, references, (block, start, end) => {
    for (let i = start; i < end; i++) {
      const row = (i - start) * m;
      let balls = 0;
      for (let j = 0; j < m; j++) {
        const distance = block[row + j];
        if (distance <= sampleReach[i]) reached[j] = 1;
        if (distance <= referenceReach[j]) {
          covered[j] = 1;
          balls++;
        }
      }
      inside += balls;
      if (balls > 0) precise++;
    }
  }, options);
  return {
    precision: precise / n,
    recall: share(reached),
    density: inside / (k * n),
    coverage: share(covered),
    k,
    samples: n,
    references: m,
  };
}

async function squaredReach(points: Matrix, k: number, options: ProductOptions): Promise<Float64Array> {
  const near = await nearestNeighbors(points, points, { ...options, k, excludeSelf: true });
  return Float64Array.from({ length: points.rows }, (_, i) => near.distances[i * k + k - 1] ** 2);
}

function share(flags: Uint8Array): number {
  return flags.reduce((sum, v) => sum + v, 0) / flags.length;
}
