/**
 * Samples beside each other: what changes with steps, guidance or noise, and a quality over it.
 *
 * @module
 */
import { type HostTensor, rows } from "novae/tensor/mod.ts";
import type { Figure } from "./figure.ts";
import { type ImagePanelOptions, rasterPanel } from "./image_panel.ts";
import { lineChart, type LineChartOptions } from "./line_chart.ts";
import { gridOfImages } from "./raster.ts";

/** Images of one row. */
export interface SampleRow {
  /** What they have in common, e.g. "5 steps". */
  readonly label: string;
  /** `imageUnit` `[B, H, W, 3]` in [0, 1]. */
  readonly images: HostTensor;
}

/** A quality that was measured several times at each number of steps. */
export interface StepSeries {
  /** Name; that of a latent space decides label and style. */
  readonly name: string;
  /** Numbers of steps, ascending. */
  readonly steps: readonly number[];
  /** For each number of steps the values of all repetitions, e.g. seeds. */
  readonly values: readonly (readonly number[])[];
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

/**
 * Draws a quality over the number of sampler steps on a logarithmic axis: means, with a band from the least to the
 * greatest value where there are several.
 *
 * @throws RangeError if a series has not values for each number of steps.
 */
export function stepsChart(
  series: readonly StepSeries[],
  options: Omit<LineChartOptions, "xTitle"> & { readonly xTitle?: string },
): Figure {
  const lines = series.map(({ name, steps, values }) => {
    if (values.length !== steps.length || values.some((at) => at.length === 0)) {
      throw new RangeError(
        `Cannot draw "${name}": each of ${steps.length} numbers of steps needs values, got ${
          values.filter((at) => at.length > 0).length
        }`,
      );
    }
    const y = values.map((at) => at.reduce((sum, value) => sum + value, 0) / at.length);
    if (values.every((at) => at.length === 1)) return { name, x: steps, y };
    return {
      name,
      x: steps,
      y,
      low: values.map((at) => Math.min(...at)),
      high: values.map((at) => Math.max(...at)),
    };
  });
  const xTicks = [...new Set(series.flatMap(({ steps }) => steps))].sort((a, b) => a - b);
  return lineChart(lines, { xTitle: "Sampler steps", xScale: "log", xTicks, markers: true, ...options });
}
