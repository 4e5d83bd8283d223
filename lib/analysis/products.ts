/**
 * Products of large matrices, block by block on a compiled device, and small ones in float64 on the host.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { type DeviceName, jit } from "novae/engine/mod.ts";
import { float32, type HostTensor, type Matrix } from "novae/tensor/mod.ts";
import { dot } from "./matrix.ts";

/** Where products of large matrices are computed. */
export interface ProductOptions {
  /** Device of the blocks. Default `cpu`. */
  readonly device?: DeviceName;
  /**
   * Multiplications and additions up to which the host computes in float64 instead, since compiling a graph costs
   * more than it saves. Default 5e7; 0 forces the device, `Infinity` the host.
   */
  readonly hostLimit?: number;
}

/** Default of {@linkcode ProductOptions.hostLimit}, about 50 ms of plain code. */
const HOST_LIMIT = 5e7;

/** Values of one block of the product, about 32 MB in float32. */
const BLOCK_VALUES = 8e6;

/** Whether a product of this many multiplications is left to the host. */
export function runsOnHost(multiplications: number, options: ProductOptions): boolean {
  return multiplications <= (options.hostLimit ?? HOST_LIMIT);
}

/**
 * Computes `A·Bᵀ` a block of rows of `A` at a time and hands each block over.
 *
 * @param a shape [n, d].
 * @param b shape [m, d].
 * @param visit gets a block of shape [end − start, m] and the rows of `A` that it belongs to; it must not keep the
 * block.
 * @throws TypeError if the numbers of columns differ.
 */
export async function visitProducts(
  a: Matrix,
  b: Matrix,
  visit: (block: Float32Array | Float64Array, start: number, end: number) => void,
  options: ProductOptions = {},
): Promise<void> {
  if (a.cols !== b.cols) {
    throw new TypeError(`Cannot multiply matrices: both must have ${a.cols} columns, got ${b.cols}`);
  }
  const n = a.cols, blockRows = Math.max(1, Math.min(a.rows, Math.floor(BLOCK_VALUES / Math.max(b.rows, 1))));
  if (runsOnHost(a.rows * b.rows * n, options)) {
    const block = new Float64Array(blockRows * b.rows);
    for (let start = 0; start < a.rows; start += blockRows) {
      const end = Math.min(start + blockRows, a.rows);
      for (let i = start; i < end; i++) {
        const row = (i - start) * b.rows;
        for (let j = 0; j < b.rows; j++) block[row + j] = dot(a.data, i * n, b.data, j * n, n);
      }
      visit(block.subarray(0, (end - start) * b.rows), start, end);
    }
    return;
  }
  const left = asTensor(a), right = asTensor(b).data as Float32Array;
  const product = jit(
    (xBD: tf.Tensor, yMD: tf.Tensor) => tf.matMul(xBD as tf.Tensor2D, yMD as tf.Tensor2D, false, true),
    { device: options.device ?? "cpu", name: "product" },
  );
  try {
    for (let start = 0; start < a.rows; start += blockRows) {
      const end = Math.min(start + blockRows, a.rows);
      const rows = float32((left.data as Float32Array).subarray(start * n, end * n), [end - start, n]);
      const block = await product(rows, float32(right, [b.rows, n]));
      const values = await block.read();
      visit(values.data as Float32Array, start, end);
      block.dispose();
    }
  } finally {
    await product.dispose();
  }
}

/** A matrix as a float32 tensor, without a copy if it is float32 already. */
export function asTensor(matrix: Matrix): HostTensor {
  const data = matrix.data instanceof Float32Array ? matrix.data : Float32Array.from(matrix.data);
  return float32(data, [matrix.rows, matrix.cols]);
}
