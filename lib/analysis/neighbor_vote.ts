/**
 * Classification by the labels of the nearest neighbours.
 *
 * @module
 */
import { type Metric, nearestNeighbors, type Neighbors } from "./distances.ts";
import { accuracyOf, expectLabels, type LabelledMatrix } from "./labels.ts";
import type { ProductOptions } from "./products.ts";

/** Settings of {@linkcode knnClassify}. */
export interface KnnOptions extends ProductOptions {
  /** Neighbours that vote. Default 20. */
  readonly k?: number;
  /** Default `cosine`. */
  readonly metric?: Metric;
  /**
   * Temperature `T` of the weights `exp(similarity / T)` of cosine neighbours; `null` lets all count the same, as
   * Euclidean ones always do. Default 0.07.
   */
  readonly temperature?: number | null;
}

/** How well neighbours tell the class. */
export interface KnnResult {
  /** Share of the queries that are classified correctly, in [0, 1]. */
  readonly accuracy: number;
  /** Predicted class of each query. */
  readonly predictions: Int32Array;
  /** Neighbours that voted. */
  readonly k: number;
  /** How distances were measured. */
  readonly metric: Metric;
  /** Number of queries. */
  readonly samples: number;
  /** Number of labelled rows that could be neighbours. */
  readonly references: number;
}

/**
 * Classifies each query by a vote of its nearest labelled rows: `argmax_c Σ_{i: yᵢ=c} exp(sᵢ/T)`.
 *
 * *Source*: Wu et al., arXiv 1805.01978, with the settings of DINO (k = 20, T = 0.07). *Differs*: a tie goes to the
 * class of the nearer neighbour, not to the lower number.
 *
 * @param train labelled rows, features of shape [m, d].
 * @param test rows to classify, features of shape [n, d], with their labels to score by.
 * @throws RangeError if there are fewer labelled rows than neighbours.
 */
export async function knnClassify(
  train: LabelledMatrix,
  test: LabelledMatrix,
  options: KnnOptions = {},
): Promise<KnnResult> {
  const { k = 20, metric = "cosine", temperature } = options;
  expectLabels("classify by neighbours", train);
  expectLabels("classify by neighbours", test);
  const neighbors = await nearestNeighbors(test.features, train.features, { ...options, k, metric });
  const predictions = voteOfNeighbors(neighbors, train.labels, temperature);
  return {
    accuracy: accuracyOf(predictions, test.labels),
    predictions,
    k,
    metric,
    samples: test.features.rows,
    references: train.features.rows,
  };
}

/**
 * Classifies each row of a matrix by all others, in the manner of leave-one-out.
 *
 * @param data labelled rows, features of shape [n, d].
 */
export async function knnLeaveOneOut(data: LabelledMatrix, options: KnnOptions = {}): Promise<KnnResult> {
  const { k = 20, metric = "cosine", temperature } = options, { features, labels } = data;
  expectLabels("classify by neighbours", data);
  const neighbors = await nearestNeighbors(features, features, { ...options, k, metric, excludeSelf: true });
  const predictions = voteOfNeighbors(neighbors, labels, temperature);
  const accuracy = accuracyOf(predictions, labels);
  return { accuracy, predictions, k, metric, samples: features.rows, references: features.rows - 1 };
}

/**
 * The class with the largest vote among given neighbours.
 *
 * @param neighbors the nearest labelled rows of each query.
 * @param labels class of each labelled row, 0 or more.
 * @param temperature as in {@linkcode KnnOptions.temperature}.
 * @returns the class of each query.
 */
export function voteOfNeighbors(
  neighbors: Neighbors,
  labels: Int32Array,
  temperature: number | null = 0.07,
): Int32Array {
  const { rows, k, indices, distances } = neighbors;
  const weighted = neighbors.metric === "cosine" && temperature !== null;
  const predictions = new Int32Array(rows);
  for (let i = 0; i < rows; i++) {
    const votes = new Map<number, number>(), first = distances[i * k];
    for (let c = 0; c < k; c++) {
      const label = labels[indices[i * k + c]];
      // Weights relative to the nearest neighbour's, which cannot overflow.
      const weight = weighted ? Math.exp((first - distances[i * k + c]) / temperature) : 1;
      votes.set(label, (votes.get(label) ?? 0) + weight);
    }
    let best = -1;
    for (const [label, vote] of votes) if (best < 0 || vote > votes.get(best)!) best = label;
    predictions[i] = best;
  }
  return predictions;
}
