/**
 * Learned positions on grids other than their own: PyTorch's bicubic interpolation as two matrix products.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { float32, type HostTensor } from "novae/tensor/mod.ts";
import { type PositionFit, positionGrid, type VitConfig } from "./config.ts";

/**
 * Learned positions for a grid of patches. On their own grid they are returned as they are.
 *
 * @param positions class token and square grid, row by row [1 + G·G, D].
 * @param rows I, number of token rows.
 * @param cols J, number of token columns.
 * @returns [1 + I·J, D].
 */
export function fitPositions(
  positions: tf.Tensor,
  rows: number,
  cols: number,
  config: VitConfig,
): tf.Tensor {
  const grid = positionGrid(config), width = config.width;
  if (rows === grid && cols === grid) return positions;
  const fit = config.learnedPositions!;
  const [cls, patches] = tf.split(positions, [1, grid * grid], 0);
  const alongRows = multiply(bicubicMatrix(grid, rows, fit), tf.reshape(patches, [grid, grid * width]));
  const turned = tf.transpose(tf.reshape(alongRows, [rows, grid, width]), [1, 0, 2]);
  const alongCols = multiply(bicubicMatrix(grid, cols, fit), tf.reshape(turned, [grid, rows * width]));
  const fitted = tf.transpose(tf.reshape(alongCols, [cols, rows, width]), [1, 0, 2]);
  return tf.concat([cls, tf.reshape(fitted, [rows * cols, width])], 0);
}

function multiply(matrix: HostTensor, values: tf.Tensor): tf.Tensor {
  return tf.matMul(tf.tensor(matrix.data, [...matrix.shape]), values);
}

/**
 * Coefficients of bicubic interpolation along one axis, pixel centres at halves.
 *
 * *Source*: `torch.nn.functional.interpolate(mode="bicubic", align_corners=False)` with `size=to` (`size`),
 * `scale_factor=(to + 0.1) / from` (`offset`) and `size=to, antialias=True` (`antialias`).
 *
 * @param from number of given values.
 * @param to number of wanted values.
 * @returns [to, from]; the rows sum to 1.
 */
export function bicubicMatrix(from: number, to: number, fit: PositionFit): HostTensor {
  const matrix = new Float32Array(to * from);
  const step = fit === "offset" ? from / (to + 0.1) : from / to;
  for (let i = 0; i < to; i++) {
    const row = matrix.subarray(i * from, (i + 1) * from), centre = (i + 0.5) * step;
    if (fit === "antialias") filteredRow(row, centre, step);
    else clampedRow(row, centre - 0.5);
  }
  return float32(matrix, [to, from]);
}

/** Four neighbours with a = −0.75; those beyond an edge are the edge. */
function clampedRow(row: Float32Array, position: number): void {
  const first = Math.floor(position) - 1;
  for (let j = first; j < first + 4; j++) {
    row[Math.min(Math.max(j, 0), row.length - 1)] += cubic(position - j, -0.75);
  }
}

/** All values under a kernel with a = −0.5 that is as much wider as the grid is coarser; none beyond an edge. */
function filteredRow(row: Float32Array, centre: number, step: number): void {
  const stretch = Math.max(step, 1), support = 2 * stretch;
  const first = Math.max(Math.trunc(centre - support + 0.5), 0);
  const end = Math.min(Math.trunc(centre + support + 0.5), row.length);
  const weights = Array.from(
    { length: end - first },
    (_, k) => cubic((first + k + 0.5 - centre) / stretch, -0.5),
  );
  const sum = weights.reduce((total, weight) => total + weight, 0);
  weights.forEach((weight, k) => row[first + k] = weight / sum);
}

/** Keys' cubic convolution kernel. */
function cubic(distance: number, a: number): number {
  const x = Math.abs(distance);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? ((x - 5) * x + 8) * x * a - 4 * a : 0;
}
