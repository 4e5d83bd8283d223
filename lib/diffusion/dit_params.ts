/**
 * Weights of diffusion transformers: their tree, their shapes without any allocation, their number, and how they are
 * drawn.
 *
 * @module
 */
import type * as tf from "@tensorflow/tfjs";
import { flattenTree, float32, type HostTensor, mapTree, type Rng, sizeOf, zeros } from "novae/tensor/mod.ts";
import {
  type AttentionParams,
  type EmbeddingParams,
  type GatedMlpParams,
  initNorm,
  initWeight,
  type LinearParams,
  type MlpParams,
  type RmsNormParams,
} from "novae/nn/mod.ts";
import { type DitConfig, mlpWidth, tokenGrid, tokenValues } from "./config.ts";

/** Weights of one block; its modulation comes from {@linkcode DitParams.modulation}. */
export interface DitBlockParams<T = tf.Tensor> {
  /** Scale before the attention, where the configuration says `norm: "rms"`. */
  norm1?: RmsNormParams<T>;
  /** Self-attention. */
  attention: AttentionParams<T>;
  /** Scale before the perceptron, where the configuration says `norm: "rms"`. */
  norm2?: RmsNormParams<T>;
  /** Perceptron of hidden width F; gated where the configuration says `mlp: "swiglu"`. */
  mlp: MlpParams<T> | GatedMlpParams<T>;
}

/** Weights of the embedding of times. */
export interface TimeParams<T = tf.Tensor> extends MlpParams<T> {
  /** Random frequencies [256] that are not learned, where the configuration says `timeFeatures: "fourier"`. */
  frequencies?: T;
}

/** Weights of a wide and shallow head of width W. */
export interface DitHeadParams<T = tf.Tensor> {
  /** From the tokens behind the blocks to the head's condition, E to W; absent if the widths are the same. */
  projection?: LinearParams<T>;
  /** p²·Z to W, applied to each latent token or patch. */
  tokens: LinearParams<T>;
  /** The blocks in their order. */
  blocks: DitBlockParams<T>[];
  /** As {@linkcode DitParams.modulation}, of each token by itself: W to (6·depth + 2)·W. */
  modulation: LinearParams<T>;
}

/** Weights of a diffusion transformer. */
export interface DitParams<T = tf.Tensor> {
  /** p²·Z to E, applied to each latent token or patch, its values in the order row, column, channel. */
  tokens: LinearParams<T>;
  /** From the features of a time to E. */
  time: TimeParams<T>;
  /** Class vectors [L + 1, E]; the last stands for "no class". */
  labels: EmbeddingParams<T>;
  /**
   * From the condition to shift, scale and gate of the attention and of the perceptron of each block, then to shift
   * and scale before the output: E to (6·depth + 2)·E, all blocks in one product. Before a head there is no output,
   * and it is E to 6·depth·E.
   */
  modulation: LinearParams<T>;
  /** The blocks in their order. */
  blocks: DitBlockParams<T>[];
  /** The wide and shallow head, if there is one. */
  head?: DitHeadParams<T>;
  /** Scale before the output, where the configuration says `norm: "rms"`. */
  outputNorm?: RmsNormParams<T>;
  /** E, or the head's W, to p²·Z, or to p²·2·Z where the configuration says `learnSigma`. */
  output: LinearParams<T>;
}

/** Number of sine-cosine features that a time is expanded to. */
export const TIME_FEATURES = 256;

/** Number of random frequencies of a time, each with a sine and a cosine. */
const FOURIER_FREQUENCIES = 256;

type Shape = readonly number[];

/** The shape of each weight, as a tree of the form of {@linkcode DitParams}; allocates nothing. */
export function ditShapes(config: DitConfig): DitParams<readonly number[]> {
  const { channels, classes, width, depth, head, learnSigma, patchSize = 1 } = config;
  const fourier = config.timeFeatures === "fourier", values = tokenValues(config);
  const last = head?.width ?? width;
  return {
    tokens: linearShapes(values, width),
    time: {
      ...(fourier && { frequencies: [FOURIER_FREQUENCIES] }),
      fc1: linearShapes(fourier ? 2 * FOURIER_FREQUENCIES : TIME_FEATURES, width),
      fc2: linearShapes(width, width),
    },
    labels: { table: [classes + 1, width] },
    modulation: linearShapes(width, (6 * depth + (head ? 0 : 2)) * width),
    blocks: blockShapes(config, config),
    ...(head && { head: headShapes(config) }),
    ...(config.norm === "rms" && { outputNorm: { weight: [last] } }),
    output: linearShapes(last, patchSize ** 2 * channels * (learnSigma ? 2 : 1)),
  };
}

function headShapes(config: DitConfig): DitHeadParams<Shape> {
  const { width, depth } = config.head!;
  return {
    ...(width !== config.width && { projection: linearShapes(config.width, width) }),
    tokens: linearShapes(tokenValues(config), width),
    blocks: blockShapes(config, config.head!),
    modulation: linearShapes(width, (6 * depth + 2) * width),
  };
}

/** Blocks of the transformer or of its head. */
function blockShapes(
  config: DitConfig,
  { width, depth, heads }: Pick<DitConfig, "width" | "depth" | "heads">,
): DitBlockParams<Shape>[] {
  const hidden = mlpWidth(config, width), rms = config.norm === "rms";
  const scale = (dim: number) => rms ? { weight: [dim] } : { weight: [dim], bias: [dim] };
  return Array.from({ length: depth }, () => ({
    ...(rms && { norm1: { weight: [width] } }),
    attention: {
      qkv: linearShapes(width, 3 * width),
      proj: linearShapes(width, width),
      ...(config.qkNorm ? { qNorm: scale(width / heads), kNorm: scale(width / heads) } : {}),
    },
    ...(rms && { norm2: { weight: [width] } }),
    mlp: config.mlp === "swiglu"
      ? {
        gate: linearShapes(width, hidden),
        up: linearShapes(width, hidden),
        down: linearShapes(hidden, width),
      }
      : { fc1: linearShapes(width, hidden), fc2: linearShapes(hidden, width) },
  }));
}

function linearShapes(from: number, to: number): LinearParams<Shape> {
  return { weight: [from, to], bias: [to] };
}

/** Whether a value is a leaf of the tree that {@linkcode ditShapes} returns. */
export function isShape(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((extent) => typeof extent === "number");
}

/** Numbers of parameters. */
export interface ParameterCount {
  /** Learned parameters. */
  readonly learned: number;
  /** Fixed values that published counts include: the table of positions, N·E, and random frequencies of times. */
  readonly fixed: number;
  /** Their sum. */
  readonly total: number;
}

/**
 * Counts parameters.
 *
 * With 392 channels, 16 × 16 tokens, 1,000 classes and `learnSigma` the totals are S 33,400,336, B 131,382,544,
 * L 459,264,784, XL 676,437,904, XXL 952,705,296 and XXXL 1,354,579,984.
 */
export function countParameters(config: DitConfig): ParameterCount {
  const shapes = flattenTree<Shape>(ditShapes(config), isShape);
  const total = shapes.reduce((sum, leaf) => sum + sizeOf(leaf.value), 0);
  const frequencies = config.timeFeatures === "fourier" ? FOURIER_FREQUENCIES : 0;
  const learned = total - frequencies, fixed = tokenGrid(config) ** 2 * config.width + frequencies;
  return { learned, fixed, total: learned + fixed };
}

/**
 * Initial weights: Xavier for linear maps, normal of standard deviation 0.02 for times and labels, of 1 for random
 * frequencies, zero for the modulation and the output, so that an untrained transformer predicts velocity 0.
 *
 * *Source*: `initialize_weights` of facebookresearch/DiT.
 *
 * @param rng each weight has a stream of its own, named by its path.
 */
export function initDit(rng: Rng, config: DitConfig): DitParams<HostTensor> {
  return mapTree<DitParams<HostTensor>>(ditShapes(config), isShape, (leaf, path) => {
    const shape = leaf as number[];
    if (/norm\d?\.weight$/i.test(path)) return initNorm(shape[0]).weight;
    if (path === "time.frequencies") return float32(rng.split(path).normal(sizeOf(shape)), shape);
    if (/bias$|^(head\.)?modulation|^output/.test(path)) return zeros(shape);
    const normal = path.startsWith("time") || path.startsWith("labels");
    return initWeight(rng.split(path), shape as [number, number], normal ? "truncNormal" : "xavier", 0.02);
  });
}
