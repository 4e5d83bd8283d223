/**
 * A picture inside a figure, with labels at its rows and columns.
 *
 * @module
 */
import { baseLayout, type Figure, type FigureOptions, type Json, plotlyText } from "./figure.ts";

/** A PNG and its size in pixels. */
export interface PanelImage {
  /** Bytes of the file. */
  readonly png: Uint8Array;
  /** Pixels in a row. */
  readonly width: number;
  /** Rows. */
  readonly height: number;
}

/** What an image panel can be told. */
export interface ImagePanelOptions extends FigureOptions {
  /** Labels of equally high rows, from the top. */
  readonly rowLabels?: readonly string[];
  /** Labels of equally wide columns, from the left. */
  readonly columnLabels?: readonly string[];
}

/** Draws a picture undistorted, with a label at the middle of each of its rows and columns. */
export function imagePanel(image: PanelImage, options: ImagePanelOptions = {}): Figure {
  const { width, height } = image;
  const layout: { [key: string]: Json } = {
    ...baseLayout(options, Math.round(Math.min(Math.max(height, 160), 640)) + 40),
    margin: { l: 16, r: 16, t: options.title === undefined ? 8 : 48, b: 8 },
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
    xaxis: { ...labelAxis(options.columnLabels, width), range: [0, width], side: "top", constrain: "domain" },
    yaxis: {
      ...labelAxis(options.rowLabels, height),
      range: [height, 0],
      scaleanchor: "x",
      scaleratio: 1,
      constrain: "domain",
    },
  };
  // Plotly draws no axes, hence no image, for a figure without a trace.
  const corner = {
    type: "scatter",
    mode: "markers",
    x: [0],
    y: [0],
    marker: { opacity: 0 },
    hoverinfo: "skip",
  };
  return { data: [corner], layout };
}

function labelAxis(labels: readonly string[] | undefined, extent: number): { [key: string]: Json } {
  const axis: { [key: string]: Json } = { showgrid: false, showline: false, ticks: "", fixedrange: true };
  if (labels === undefined) return { ...axis, showticklabels: false };
  return {
    ...axis,
    tickvals: labels.map((_, i) => (i + 0.5) * extent / labels.length),
    ticktext: labels.map(plotlyText),
  };
}
