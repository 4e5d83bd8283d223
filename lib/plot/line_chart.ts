/**
 * Lines over a continuous quantity, with bands of uncertainty: training curves, scores against steps.
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
import { type SeriesStyle, seriesStyle, withOpacity } from "./theme.ts";

/** One line. */
export interface LineSeries {
  /** Name; that of a latent space decides label and style. */
  readonly name: string;
  /** Horizontal places, ascending. */
  readonly x: ArrayLike<number>;
  /** Values; NaN leaves a gap. */
  readonly y: ArrayLike<number>;
  /** Lower end of the band around the line, one value a point; with `high` or not at all. */
  readonly low?: ArrayLike<number>;
  /** Upper end of the band. */
  readonly high?: ArrayLike<number>;
  /** Replaces parts of the style that the name gives. */
  readonly style?: Partial<SeriesStyle>;
}

/** What a line chart can be told. */
export interface LineChartOptions extends FigureOptions {
  /** Title of the horizontal axis, with the unit. */
  readonly xTitle: string;
  /** Title of the vertical axis, with the unit. */
  readonly yTitle: string;
  /** Scale of the horizontal axis, linear by default. */
  readonly xScale?: AxisScale;
  /** Scale of the vertical axis, linear by default. */
  readonly yScale?: AxisScale;
  /** Places of the ticks on the horizontal axis, where the values are few (5, 10, 25 steps). */
  readonly xTicks?: readonly number[];
  /** Whether to mark the points; by default when no line has more than 40. */
  readonly markers?: boolean;
}

/** Height of a chart in CSS pixels, where none is given. */
export const CHART_HEIGHT = 340;

/** Lines longer than this are drawn without point markers. */
const MARKED_POINTS = 40;

/**
 * Draws lines on linear or logarithmic axes, each with an optional band.
 *
 * @throws RangeError if the arrays of a series differ in length or only one end of a band is given.
 */
export function lineChart(series: readonly LineSeries[], options: LineChartOptions): Figure {
  const markers = options.markers ?? series.every((line) => line.x.length <= MARKED_POINTS);
  const styles = series.map((line, i) => ({ ...seriesStyle(line.name, i), ...line.style }));
  const bands = series.flatMap((line, i) => band(line, styles[i], options.yScale));
  const lines = series.map((line, i) => lineTrace(line, styles[i], markers));
  const layout: { [key: string]: Json } = {
    ...baseLayout(options, CHART_HEIGHT),
    xaxis: continuousAxis(
      options.xTitle,
      options.xScale ?? "linear",
      series.map((line) => line.x),
      options.xTicks,
    ),
    yaxis: continuousAxis(
      options.yTitle,
      options.yScale ?? "linear",
      series.flatMap((line) => [line.y, line.low ?? [], line.high ?? []]),
    ),
    hovermode: "x unified",
    ...legendAbove(series.length > 1, options),
  };
  return { data: [...bands, ...lines], layout };
}

/**
 * A continuous axis. On a log axis the ticks are chosen here from the values to be drawn: Plotly writes powers of ten
 * large and the 2 and 5 between them small and alone.
 */
export function continuousAxis(
  title: string,
  scale: AxisScale,
  values: readonly ArrayLike<number>[],
  ticks?: readonly number[],
): JsonObject {
  const axis = { title: { text: plotlyText(title) }, type: scale };
  const places = ticks ?? (scale === "log" ? logTicks(values) : undefined);
  if (places === undefined) return axis;
  const short = Math.max(...places) >= 1e4;
  return { ...axis, tickvals: [...places], ticktext: places.map((place) => tickLabel(place, short)) };
}

/** Ticks at 1, 2 and 5 times powers of ten around positive values; only at the powers beyond three decades. */
export function logTicks(values: readonly ArrayLike<number>[]): number[] {
  let low = Infinity, high = 0;
  for (const part of values) {
    for (let i = 0; i < part.length; i++) {
      if (!(part[i] > 0 && part[i] < Infinity)) continue;
      low = Math.min(low, part[i]);
      high = Math.max(high, part[i]);
    }
  }
  if (high === 0) return [];
  const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
  const steps = Math.log10(high / low) > 3 ? [1] : [1, 2, 5];
  const ticks: number[] = [];
  for (let power = first; power <= last; power++) {
    for (const step of steps) ticks.push(Number(`${step}e${power}`));
  }
  return ticks;
}

/** A number for a tick; thousands as k and millions as M where `short`. */
function tickLabel(value: number, short: boolean): string {
  if (value >= 1e15 || (value !== 0 && Math.abs(value) < 1e-4)) return value.toExponential();
  if (!short || value < 1000) return value.toLocaleString("en", { maximumFractionDigits: 6 });
  return value.toLocaleString("en", { notation: "compact" }).replace("K", "k");
}

/** A legend in rows above the plot and under the title, as wide as the figure. */
export function legendAbove(visible: boolean, { title, height }: FigureOptions): JsonObject {
  if (!visible) return { showlegend: false };
  return {
    showlegend: true,
    legend: {
      orientation: "h",
      xref: "container",
      yref: "container",
      x: 0,
      xanchor: "left",
      y: title === undefined ? 1 : Number((1 - 34 / (height ?? CHART_HEIGHT)).toFixed(4)),
      yanchor: "top",
      traceorder: "normal",
    },
  };
}

function lineTrace(line: LineSeries, style: SeriesStyle, markers: boolean): JsonObject {
  expectEqualLengths(`line "${line.name}"`, line.x.length, line.y.length);
  return {
    type: "scatter",
    mode: markers ? "lines+markers" : "lines",
    name: plotlyText(style.label),
    legendgroup: line.name,
    x: jsonNumbers(line.x),
    y: jsonNumbers(line.y),
    // Dashes only blur a line of many points.
    line: markers
      ? { color: style.colour, width: 2.2, dash: style.dash }
      : { color: style.colour, width: 1.7 },
    marker: { color: style.colour, size: style.symbol === "triangle-up" ? 9 : 7.5, symbol: style.symbol },
  };
}

function band(line: LineSeries, style: SeriesStyle, scale: AxisScale = "linear"): JsonObject[] {
  const { low, high } = line;
  if (low === undefined && high === undefined) return [];
  if (low === undefined || high === undefined) {
    throw new RangeError(`Cannot draw the band of "${line.name}": wanted both low and high, got one`);
  }
  expectEqualLengths(`the band of "${line.name}"`, line.x.length, low.length);
  expectEqualLengths(`the band of "${line.name}"`, line.x.length, high.length);
  const known = Array.from(line.x, (_, i) => i).filter((i) =>
    Number.isFinite(low[i]) && Number.isFinite(high[i]) && (scale === "linear" || low[i] > 0)
  );
  const back = known.toReversed();
  return [{
    type: "scatter",
    mode: "lines",
    name: plotlyText(`${style.label}, band`),
    legendgroup: line.name,
    showlegend: false,
    hoverinfo: "skip",
    x: jsonNumbers([...known.map((i) => line.x[i]), ...back.map((i) => line.x[i])]),
    y: jsonNumbers([...known.map((i) => high[i]), ...back.map((i) => low[i])]),
    fill: "toself",
    fillcolor: withOpacity(style.colour, 0.18),
    line: { width: 0, color: style.colour },
  }];
}
