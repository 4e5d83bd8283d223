/**
 * Named sizes of diffusion transformers.
 *
 * @module
 */

/** Names of the sizes in {@linkcode DIT_SIZES}. */
export type DitSize = "tiny" | "pico" | "micro" | "nano" | "S" | "B" | "L" | "XL" | "XXL" | "XXXL";

/** Extents of a row of blocks: what a named size decides. */
export interface DitSizeShape {
  /** Width of a token, a multiple of 4. */
  readonly width: number;
  /** Number of blocks. */
  readonly depth: number;
  /** Number of attention heads A; divides the width. */
  readonly heads: number;
}

/**
 * Named sizes. `S` to `XXXL` are the published ones (33M to 1,355M parameters at 392 channels); `pico`, `micro`
 * and `nano` train on a CPU; `tiny` is for tests.
 *
 * *Source*: models of shiml20/SVG, whose parameter counts are given in `countParameters`; S to XL are also the sizes
 * of DiT and SiT.
 */
export const DIT_SIZES: Readonly<Record<DitSize, DitSizeShape>> = {
  tiny: { width: 32, depth: 2, heads: 2 },
  pico: { width: 96, depth: 3, heads: 3 },
  micro: { width: 96, depth: 4, heads: 3 },
  nano: { width: 192, depth: 6, heads: 3 },
  S: { width: 384, depth: 12, heads: 6 },
  B: { width: 768, depth: 12, heads: 12 },
  L: { width: 1024, depth: 24, heads: 16 },
  XL: { width: 1152, depth: 28, heads: 16 },
  XXL: { width: 1280, depth: 32, heads: 20 },
  XXXL: { width: 1440, depth: 36, heads: 24 },
};

/**
 * The wide and shallow head of RAE's models.
 *
 * *Source*: DiTDH of bytetriper/RAE (arXiv 2510.11690); the idea is DDT's (arXiv 2504.05741).
 */
export const WIDE_HEAD: DitSizeShape = { width: 2048, depth: 2, heads: 16 };
