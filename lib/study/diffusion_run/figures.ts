/**
 * The course of a diffusion training in figures, for its report and for a notebook.
 *
 * @module
 */
import { type Figure, lineChart, type LineSeries } from "novae/plot/mod.ts";
import { scaleOf } from "../report_sections.ts";
import type { DiffusionCurves, ScorePoint, TrainingPlace } from "./curves.ts";

const IMAGES = "Training images seen", LOSS = "Loss";
const GREEN = "#00936b", BLUE = "#2e86d1", ORANGE = "#c08000";

/** Training and validation loss over the images seen. */
export function lossFigure({ train, validation }: DiffusionCurves, height?: number): Figure {
  const series: LineSeries[] = [line("training", train, ({ loss }) => loss, BLUE)];
  if (validation.length > 0) {
    series.push(line("held-out latents, averaged weights", validation, ({ loss }) => loss, GREEN));
  }
  return lineChart(series, {
    xTitle: IMAGES,
    yTitle: LOSS,
    yScale: scaleOf(series.map(({ y }) => ({ y: Array.from(y) }))),
    markers: false,
    height,
  });
}

/** Loss over time in [0, 1] at a few stages of the training; null where it was not measured. */
export function lossByTimeFigure({ train, validation }: DiffusionCurves): Figure | null {
  const points = (validation.some((p) => p.lossByTime) ? validation : train).filter((p) => p.lossByTime);
  if (points.length === 0) return null;
  const bins = points[0].lossByTime!.length, thirds = Math.min(points.length, 3);
  const colours = [ORANGE, BLUE, GREEN].slice(3 - thirds);
  const series = Array.from({ length: thirds }, (_, i): LineSeries => {
    const from = Math.floor(i * points.length / thirds), to = Math.floor((i + 1) * points.length / thirds);
    const part = points.slice(from, to), images = part.at(-1)!.imagesSeen.toLocaleString("en");
    return {
      name: part.length > 1
        ? `${part[0].imagesSeen.toLocaleString("en")} to ${images} images`
        : `${images} images`,
      x: Array.from({ length: bins }, (_, bin) => (bin + 0.5) / bins),
      y: Array.from({ length: bins }, (_, bin) => mean(part.map((p) => p.lossByTime![bin]))),
      style: { colour: colours[i] },
    };
  });
  return lineChart(series, { xTitle: "Time t (0 noise, 1 data)", yTitle: LOSS });
}

/** Fréchet distance over the images seen, with a band of two standard errors. */
export function scoreFigure(scores: readonly ScorePoint[]): Figure {
  const value = ({ frechet }: ScorePoint) => frechet.value;
  const spread = ({ frechet }: ScorePoint) => 2 * frechet.standardError;
  const distance: LineSeries = {
    ...line("Fréchet distance", scores, value, GREEN),
    low: scores.map((score) => Math.max(value(score) - spread(score), value(score) / 10)),
    high: scores.map((score) => value(score) + spread(score)),
  };
  const yScale = scaleOf([{ y: scores.map(value) }]);
  return lineChart([distance], { xTitle: IMAGES, yTitle: "Fréchet distance", yScale });
}

/** Norm of the gradient and learning rate beside each other are of different units: one figure each. */
export function gradientFigure({ train }: DiffusionCurves): Figure {
  return lineChart([line("gradient norm", train, ({ gradNorm }) => gradNorm, BLUE)], {
    xTitle: IMAGES,
    yTitle: "Norm of the gradient",
    yScale: scaleOf([{ y: train.map(({ gradNorm }) => gradNorm) }]),
    markers: false,
    height: 260,
  });
}

/** Training speed over the images seen. */
export function speedFigure({ train }: DiffusionCurves): Figure {
  return lineChart([line("speed", train, ({ imagesPerSec }) => imagesPerSec, ORANGE)], {
    xTitle: IMAGES,
    yTitle: "Images a second",
    markers: false,
    height: 260,
  });
}

function line<P extends TrainingPlace>(
  name: string,
  points: readonly P[],
  value: (point: P) => number,
  colour: string,
): LineSeries {
  const x = points.map(({ imagesSeen }) => imagesSeen);
  return { name, x, y: points.map(value), style: { colour, dash: "solid" } };
}

/** Mean of the values that are there; NaN, a gap, if there are none. */
function mean(values: readonly (number | null)[]): number {
  const known = values.filter((v): v is number => v !== null && Number.isFinite(v));
  return known.reduce((sum, v) => sum + v, 0) / known.length;
}
