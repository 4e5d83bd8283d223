/**
 * Cutting values into pieces and undoing it.
 *
 * @module
 */
import type { Value } from "../graph.ts";
import type { Recorder } from "../recorder.ts";

/** Each piece is a buffer of one shader beside its input; every WebGPU device can bind eight. */
const MOST_BUFFERS = 8;

/** Pieces of the given sizes along an axis, on a GPU in several rounds if there are many. */
export function splitValue(
  recorder: Recorder,
  value: Value,
  sizes: readonly number[],
  axis: number,
): Value[] {
  if (sizes.length === 1) return [value];
  const most = recorder.target.cpuOperators ? Infinity : MOST_BUFFERS - 1;
  if (sizes.length > most) {
    const each = most ** Math.floor(Math.log(sizes.length - 1) / Math.log(most));
    const runs = Array.from(
      { length: Math.ceil(sizes.length / each) },
      (_, i) => sizes.slice(i * each, (i + 1) * each),
    );
    const totals = runs.map((run) => run.reduce((sum, size) => sum + size, 0));
    return splitValue(recorder, value, totals, axis).flatMap((part, i) =>
      splitValue(recorder, part, runs[i], axis)
    );
  }
  const specs = sizes.map((size) => ({
    shape: value.shape.map((extent, i) => i === axis ? size : extent),
    dtype: value.dtype,
  }));
  return recorder.graph.multiNode("Split", [value, recorder.graph.ints(sizes)], specs, { axis });
}

/** The same values with all pieces of one split, where they stand in their order, replaced by what was split. */
export function rejoined(values: readonly Value[], axis: number): Value[] {
  const result: Value[] = [];
  for (let i = 0; i < values.length;) {
    const node = values[i].producer, pieces = node?.outputs ?? [];
    const whole = node?.op === "Split" && node.attributes.axis === axis &&
      pieces.every((piece, j) => values[i + j] === piece);
    result.push(whole ? node.inputs[0]! : values[i]);
    i += whole ? pieces.length : 1;
  }
  return result.length < values.length ? rejoined(result, axis) : result;
}
