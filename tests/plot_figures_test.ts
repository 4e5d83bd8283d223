import assert from "node:assert/strict";
import * as plot from "novae/plot/mod.ts";
import { CLASSES, sampleFigures } from "./plot_fixture.ts";

const GOLDEN = new URL("./golden/plot_figures.json", import.meta.url);

/** Makes the golden file again: NOVAE_UPDATE_GOLDENS=1 deno test -A tests/plot_figures_test.ts */
const UPDATE = Deno.env.get("NOVAE_UPDATE_GOLDENS") === "1";

Deno.test("figures equal the rounded Plotly JSON in the golden file", () => {
  const figures = rounded(sampleFigures());
  if (UPDATE) Deno.writeTextFileSync(GOLDEN, JSON.stringify(figures, null, 2) + "\n");
  assert.deepEqual(figures, JSON.parse(Deno.readTextFileSync(GOLDEN)));
});

Deno.test("figures survive JSON and use only traces of the basic bundle", () => {
  for (const [name, figure] of Object.entries(sampleFigures())) {
    assert.deepEqual(JSON.parse(JSON.stringify(figure)), figure, name);
    for (const trace of figure.data) assert.ok(trace.type === "scatter" || trace.type === "bar", name);
  }
});

Deno.test("each latent space keeps its colour in every figure", () => {
  const { curve, bars, histogram } = sampleFigures();
  const colours = (figure: plot.Figure) =>
    figure.data.filter((trace) => trace.name === "SVG").map((trace) =>
      (trace.line as plot.JsonObject | undefined)?.color ?? (trace.marker as plot.JsonObject).color
    );
  assert.deepEqual([curve, bars, histogram].flatMap(colours), Array(3).fill(plot.SPACE_STYLES.svg.colour));
});

Deno.test("a line chart leaves gaps where values are not finite and draws the band around the rest", () => {
  const { data } = plot.lineChart(
    [{ name: "a", x: [1, 2, 3], y: [1, NaN, 3], low: [0, NaN, 2], high: [2, NaN, 4] }],
    { xTitle: "x", yTitle: "y" },
  );
  assert.deepEqual(data[1].y, [1, null, 3]);
  assert.deepEqual([data[0].x, data[0].y], [[1, 3, 3, 1], [2, 4, 2, 0]]);
});

Deno.test("log ticks stand at 1, 2 and 5 within three decades and at the powers beyond", () => {
  assert.deepEqual(plot.logTicks([[3, 40]]), [1, 2, 5, 10, 20, 50, 100, 200, 500]);
  assert.deepEqual(plot.logTicks([[0.5], [20_000, 0, -1, NaN]]), [0.1, 1, 10, 100, 1000, 10_000, 100_000]);
  assert.deepEqual(plot.logTicks([[0, NaN]]), []);
});

Deno.test("a histogram counts every value in the range once and integrates to one", () => {
  assert.deepEqual(plot.binDensity([0, 0.5, 1, 1.5, 2], 0, 1, 2), [0.4, 0.6]);
  const values = Array.from({ length: 1000 }, (_, i) => Math.sin(i));
  const density = plot.binDensity(values, -1, 0.1, 20);
  assert.ok(Math.abs(density.reduce((sum, d) => sum + 0.1 * d, 0) - 1) < 1e-12);
});

Deno.test("a class shows once in the legend, also when the first panel lacks it", () => {
  const { data } = plot.classScatter([
    { name: "dino", xy: [0, 0], labels: [1] },
    { name: "svg", xy: [0, 0, 1, 1], labels: [0, 1] },
  ], ["cube", "cone"]);
  const legend = data.filter((trace) => trace.showlegend).map((trace) => [trace.name, trace.xaxis]);
  assert.deepEqual(legend, [["cone", "x"], ["cube", "x2"]]);
});

Deno.test("points of every class keep their coordinates and panels do not overlap", () => {
  const { data, layout } = sampleFigures().scatter;
  const cone = data.filter((trace) => trace.name === "cone" && trace.xaxis === "x3");
  assert.equal((cone[0].x as number[]).length, 40 / CLASSES.length);
  const domain = (axis: string) => (layout[axis] as unknown as { domain: [number, number] }).domain;
  assert.ok(domain("xaxis")[1] < domain("xaxis2")[0] && domain("yaxis")[0] > domain("yaxis3")[1]);
});

Deno.test("names from data cannot become Plotly's markup", () => {
  const { data, layout } = plot.classScatter([{ name: "<b>", xy: [0, 0], labels: [0] }], ["<a href='x'>&"]);
  assert.equal(data[0].name, "&lt;a href='x'&gt;&amp;");
  assert.match(JSON.stringify(layout.annotations), /<b>&lt;b&gt;<\/b>/);
});

Deno.test("figures refuse arrays that do not belong together", () => {
  const axes = { xTitle: "x", yTitle: "y" };
  assert.throws(
    () => plot.lineChart([{ name: "a", x: [1, 2], y: [1] }], axes),
    new RangeError('Cannot draw line "a": wanted 2 values, got 1'),
  );
  assert.throws(() => plot.lineChart([{ name: "a", x: [1], y: [1], low: [0] }], axes), /both low and high/);
  assert.throws(() => plot.groupedBars(["g"], [{ name: "a", values: [] }], axes), /wanted 1 values, got 0/);
  assert.throws(
    () => plot.classScatter([{ name: "svg", xy: [0, 0], labels: [3] }], ["cube"]),
    new RangeError('Cannot draw panel "svg": labels must be 0 to 0, got 3'),
  );
  assert.throws(
    () => plot.histogram([{ name: "a", values: [NaN] }], { xTitle: "x" }),
    /wanted at least one bin/,
  );
});

Deno.test("class colours stay apart for people who lack one kind of cone", () => {
  for (const matrix of [PROTANOPIA, DEUTERANOPIA]) {
    const seen = plot.CLASS_COLOURS.map((colour) => lab(mix(linear(colour), matrix)));
    for (let a = 0; a < seen.length; a++) {
      for (let b = 0; b < a; b++) assert.ok(distance(seen[a], seen[b]) > 8, `${a} and ${b}`);
    }
  }
});

Deno.test("colours of the latent spaces read on both pages and stay apart for all colour vision", () => {
  const spaces = Object.values(plot.SPACE_STYLES).map((style) => style.colour);
  for (const colour of spaces) {
    for (const { page } of Object.values(plot.PAGE_COLOURS)) assert.ok(contrast(colour, page) >= 3, colour);
  }
  for (const matrix of [PROTANOPIA, DEUTERANOPIA]) {
    const seen = spaces.map((colour) => lab(mix(linear(colour), matrix)));
    seen.forEach((a, i) => seen.slice(0, i).forEach((b) => assert.ok(distance(a, b) > 12)));
  }
});

/** Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB. */
const PROTANOPIA = [
  [0.152286, 1.052583, -0.204868],
  [0.114503, 0.786281, 0.099216],
  [-0.003882, -0.048116, 1.051998],
];
const DEUTERANOPIA = [
  [0.367322, 0.860646, -0.227968],
  [0.280085, 0.672501, 0.047413],
  [-0.01182, 0.04294, 0.968881],
];

function linear(colour: string): number[] {
  return [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16) / 255).map((v) =>
    v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4
  );
}

function mix(rgb: number[], matrix: number[][]): number[] {
  return matrix.map((row) => row.reduce((sum, weight, i) => sum + weight * rgb[i], 0));
}

/** CIE L*a*b* of linear sRGB under D65. */
function lab(rgb: number[]): number[] {
  const [x, y, z] = mix(rgb, [
    [0.4124 / 0.95047, 0.3576 / 0.95047, 0.1805 / 0.95047],
    [0.2126, 0.7152, 0.0722],
    [0.0193 / 1.08883, 0.1192 / 1.08883, 0.9505 / 1.08883],
  ]).map((t) => t > 216 / 24389 ? Math.cbrt(t) : (24389 / 27 * t + 16) / 116);
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

function distance(a: number[], b: number[]): number {
  return Math.hypot(...a.map((v, i) => v - b[i]));
}

function contrast(a: string, b: string): number {
  const luminance = (colour: string) => mix(linear(colour), [[0.2126, 0.7152, 0.0722]])[0];
  const [dark, light] = [luminance(a), luminance(b)].toSorted((p, q) => p - q);
  return (light + 0.05) / (dark + 0.05);
}

/** The value with all numbers to four significant digits, so that goldens do not hang on the last bit. */
function rounded(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (_, part) => typeof part === "number" ? Number(part.toPrecision(4)) : part),
  );
}
