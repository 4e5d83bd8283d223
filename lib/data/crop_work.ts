/**
 * The crops of one training step as a message and its answer, for this thread and for workers.
 *
 * @module
 */
import { concatRows, type HostTensor, Rng } from "novae/tensor/mod.ts";
import { multiCrop, type MultiCropOptions } from "./multi_crop.ts";

/** The crops that are wanted for one step. */
export interface CropWork {
  /**
   * float32 `imageUnit` [B, H, W, 3]: one tensor that all crops are taken from, or one for each crop, the global ones
   * first.
   */
  readonly images: readonly HostTensor[];
  /** Seed of the stream that the crops are drawn from. */
  readonly seed: number;
  /** Labels by which the stream is split off. */
  readonly labels: readonly (string | number)[];
  /** How crops are made. */
  readonly options: MultiCropOptions;
}

/** The crops of a step, crop after crop. */
export interface CropViews {
  /** [globals · B, globalSize, globalSize, 3]. */
  readonly globals: HostTensor;
  /** [locals · B, localSize, localSize, 3]; absent for none. */
  readonly locals?: HostTensor;
  /** Undistorted global crops [globals · B, baseSize, baseSize, 3]; absent unless asked for. */
  readonly bases?: HostTensor;
}

/** What a worker answers: the crops, or why there are none. */
export type CropAnswer = { readonly views: CropViews } | { readonly failure: string };

/** Makes the crops of one step; a pure function of its argument. */
export function makeCrops({ images, seed, labels, options }: CropWork): CropViews {
  const { globals, locals, bases } = multiCrop(images, new Rng(seed).split(...labels), options);
  return {
    globals: concatRows(globals),
    ...(locals.length > 0 && { locals: concatRows(locals) }),
    ...(bases.length > 0 && { bases: concatRows(bases) }),
  };
}
