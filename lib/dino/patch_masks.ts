/**
 * Which patches of the global crops a student does not see.
 *
 * @module
 */
import { float32, type HostTensor, int32, type Rng } from "novae/tensor/mod.ts";
import type { DinoBatch } from "./distillation_state.ts";

/** Single patches anywhere: the same number in each first global crop. */
export interface ScatteredMasks {
  /** What is masked. */
  readonly kind: "scattered";
  /** Share of the patches, in (0, 1). */
  readonly ratio: number;
}

/** Rectangles of patches, in some of the crops. */
export interface BlockMasks {
  /** What is masked. */
  readonly kind: "blocks";
  /** Share of the global crops that are masked, in (0, 1]. */
  readonly probability: number;
  /** Smallest and largest share of the patches of such a crop; masked crops are spread over the range. */
  readonly ratio: readonly [number, number];
  /** Whether a crop's share is drawn within its part of the range (DINOv2) or is its upper end (DINOv3). */
  readonly drawn: boolean;
}

/** How patches are masked. */
export type PatchMasks = ScatteredMasks | BlockMasks;

/** The inputs of an update that say what is masked. */
export type MaskInputs = Required<Pick<DinoBatch<HostTensor>, "maskBN" | "maskedRows" | "maskedWeights">>;

/** Smallest area of a rectangle in patches, and its flattest and steepest shape. */
const MIN_BLOCK = 4, MIN_ASPECT = 0.3;

/**
 * Draws the masks of a batch as inputs of an update. Their shapes depend on the settings alone.
 *
 * *Source*: for `blocks` `MaskingGenerator` and `collate_data_and_cast` of facebookresearch/dinov2, after BEiT
 * (arXiv 2106.08254).
 *
 * @param batchSize B, images; there are 2·B global crops.
 * @param grid rows and columns of patches of a global crop.
 */
export function drawPatchMasks(rng: Rng, masks: PatchMasks, batchSize: number, grid: number): MaskInputs {
  return masks.kind === "scattered"
    ? scatteredMasks(rng, Math.round(masks.ratio * grid * grid), batchSize, grid * grid)
    : blockMasks(rng, masks, 2 * batchSize, grid);
}

function scatteredMasks(rng: Rng, masked: number, batch: number, patches: number): MaskInputs {
  const mask = new Float32Array(2 * batch * patches), rows = new Int32Array(batch * masked);
  for (let b = 0; b < batch; b++) {
    const order = rng.permutation(patches);
    for (let m = 0; m < masked; m++) rows[b * masked + m] = b * patches + order[m];
  }
  for (const row of rows) mask[row] = 1;
  return {
    maskBN: float32(mask, [2 * batch, patches]),
    maskedRows: int32(rows, [rows.length]),
    maskedWeights: float32(new Float32Array(rows.length).fill(1 / rows.length), [rows.length]),
  };
}

function blockMasks(
  rng: Rng,
  { probability, ratio, drawn }: BlockMasks,
  crops: number,
  grid: number,
): MaskInputs {
  const patches = grid * grid, maskedCrops = Math.floor(crops * probability);
  const shareAt = (i: number) => ratio[0] + (ratio[1] - ratio[0]) * i / maskedCrops;
  const mask = new Float32Array(crops * patches), order = rng.split("crops").permutation(crops);
  let most = 0;
  for (let i = 0; i < maskedCrops; i++) {
    const draws = rng.split(i), upper = shareAt(i + 1);
    const share = drawn ? draws.range(shareAt(i), upper) : upper;
    const own = mask.subarray(order[i] * patches, (order[i] + 1) * patches);
    drawBlocks(draws, own, grid, Math.floor(patches * share));
    most += Math.floor(patches * upper);
  }
  const rows = new Int32Array(most), weights = new Float32Array(most);
  for (let crop = 0, m = 0; crop < crops; crop++) {
    const own = mask.subarray(crop * patches, (crop + 1) * patches), count = own.reduce((a, b) => a + b, 0);
    for (let n = 0; n < patches; n++) {
      if (own[n] === 0) continue;
      rows[m] = crop * patches + n;
      weights[m++] = 1 / (count * crops);
    }
  }
  return {
    maskBN: float32(mask, [crops, patches]),
    maskedRows: int32(rows, [most]),
    maskedWeights: float32(weights, [most]),
  };
}

/** Adds rectangles until `wanted` patches are masked or no further one fits; never more than `wanted`. */
function drawBlocks(rng: Rng, mask: Float32Array, grid: number, wanted: number): void {
  let count = 0;
  while (count < wanted) {
    const most = Math.min(wanted - count, grid * grid / 2), added = addBlock(rng, mask, grid, most);
    if (added === 0) return;
    count += added;
  }
}

/** Tries ten times to add a rectangle of up to `most` new patches; returns how many it added. */
function addBlock(rng: Rng, mask: Float32Array, grid: number, most: number): number {
  for (let attempt = 0; attempt < 10; attempt++) {
    const area = rng.range(MIN_BLOCK, most);
    const aspect = Math.exp(rng.range(Math.log(MIN_ASPECT), -Math.log(MIN_ASPECT)));
    const height = Math.round(Math.sqrt(area * aspect)), width = Math.round(Math.sqrt(area / aspect));
    if (height >= grid || width >= grid) continue;
    const top = rng.int(grid - height + 1), left = rng.int(grid - width + 1), fresh: number[] = [];
    for (let row = top; row < top + height; row++) {
      for (let col = left; col < left + width; col++) {
        if (mask[row * grid + col] === 0) fresh.push(row * grid + col);
      }
    }
    if (fresh.length === 0 || fresh.length > most) continue;
    for (const at of fresh) mask[at] = 1;
    return fresh.length;
  }
  return 0;
}
