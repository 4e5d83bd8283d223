/**
 * A picture inside a figure, with labels at its rows and columns, frames around parts of it and a scale of colours.
 *
 * @module
 */
import {
  baseLayout,
  type Figure,
  type FigureOptions,
  type Json,
  type JsonObject,
  plotlyText,
} from "./figure.ts";
import { encodeRaster, gridOfRasters, type Raster, SCALAR_COLOURS } from "./raster.ts";

/** A PNG and its size in pixels. */
export interface PanelImage {
  /** Bytes of the file. */
  readonly png: Uint8Array;
  /** Pixels in a row. */
  readonly width: number;
  /** Rows. */
  readonly height: number;
}

/** The scale of the colours of `scalarMap`, drawn beside a picture. */
export interface ColourBar {
  /** What the colours stand for, with the unit. */
  readonly title: string;
  /** Numbers of the darkest and the lightest colour. */
  readonly range: readonly [number, number];
}

/** A rectangle of pixels to be framed. */
export interface PanelMark {
  /** Its left edge. */
  readonly x: number;
  /** Its upper edge. */
  readonly y: number;
  /** Pixels in a row of it. */
  readonly width: number;
  /** Its rows. */
  readonly height: number;
}

/** What an image panel can be told. */
export interface ImagePanelOptions extends FigureOptions {
  /** Labels of equally high rows, from the top. */
  readonly rowLabels?: readonly string[];
  /** Labels of equally wide columns, from the left. */
  readonly columnLabels?: readonly string[];
  /** Pixels between rows and between columns, which labels are not centred on; 0 by default. */
  readonly gap?: number;
  /** Scale of colours below the picture. */
  readonly colourBar?: ColourBar;
  /** What is framed, in pixels of the picture. */
  readonly marks?: readonly PanelMark[];
}

/** Width in CSS pixels for which a panel is high enough; a wider place is left empty at the right, a narrower one below. */
const USUAL_WIDTH = 720;
const HIGHEST = 640;

/** Room for labels of rows, so that pictures stand in line down a page; longer labels get more. */
const LABEL_WIDTH = 116;

/** Draws a picture undistorted, with a label at the middle of each of its rows and columns. */
export function imagePanel(image: PanelImage, options: ImagePanelOptions = {}): Figure {
  const { width, height } = image, { gap = 0, colourBar } = options;
  const margin = {
    l: options.rowLabels === undefined ? 16 : LABEL_WIDTH,
    r: 16,
    t: (options.title === undefined ? 8 : 48) + (options.columnLabels === undefined ? 0 : 16),
    b: colourBar === undefined ? 8 : 72,
  };
  const layout: { [key: string]: Json } = {
    ...baseLayout(options, heightOf(image) + margin.t + margin.b),
    margin,
    showlegend: false,
    images: [{
      source: `data:image/png;base64,${image.png.toBase64()}`,
      xref: "x",
      yref: "y",
      x: 0,
      y: 0,
      sizex: width,
      sizey: height,
      sizing: "stretch",
      layer: "above",
    }],
    xaxis: {
      ...labelAxis(options.columnLabels, width, gap),
      range: [0, width],
      side: "top",
      constrain: "domain",
      constraintoward: "left",
    },
    yaxis: {
      ...labelAxis(options.rowLabels, height, gap),
      range: [height, 0],
      scaleanchor: "x",
      scaleratio: 1,
      constrain: "domain",
      constraintoward: "top",
    },
    ...options.marks && { shapes: options.marks.flatMap(frameShapes) },
    ...colourBar && { coloraxis: colourAxis(colourBar) },
  };
  // Plotly draws no axes, hence no image, for a figure without a trace, and no scale of colours without a colour.
  const corner = {
    type: "scatter",
    mode: "markers",
    x: [0],
    y: [0],
    marker: { opacity: 0, ...colourBar && { color: [colourBar.range[0]], coloraxis: "coloraxis" } },
    hoverinfo: "skip",
  };
  return { data: [corner], layout };
}

/**
 * Draws equally large rasters in rows and columns.
 *
 * @param grid rows of rasters from the top, all of one length.
 * @throws RangeError if there are none, or if their sizes or the lengths of the rows differ.
 */
export async function rasterPanel(
  grid: readonly (readonly Raster[])[],
  options: ImagePanelOptions = {},
): Promise<Figure> {
  const columns = grid[0]?.length ?? 0, odd = grid.find((row) => row.length !== columns);
  if (odd !== undefined) {
    throw new RangeError(`Cannot lay out images: rows must have ${columns} images, got ${odd.length}`);
  }
  const { gap = 6 } = options, picture = gridOfRasters(grid.flat(), { columns, gap });
  return imagePanel({ ...picture, png: await encodeRaster(picture) }, { ...options, gap });
}

function heightOf({ width, height }: PanelImage): number {
  return Math.round(Math.min(Math.max(height, 160), HIGHEST, USUAL_WIDTH * height / width));
}

function labelAxis(
  labels: readonly string[] | undefined,
  extent: number,
  gap: number,
): { [key: string]: Json } {
  const axis: { [key: string]: Json } = { showgrid: false, showline: false, ticks: "", fixedrange: true };
  if (labels === undefined) return { ...axis, showticklabels: false };
  const step = (extent + gap) / labels.length;
  return {
    ...axis,
    tickvals: labels.map((_, i) => (i + 0.5) * step - gap / 2),
    ticktext: labels.map(plotlyText),
  };
}

/** A white frame on a wider dark one, to be seen on any picture. */
function frameShapes({ x, y, width, height }: PanelMark): JsonObject[] {
  const frame = { type: "rect", x0: x, y0: y, x1: x + width, y1: y + height };
  return [["#000000", 3.5], ["#ffffff", 1.5]].map(([color, width]) => ({ ...frame, line: { color, width } }));
}

function colourAxis({ title, range }: ColourBar): JsonObject {
  const steps = SCALAR_COLOURS.length - 1;
  return {
    cmin: range[0],
    cmax: range[1],
    colorscale: SCALAR_COLOURS.map((rgb, i) => [Number((i / steps).toFixed(4)), `rgb(${rgb.join()})`]),
    colorbar: {
      title: { text: plotlyText(title), side: "top" },
      orientation: "h",
      lenmode: "pixels",
      len: 280,
      x: 0,
      xanchor: "left",
      xpad: 0,
      y: 0,
      yanchor: "top",
      ypad: 8,
    },
  };
}
