/**
 * Figures that follow each other in time: trajectories of samples, as points or as pictures.
 *
 * @module
 */
import type { Figure, Json, JsonObject } from "./figure.ts";
import { plotlyText } from "./figure.ts";

/** One moment of an animation. */
export interface AnimationStep {
  /** What the slider says at it, e.g. the time. */
  readonly label: string;
  /** What is seen. */
  readonly figure: Figure;
}

/** What an animation can be told. */
export interface AnimationOptions {
  /** What stands before the labels, e.g. "t = ". */
  readonly prefix?: string;
  /** Milliseconds that a step is seen. Default 300. */
  readonly stepMs?: number;
  /** Number of the step that is seen at first. Default the last, which a printed page shows. */
  readonly start?: number;
}

/** Room for button and slider below a figure, in CSS pixels. */
const CONTROLS = 92;

/**
 * Joins figures of the same traces and axes into one with a button that plays them and a slider. Where only traces
 * change, they move from step to step.
 *
 * @throws RangeError if there are no figures, their traces differ in number, or `start` is none of them.
 */
export function animatedFigure(steps: readonly AnimationStep[], options: AnimationOptions = {}): Figure {
  const { prefix = "", stepMs = 300, start = steps.length - 1 } = options;
  const count = steps[0]?.figure.data.length, odd = steps.find(({ figure }) => figure.data.length !== count);
  if (steps.length === 0) throw new RangeError("Cannot animate figures: at least one is needed, got 0");
  if (odd !== undefined) {
    throw new RangeError(
      `Cannot animate figures: all must have ${count} traces, got ${odd.figure.data.length} at ${odd.label}`,
    );
  }
  if (steps[start] === undefined) {
    throw new RangeError(`Cannot animate figures: start must be 0 to ${steps.length - 1}, got ${start}`);
  }
  const changing = changingKeys(steps.map(({ figure }) => figure.layout)), redraw = changing.length > 0;
  const names = steps.map((_, i) => `step ${i}`), { data, layout } = steps[start].figure;
  const frames = steps.map(({ figure }, i) => ({
    name: names[i],
    data: figure.data,
    ...redraw && { layout: Object.fromEntries(changing.map((key) => [key, figure.layout[key] ?? null])) },
  }));
  const labels = steps.map(({ label }) => label);
  const bottom = ((layout.margin as JsonObject | undefined)?.b ?? 0) as number;
  return {
    data,
    layout: {
      ...layout,
      height: Number(layout.height ?? 340) + CONTROLS,
      margin: { ...layout.margin as JsonObject, b: bottom + CONTROLS },
      updatemenus: [playButtons(stepMs, redraw)],
      sliders: [slider(names, labels, { prefix, start, redraw })],
    },
    frames,
  };
}

/** Keys whose values are not the same in all layouts. */
function changingKeys(layouts: readonly JsonObject[]): string[] {
  const texts = layouts.map((layout) =>
    new Map(Object.entries(layout).map(([key, value]) => [key, JSON.stringify(value)]))
  );
  const keys = new Set(layouts.flatMap((layout) => Object.keys(layout)));
  return [...keys].filter((key) => texts.some((text) => text.get(key) !== texts[0].get(key)));
}

/** A button to play from where the slider is, and one to stop. */
function playButtons(stepMs: number, redraw: boolean): JsonObject {
  const transition = { duration: redraw ? 0 : stepMs, easing: "linear" };
  const button = (label: string, args: Json): JsonObject => ({ label, method: "animate", args });
  return {
    type: "buttons",
    direction: "left",
    showactive: false,
    x: 0,
    xanchor: "left",
    y: 0,
    yanchor: "top",
    pad: { t: 34, r: 12 },
    buttons: [
      button("▶", [null, { frame: { duration: stepMs, redraw }, transition, fromcurrent: true }]),
      button("❚❚", [[null], {
        mode: "immediate",
        frame: { duration: 0, redraw: false },
        transition: { duration: 0 },
      }]),
    ],
  };
}

function slider(
  names: readonly string[],
  labels: readonly string[],
  { prefix, start, redraw }: { readonly prefix: string; readonly start: number; readonly redraw: boolean },
): JsonObject {
  return {
    active: start,
    x: 0.14,
    len: 0.86,
    y: 0,
    yanchor: "top",
    pad: { t: 14 },
    currentvalue: { prefix: plotlyText(prefix), xanchor: "left" },
    steps: names.map((name, i) => ({
      label: plotlyText(labels[i]),
      method: "animate",
      args: [[name], { mode: "immediate", frame: { duration: 0, redraw }, transition: { duration: 0 } }],
    })),
  };
}
