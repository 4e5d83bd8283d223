/**
 * The diffusion transformer: predicts the velocity of noised latents from a time and a class label.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { expectShape } from "novae/tensor/mod.ts";
import { silu } from "novae/engine/mod.ts";
import {
  embedLabels,
  fourierFeatures,
  linear,
  type LinearParams,
  patchify,
  sinCosPositions2d,
  timestepFrequencies,
  unpatchify,
} from "novae/nn/mod.ts";
import { type DitConfig, tokenGrid } from "./config.ts";
import { blockOptions, ditBlock, modulated } from "./dit_block.ts";
import { type DitHeadParams, type DitParams, TIME_FEATURES, type TimeParams } from "./dit_params.ts";

export * from "./dit_params.ts";

/** Options of {@linkcode dit}. */
export interface DitOptions {
  /**
   * Names of intermediates to return: `tokens`, `condition`, for each block `block00.attention`, `block00.mlp` (both
   * before their gate) and `block00` (after it), for each block of a head the same with `head00`, and `output`, all
   * channels of the prediction with the second half of a `learnSigma` model [B, N, 2·Z].
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

/**
 * Predicts the velocity of noised latents.
 *
 * `c = time(t) + label(y)`; each block adds `g · attention(norm(x)(1 + s) + b)` and `g · mlp(norm(x)(1 + s) + b)`, with
 * shift b, scale s and gate g from `modulation(silu(c))`. A head starts from the latents again and modulates each
 * token by `silu(time(t) + x)` of the token x behind the blocks.
 *
 * *Source*: DiT with adaLN-Zero (Peebles and Xie, arXiv 2212.09748) as in `models_SVG.py` of shiml20/SVG: linear
 * token embedding, times in [0, 1] without scaling, query-key normalisation, positions fixed. Patches as in DiT and
 * SiT; RMSNorm, SwiGLU and rotary positions as in LightningDiT; head and random time features as in RAE's DiTDH.
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
  const { channels, grid, width, depth } = config, batch = zBNZ.shape[0];
  expectShape("Cannot predict velocity of latents", zBNZ.shape, [null, grid * grid, channels]);
  expectShape("Cannot predict velocity for labels", labelsB.shape, [batch]);
  expectShape("Cannot predict velocity for times", tB.shape, [tB.shape[0] === 1 ? 1 : batch]);
  const taps = new Taps(options.taps ?? []);

  const cut = cutLatents(zBNZ, config), side = tokenGrid(config);
  const positions = sinCosPositions2d(side, side, width).data as Float32Array;
  let x = tf.add(linear(cut, params.tokens), tf.tensor(positions, [side * side, width])); // [B, N, E]
  taps.set("tokens", x);
  const time = embedTimes(tB, params.time);
  const condition = tf.add(time, embedLabels(labelsB, params.labels)); // [B, E]
  taps.set("condition", condition);
  const perBatch = tf.expandDims(params.head ? silu(condition) : condition, 1);
  const modulations = modulationsOf(perBatch, params.modulation); // each [B, 1, E]
  const shared = blockOptions(config, config);
  params.blocks.forEach((block, i) => {
    x = ditBlock(x, block, modulations.slice(6 * i, 6 * i + 6), shared, taps, numbered("block", i));
  });
  const final = params.head
    ? headBlocks(cut, silu(tf.add(x, tf.expandDims(time, 1))), params.head, config, taps)
    : { x, shift: modulations[6 * depth], scale: modulations[6 * depth + 1] };
  const predicted = linear(modulated(final.x, final.shift, final.scale, params.outputNorm), params.output);
  const output = joinLatents(predicted, config);
  taps.set("output", output);
  taps.expectAll();
  const velocityBNZ = config.learnSigma
    ? tf.slice(output, [0, 0, 0], [batch, grid * grid, channels])
    : output;
  return { velocityBNZ, taps: taps.values };
}

/** The wide and shallow head on latents `cut` into tokens, each modulated by its token of the condition [B, N, E]. */
function headBlocks(
  cut: tf.Tensor,
  conditionBNE: tf.Tensor,
  params: DitHeadParams,
  config: DitConfig,
  taps: Taps,
): { x: tf.Tensor; shift: tf.Tensor; scale: tf.Tensor } {
  const condition = params.projection ? linear(conditionBNE, params.projection) : conditionBNE;
  const modulations = modulationsOf(condition, params.modulation), count = params.blocks.length; // each [B, N, W]
  const shared = blockOptions(config, config.head!);
  let x = linear(cut, params.tokens);
  params.blocks.forEach((block, i) => {
    x = ditBlock(x, block, modulations.slice(6 * i, 6 * i + 6), shared, taps, numbered("head", i));
  });
  return { x, shift: modulations[6 * count], scale: modulations[6 * count + 1] };
}

/** Shifts, scales and gates from a condition [B, M, E]: tensors [B, M, E] in their order. */
function modulationsOf(condition: tf.Tensor, params: LinearParams): tf.Tensor[] {
  const [batch, tokens, width] = condition.shape, all = linear(silu(condition), params);
  const count = all.shape[2]! / width;
  if (tokens > 1) return tf.split(all, count, 2);
  return tf.split(tf.reshape(all, [batch, count, width]), count, 1);
}

/** [B, E], or [1, E] for one time. */
function embedTimes(tB: tf.Tensor, params: TimeParams): tf.Tensor {
  const features = params.frequencies
    ? fourierFeatures(tB, params.frequencies)
    : timestepFrequencies(tB, TIME_FEATURES);
  return linear(silu(linear(features, params.fc1)), params.fc2);
}

/** Latents [B, N, Z] as tokens of the transformer, [B, N / p², p²·Z]. */
function cutLatents(zBNZ: tf.Tensor, { grid, channels, patchSize = 1 }: DitConfig): tf.Tensor {
  if (patchSize === 1) return zBNZ;
  return patchify(tf.reshape(zBNZ, [zBNZ.shape[0], grid, grid, channels]), patchSize);
}

/** The inverse of {@linkcode cutLatents} for any number of channels. */
function joinLatents(tokens: tf.Tensor, config: DitConfig): tf.Tensor {
  const { grid, patchSize = 1 } = config, side = tokenGrid(config);
  if (patchSize === 1) return tokens;
  const joined = unpatchify(tokens, side, side, patchSize);
  return tf.reshape(joined, [joined.shape[0], grid * grid, joined.shape[3]!]);
}

function numbered(kind: "block" | "head", index: number): string {
  return `${kind}${String(index).padStart(2, "0")}`;
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
