/**
 * The vision transformer of DINO, DINOv2 and DINOv3 as a pure function: class token, registers and patches, learned
 * or rotary positions, pre-normalised blocks with or without LayerScale.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import {
  type AttentionParams,
  gatedMlp,
  type GatedMlpParams,
  linear,
  mlp,
  type MlpParams,
  norm,
  patchify,
  ropeTable2d,
  scaledRopeTable2d,
  selfAttention,
  selfAttentionWeights,
} from "novae/nn/mod.ts";
import type { VitConfig } from "./config.ts";
import { fitPositions } from "./positions.ts";
import { stem } from "./stem.ts";
import type { VitAttentionParams, VitBlockParams, VitParams } from "./vit_params.ts";

/** Options of {@linkcode vit}. */
export interface VitOptions {
  /**
   * Intermediates to hand out: `embed` (the token sequence before the first block), `block03.attention`,
   * `block03.mlp` (what the block adds, after LayerScale) or `block03` (its output), counted from 00.
   */
  readonly taps?: readonly string[];
  /** Patches to replace by the mask token: float32 [B, N] of 0 and 1. */
  readonly maskBN?: tf.Tensor;
  /**
   * Factors of what each block adds to each image, [depth, 2, B], attention first: 0 drops the path (stochastic
   * depth), factors above 1 make up for those dropped.
   */
  readonly paths?: tf.Tensor;
  /** Factors of the coordinates of rotary positions in each block [depth]. */
  readonly coordinateScales?: tf.Tensor;
  /** Number of last blocks whose tokens are handed out; default 0. */
  readonly lastBlocks?: number;
  /** Whether the tokens of the last blocks pass the final normalisation, as `clsBD` always does; default true. */
  readonly norm?: boolean;
  /** Attention weights of the last block to hand out: of all tokens (`full`) or of the class token (`cls`). */
  readonly attention?: "full" | "cls";
}

/** Tokens of a batch of images. */
export interface VitTokens {
  /** Class tokens [B, D]. */
  clsBD: tf.Tensor;
  /** Registers [B, registers, D]. */
  registersBRD: tf.Tensor;
  /** Patch tokens, row by row [B, N, D]. */
  patchesBND: tf.Tensor;
}

/** What {@linkcode vit} returns; its own tokens have passed the final normalisation. */
export interface VitOutput extends VitTokens {
  /** Tokens behind each of the last blocks that were asked for, the last block last. */
  lastBlocks: VitTokens[];
  /**
   * Weights with which tokens of the last block attend to all T = 1 + registers + N tokens, if asked for:
   * [B, A, T, T], or [B, A, T] for the class token.
   */
  attention?: tf.Tensor;
  /** The intermediates asked for, each [B, 1 + registers + N, D]. */
  taps: Record<string, tf.Tensor>;
}

/**
 * Forward pass of the vision transformer.
 *
 * `x ← x + g₁·attention(norm₁(x))`, `x ← x + g₂·mlp(norm₂(x))` in each block, on the sequence
 * [class, registers, patches]. Learned positions are added to class token and patches; rotary ones turn queries and
 * keys of the patches.
 *
 * *Source*: DINO (arXiv 2104.14294), DINOv2 (arXiv 2304.07193), registers (arXiv 2309.16588) and DINOv3
 * (arXiv 2508.10104); `lastBlocks` and `norm` as in their `get_intermediate_layers`. Evaluation mode, unless `paths`
 * and `coordinateScales` give what training draws.
 *
 * @param imageDinoBHWC ImageNet-normalised images [B, H, W, 3]; H and W are multiples of the patch.
 * @throws TypeError if the images do not have this shape; RangeError for an unknown tap, a number of last blocks
 * that there are not, or a mask without a mask token.
 */
export function vit(
  imageDinoBHWC: tf.Tensor,
  params: VitParams,
  config: VitConfig,
  options: VitOptions = {},
): VitOutput {
  const grid = gridOf(imageDinoBHWC.shape, config.patchSize), { depth } = config;
  const { lastBlocks = 0, norm: normalised = true } = options;
  if (!Number.isInteger(lastBlocks) || lastBlocks < 0 || lastBlocks > depth) {
    throw new RangeError(`Cannot hand out the last blocks: number must be 0 to ${depth}, got ${lastBlocks}`);
  }
  const taps = tapCollector(options.taps ?? []);
  let x = taps.note("embed", embed(imageDinoBHWC, grid, params, config, options.maskBN));
  const optionsOf = attentionOptionsOf(config, grid, options.coordinateScales);
  const streams: tf.Tensor[] = [];
  let attention: tf.Tensor | undefined;
  params.blocks.forEach((block, i) => {
    const name = `block${String(i).padStart(2, "0")}`, attentionOptions = optionsOf(i);
    const inner = norm(x, block.norm1, config.normEps), attend = attentionParams(block.attention, config);
    if (options.attention && i === depth - 1) {
      attention = lastAttention(inner, attend, attentionOptions, options.attention);
    }
    const add = (branch: 0 | 1, value: tf.Tensor, gain: tf.Tensor | undefined) =>
      tf.add(
        x,
        taps.note(`${name}.${BRANCHES[branch]}`, onPath(gained(value, gain), options.paths, i, branch)),
      );
    x = add(0, selfAttention(inner, attend, attentionOptions), block.layerScale1);
    x = add(1, perceptron(norm(x, block.norm2, config.normEps), block.mlp, config), block.layerScale2);
    taps.note(name, x);
    if (i >= depth - lastBlocks) streams.push(x);
  });
  const finish = (stream: tf.Tensor) => tokensOf(norm(stream, params.norm, config.normEps), config);
  const last = finish(x);
  return {
    ...last,
    lastBlocks: streams.map((stream) =>
      !normalised ? tokensOf(stream, config) : stream === x ? last : finish(stream)
    ),
    attention,
    taps: taps.collected(),
  };
}

/** The token sequence before the first block. */
function embed(
  imageDinoBHWC: tf.Tensor,
  [rows, cols]: [number, number],
  params: VitParams,
  config: VitConfig,
  maskBN?: tf.Tensor,
): tf.Tensor {
  const cut = params.stem ? stem(imageDinoBHWC, params.stem) : patchify(imageDinoBHWC, config.patchSize);
  let patches = linear(cut, params.patchEmbed), cls = params.clsToken;
  if (maskBN) {
    if (!params.maskToken) throw new RangeError("Cannot mask patches: the transformer has no mask token");
    const mask = tf.expandDims(maskBN, -1);
    patches = tf.add(tf.mul(patches, tf.sub(1, mask)), tf.mul(mask, params.maskToken));
  }
  if (params.positions) {
    const [clsPosition, positions] = tf.split(fitPositions(params.positions, rows, cols, config), [
      1,
      rows * cols,
    ]);
    cls = tf.add(cls, clsPosition);
    patches = tf.add(patches, positions);
  }
  const leading = params.registers ? tf.concat([cls, params.registers], 0) : cls;
  const repeated = tf.tile(tf.expandDims(leading, 0), [imageDinoBHWC.shape[0], 1, 1]);
  return tf.concat([repeated, patches], 1);
}

function tokensOf(x: tf.Tensor, { registers, width }: VitConfig): VitTokens {
  const [batch, tokens] = x.shape, clsBD = (cls: tf.Tensor) => tf.reshape(cls, [batch, width]);
  if (registers === 0) {
    const [cls, patchesBND] = tf.split(x, [1, tokens - 1], 1);
    return { clsBD: clsBD(cls), registersBRD: tf.zeros([batch, 0, width]), patchesBND };
  }
  const [cls, registersBRD, patchesBND] = tf.split(x, [1, registers, tokens - 1 - registers], 1);
  return { clsBD: clsBD(cls), registersBRD, patchesBND };
}

type AttentionOptions = Parameters<typeof selfAttention>[2];

/** Options of the attention of each block. */
function attentionOptionsOf(
  config: VitConfig,
  [rows, cols]: [number, number],
  scales?: tf.Tensor,
): (block: number) => AttentionOptions {
  const { heads, width, ropeTheta: theta, depth } = config;
  if (theta === undefined) return () => ({ heads });
  const options = { theta, prefix: 1 + config.registers };
  if (scales) {
    const each = tf.split(scales, depth, 0);
    return (i) => ({ heads, rope: scaledRopeTable2d(rows, cols, width / heads, each[i], options) });
  }
  const shared = { heads, rope: ropeTable2d(rows, cols, width / heads, options) };
  return () => shared;
}

const BRANCHES = ["attention", "mlp"] as const;

/** What a branch adds, times the factor of each image. */
function onPath(x: tf.Tensor, paths: tf.Tensor | undefined, block: number, branch: 0 | 1): tf.Tensor {
  if (!paths) return x;
  const batch = x.shape[0];
  return tf.mul(x, tf.reshape(tf.slice(paths, [block, branch, 0], [1, 1, batch]), [batch, 1, 1]));
}

/** Biases that there are not are zero. */
function attentionParams(params: VitAttentionParams, { width }: VitConfig): AttentionParams {
  const biases = [params.queryBias, params.keyBias, params.valueBias].map((bias) =>
    bias ?? tf.zeros([width])
  );
  return { qkv: { weight: params.qkv, bias: tf.concat(biases, 0) }, proj: params.proj };
}

function lastAttention(
  x: tf.Tensor,
  params: AttentionParams,
  options: AttentionOptions,
  which: "full" | "cls",
): tf.Tensor {
  if (which === "full") return selfAttentionWeights(x, params, options);
  return tf.squeeze(selfAttentionWeights(x, params, options, 1), [2]);
}

function gained(x: tf.Tensor, gain: VitBlockParams["layerScale1"]): tf.Tensor {
  return gain ? tf.mul(x, gain) : x;
}

function perceptron(x: tf.Tensor, params: MlpParams | GatedMlpParams, config: VitConfig): tf.Tensor {
  if (config.mlp === "gatedSilu") return gatedMlp(x, params as GatedMlpParams);
  return mlp(x, params as MlpParams, config.mlp);
}

function gridOf(shape: readonly number[], patchSize: number): [number, number] {
  const [, height, width, channels] = shape;
  if (shape.length !== 4 || channels !== 3 || height % patchSize !== 0 || width % patchSize !== 0) {
    throw new TypeError(
      `Cannot encode images: shape must be [B, H, W, 3] with H and W multiples of ${patchSize}, got [${shape}]`,
    );
  }
  return [height / patchSize, width / patchSize];
}

/** Keeps the intermediates that were asked for and complains about names that never came by. */
function tapCollector(wanted: readonly string[]) {
  const found: Record<string, tf.Tensor> = {}, seen: string[] = [];
  return {
    note(name: string, value: tf.Tensor): tf.Tensor {
      seen.push(name);
      if (wanted.includes(name)) found[name] = value;
      return value;
    },
    collected(): Record<string, tf.Tensor> {
      const unknown = wanted.find((name) => !seen.includes(name));
      if (unknown !== undefined) {
        throw new RangeError(`Cannot tap "${unknown}": known names are ${seen.slice(0, 4).join(", ")}, …`);
      }
      return found;
    },
  };
}
