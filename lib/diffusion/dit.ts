/**
 * The diffusion transformer: predicts the velocity of noised latents from a time and a class label.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { expectShape, type HostTensor, mapTree, type Rng, zeros } from "novae/tensor/mod.ts";
import { modulatedLayerNorm, silu } from "novae/engine/mod.ts";
import {
  type AttentionParams,
  type EmbeddingParams,
  embedLabels,
  initNorm,
  initWeight,
  linear,
  type LinearParams,
  mlp,
  type MlpParams,
  selfAttention,
  sinCosPositions2d,
  timestepFrequencies,
} from "novae/nn/mod.ts";
import { type DitConfig, ditShapes, isShape, TIME_FEATURES } from "./config.ts";

/** Weights of one block; its modulation comes from {@linkcode DitParams.modulation}. */
export interface DitBlockParams<T = tf.Tensor> {
  /** Self-attention. */
  attention: AttentionParams<T>;
  /** Perceptron of hidden width F. */
  mlp: MlpParams<T>;
}

/** Weights of a diffusion transformer. */
export interface DitParams<T = tf.Tensor> {
  /** Z to E, applied to each latent token. */
  tokens: LinearParams<T>;
  /** From the features of a time to E. */
  time: MlpParams<T>;
  /** Class vectors [L + 1, E]; the last stands for "no class". */
  labels: EmbeddingParams<T>;
  /**
   * From the condition to shift, scale and gate of the attention and of the perceptron of each block, then to shift
   * and scale before the output: E to (6·depth + 2)·E, all blocks in one product.
   */
  modulation: LinearParams<T>;
  /** The blocks in their order. */
  blocks: DitBlockParams<T>[];
  /** E to Z, or to 2·Z where the configuration says `learnSigma`. */
  output: LinearParams<T>;
}

/** Options of {@linkcode dit}. */
export interface DitOptions {
  /**
   * Names of intermediates to return: `tokens`, `condition`, and for each block `block00.attention`, `block00.mlp`
   * (both before their gate) and `block00` (after it).
   */
  readonly taps?: readonly string[];
}

/** What {@linkcode dit} returns. */
export interface DitOutput {
  /** Predicted velocity [B, N, Z]. */
  readonly velocityBNZ: tf.Tensor;
  /** The intermediates that were asked for. */
  readonly taps: Record<string, tf.Tensor>;
}

const NORM_EPS = 1e-6, QK_NORM_EPS = 1e-5;

/**
 * Initial weights: Xavier for linear maps, normal of standard deviation 0.02 for times and labels, zero for the
 * modulation and the output, so that an untrained transformer predicts velocity 0.
 *
 * *Source*: `initialize_weights` of facebookresearch/DiT.
 *
 * @param rng each weight has a stream of its own, named by its path.
 */
export function initDit(rng: Rng, config: DitConfig): DitParams<HostTensor> {
  return mapTree<DitParams<HostTensor>>(ditShapes(config), isShape, (leaf, path) => {
    const shape = leaf as number[];
    if (path.endsWith("qNorm.weight") || path.endsWith("kNorm.weight")) return initNorm(shape[0]).weight;
    if (path.endsWith("bias") || path.startsWith("modulation") || path.startsWith("output")) {
      return zeros(shape);
    }
    const normal = path.startsWith("time") || path.startsWith("labels");
    return initWeight(rng.split(path), shape as [number, number], normal ? "truncNormal" : "xavier", 0.02);
  });
}

/**
 * Predicts the velocity of noised latents.
 *
 * `c = time(t) + label(y)`; each block adds `g · attention(LN(x)(1 + s) + b)` and `g · mlp(LN(x)(1 + s) + b)`, with
 * shift b, scale s and gate g from `modulation(silu(c))`.
 *
 * *Source*: DiT with adaLN-Zero (Peebles and Xie, arXiv 2212.09748) as in `models_SVG.py` of shiml20/SVG: linear
 * token embedding, times in [0, 1] without scaling, query-key normalisation, positions fixed.
 * *Differs*: the modulations of all blocks are one product; the second half of a `learnSigma` output is not returned.
 *
 * @param zBNZ noised latents [B, N, Z].
 * @param tB times in [0, 1], [B], or [1] for one time for all.
 * @param labelsB int32 labels [B] in [0, L]; L is the null label.
 * @throws TypeError if a shape does not fit; RangeError for an unknown tap.
 */
export function dit(
  zBNZ: tf.Tensor,
  tB: tf.Tensor,
  labelsB: tf.Tensor,
  params: DitParams,
  config: DitConfig,
  options: DitOptions = {},
): DitOutput {
  const { channels, grid, width, depth } = config;
  const batch = zBNZ.shape[0], tokens = grid * grid;
  expectShape("Cannot predict velocity of latents", zBNZ.shape, [null, tokens, channels]);
  expectShape("Cannot predict velocity for labels", labelsB.shape, [batch]);
  expectShape("Cannot predict velocity for times", tB.shape, [tB.shape[0] === 1 ? 1 : batch]);
  const taps = new Taps(options.taps ?? []);

  const positions = sinCosPositions2d(grid, grid, width).data as Float32Array;
  let x = tf.add(linear(zBNZ, params.tokens), tf.tensor(positions, [tokens, width])); // [B, N, E]
  taps.set("tokens", x);
  const time = linear(silu(linear(timestepFrequencies(tB, TIME_FEATURES), params.time.fc1)), params.time.fc2);
  const condition = tf.add(time, embedLabels(labelsB, params.labels)); // [B, E]
  taps.set("condition", condition);
  const all = tf.reshape(linear(silu(condition), params.modulation), [batch, 6 * depth + 2, width]);
  const modulations = tf.split(all, 6 * depth + 2, 1); // each [B, 1, E]
  params.blocks.forEach((block, i) => {
    x = ditBlock(x, block, modulations.slice(6 * i, 6 * i + 6), config, taps, blockName(i));
  });
  const [shift, scale] = modulations.slice(6 * depth);
  const output = linear(modulatedLayerNorm(x, shift, scale, NORM_EPS), params.output);
  taps.expectAll();
  const velocityBNZ = config.learnSigma ? tf.slice(output, [0, 0, 0], [batch, tokens, channels]) : output;
  return { velocityBNZ, taps: taps.values };
}

/** One block with adaLN-Zero on tokens [B, N, E]; `modulations` are six tensors [B, 1, E]. */
function ditBlock(
  x: tf.Tensor,
  params: DitBlockParams,
  modulations: readonly tf.Tensor[],
  config: DitConfig,
  taps: Taps,
  name: string,
): tf.Tensor {
  const [shift1, scale1, gate1, shift2, scale2, gate2] = modulations;
  const attended = selfAttention(modulatedLayerNorm(x, shift1, scale1, NORM_EPS), params.attention, {
    heads: config.heads,
    eps: QK_NORM_EPS,
  });
  taps.set(`${name}.attention`, attended);
  const middle = tf.add(x, tf.mul(attended, gate1));
  const transformed = mlp(modulatedLayerNorm(middle, shift2, scale2, NORM_EPS), params.mlp, "gelu");
  taps.set(`${name}.mlp`, transformed);
  const result = tf.add(middle, tf.mul(transformed, gate2));
  taps.set(name, result);
  return result;
}

function blockName(index: number): string {
  return `block${String(index).padStart(2, "0")}`;
}

/** Collects the intermediates that were asked for. */
class Taps {
  readonly values: Record<string, tf.Tensor> = {};
  readonly #wanted: readonly string[];

  constructor(wanted: readonly string[]) {
    this.#wanted = wanted;
  }

  set(name: string, value: tf.Tensor): void {
    if (this.#wanted.includes(name)) this.values[name] = value;
  }

  /** @throws RangeError if a name that was asked for never came by. */
  expectAll(): void {
    const missing = this.#wanted.find((name) => !(name in this.values));
    if (missing !== undefined) throw new RangeError(`Cannot tap the transformer: it has no "${missing}"`);
  }
}
