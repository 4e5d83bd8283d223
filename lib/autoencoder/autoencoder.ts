/**
 * What every latent space offers to the rest of the toolkit.
 *
 * @module
 */
import type { HostTensor } from "novae/tensor/mod.ts";

/**
 * The latent spaces.
 *
 * - `vae`: KL autoencoder of latent diffusion;
 * - `va-vae`: the same, trained to resemble frozen DINO features, which it does not need afterwards;
 * - `residual`: the residual encoder alone;
 * - `dino`: frozen DINO patch features alone;
 * - `svg-noalign`: features and residual, side by side;
 * - `svg`: features and residual, the residual brought to the features' mean and standard deviation.
 */
export type SpaceName = "vae" | "va-vae" | "residual" | "dino" | "svg-noalign" | "svg";

/** All latent spaces, in the order of the tables. */
export const SPACE_NAMES: readonly SpaceName[] = ["vae", "va-vae", "residual", "dino", "svg-noalign", "svg"];

/** The spaces of the paper's comparison, in the order of the tables. */
export const PAPER_SPACES: readonly SpaceName[] = ["vae", "dino", "svg-noalign", "svg"];

/** Whether a text names a latent space. */
export function isSpaceName(name: string): name is SpaceName {
  return (SPACE_NAMES as readonly string[]).includes(name);
}

/**
 * Statistics with which a residual is aligned: those `stored` with the autoencoder, which do not depend on the batch,
 * or those of the `batch` that is encoded, as published.
 */
export type AlignmentMode = "stored" | "batch";

/** How images are encoded. */
export interface EncodeOptions {
  /** For `svg` alone; default `stored`, unless the autoencoder was opened with another. */
  readonly alignment?: AlignmentMode;
}

/** Turns images into a grid of latent tokens and back. */
export interface Autoencoder {
  /** Which latent space it is: a {@linkcode SpaceName}, or the name of a published one such as `taef2`. */
  readonly name: string;
  /** Latent channels Z. */
  readonly channels: number;
  /** Rows and columns of the token grid, I = J. */
  readonly grid: number;
  /** Rows and columns of the images, H = W. */
  readonly imageSize: number;
  /**
   * Latents of images, not normalised; those of one image do not depend on the others in the batch, unless
   * `alignment` is `batch`.
   *
   * @param imageUnitBHWC images in [0, 1].
   * @returns `[B, N, Z]`, N = I·J in row order.
   */
  encode(imageUnitBHWC: HostTensor, options?: EncodeOptions): Promise<HostTensor>;
  /**
   * Images of latents that are not normalised.
   *
   * @param zBNZ `[B, N, Z]`, finite.
   * @returns `[B, H, W, 3]` in [0, 1].
   */
  decode(zBNZ: HostTensor): Promise<HostTensor>;
  /** Releases the compiled functions. */
  dispose(): Promise<void>;
}

/** Mean and standard deviation of each latent channel over a data set and the token grid. */
export interface LatentStats {
  /** Z means. */
  readonly mean: Float32Array;
  /** Z standard deviations. */
  readonly std: Float32Array;
  /** Number of tokens measured; 0 if it is not known, as of published statistics. */
  readonly count: number;
}
