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
 * (class token, registers) have cosine 1 and sine 0, so that they pass unchanged. Tensors where they are computed.
 */
export interface RopeTable<T extends HostTensor | tf.Tensor = HostTensor | tf.Tensor> {
  /** Cosines [N, K]. */
  readonly cos: T;
  /** Sines [N, K]. */
  readonly sin: T;
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
): RopeTable<HostTensor> {
  const angles = ropeAngles2d(rows, cols, headDim, options), { shape } = angles;
  return {
    cos: float32(Float32Array.from(angles.data, Math.cos), shape),
    sin: float32(Float32Array.from(angles.data, Math.sin), shape),
  };
}

/**
 * Rotary positions of a grid by row and column number: angle `position · θ^(−4f/K)` for f = 0 … K/4 − 1, laid out as
 * [row angles, column angles] twice over.
 *
 * *Source*: `VisionRotaryEmbeddingFast` of EVA, as LightningDiT and RAE use it. *Differs*: there the two channels of a
 * pair are neighbours, here they are half a head apart; attention is the same if queries and keys are reordered alike.
 *
 * @param rows I, number of token rows.
 * @param cols J, number of token columns.
 * @param headDim K, a multiple of 4.
 * @param theta base of the frequencies.
 * @returns tables [I·J, K].
 * @throws RangeError if `headDim` is no multiple of 4.
 */
export function axialRopeTable2d(
  rows: number,
  cols: number,
  headDim: number,
  theta = 10000,
): RopeTable<HostTensor> {
  requireMultipleOf4("Cannot make rotary positions: head width", headDim);
  const quarter = headDim / 4, shape = [rows * cols, headDim];
  const angles = Float64Array.from({ length: rows * cols * headDim }, (_, at) => {
    const slot = at % (headDim / 2), token = Math.floor(at / headDim);
    const position = slot < quarter ? Math.floor(token / cols) : token % cols;
    return position * theta ** (-(slot % quarter) / quarter);
  });
  return {
    cos: float32(Float32Array.from(angles, Math.cos), shape),
    sin: float32(Float32Array.from(angles, Math.sin), shape),
  };
}

/**
 * The table of {@linkcode ropeTable2d} with all coordinates multiplied by a factor that is an input.
 *
 * *Source*: `pos_embed_rope_rescale_coords` of facebookresearch/dinov3, where training draws the factor.
 *
 * @param scale scalar.
 */
export function scaledRopeTable2d(
  rows: number,
  cols: number,
  headDim: number,
  scale: tf.Tensor,
  options: RopeOptions = {},
): RopeTable<tf.Tensor> {
  const { data, shape } = ropeAngles2d(rows, cols, headDim, options);
  const angles = tf.mul(tf.tensor(Float32Array.from(data), [...shape]), scale);
  return { cos: tf.cos(angles), sin: tf.sin(angles) };
}

/** Angles of the tokens [prefix + I·J, K] in double precision; 0 for tokens without a position. */
function ropeAngles2d(
  rows: number,
  cols: number,
  headDim: number,
  { theta = 100, prefix = 0 }: RopeOptions,
): { data: Float64Array; shape: [number, number] } {
  requireMultipleOf4("Cannot make rotary positions: head width", headDim);
  const quarter = headDim / 4, tokens = prefix + rows * cols;
  const data = new Float64Array(tokens * headDim);
  for (let n = 0; n < rows * cols; n++) {
    const y = (Math.floor(n / cols) + 0.5) / rows * 2 - 1, x = (n % cols + 0.5) / cols * 2 - 1;
    for (let c = 0; c < headDim; c++) {
      const slot = c % (headDim / 2), f = slot % quarter;
      data[(prefix + n) * headDim + c] = 2 * Math.PI * (slot < quarter ? y : x) * theta ** (-f / quarter);
    }
  }
  return { data, shape: [tokens, headDim] };
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
  const [first, second] = tf.split(xBANK, 2, -1);
  const swapped = tf.concat([second, first], -1);
  return tf.add(tf.mul(xBANK, asTensor(table.cos)), tf.mul(swapped, signedSine(table.sin, half)));
}

/** The sign of the first half goes into the table, so that the rotation is a swap of halves. */
function signedSine(sin: HostTensor | tf.Tensor, half: number): tf.Tensor {
  if (sin instanceof tf.Tensor) {
    const [first, second] = tf.split(sin, 2, -1);
    return tf.concat([tf.neg(first), second], -1);
  }
  const signed = new Float32Array(sin.data);
  for (let i = 0; i < signed.length; i++) if (i % (2 * half) < half) signed[i] = -signed[i];
  return tf.tensor(signed, [...sin.shape]);
}

function asTensor(value: HostTensor | tf.Tensor): tf.Tensor {
  return value instanceof tf.Tensor ? value : tf.tensor(value.data as Float32Array, [...value.shape]);
}

function requireMultipleOf4(what: string, value: number): void {
  if (!Number.isInteger(value) || value < 4 || value % 4 !== 0) {
    throw new RangeError(`${what} must be a multiple of 4, got ${value}`);
  }
}
