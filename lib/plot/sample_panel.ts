/**
 * Samples beside each other: what changes with steps, guidance or noise.
 *
 * @module
 */
import { type HostTensor, rows } from "novae/tensor/mod.ts";
import type { Figure } from "./figure.ts";
import { type ImagePanelOptions, rasterPanel } from "./image_panel.ts";
import { gridOfImages } from "./raster.ts";

/** Images of one row. */
export interface SampleRow {
  /** What they have in common, e.g. "5 steps". */
  readonly label: string;
  /** `imageUnit` `[B, H, W, 3]` in [0, 1]. */
  readonly images: HostTensor;
}

/**
 * Draws rows of images of equal number, each with its label; the same noise below itself shows what a setting changes.
 *
 * @param options `columnLabels` label the columns, e.g. with classes.
 * @throws RangeError if there are no rows, or their lengths or the images' sizes differ; TypeError for another shape.
 */
export async function samplePanel(
  sampleRows: readonly SampleRow[],
  options: ImagePanelOptions = {},
): Promise<Figure> {
  const grid = sampleRows.map(({ images }) =>
    Array.from({ length: images.shape[0] }, (_, b) => gridOfImages(rows(images, b, b + 1)))
  );
  return await rasterPanel(grid, { rowLabels: sampleRows.map(({ label }) => label), ...options });
}
