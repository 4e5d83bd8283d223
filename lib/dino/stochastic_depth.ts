/**
 * What training draws for the blocks of a student: dropped paths and scaled coordinates.
 *
 * @module
 */
import { float32, type HostTensor, type Rng } from "novae/tensor/mod.ts";

/** How paths are dropped. */
export interface DropPath {
  /** Share of the images for which a branch is left out, in [0, 1). */
  readonly rate: number;
  /** Whether the rate rises from 0 at the first block (`rising`, DINO) or is that of all (`equal`, DINOv2). */
  readonly blocks: "rising" | "equal";
  /**
   * Whether each image is drawn by itself (`images`, DINO), or as many as the rate says are left out of the batch
   * (`share`, DINOv2).
   */
  readonly draw: "images" | "share";
}

/**
 * Factors of what each branch of each block adds to each image: 0 where it is dropped, else the inverse of the share
 * that is kept.
 *
 * *Source*: Huang et al. (arXiv 1603.09382); `drop_path` of facebookresearch/dino and
 * `drop_add_residual_stochastic_depth` of facebookresearch/dinov2.
 *
 * @param count images.
 * @returns [depth, 2, count].
 */
export function drawPaths(
  rng: Rng,
  { rate, blocks, draw }: DropPath,
  depth: number,
  count: number,
): HostTensor {
  const data = new Float32Array(depth * 2 * count);
  for (let block = 0; block < depth; block++) {
    const own = blocks === "equal" ? rate : rate * block / Math.max(depth - 1, 1);
    for (let branch = 0; branch < 2; branch++) {
      const start = (block * 2 + branch) * count, row = data.subarray(start, start + count);
      const draws = rng.split(block, branch);
      if (draw === "images") dropImages(draws, row, own);
      else dropShare(draws, row, own);
    }
  }
  return float32(data, [depth, 2, count]);
}

function dropImages(rng: Rng, row: Float32Array, rate: number): void {
  for (let b = 0; b < row.length; b++) row[b] = rng.next() < 1 - rate ? 1 / (1 - rate) : 0;
}

function dropShare(rng: Rng, row: Float32Array, rate: number): void {
  const kept = Math.max(Math.floor(row.length * (1 - rate)), 1);
  for (const b of rng.permutation(row.length).subarray(0, kept)) row[b] = row.length / kept;
}

/**
 * Factors of the coordinates of rotary positions, one a block, log-uniform between `1 / limit` and `limit`.
 *
 * *Source*: `pos_embed_rope_rescale_coords` of facebookresearch/dinov3, whose blocks draw one each.
 *
 * @returns [depth].
 */
export function drawCoordinateScales(rng: Rng, limit: number, depth: number): HostTensor {
  const bound = Math.log(limit);
  return float32(Array.from({ length: depth }, () => Math.exp(rng.range(-bound, bound))), [depth]);
}
