/**
 * The vision transformer of DINOv3 as a pure function: class token, registers and patches, rotary positions on the
 * patches, pre-normalised blocks with LayerScale.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { float32, full, type HostTensor, type Rng, zeros } from "novae/tensor/mod.ts";
import {
  gatedMlp,
  type GatedMlpParams,
  initGatedMlp,
  initLinear,
  initMlp,
  initNorm,
  initWeight,
  linear,
  type LinearParams,
  mlp,
  type MlpParams,
  norm,
  type NormParams,
  type RopeTable,
  ropeTable2d,
  selfAttention,
  truncatedNormal,
} from "novae/nn/mod.ts";
import { mlpWidth, type VitConfig } from "./config.ts";

/** Weights of the attention of a block: keys have no bias. */
export interface VitAttentionParams<T = tf.Tensor> {
  /** [D, 3·D]: queries, keys, values. */
  qkv: T;
  /** [D]. */
  queryBias: T;
  /** [D]. */
  valueBias: T;
  /** [D, D] behind the heads. */
  proj: LinearParams<T>;
}

/** Weights of a block. */
export interface VitBlockParams<T = tf.Tensor> {
  /** Before the attention. */
  norm1: NormParams<T>;
  /** Self-attention. */
  attention: VitAttentionParams<T>;
  /** Gain behind the attention [D]. */
  layerScale1: T;
  /** Before the perceptron. */
  norm2: NormParams<T>;
  /** Gated if the settings say so. */
  mlp: MlpParams<T> | GatedMlpParams<T>;
  /** Gain behind the perceptron [D]. */
  layerScale2: T;
}

/** Weights of a vision transformer. */
export interface VitParams<T = tf.Tensor> {
  /** Linear map of a patch, its pixels in the order row, column, channel: weight [p·p·3, D]. */
  patchEmbed: LinearParams<T>;
  /** [1, D]. */
  clsToken: T;
  /** Stands for a masked patch in training [1, D]. */
  maskToken: T;
  /** [registers, D]. */
  registers: T;
  /** From the first to the last. */
  blocks: VitBlockParams<T>[];
  /** After the last block. */
  norm: NormParams<T>;
}

/** Options of {@linkcode vit}. */
export interface VitOptions {
  /**
   * Intermediates to hand out: `embed` (the token sequence before the first block), `block03.attention`,
   * `block03.mlp` (what the block adds, after LayerScale) or `block03` (its output), counted from 00.
   */
  readonly taps?: readonly string[];
  /** Patches to replace by the mask token: float32 [B, N] of 0 and 1. */
  readonly maskBN?: tf.Tensor;
}

/** What {@linkcode vit} returns; all tokens have passed the final normalisation. */
export interface VitOutput {
  /** Class tokens [B, D]. */
  clsBD: tf.Tensor;
  /** Registers [B, registers, D]. */
  registersBRD: tf.Tensor;
  /** Patch tokens, row by row [B, N, D]. */
  patchesBND: tf.Tensor;
  /** The intermediates asked for, each [B, 1 + registers + N, D]. */
  taps: Record<string, tf.Tensor>;
}

/**
 * Initial weights: normal of standard deviation `1 / √(3 · D)`, biases zero, gains `layerScaleInit`.
 *
 * *Source*: DINOv3's `init_weights`, which draws with 0.02 at every width. *Differs*: the deviation is 0.02 at width
 * 768 and larger below, so that narrow networks too start with tokens that depend on the image; the patch embedding
 * is drawn in the same way.
 */
export function initVit(rng: Rng, config: VitConfig): VitParams<HostTensor> {
  const { width, patchSize } = config;
  const std = 1 / Math.sqrt(3 * width), init = { init: "truncNormal", std } as const;
  const token = (label: string, count: number) =>
    float32(truncatedNormal(rng.split(label), count * width, 0.02), [count, width]);
  const blocks = Array.from({ length: config.depth }, (_, i): VitBlockParams<HostTensor> => {
    const stream = rng.split("block", i);
    const initPerceptron = config.mlp === "gatedSilu" ? initGatedMlp : initMlp;
    return {
      norm1: initNorm(width),
      attention: {
        qkv: initWeight(stream.split("qkv"), [width, 3 * width], "truncNormal", std),
        queryBias: zeros([width]),
        valueBias: zeros([width]),
        proj: initLinear(stream.split("proj"), width, width, init),
      },
      layerScale1: full([width], config.layerScaleInit),
      norm2: initNorm(width),
      mlp: initPerceptron(stream.split("mlp"), width, mlpWidth(config), init),
      layerScale2: full([width], config.layerScaleInit),
    };
  });
  return {
    patchEmbed: initLinear(rng.split("patchEmbed"), patchSize * patchSize * 3, width, init),
    clsToken: token("clsToken", 1),
    maskToken: zeros([1, width]),
    registers: token("registers", config.registers),
    blocks,
    norm: initNorm(width),
  };
}

/**
 * Forward pass of the vision transformer.
 *
 * `x ← x + g₁·attention(norm₁(x))`, `x ← x + g₂·mlp(norm₂(x))` in each block, on the sequence
 * [class, registers, patches]; queries and keys of the patches are rotated by their positions.
 *
 * *Source*: DINOv3 (arXiv 2508.10104), facebookresearch/dinov3 in evaluation mode. *Differs*: no dropped paths and
 * no jitter of the coordinates in training.
 *
 * @param imageDinoBHWC ImageNet-normalised images [B, H, W, 3]; H and W are multiples of the patch.
 * @throws TypeError if the images do not have this shape; RangeError for an unknown tap.
 */
export function vit(
  imageDinoBHWC: tf.Tensor,
  params: VitParams,
  config: VitConfig,
  options: VitOptions = {},
): VitOutput {
  const [rows, cols] = gridOf(imageDinoBHWC.shape, config.patchSize);
  const taps = tapCollector(options.taps ?? []);
  let patches = linear(patchify(imageDinoBHWC, config.patchSize), params.patchEmbed);
  if (options.maskBN) {
    const mask = tf.expandDims(options.maskBN, -1);
    patches = tf.add(tf.mul(patches, tf.sub(1, mask)), tf.mul(mask, params.maskToken));
  }
  const batch = imageDinoBHWC.shape[0], prefix = 1 + config.registers;
  const leading = tf.concat([params.clsToken, params.registers], 0);
  const repeated = tf.tile(tf.expandDims(leading, 0), [batch, 1, 1]);
  let x = taps.note("embed", tf.concat([repeated, patches], 1));
  const rope = ropeTable2d(rows, cols, config.width / config.heads, { theta: config.ropeTheta, prefix });
  params.blocks.forEach((block, i) => {
    const name = `block${String(i).padStart(2, "0")}`;
    const attended = attend(norm(x, block.norm1, config.normEps), block.attention, config, rope);
    x = tf.add(x, taps.note(`${name}.attention`, tf.mul(attended, block.layerScale1)));
    const mapped = perceptron(norm(x, block.norm2, config.normEps), block.mlp, config);
    x = tf.add(x, taps.note(`${name}.mlp`, tf.mul(mapped, block.layerScale2)));
    taps.note(name, x);
  });
  x = norm(x, params.norm, config.normEps);
  const [cls, registers, patchTokens] = tf.split(x, [1, config.registers, rows * cols], 1);
  return {
    clsBD: tf.reshape(cls, [batch, config.width]),
    registersBRD: registers,
    patchesBND: patchTokens,
    taps: taps.collected(),
  };
}

/**
 * Cuts images into patches, row by row, each flattened in the order row, column, channel.
 *
 * @param imageBHWC [B, H, W, C].
 * @returns [B, I·J, p·p·C].
 */
export function patchify(imageBHWC: tf.Tensor, patchSize: number): tf.Tensor {
  const [batch, height, width, channels] = imageBHWC.shape;
  const rows = height / patchSize, cols = width / patchSize;
  const cut = tf.reshape(imageBHWC, [batch, rows, patchSize, cols, patchSize * channels]);
  return tf.reshape(tf.transpose(cut, [0, 1, 3, 2, 4]), [
    batch,
    rows * cols,
    patchSize * patchSize * channels,
  ]);
}

function attend(x: tf.Tensor, params: VitAttentionParams, config: VitConfig, rope: RopeTable): tf.Tensor {
  const noBias = tf.zeros([config.width]);
  const qkv = { weight: params.qkv, bias: tf.concat([params.queryBias, noBias, params.valueBias], 0) };
  return selfAttention(x, { qkv, proj: params.proj }, { heads: config.heads, rope });
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
