/**
 * Bars: groups of scores side by side, and histograms, which are binned here.
 *
 * @module
 */
import {
  type AxisScale,
  baseLayout,
  expectEqualLengths,
  type Figure,
  type FigureOptions,
  type Json,
  jsonNumbers,
  type JsonObject,
  plotlyText,
} from "./figure.ts";
import { CHART_HEIGHT, continuousAxis, legendAbove } from "./line_chart.ts";
import { type SeriesStyle, seriesStyle, withOpacity } from "./theme.ts";

/** The bars of one colour: a value for each group, NaN where there is none. */
export interface BarSeries {
  /** Name; that of a latent space decides label and colour. */
  readonly name: string;
  /** Heights in the order of the groups. */
  readonly values: ArrayLike<number>;
  /** Half-lengths of the error bars. */
  readonly errors?: ArrayLike<number>;
  /** Replaces parts of the style that the name gives. */
  readonly style?: Partial<SeriesStyle>;
}

/** What grouped bars can be told. */
export interface BarOptions extends FigureOptions {
  /** Title of the groups. */
  readonly xTitle?: string;
  /** Title of the vertical axis, with the unit. */
  readonly yTitle: string;
  /** Scale of the vertical axis, linear by default. */
  readonly yScale?: AxisScale;
  /** Digits after the point of the labels on the bars; without it the bars have no labels. */
  readonly digits?: number;
}

/**
 * Draws one group of bars for each label, one bar for each series in it.
 *
 * @throws RangeError if a series has not one value for each group.
 */
export function groupedBars(
  groups: readonly string[],
  series: readonly BarSeries[],
  options: BarOptions,
): Figure {
  const data = series.map((bars, i) =>
    barTrace(groups, bars, { ...seriesStyle(bars.name, i), ...bars.style }, options)
  );
  const layout: { [key: string]: Json } = {
    ...baseLayout(options, CHART_HEIGHT),
    barmode: "group",
    bargap: 0.28,
    bargroupgap: 0.08,
    // Labels that would not fit their bars are left out rather than set in ever smaller type.
    uniformtext: { mode: "hide", minsize: 9 },
    xaxis: groupAxis(groups, options.xTitle),
    yaxis: continuousAxis(
      options.yTitle,
      options.yScale ?? "linear",
      series.map((bars) => bars.values),
    ),
    ...legendAbove(series.length > 1, options),
  };
  return { data, layout };
}

/** One distribution of a histogram. */
export interface HistogramSeries {
  /** Name; that of a latent space decides label and colour. */
  readonly name: string;
  /** The values to count; not finite ones count only towards the whole. */
  readonly values: ArrayLike<number>;
  /** Replaces parts of the style that the name gives. */
  readonly style?: Partial<SeriesStyle>;
}

/** What a histogram can be told. */
export interface HistogramOptions extends FigureOptions {
  /** Title of the horizontal axis, with the unit. */
  readonly xTitle: string;
  /** Number of bins, 40 by default. */
  readonly bins?: number;
  /** Ends of the first and the last bin; by default those of the finite values. */
  readonly range?: readonly [number, number];
}

/**
 * Draws distributions as outlined steps over common bins, as densities whose area over the range is 1 where no
 * value falls outside.
 *
 * @throws RangeError if the number of bins or the range is empty.
 */
export function histogram(series: readonly HistogramSeries[], options: HistogramOptions): Figure {
  const bins = options.bins ?? 40;
  const [low, high] = options.range ?? finiteRange(series);
  if (!(bins >= 1 && high > low)) {
    throw new RangeError(
      `Cannot draw a histogram: wanted at least one bin and a range, got ${bins} bins over ${low} to ${high}`,
    );
  }
  const width = (high - low) / bins;
  const edges = Array.from({ length: bins + 1 }, (_, i) => low + i * width);
  const data = series.map((part, i) => {
    const style = { ...seriesStyle(part.name, i), ...part.style };
    const density = binDensity(part.values, low, width, bins);
    return {
      type: "scatter",
      mode: "lines",
      name: plotlyText(style.label),
      x: jsonNumbers([edges[0], ...edges]),
      y: jsonNumbers([0, ...density, 0]),
      line: { color: style.colour, width: 1.8, shape: "hv" },
      fill: "tozeroy",
      fillcolor: withOpacity(style.colour, 0.14),
    };
  });
  const layout: { [key: string]: Json } = {
    ...baseLayout(options, CHART_HEIGHT),
    xaxis: continuousAxis(options.xTitle, "linear", []),
    yaxis: { title: { text: "Density" }, rangemode: "tozero" },
    ...legendAbove(series.length > 1, options),
  };
  return { data, layout };
}

/**
 * Density of values in equal bins `[low + i·width, low + (i+1)·width)`, the last one closed: count / (n · width).
 */
export function binDensity(values: ArrayLike<number>, low: number, width: number, bins: number): number[] {
  const counts = new Array<number>(bins).fill(0);
  const high = low + bins * width;
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (value >= low && value <= high) counts[Math.min(Math.floor((value - low) / width), bins - 1)]++;
  }
  return counts.map((count) => count / (Math.max(values.length, 1) * width));
}

function finiteRange(series: readonly HistogramSeries[]): [number, number] {
  let low = Infinity, high = -Infinity;
  for (const { values } of series) {
    for (let i = 0; i < values.length; i++) {
      if (!Number.isFinite(values[i])) continue;
      low = Math.min(low, values[i]);
      high = Math.max(high, values[i]);
    }
  }
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

/** Groups stand at whole numbers, so that two may have the same label; labels break into lines. */
function groupAxis(groups: readonly string[], title: string | undefined): JsonObject {
  const axis: JsonObject = {
    tickvals: groups.map((_, i) => i),
    ticktext: groups.map((group) => brokenLines(group, 15)),
    tickangle: 0,
    showgrid: false,
    ticks: "",
  };
  return title === undefined ? axis : { ...axis, title: { text: plotlyText(title) } };
}

/** Text in lines of at most `width` characters where its spaces allow. */
function brokenLines(text: string, width: number): string {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const line = lines.at(-1);
    if (line !== undefined && line.length + 1 + word.length <= width) {
      lines[lines.length - 1] = `${line} ${word}`;
    } else lines.push(word);
  }
  return lines.map(plotlyText).join("<br>");
}

function barTrace(
  groups: readonly string[],
  bars: BarSeries,
  style: SeriesStyle,
  options: BarOptions,
): JsonObject {
  expectEqualLengths(`bars "${bars.name}"`, groups.length, bars.values.length);
  const trace: { [key: string]: Json } = {
    type: "bar",
    name: plotlyText(style.label),
    x: groups.map((_, i) => i),
    hovertext: groups.map(plotlyText),
    hovertemplate: "%{hovertext}: %{y}",
    y: jsonNumbers(bars.values),
    marker: { color: style.colour },
  };
  const { digits } = options;
  if (digits !== undefined) {
    trace.text = Array.from(bars.values, (value) => Number.isFinite(value) ? value.toFixed(digits) : "");
    trace.textposition = "outside";
    trace.textangle = 0;
    trace.cliponaxis = false;
  }
  if (bars.errors !== undefined) {
    expectEqualLengths(`the errors of bars "${bars.name}"`, groups.length, bars.errors.length);
    trace.error_y = { type: "data", array: jsonNumbers(bars.errors), thickness: 1.2, width: 3 };
  }
  return trace;
}
