/**
 * Figures as plain data: what Plotly draws, without Plotly. Only the trace kinds of its basic bundle are used.
 *
 * @module
 */

/** A value that survives a round trip through JSON. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** A Plotly trace, layout or part of one. */
export type JsonObject = { readonly [key: string]: Json };

/** A Plotly figure: `Plotly.newPlot(element, figure)` draws it. */
export interface Figure {
  /** Traces, drawn in this order. */
  readonly data: readonly JsonObject[];
  /** Axes, legend and size, without a template. */
  readonly layout: JsonObject;
  /** What an animation shows in turn: traces, and parts of the layout, under a name. */
  readonly frames?: readonly JsonObject[];
}

/** What every figure can be told. */
export interface FigureOptions {
  /** Heading inside the figure; a report puts it into the caption instead. */
  readonly title?: string;
  /** Height in CSS pixels. */
  readonly height?: number;
}

/** Scale of an axis. */
export type AxisScale = "linear" | "log";

/**
 * Copies values into a plain array as JSON can carry them: five significant digits, `null` where not finite
 * (Plotly leaves a gap there).
 */
export function jsonNumbers(values: ArrayLike<number>): (number | null)[] {
  return Array.from(values, (value) => Number.isFinite(value) ? Number(value.toPrecision(5)) : null);
}

/**
 * Text as Plotly draws it literally: its pseudo-HTML (`<b>`, `<a href>`, `&amp;`) is escaped.
 */
export function plotlyText(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/**
 * Checks that arrays belonging together have equal lengths.
 *
 * @throws RangeError naming both lengths.
 */
export function expectEqualLengths(what: string, wanted: number, got: number): void {
  if (wanted === got) return;
  throw new RangeError(`Cannot draw ${what}: wanted ${wanted} values, got ${got}`);
}

/** The layout parts shared by all figures: title, height, margins. The colours come from a theme's template. */
export function baseLayout(options: FigureOptions, defaultHeight: number): { [key: string]: Json } {
  const layout: { [key: string]: Json } = {
    height: options.height ?? defaultHeight,
    margin: { l: 48, r: 16, t: options.title === undefined ? 8 : 48, b: 40 },
  };
  if (options.title !== undefined) layout.title = { text: plotlyText(options.title) };
  return layout;
}
