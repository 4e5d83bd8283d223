/**
 * Positions of tokens on a 2-D grid: fixed sine-cosine tables added to tokens, and rotary tables applied to queries
 * and keys.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { float32, type HostTensor } from "novae/tensor/mod.ts";

/**
 * Cosines and sines of rotary positions, [N, K] each, for N tokens and head width K. Tokens without a position
 * (class token, registers) have cosine 1 and sine 0, so that they pass unchanged.
 */
export interface RopeTable {
  /** Cosines [N, K]. */
  readonly cos: HostTensor;
  /** Sines [N, K]. */
  readonly sin: HostTensor;
}

/** Options of {@link ropeTable2d}. */
export interface RopeOptions {
  /** Base of the frequencies; default 100. */
  theta?: number;
  /** Number of leading tokens without a position; default 0. */
  prefix?: number;
}

/**
 * Fixed sine-cosine positions of a grid, row by row: the first half of the channels encodes the column, the second
 * the row, each as `[sin(p ω), cos(p ω)]` with `ω_i = 10000^(−i / (dim/4))`.
 *
 * *Source*: `get_2d_sincos_pos_embed` of facebookresearch/DiT, where the grid is made "w first".
 *
 * @param rows I, number of token rows.
 * @param cols J, number of token columns.
 * @param dim number of channels, a multiple of 4.
 * @returns [I·J, dim].
 * @throws RangeError if `dim` is no multiple of 4.
 */
export function sinCosPositions2d(rows: number, cols: number, dim: number): HostTensor {
  requireMultipleOf4("Cannot make positions: number of channels", dim);
  const quarter = dim / 4;
  const data = new Float32Array(rows * cols * dim);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < cols; j++) {
      const base = (i * cols + j) * dim;
      for (let f = 0; f < quarter; f++) {
        const omega = 10000 ** (-f / quarter);
        data[base + f] = Math.sin(j * omega);
        data[base + quarter + f] = Math.cos(j * omega);
        data[base + 2 * quarter + f] = Math.sin(i * omega);
        data[base + 3 * quarter + f] = Math.cos(i * omega);
      }
    }
  }
  return float32(data, [rows * cols, dim]);
}

/**
 * Rotary positions of a grid: patch centres in [−1, 1] along each axis, angle `2π · coordinate · θ^(−4f/K)` for
 * f = 0 … K/4 − 1, laid out as [row angles, column angles] twice over.
 *
 * *Source*: DINOv3's `RopePositionEmbedding` with `normalize_coords="separate"`.
 *
 * @param rows I, number of token rows.
 * @param cols J, number of token columns.
 * @param headDim K, a multiple of 4.
 * @returns tables [prefix + I·J, K].
 * @throws RangeError if `headDim` is no multiple of 4.
 */
export function ropeTable2d(
  rows: number,
  cols: number,
  headDim: number,
  options: RopeOptions = {},
): RopeTable {
  requireMultipleOf4("Cannot make rotary positions: head width", headDim);
  const { theta = 100, prefix = 0 } = options;
  const quarter = headDim / 4, tokens = prefix + rows * cols;
  const cos = new Float32Array(tokens * headDim), sin = new Float32Array(tokens * headDim);
  cos.fill(1, 0, prefix * headDim);
  for (let n = 0; n < rows * cols; n++) {
    const y = (Math.floor(n / cols) + 0.5) / rows * 2 - 1, x = (n % cols + 0.5) / cols * 2 - 1;
    for (let c = 0; c < headDim; c++) {
      const slot = c % (headDim / 2), f = slot % quarter;
      const angle = 2 * Math.PI * (slot < quarter ? y : x) * theta ** (-f / quarter);
      cos[(prefix + n) * headDim + c] = Math.cos(angle);
      sin[(prefix + n) * headDim + c] = Math.sin(angle);
    }
  }
  return { cos: float32(cos, [tokens, headDim]), sin: float32(sin, [tokens, headDim]) };
}

/**
 * Rotates channel pairs (c, c + K/2) of queries or keys by their token's angles,
 * `y = x · cos + [−x₂, x₁] · sin` for the halves `x = [x₁, x₂]`.
 *
 * @param xBANK [B, A, N, K].
 * @returns the same shape as `xBANK`.
 * @throws TypeError if the table does not fit the tokens.
 */
export function applyRope(xBANK: tf.Tensor, table: RopeTable): tf.Tensor {
  const [tokens, headDim] = table.cos.shape;
  const shape = xBANK.shape;
  if (xBANK.rank !== 4 || shape[2] !== tokens || shape[3] !== headDim) {
    throw new TypeError(
      `Cannot rotate: shape must be [B, A, ${tokens}, ${headDim}] as in the table, got [${shape}]`,
    );
  }
  const half = headDim / 2;
  // The sign of the first half goes into the table, so that the rotation is a swap of halves.
  const signed = new Float32Array(table.sin.data);
  for (let i = 0; i < signed.length; i++) if (i % headDim < half) signed[i] = -signed[i];
  const [first, second] = tf.split(xBANK, 2, -1);
  const swapped = tf.concat([second, first], -1);
  const cos = tf.tensor(table.cos.data as Float32Array, [tokens, headDim]);
  const sin = tf.tensor(signed, [tokens, headDim]);
  return tf.add(tf.mul(xBANK, cos), tf.mul(swapped, sin));
}

function requireMultipleOf4(what: string, value: number): void {
  if (!Number.isInteger(value) || value < 4 || value % 4 !== 0) {
    throw new RangeError(`${what} must be a multiple of 4, got ${value}`);
  }
}
