/**
 * How clearly classes separate in a feature space.
 *
 * @module
 */
import type { Matrix } from "novae/tensor/mod.ts";
import { columnMeans, visitSquaredDistances } from "./distances.ts";
import { classCount, expectLabels, type LabelledMatrix } from "./labels.ts";
import { type Matrix64, zeroMatrix } from "./matrix.ts";
import type { ProductOptions } from "./products.ts";

/** Measures of the separation of classes. */
export interface Separability {
  /** `tr S_B / tr S_W`: scatter of the class means over scatter within the classes; larger is clearer. */
  readonly scatterRatio: number;
  /** Share of the total scatter that lies between the classes, `tr S_B / (tr S_B + tr S_W)`, in [0, 1]. */
  readonly explainedScatter: number;
  /** Mean silhouette with distances to class means in place of mean distances, in [−1, 1]. */
  readonly centroidSilhouette: number;
  /** Number of rows. */
  readonly samples: number;
  /** Number of classes that occur. */
  readonly classes: number;
}

/**
 * Scatter ratio and centroid silhouette of labelled rows, in time linear in their number.
 *
 * `S_B = Σ_c n_c(μ_c − μ)(μ_c − μ)ᵀ`, `S_W = Σ_c Σ_{i∈c}(xᵢ − μ_c)(xᵢ − μ_c)ᵀ`
 *
 * @param data features of shape [n, d] with labels of at least two classes.
 * @throws RangeError if there are fewer than two classes.
 */
export function separability(data: LabelledMatrix): Separability {
  const groups = groupsOf("measure separability", data), { features, labels } = data, d = features.cols;
  const mean = columnMeans(features), centroids = centroidsOf(features, labels, groups);
  let between = 0, within = 0, silhouettes = 0;
  for (const c of groups.present) {
    for (let j = 0; j < d; j++) between += groups.counts[c] * (centroids.data[c * d + j] - mean[j]) ** 2;
  }
  for (let i = 0; i < features.rows; i++) {
    let own = 0, other = Infinity;
    for (const c of groups.present) {
      const squared = squaredDistance(features, i, centroids, c);
      if (c === labels[i]) own = squared;
      else other = Math.min(other, squared);
    }
    within += own;
    silhouettes += silhouetteOf(Math.sqrt(own), Math.sqrt(other));
  }
  return {
    scatterRatio: between / within,
    explainedScatter: between / (between + within),
    centroidSilhouette: silhouettes / features.rows,
    samples: features.rows,
    classes: groups.present.length,
  };
}

/**
 * Mean silhouette of labelled rows: `(b − a) / max(a, b)`, where `a` is the mean distance to the rows of the own
 * class and `b` the smallest mean distance to those of another. Takes time quadratic in the number of rows.
 *
 * *Source*: Rousseeuw, "Silhouettes" (1987). A row that is alone in its class counts 0.
 *
 * @param data features of shape [n, d] with labels of at least two classes.
 * @returns a number in [−1, 1].
 * @throws RangeError if there are fewer than two classes.
 */
export async function silhouette(data: LabelledMatrix, options: ProductOptions = {}): Promise<number> {
  const { present, counts } = groupsOf("measure silhouettes", data), { features, labels } = data;
  const n = features.rows, sums = new Float64Array(counts.length);
  let total = 0;
  await visitSquaredDistances(features, features, (block, start, end) => {
    for (let i = start; i < end; i++) {
      sums.fill(0);
      const row = (i - start) * n, own = labels[i];
      for (let j = 0; j < n; j++) if (j !== i) sums[labels[j]] += Math.sqrt(block[row + j]);
      if (counts[own] === 1) continue;
      const nearest = present.reduce((b, c) => c === own ? b : Math.min(b, sums[c] / counts[c]), Infinity);
      total += silhouetteOf(sums[own] / (counts[own] - 1), nearest);
    }
  }, options);
  return total / n;
}

interface Groups {
  /** Classes that occur. */
  readonly present: readonly number[];
  /** Rows of each class. */
  readonly counts: Float64Array;
}

function groupsOf(what: string, data: LabelledMatrix): Groups {
  expectLabels(what, data);
  const counts = new Float64Array(classCount(data.labels));
  for (const label of data.labels) counts[label]++;
  const present = Array.from(counts.keys()).filter((c) => counts[c] > 0);
  if (present.length < 2) {
    throw new RangeError(`Cannot ${what}: at least 2 classes are needed, got ${present.length}`);
  }
  return { present, counts };
}

function centroidsOf(features: Matrix, labels: Int32Array, { counts }: Groups): Matrix64 {
  const d = features.cols, out = zeroMatrix(counts.length, d);
  for (let i = 0; i < features.rows; i++) {
    const c = labels[i];
    for (let j = 0; j < d; j++) out.data[c * d + j] += features.data[i * d + j] / counts[c];
  }
  return out;
}

function squaredDistance(a: Matrix, i: number, b: Matrix, j: number): number {
  const n = a.cols;
  let sum = 0;
  for (let c = 0; c < n; c++) sum += (a.data[i * n + c] - b.data[j * n + c]) ** 2;
  return sum;
}

function silhouetteOf(own: number, other: number): number {
  const larger = Math.max(own, other);
  return larger === 0 ? 0 : (other - own) / larger;
}
