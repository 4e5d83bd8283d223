/**
 * Colours and type of all figures: one style per latent space, ten class colours, a light and a dark template.
 *
 * @module
 */
import type { JsonObject } from "./figure.ts";

/** How one series is drawn; colour, dash and marker each tell it apart on their own. */
export interface SeriesStyle {
  /** Label for people. */
  readonly label: string;
  /** `#rrggbb`, at least 3 : 1 against both the light and the dark page. */
  readonly colour: string;
  /** Plotly line dash. */
  readonly dash: "solid" | "dash" | "dot" | "dashdot";
  /** Plotly marker symbol. */
  readonly symbol: "circle" | "square" | "diamond" | "triangle-up" | "cross" | "x";
}

/** Brightness of the page a figure stands on. */
export type ThemeMode = "light" | "dark";

/** Colours of the page itself. */
export interface PageColours {
  /** Background. */
  readonly page: string;
  /** Text and strong rules. */
  readonly text: string;
  /** Captions and tick labels. */
  readonly muted: string;
  /** Thin rules and grids. */
  readonly rule: string;
  /** Axes and frames of figures. */
  readonly frame: string;
}

/**
 * The latent spaces, in the order of the tables. Hues after Okabe and Ito's palette for
 * all colour vision (https://jfly.uni-koeln.de/color/), darkened until they read on white.
 */
export const SPACE_STYLES: Readonly<Record<string, SeriesStyle>> = {
  "vae": { label: "VAE", colour: "#c08000", dash: "dot", symbol: "square" },
  "va-vae": { label: "VA-VAE", colour: "#7b5be6", dash: "dash", symbol: "cross" },
  "dino": { label: "DINO", colour: "#2e86d1", dash: "dash", symbol: "diamond" },
  "svg-noalign": { label: "SVG, unaligned", colour: "#c2659c", dash: "dashdot", symbol: "triangle-up" },
  "svg": { label: "SVG", colour: "#00936b", dash: "solid", symbol: "circle" },
};

/**
 * Ten colours for classes, told apart with all kinds of colour vision.
 *
 * *Source*: Petroff, "Accessible color sequences for data visualization", arXiv 2107.02270, ten-colour sequence.
 */
export const CLASS_COLOURS: readonly string[] = [
  "#3f90da",
  "#ffa90e",
  "#bd1f01",
  "#94a4a2",
  "#832db6",
  "#a96b59",
  "#e76300",
  "#b9ac70",
  "#717581",
  "#92dadd",
];

/** Colours of the page in each mode. */
export const PAGE_COLOURS: Readonly<Record<ThemeMode, PageColours>> = {
  light: { page: "#fdfdfb", text: "#1d1f23", muted: "#5c6068", rule: "#e2e2dc", frame: "#a6a9ae" },
  dark: { page: "#15171a", text: "#e4e4df", muted: "#a2a6ad", rule: "#33373d", frame: "#656a72" },
};

/** Type of labels in figures and tables. */
export const SANS_FONT =
  'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Helvetica Neue", "DejaVu Sans", sans-serif';

const OTHER_DASHES: readonly SeriesStyle["dash"][] = ["solid", "dash", "dot", "dashdot"];
const OTHER_SYMBOLS: readonly SeriesStyle["symbol"][] = [
  "circle",
  "square",
  "diamond",
  "triangle-up",
  "cross",
  "x",
];

/** The style of a series: that of the latent space with this name, else one chosen by position. */
export function seriesStyle(name: string, position: number): SeriesStyle {
  if (Object.hasOwn(SPACE_STYLES, name)) return SPACE_STYLES[name];
  return {
    label: name,
    colour: CLASS_COLOURS[position % CLASS_COLOURS.length],
    dash: OTHER_DASHES[position % OTHER_DASHES.length],
    symbol: OTHER_SYMBOLS[position % OTHER_SYMBOLS.length],
  };
}

/** The label of a latent space for people; other names stay as they are. */
export function seriesLabel(name: string): string {
  return Object.hasOwn(SPACE_STYLES, name) ? SPACE_STYLES[name].label : name;
}

/** A colour `#rrggbb` with an opacity in [0, 1], as CSS. */
export function withOpacity(colour: string, opacity: number): string {
  const channel = (at: number) => Number.parseInt(colour.slice(at, at + 2), 16);
  return `rgba(${channel(1)},${channel(3)},${channel(5)},${opacity})`;
}

/**
 * The Plotly template of a mode (`layout.template`): every colour and font that does not carry data, so that a
 * page can change the mode of a figure already drawn.
 */
export function plotlyTemplate(mode: ThemeMode): JsonObject {
  const { page, text, muted, rule, frame } = PAGE_COLOURS[mode];
  const axis: JsonObject = {
    automargin: true,
    separatethousands: true,
    gridcolor: rule,
    linecolor: frame,
    tickcolor: frame,
    zeroline: false,
    showline: true,
    ticks: "outside",
    ticklen: 4,
    title: { standoff: 10, font: { size: 13, color: text } },
    tickfont: { size: 12, color: muted },
  };
  return {
    layout: {
      font: { family: SANS_FONT, size: 13, color: text },
      title: {
        x: 0,
        xref: "container",
        xanchor: "left",
        y: 1,
        yref: "container",
        yanchor: "top",
        pad: { t: 6 },
        font: { size: 15, color: text },
      },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      colorway: CLASS_COLOURS,
      xaxis: axis,
      yaxis: axis,
      legend: { font: { size: 12, color: text }, bgcolor: "rgba(0,0,0,0)" },
      hoverlabel: { bgcolor: page, bordercolor: muted, font: { family: SANS_FONT, size: 12.5, color: text } },
      coloraxis: {
        colorbar: {
          thickness: 12,
          outlinewidth: 0,
          ticks: "outside",
          ticklen: 4,
          tickcolor: frame,
          tickfont: { size: 12, color: muted },
          title: { font: { size: 13, color: text } },
        },
      },
      annotationdefaults: { font: { size: 13, color: text }, showarrow: false },
    },
  };
}

/** A copy of a layout with the template of a mode. */
export function withTheme(layout: JsonObject, mode: ThemeMode): JsonObject {
  return { ...layout, template: plotlyTemplate(mode) };
}
