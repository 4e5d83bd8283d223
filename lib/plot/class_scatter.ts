/**
 * Points in the plane coloured by class, one panel for each latent space: UMAP and PCA maps.
 *
 * @module
 */
import {
  baseLayout,
  expectEqualLengths,
  type Figure,
  type FigureOptions,
  type Json,
  jsonNumbers,
  type JsonObject,
  plotlyText,
} from "./figure.ts";
import { CLASS_COLOURS, seriesLabel } from "./theme.ts";

/** One panel. */
export interface ScatterPanel {
  /** Name of the latent space, or any heading. */
  readonly name: string;
  /** Coordinates, two a point: x0, y0, x1, y1, … */
  readonly xy: ArrayLike<number>;
  /** Class of each point, an index into `classes`. */
  readonly labels: ArrayLike<number>;
  /** A short line beneath the heading, e.g. "k-NN 91.2 %". */
  readonly note?: string;
}

/** What a class scatter can be told. */
export interface ClassScatterOptions extends FigureOptions {
  /** Panels in a row; 2 by default, 1 for a single panel. */
  readonly columns?: number;
  /** Diameter of the points in CSS pixels. */
  readonly pointSize?: number;
}

/** Share of the figure's width and height between panels. */
const GAP = { x: 0.035, y: 0.11 };

/** Markers of the first ten classes, the next ten, … */
const SYMBOLS = ["circle", "diamond", "square", "cross"];

/**
 * Draws a panel of points for each space, with one legend of classes for all; a click on a class hides it in every
 * panel. Axes carry no numbers, since the coordinates of such maps mean nothing on their own.
 *
 * @throws RangeError if a panel has not two coordinates for each label, or a label names no class.
 */
export function classScatter(
  panels: readonly ScatterPanel[],
  classes: readonly string[],
  options: ClassScatterOptions = {},
): Figure {
  const columns = Math.min(options.columns ?? 2, Math.max(panels.length, 1));
  const rowCount = Math.ceil(panels.length / columns);
  const layout: { [key: string]: Json } = {
    ...baseLayout(options, 350 * rowCount + 70),
    margin: { l: 1, r: 1, t: options.title === undefined ? 48 : 92, b: 8 },
    meta: { narrowHeight: Math.round(380 / columns) * rowCount + 190 },
    showlegend: true,
    legend: {
      orientation: "h",
      x: 0.5,
      xanchor: "center",
      y: -0.02,
      yanchor: "top",
      itemsizing: "constant",
      traceorder: "normal",
    },
    hovermode: "closest",
    annotations: panels.map((panel, i) => heading(panel, i, columns, rowCount)),
  };
  panels.forEach((_, i) => {
    const suffix = i === 0 ? "" : String(i + 1);
    const [x, y] = domains(i, columns, rowCount);
    layout[`xaxis${suffix}`] = { ...BARE_AXIS, domain: x, anchor: `y${suffix}` };
    layout[`yaxis${suffix}`] = { ...BARE_AXIS, domain: y, anchor: `x${suffix}` };
  });
  const inLegend = new Set<string>();
  const data = panels.flatMap((panel, i) =>
    panelTraces(panel, i, classes, options.pointSize ?? 4.5, inLegend)
  );
  return { data, layout };
}

const BARE_AXIS: JsonObject = {
  showticklabels: false,
  showgrid: false,
  ticks: "",
  mirror: true,
};

function domains(i: number, columns: number, rowCount: number): [[number, number], [number, number]] {
  const column = i % columns, row = Math.floor(i / columns);
  const width = (1 - GAP.x * (columns - 1)) / columns;
  const height = (1 - GAP.y * (rowCount - 1)) / rowCount;
  const left = column * (width + GAP.x), top = 1 - row * (height + GAP.y);
  return [[round(left), round(left + width)], [round(Math.max(top - height, 0)), round(top)]];
}

function round(value: number): number {
  return Number(value.toFixed(4));
}

function heading(panel: ScatterPanel, i: number, columns: number, rowCount: number): JsonObject {
  const [x, y] = domains(i, columns, rowCount);
  const note = panel.note === undefined
    ? ""
    : `<br><span style="font-size:12px">${plotlyText(panel.note)}</span>`;
  return {
    text: `<b>${plotlyText(seriesLabel(panel.name))}</b>${note}`,
    xref: "paper",
    yref: "paper",
    x: x[0],
    y: y[1],
    xanchor: "left",
    yanchor: "bottom",
    align: "left",
    showarrow: false,
  };
}

function panelTraces(
  panel: ScatterPanel,
  i: number,
  classes: readonly string[],
  size: number,
  inLegend: Set<string>,
): JsonObject[] {
  expectEqualLengths(`panel "${panel.name}"`, 2 * panel.labels.length, panel.xy.length);
  const xs: number[][] = classes.map(() => []), ys: number[][] = classes.map(() => []);
  for (let p = 0; p < panel.labels.length; p++) {
    const label = panel.labels[p];
    if (!(label in xs)) {
      throw new RangeError(
        `Cannot draw panel "${panel.name}": labels must be 0 to ${classes.length - 1}, got ${label}`,
      );
    }
    xs[label].push(panel.xy[2 * p]);
    ys[label].push(panel.xy[2 * p + 1]);
  }
  const suffix = i === 0 ? "" : String(i + 1);
  const present = classes.flatMap((name, c) => xs[c].length === 0 ? [] : [{ name, c }]);
  return present.map(({ name, c }) => ({
    type: "scatter",
    mode: "markers",
    name: plotlyText(name),
    legendgroup: name,
    showlegend: firstOf(name, inLegend),
    hoverinfo: "name",
    xaxis: `x${suffix}`,
    yaxis: `y${suffix}`,
    x: jsonNumbers(xs[c]),
    y: jsonNumbers(ys[c]),
    marker: {
      color: CLASS_COLOURS[c % CLASS_COLOURS.length],
      symbol: SYMBOLS[Math.floor(c / CLASS_COLOURS.length) % SYMBOLS.length],
      size,
      opacity: 0.8,
    },
  }));
}

/** Whether this is the first trace of a class, the one that stands for it in the legend; notes it. */
function firstOf(name: string, seen: Set<string>): boolean {
  const first = !seen.has(name);
  seen.add(name);
  return first;
}
