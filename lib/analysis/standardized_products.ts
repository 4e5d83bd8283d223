/**
 * Products with a feature matrix that is shifted and scaled column by column and stays on the device, for solvers
 * that multiply by it many times.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { type DeviceTensor, jit, type Jitted } from "novae/engine/mod.ts";
import { float32, type Matrix } from "novae/tensor/mod.ts";
import { type Matrix64, zeroMatrix } from "./matrix.ts";
import { asTensor, type ProductOptions, runsOnHost } from "./products.ts";

/** Shift and scale of each column. */
export interface ColumnScaling {
  /** What is subtracted. */
  readonly mean: Float64Array;
  /** What is multiplied afterwards: one over the standard deviation, 0 for a constant column. */
  readonly scale: Float64Array;
}

/** Multiplies from both sides by `X̂ = (X − μ)·diag(s)`. */
export interface StandardizedProducts {
  /** Rows of the feature matrix. */
  readonly rows: number;
  /** Its columns. */
  readonly cols: number;
  /** `X̂·W` for `W` of shape [cols, m]. */
  times(w: Matrix): Promise<Matrix64>;
  /** `X̂ᵀ·R` for `R` of shape [rows, m]. */
  transposedTimes(r: Matrix): Promise<Matrix64>;
  /** Releases the matrix. */
  dispose(): Promise<void>;
}

/** Multiplications a product up to which the host is as quick as a call of the device. */
const HOST_LIMIT = 2e6;

/** Mean and one over the standard deviation (divisor n) of each column. */
export function columnScaling(matrix: Matrix): ColumnScaling {
  const { data, rows, cols } = matrix, mean = new Float64Array(cols), scale = new Float64Array(cols);
  for (let i = 0; i < rows; i++) for (let j = 0; j < cols; j++) mean[j] += data[i * cols + j] / rows;
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < cols; j++) scale[j] += (data[i * cols + j] - mean[j]) ** 2 / rows;
  }
  for (let j = 0; j < cols; j++) {
    // A column that varies by rounding only carries nothing.
    scale[j] = scale[j] > 1e-14 * (mean[j] ** 2 + 1e-30) ? 1 / Math.sqrt(scale[j]) : 0;
  }
  return { mean, scale };
}

/**
 * Puts a standardised copy of a matrix where it is multiplied: on the device, or in float64 on the host if one
 * product with `width` columns is small.
 *
 * @param matrix shape [n, d].
 * @param width columns of the matrices to be multiplied by.
 */
export async function standardizedProducts(
  matrix: Matrix,
  scaling: ColumnScaling,
  width: number,
  options: ProductOptions = {},
): Promise<StandardizedProducts> {
  const limits = { ...options, hostLimit: options.hostLimit ?? HOST_LIMIT };
  if (runsOnHost(matrix.rows * matrix.cols * width, limits)) return hostProducts(matrix, scaling);
  return await deviceProducts(matrix, scaling, options);
}

function hostProducts(matrix: Matrix, { mean, scale }: ColumnScaling): StandardizedProducts {
  const { rows, cols } = matrix, x = zeroMatrix(rows, cols).data;
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < cols; j++) x[i * cols + j] = (matrix.data[i * cols + j] - mean[j]) * scale[j];
  }
  return {
    rows,
    cols,
    times(w) {
      const m = w.cols, out = zeroMatrix(rows, m);
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < cols; j++) {
          const value = x[i * cols + j];
          for (let c = 0; c < m; c++) out.data[i * m + c] += value * w.data[j * m + c];
        }
      }
      return Promise.resolve(out);
    },
    transposedTimes(r) {
      const m = r.cols, out = zeroMatrix(cols, m);
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < cols; j++) {
          const value = x[i * cols + j];
          for (let c = 0; c < m; c++) out.data[j * m + c] += value * r.data[i * m + c];
        }
      }
      return Promise.resolve(out);
    },
    dispose: () => Promise.resolve(),
  };
}

async function deviceProducts(
  matrix: Matrix,
  { mean, scale }: ColumnScaling,
  options: ProductOptions,
): Promise<StandardizedProducts> {
  const { rows, cols } = matrix, device = options.device ?? "cpu";
  const standardize = jit(
    (xND: tf.Tensor, meanD: tf.Tensor, scaleD: tf.Tensor) => tf.mul(tf.sub(xND, meanD), scaleD),
    { device, name: "standardize" },
  );
  const vector = (values: Float64Array) => float32(Float32Array.from(values), [cols]);
  const xND = await standardize(asTensor(matrix), vector(mean), vector(scale)) as DeviceTensor;
  await standardize.dispose();
  const forward = jit((x: tf.Tensor, wDM: tf.Tensor) => tf.matMul(x as tf.Tensor2D, wDM as tf.Tensor2D), {
    device,
    name: "timesFeatures",
  });
  // RᵀX̂ rather than X̂ᵀR: only the narrow matrix is transposed.
  const backward = jit((x: tf.Tensor, rMN: tf.Tensor) => tf.matMul(rMN as tf.Tensor2D, x as tf.Tensor2D), {
    device,
    name: "timesTransposedFeatures",
  });
  return {
    rows,
    cols,
    times: (w) => call(forward, xND, asTensor(w), false),
    transposedTimes: (r) => call(backward, xND, asTensor(transposed32(r)), true),
    async dispose() {
      xND.dispose();
      await forward.dispose();
      await backward.dispose();
    },
  };
}

type Product = Jitted<(x: tf.Tensor, other: tf.Tensor) => tf.Tensor>;

async function call(
  fn: Product,
  x: DeviceTensor,
  other: ReturnType<typeof asTensor>,
  flips: boolean,
): Promise<Matrix64> {
  const result = await fn(x, other);
  const { shape, data } = await result.read();
  result.dispose();
  const values = { data: data as Float32Array, rows: shape[0], cols: shape[1] };
  const out = flips ? transposed32(values) : values;
  return { data: Float64Array.from(out.data), rows: out.rows, cols: out.cols };
}

function transposed32(a: Matrix): Matrix {
  const data = new Float32Array(a.rows * a.cols);
  for (let i = 0; i < a.rows; i++) {
    for (let j = 0; j < a.cols; j++) data[j * a.rows + i] = a.data[i * a.cols + j];
  }
  return { data, rows: a.cols, cols: a.rows };
}
