/**
 * Arrows in the plane over points coloured by class: velocity fields.
 *
 * @module
 */
import { classScatter, type ClassScatterOptions, type ScatterPanel } from "./class_scatter.ts";
import {
  expectEqualLengths,
  type Figure,
  type Json,
  jsonNumbers,
  type JsonObject,
  plotlyText,
} from "./figure.ts";
import { CLASS_COLOURS, PAGE_COLOURS } from "./theme.ts";

/** Arrows of one kind. */
export interface ArrowSet {
  /** What they are; arrows of no class stand in the legend under this name. */
  readonly name: string;
  /** Where they begin, two coordinates an arrow. */
  readonly at: ArrayLike<number>;
  /** What they show, two components an arrow, e.g. velocities. */
  readonly by: ArrayLike<number>;
  /** Class that they belong to, whose colour they have; grey if omitted. */
  readonly label?: number;
  /** Width of the line in CSS pixels; 1.2 by default, 2.6 for arrows of a class. */
  readonly width?: number;
}

/** One panel. */
export interface VectorPanel extends ScatterPanel {
  /** Arrows over the points. */
  readonly arrows: readonly ArrowSet[];
}

/** What a vector field can be told. */
export interface VectorFieldOptions extends ClassScatterOptions {
  /** Length of an arrow of size 1 in units of the axes; so that the longest is an eighth of the axes, if omitted. */
  readonly arrowScale?: number;
  /** Ends of all axes, as an animation needs them; all points and beginnings of arrows lie within, if omitted. */
  readonly range?: readonly [number, number];
}

const LONGEST = 1 / 8;
/** A head is this share of its arrow, but no longer than this share of the axes. */
const HEAD = { share: 0.4, most: 1 / 45, angle: 0.45 };

/**
 * Draws panels of points and arrows with the same axes, undistorted, and one scale for all arrows, so that lengths can
 * be compared.
 *
 * @throws RangeError if an arrow has not two coordinates and two components, or as {@linkcode classScatter} does.
 */
export function vectorField(
  panels: readonly VectorPanel[],
  classes: readonly string[],
  options: VectorFieldOptions = {},
): Figure {
  const { data, layout } = classScatter(panels, classes, options);
  const sets = panels.flatMap(({ arrows }) => arrows);
  for (const { name, at, by } of sets) expectEqualLengths(`arrows "${name}"`, at.length, by.length);
  const range = options.range ?? commonRange([...panels.map(({ xy }) => xy), ...sets.map(({ at }) => at)]),
    width = range[1] - range[0];
  const longest = Math.max(...sets.map(({ by }) => longestOf(by)), 0);
  const scale = options.arrowScale ?? (longest > 0 ? LONGEST * width / longest : 1);
  const named = new Set<string>();
  const arrows = panels.flatMap((panel, i) =>
    panel.arrows.map((set) => arrowTrace(set, i, classes, { scale, width, named }))
  );
  const axes: { [key: string]: Json } = {};
  panels.forEach((_, i) => {
    const suffix = i === 0 ? "" : String(i + 1);
    axes[`xaxis${suffix}`] = { ...layout[`xaxis${suffix}`] as JsonObject, range, constrain: "domain" };
    axes[`yaxis${suffix}`] = {
      ...layout[`yaxis${suffix}`] as JsonObject,
      range,
      scaleanchor: `x${suffix}`,
      constrain: "domain",
    };
  });
  return { data: [...data, ...arrows], layout: { ...layout, ...axes } };
}

interface ArrowDrawing {
  readonly scale: number;
  readonly width: number;
  /** Names that stand in the legend already. */
  readonly named: Set<string>;
}

function arrowTrace(
  set: ArrowSet,
  panel: number,
  classes: readonly string[],
  { scale, width, named }: ArrowDrawing,
): JsonObject {
  const { name, at, by, label } = set, suffix = panel === 0 ? "" : String(panel + 1);
  const x: (number | null)[] = [], y: (number | null)[] = [];
  for (let k = 0; k < at.length; k += 2) {
    const tip = [at[k] + scale * by[k], at[k + 1] + scale * by[k + 1]];
    const length = Math.hypot(by[k], by[k + 1]) * scale,
      head = Math.min(HEAD.share * length, HEAD.most * width);
    const direction = Math.atan2(by[k + 1], by[k]);
    const side = (turn: number) => [
      tip[0] - head * Math.cos(direction + turn),
      tip[1] - head * Math.sin(direction + turn),
    ];
    const [left, right] = [side(HEAD.angle), side(-HEAD.angle)];
    x.push(...jsonNumbers([at[k], tip[0], NaN, left[0], tip[0], right[0], NaN]));
    y.push(...jsonNumbers([at[k + 1], tip[1], NaN, left[1], tip[1], right[1], NaN]));
  }
  const first = label === undefined && !named.has(name);
  if (label === undefined) named.add(name);
  return {
    type: "scatter",
    mode: "lines",
    name: plotlyText(name),
    legendgroup: label === undefined ? name : classes[label],
    showlegend: first,
    hoverinfo: "skip",
    xaxis: `x${suffix}`,
    yaxis: `y${suffix}`,
    x,
    y,
    line: {
      color: label === undefined ? PAGE_COLOURS.light.muted : CLASS_COLOURS[label % CLASS_COLOURS.length],
      width: set.width ?? (label === undefined ? 1.2 : 2.6),
    },
  };
}

function longestOf(by: ArrayLike<number>): number {
  let most = 0;
  for (let k = 0; k < by.length; k += 2) most = Math.max(most, Math.hypot(by[k], by[k + 1]));
  return most;
}

/** One range for all coordinates, with a margin. */
function commonRange(coordinates: readonly ArrayLike<number>[]): [number, number] {
  let low = Infinity, high = -Infinity;
  for (const values of coordinates) {
    for (let i = 0; i < values.length; i++) {
      low = Math.min(low, values[i]);
      high = Math.max(high, values[i]);
    }
  }
  if (!(low < high)) return [low - 1, high + 1];
  const margin = 0.04 * (high - low), [from, to] = jsonNumbers([low - margin, high + margin]);
  return [from!, to!];
}
