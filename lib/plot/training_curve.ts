/**
 * The course of a training: its loss over the images seen, and over the times of the path.
 *
 * @module
 */
import type { Figure, Json, JsonObject } from "./figure.ts";
import { lineChart, type LineChartOptions, type LineSeries } from "./line_chart.ts";
import { SPACE_STYLES } from "./theme.ts";

/** The loss at one moment of a training. */
export interface TrainingPoint {
  /** Training images seen until then. */
  readonly imagesSeen: number;
  /** Loss of all times. */
  readonly loss: number;
  /** Loss in equal bins of the time t, from noise to data; null where nothing fell. */
  readonly lossByTime?: readonly (number | null)[];
}

/** What a training curve can be told. */
export interface TrainingCurveOptions extends Omit<LineChartOptions, "xTitle" | "yTitle"> {
  /** Name of the line; that of a latent space decides its style. Default "training". */
  readonly name?: string;
  /** Losses of data that are not trained on, as a second line. */
  readonly validation?: readonly TrainingPoint[];
  /** Lines of the loss by time, each the mean over a part of the training. Default 3. */
  readonly stages?: number;
}

/** Of the last stages of a training, which the others repeat. */
const STAGE_COLOURS: readonly string[] = ["#c08000", "#2e86d1", SPACE_STYLES.svg.colour];

/**
 * Draws the loss over the images seen; beside it, where it is known, the loss over the time t in the stages of the
 * training, for the validation if that has it.
 */
export function trainingCurve(points: readonly TrainingPoint[], options: TrainingCurveOptions = {}): Figure {
  const { name = "training", validation = [], stages = 3, ...chart } = options;
  const lines = [
    lossLine(name, points),
    ...validation.length > 0 ? [lossLine("validation", validation)] : [],
  ];
  const left = lineChart(lines, {
    markers: false,
    ...chart,
    xTitle: "Training images seen",
    yTitle: "Velocity error",
  });
  const timed = (validation.some(hasTimes) ? validation : points).filter(hasTimes);
  if (timed.length === 0) return left;
  const right = lineChart(stageLines(timed, Math.min(stages, timed.length)), {
    ...chart,
    xTitle: "Time t, from noise to data",
    yTitle: "",
    markers: false,
  });
  return sideBySide(left, right);
}

function hasTimes(point: TrainingPoint): boolean {
  return point.lossByTime !== undefined;
}

function lossLine(name: string, points: readonly TrainingPoint[]): LineSeries {
  return { name, x: points.map(({ imagesSeen }) => imagesSeen), y: points.map(({ loss }) => loss) };
}

/** Means over equal parts of a training. */
function stageLines(points: readonly TrainingPoint[], stages: number): LineSeries[] {
  const bins = points[0].lossByTime!.length;
  return Array.from({ length: stages }, (_, s) => {
    const part = points.slice(
      Math.floor(s * points.length / stages),
      Math.floor((s + 1) * points.length / stages),
    );
    return {
      name: `until ${part.at(-1)!.imagesSeen.toLocaleString("en")} images`,
      x: Array.from({ length: bins }, (_, bin) => (bin + 0.5) / bins),
      y: Array.from({ length: bins }, (_, bin) => meanKnown(part.map(({ lossByTime }) => lossByTime![bin]))),
      style: { colour: STAGE_COLOURS[(s - stages % 3 + 3) % 3] },
    };
  });
}

function meanKnown(values: readonly (number | null)[]): number {
  const known = values.filter((value) => value !== null);
  return known.reduce((sum, value) => sum + value, 0) / known.length; // NaN, a gap, if there are none
}

/** Two charts beside each other with the legend of both above them. */
function sideBySide(left: Figure, right: Figure): Figure {
  const moved = right.data.map((trace): JsonObject => ({ ...trace, xaxis: "x2", yaxis: "y2" }));
  const axis = (figure: Figure, key: string, more: { [key: string]: Json }): JsonObject => ({
    ...figure.layout[key] as JsonObject,
    ...more,
  });
  return {
    data: [...left.data, ...moved],
    layout: {
      ...left.layout,
      ...legendOf(right),
      hovermode: "closest",
      xaxis: axis(left, "xaxis", { domain: [0, 0.46] }),
      yaxis: axis(left, "yaxis", {}),
      xaxis2: axis(right, "xaxis", { domain: [0.54, 1], anchor: "y2" }),
      yaxis2: axis(right, "yaxis", { anchor: "x2" }),
    },
  };
}

function legendOf({ layout }: Figure): JsonObject {
  return { showlegend: true, ...layout.legend !== undefined && { legend: layout.legend } };
}
