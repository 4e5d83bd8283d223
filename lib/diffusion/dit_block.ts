/**
 * Blocks with adaLN-Zero, as the diffusion transformer and its head have them.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { layerNorm, modulatedLayerNorm, rmsNorm } from "novae/engine/mod.ts";
import {
  axialRopeTable2d,
  gatedMlp,
  type GatedMlpParams,
  mlp,
  type MlpParams,
  type RmsNormParams,
  type RopeTable,
  selfAttention,
} from "novae/nn/mod.ts";
import { type DitConfig, tokenGrid } from "./config.ts";
import type { DitBlockParams } from "./dit_params.ts";
import type { DitSizeShape } from "./sizes.ts";

const NORM_EPS = 1e-6, QK_NORM_EPS = 1e-5;

/** Where a block hands out its intermediates. */
export interface Tapped {
  /** Takes an intermediate of a name. */
  set(name: string, value: tf.Tensor): void;
}

/** What the blocks of one width have in common. */
export interface BlockOptions {
  /** Number of heads A. */
  readonly heads: number;
  /** Rotary positions. */
  readonly rope?: RopeTable;
  /** Epsilon of the query-key normalisation. */
  readonly eps: number;
}

/** Options of the blocks of the transformer or of its head. */
export function blockOptions(config: DitConfig, { width, heads }: DitSizeShape): BlockOptions {
  const side = tokenGrid(config), eps = config.norm === "rms" ? NORM_EPS : QK_NORM_EPS;
  return { heads, eps, ...(config.rope && { rope: axialRopeTable2d(side, side, width / heads) }) };
}

/**
 * One block on tokens [B, N, E]: `x ← x + g · attention(norm(x)(1 + s) + b)`, then the same with the perceptron.
 *
 * @param modulations shift b, scale s and gate g of the attention and of the perceptron, each [B, 1, E], or [B, N, E]
 * for tokens that are modulated by themselves.
 * @param name of the block among the taps.
 */
export function ditBlock(
  x: tf.Tensor,
  params: DitBlockParams,
  modulations: readonly tf.Tensor[],
  options: BlockOptions,
  taps: Tapped,
  name: string,
): tf.Tensor {
  const [shift1, scale1, gate1, shift2, scale2, gate2] = modulations;
  const attended = selfAttention(modulated(x, shift1, scale1, params.norm1), params.attention, options);
  taps.set(`${name}.attention`, attended);
  const middle = tf.add(x, tf.mul(attended, gate1));
  const transformed = perceptron(modulated(middle, shift2, scale2, params.norm2), params.mlp);
  taps.set(`${name}.mlp`, transformed);
  const result = tf.add(middle, tf.mul(transformed, gate2));
  taps.set(name, result);
  return result;
}

/**
 * Tokens [B, N, E], normalised, scaled and shifted; by the root mean square if there is a scale of its own.
 *
 * @param shift [B, 1, E] or [B, N, E], like `scale`.
 */
export function modulated(
  x: tf.Tensor,
  shift: tf.Tensor,
  scale: tf.Tensor,
  rms?: RmsNormParams,
): tf.Tensor {
  if (!rms && shift.shape[1] === 1) return modulatedLayerNorm(x, shift, scale, NORM_EPS);
  const normal = rms ? rmsNorm(x, rms.weight, NORM_EPS) : layerNorm(x, null, null, NORM_EPS);
  return tf.add(tf.mul(normal, tf.add(scale, 1)), shift);
}

function perceptron(x: tf.Tensor, params: MlpParams | GatedMlpParams): tf.Tensor {
  return "gate" in params ? gatedMlp(x, params) : mlp(x, params, "gelu");
}
