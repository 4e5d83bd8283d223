/**
 * Weights of vision transformers: their tree, their shapes and how they are drawn.
 *
 * @module
 */
import type * as tf from "@tensorflow/tfjs";
import { float32, full, type HostTensor, type Rng, sizeOf, zeros } from "novae/tensor/mod.ts";
import {
  type GatedMlpParams,
  initWeight,
  type LinearParams,
  type MlpParams,
  type NormParams,
  truncatedNormal,
} from "novae/nn/mod.ts";
import { type StemStageParams, stemTree } from "./stem.ts";
import { mlpWidth, positionGrid, type VitConfig } from "./config.ts";

/** Weights of the attention of a block; which biases there are is a matter of the settings. */
export interface VitAttentionParams<T = tf.Tensor> {
  /** [D, 3·D]: queries, keys, values. */
  qkv: T;
  /** [D]. */
  queryBias?: T;
  /** [D]. */
  keyBias?: T;
  /** [D]. */
  valueBias?: T;
  /** [D, D] behind the heads. */
  proj: LinearParams<T>;
}

/** Weights of a block. */
export interface VitBlockParams<T = tf.Tensor> {
  /** Before the attention. */
  norm1: NormParams<T>;
  /** Self-attention. */
  attention: VitAttentionParams<T>;
  /** Gain behind the attention [D]; absent without LayerScale. */
  layerScale1?: T;
  /** Before the perceptron. */
  norm2: NormParams<T>;
  /** Gated if the settings say so. */
  mlp: MlpParams<T> | GatedMlpParams<T>;
  /** Gain behind the perceptron [D]; absent without LayerScale. */
  layerScale2?: T;
}

/** Weights of a vision transformer. */
export interface VitParams<T = tf.Tensor> {
  /** Convolutions before the linear map of patches, if there are any. */
  stem?: StemStageParams<T>[];
  /** Linear map of a patch, its pixels in the order row, column, channel: weight [p·p·3, D]; of the stem's output. */
  patchEmbed: LinearParams<T>;
  /** [1, D]. */
  clsToken: T;
  /** Stands for a masked patch in training [1, D]. */
  maskToken?: T;
  /** [registers, D]; absent for none. */
  registers?: T;
  /** Learned positions of the class token and of the patches of a square grid, row by row [1 + G·G, D]. */
  positions?: T;
  /** From the first to the last. */
  blocks: VitBlockParams<T>[];
  /** After the last block. */
  norm: NormParams<T>;
}

/**
 * Builds the tree of the weights that settings ask for.
 *
 * @param leaf makes a weight of its path, e.g. `blocks.0.mlp.fc1.weight`, and shape.
 */
export function vitTree<T>(
  config: VitConfig,
  leaf: (path: string, shape: readonly number[]) => T,
): VitParams<T> {
  const { width, patchSize, registers, maskToken = true, stem } = config;
  const tree: VitParams<T> = {
    ...(stem && { stem: stemTree(stem, leaf) }),
    patchEmbed: linearOf("patchEmbed", stem ? stem[stem.length - 1] : patchSize * patchSize * 3, width, leaf),
    clsToken: leaf("clsToken", [1, width]),
    ...(maskToken && { maskToken: leaf("maskToken", [1, width]) }),
    ...(registers > 0 && { registers: leaf("registers", [registers, width]) }),
    ...(config.learnedPositions && { positions: leaf("positions", [1 + positionGrid(config) ** 2, width]) }),
    blocks: Array.from({ length: config.depth }, (_, i) => blockOf(`blocks.${i}`, config, leaf)),
    norm: normOf("norm", width, leaf),
  };
  return tree;
}

type Leaf<T> = (path: string, shape: readonly number[]) => T;

function blockOf<T>(at: string, config: VitConfig, leaf: Leaf<T>): VitBlockParams<T> {
  const { width, attentionBias = "qv" } = config,
    f = mlpWidth(config),
    gains = config.layerScaleInit !== null;
  const layers = (...list: [string, number, number][]) =>
    Object.fromEntries(list.map(([name, from, to]) => [name, linearOf(`${at}.mlp.${name}`, from, to, leaf)]));
  return {
    norm1: normOf(`${at}.norm1`, width, leaf),
    attention: {
      qkv: leaf(`${at}.attention.qkv`, [width, 3 * width]),
      ...(attentionBias !== "none" && { queryBias: leaf(`${at}.attention.queryBias`, [width]) }),
      ...(attentionBias === "qkv" && { keyBias: leaf(`${at}.attention.keyBias`, [width]) }),
      ...(attentionBias !== "none" && { valueBias: leaf(`${at}.attention.valueBias`, [width]) }),
      proj: linearOf(`${at}.attention.proj`, width, width, leaf),
    },
    ...(gains && { layerScale1: leaf(`${at}.layerScale1`, [width]) }),
    norm2: normOf(`${at}.norm2`, width, leaf),
    mlp:
      (config.mlp === "gatedSilu"
        ? layers(["gate", width, f], ["up", width, f], ["down", f, width])
        : layers(["fc1", width, f], ["fc2", f, width])) as unknown as VitBlockParams<T>["mlp"],
    ...(gains && { layerScale2: leaf(`${at}.layerScale2`, [width]) }),
  };
}

function linearOf<T>(at: string, inDim: number, outDim: number, leaf: Leaf<T>): LinearParams<T> {
  return { weight: leaf(`${at}.weight`, [inDim, outDim]), bias: leaf(`${at}.bias`, [outDim]) };
}

function normOf<T>(at: string, width: number, leaf: Leaf<T>): NormParams<T> {
  return { weight: leaf(`${at}.weight`, [width]), bias: leaf(`${at}.bias`, [width]) };
}

const NO_VALUES = new Float32Array(0);

/** The tree of the weights that settings ask for with their shapes, but without values: for comparing shapes. */
export function vitShapes(config: VitConfig): VitParams<HostTensor> {
  return vitTree(config, (_, shape): HostTensor => ({ dtype: "float32", shape, data: NO_VALUES }));
}

/**
 * Initial weights: normal of standard deviation `1 / √(3 · D)`, biases zero, gains `layerScaleInit`; convolutions
 * normal of variance 2 / fan-in.
 *
 * *Source*: DINOv3's `init_weights`, which draws with 0.02 at every width. *Differs*: the deviation is 0.02 at width
 * 768 and larger below, so that narrow networks too start with tokens that depend on the image; the patch embedding
 * is drawn in the same way.
 */
export function initVit(rng: Rng, config: VitConfig): VitParams<HostTensor> {
  const std = 1 / Math.sqrt(3 * config.width);
  return vitTree(config, (path, shape) => {
    if (/layerScale\d$/.test(path)) return full(shape, config.layerScaleInit!);
    if (/^(clsToken|registers|positions)$/.test(path)) {
      return float32(truncatedNormal(rng.split(path), sizeOf(shape), 0.02), shape);
    }
    if (shape.length === 4) {
      const [height, width, from] = shape, deviation = Math.sqrt(2 / (height * width * from));
      return float32(rng.split(path).normal(sizeOf(shape)).map((v) => v * deviation), shape);
    }
    if (shape.length === 2 && path !== "maskToken") {
      return initWeight(streamOf(rng, path), shape as [number, number], "truncNormal", std);
    }
    return /norm\d?\.weight$/.test(path) ? full(shape, 1) : zeros(shape);
  });
}

/** The stream from which a matrix is drawn: that of `blocks.3.mlp.fc1.weight` is split off three times. */
function streamOf(rng: Rng, path: string): Rng {
  const [first, ...rest] = path.replace(/\.weight$/, "").split(".");
  if (first !== "blocks") return rng.split(first);
  const [block, ...names] = rest.filter((name) => name !== "attention");
  return names.reduce((stream, name) => stream.split(name), rng.split("block", Number(block)));
}
