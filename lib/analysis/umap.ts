/**
 * Pictures of high-dimensional data in the plane by UMAP, and how much of the neighbourhoods they keep.
 *
 * @module
 */
import { type Matrix, Rng } from "novae/tensor/mod.ts";
import { UMAP } from "umap-js";
import { nearestNeighbors, visitSquaredDistances } from "./distances.ts";
import { type Matrix64, matrixOf, rowOf } from "./matrix.ts";
import { fitPca, projectPca } from "./pca.ts";
import type { ProductOptions } from "./products.ts";

/** Settings of {@linkcode umap}. */
export interface UmapOptions extends ProductOptions {
  /** Dimensions of the picture. Default 2. */
  readonly components?: number;
  /** Neighbours that make up a neighbourhood, the point itself included. Default 15. */
  readonly nNeighbors?: number;
  /** How near points may lie in the picture. Default 0.1. */
  readonly minDist?: number;
  /** Optimisation epochs. Default: chosen by the number of rows, as umap-learn does. */
  readonly epochs?: number;
  /** Principal components that stand for wider data; `null` takes the rows as they are. Default 50. */
  readonly pcaComponents?: number | null;
  /**
   * `exact` measures all distances; `approximate` leaves the search to umap-js (nearest-neighbour descent).
   * Default `exact`.
   */
  readonly neighbors?: "exact" | "approximate";
  /** Seed of all random choices. Default 0. */
  readonly seed?: number;
  /** Source of random numbers in [0, 1) in place of the seed, e.g. to repeat another program's run. */
  readonly random?: () => number;
}

/**
 * Embeds the rows so that near ones stay near.
 *
 * *Source*: McInnes, Healy and Melville, arXiv 1802.03426, in the implementation of `umap-js`. *Differs*: rows of
 * more than 50 features are first projected on their principal components, and neighbours are exact.
 *
 * @param matrix shape [n, d], n > nNeighbors.
 * @returns shape [n, components]; equal for equal seeds.
 * @throws RangeError if there are too few rows.
 */
export async function umap(matrix: Matrix, options: UmapOptions = {}): Promise<Matrix64> {
  const { components = 2, nNeighbors = 15, minDist = 0.1, pcaComponents = 50, seed = 0 } = options;
  if (matrix.rows <= nNeighbors) {
    throw new RangeError(`Cannot embed: more than ${nNeighbors} rows are needed, got ${matrix.rows}`);
  }
  const rng = new Rng(seed).split("umap"), random = options.random ?? (() => rng.next());
  let points: Matrix = matrix;
  if (pcaComponents !== null && matrix.cols > pcaComponents) {
    const kept = Math.min(pcaComponents, matrix.rows - 1);
    points = projectPca(await fitPca(matrix, { ...options, components: kept }), matrix);
  }
  const model = new UMAP({ nComponents: components, nNeighbors, minDist, nEpochs: options.epochs, random });
  if (options.neighbors !== "approximate") {
    // umap-js counts a point as its own first neighbour.
    const near = await nearestNeighbors(points, points, { ...options, k: nNeighbors - 1, excludeSelf: true });
    const lists = <T>(self: (i: number) => T, values: ArrayLike<T>) =>
      Array.from({ length: near.rows }, (_, i) => [
        self(i),
        ...Array.from({ length: near.k }, (_, c) => values[i * near.k + c]),
      ]);
    model.setPrecomputedKNN(lists((i) => i, near.indices), lists(() => 0, near.distances));
  }
  const vectors = Array.from({ length: points.rows }, (_, i) => Array.from(rowOf(points, i)));
  return matrixOf(model.fit(vectors));
}

/**
 * How far the neighbours in a picture are neighbours in the data too.
 *
 * `T = 1 − 2/(n·k·(2n − 3k − 1)) · Σᵢ Σ_{j ∈ Uᵢ} (r(i, j) − k)`, where `Uᵢ` are those of the `k` nearest in the
 * picture that are not among the `k` nearest in the data, and `r` is their rank there.
 *
 * *Source*: Venna and Kaski, "Neighborhood preservation in nonlinear projection methods" (ICANN 2001).
 *
 * @param data shape [n, d].
 * @param embedding shape [n, c].
 * @param k neighbours, less than n/2. Default 10.
 * @returns a number in [0, 1]; 1 if no neighbour is false.
 */
export async function trustworthiness(
  data: Matrix,
  embedding: Matrix,
  k = 10,
  options: ProductOptions = {},
): Promise<number> {
  const n = data.rows;
  if (embedding.rows !== n) {
    throw new TypeError(`Cannot score an embedding: it must have ${n} rows, got ${embedding.rows}`);
  }
  if (!Number.isInteger(k) || k < 1 || k >= n / 2) {
    throw new RangeError(`Cannot score an embedding: k must be from 1 to ${Math.ceil(n / 2) - 1}, got ${k}`);
  }
  const near = await nearestNeighbors(embedding, embedding, { ...options, k, excludeSelf: true });
  let penalty = 0;
  await visitSquaredDistances(data, data, (block, start, end) => {
    for (let i = start; i < end; i++) {
      const row = block.subarray((i - start) * n, (i - start + 1) * n);
      for (let c = 0; c < k; c++) penalty += Math.max(0, rankOf(row, i, near.indices[i * k + c]) - k);
    }
  }, options);
  return 1 - 2 / (n * k * (2 * n - 3 * k - 1)) * penalty;
}

/** Rank of point `j` among the neighbours of `i`, from 1; equally far ones by index. */
function rankOf(distances: Float32Array | Float64Array, i: number, j: number): number {
  const limit = distances[j];
  let rank = 1;
  for (let other = 0; other < distances.length; other++) {
    if (other !== i && (distances[other] < limit || (distances[other] === limit && other < j))) rank++;
  }
  return rank;
}
