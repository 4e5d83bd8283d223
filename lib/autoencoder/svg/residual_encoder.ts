/**
 * The residual encoder of SVG: a small vision transformer that adds to the frozen features what they leave out.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { float32, type HostTensor, type Rng, zeros } from "novae/tensor/mod.ts";
import {
  activate,
  type AttentionParams,
  initAttention,
  initLinear,
  initMlp,
  initNorm,
  linear,
  type LinearParams,
  type MlpParams,
  norm,
  type NormParams,
  selfAttention,
  spaceToDepth,
} from "novae/nn/mod.ts";
import { type BlockMasks, dropoutFactors, type DropoutMasks, dropValues } from "./dropout.ts";

/** Epsilon of the layer normalisations: torchvision's default. */
const NORM_EPS = 1e-6;

/** Form of the residual encoder. */
export interface ResidualConfig {
  /** Residual channels R. */
  readonly channels: number;
  /** Width of the transformer. */
  readonly width: number;
  /** Number of transformer blocks. */
  readonly depth: number;
  /** Attention heads; they divide the width. */
  readonly heads: number;
  /** Hidden width of the perceptrons as a multiple of `width`. */
  readonly mlpRatio: number;
  /** `geluErf` (exact, torchvision's) or `gelu` (the tanh approximation, which is faster). */
  readonly activation: "gelu" | "geluErf";
  /** Whether a learned class token takes part in the attention; its output is dropped. */
  readonly classToken: boolean;
  /** Probability that a training image's residual is replaced by the learned mask token. */
  readonly maskProbability: number;
  /** Share of the values that training drops of tokens, branches and hidden layers; 0 if omitted. */
  readonly dropout?: number;
  /** Share of the attention weights that training drops; 0 if omitted. */
  readonly attentionDropout?: number;
}

/** The published residual encoder. */
export const PUBLISHED_RESIDUAL: ResidualConfig = {
  channels: 8,
  width: 384,
  depth: 6,
  heads: 8,
  mlpRatio: 4,
  activation: "geluErf",
  classToken: true,
  maskProbability: 0.1,
  dropout: 0.1,
  attentionDropout: 0.1,
};

/** Parameters of one transformer block. */
export interface ResidualBlockParams<T = tf.Tensor> {
  /** Normalisation before the attention. */
  norm1: NormParams<T>;
  /** Self-attention. */
  attention: AttentionParams<T>;
  /** Normalisation before the perceptron. */
  norm2: NormParams<T>;
  /** Perceptron. */
  mlp: MlpParams<T>;
}

/** Parameters of the residual encoder. */
export interface ResidualEncoderParams<T = tf.Tensor> {
  /** Linear map of a patch's pixels. */
  patch: LinearParams<T>;
  /** `[1, N, width]`, one row more with a class token, which comes first. */
  positions: T;
  /** `[1, 1, width]`. */
  classToken?: T;
  /** Transformer blocks, in order. */
  blocks: ResidualBlockParams<T>[];
  /** Last normalisation. */
  norm: NormParams<T>;
  /** Maps each token to R channels. */
  head: MlpParams<T>;
  /** `[1, 1, R]`: stands for the residual of an image whose residual is masked. */
  maskToken: T;
}

/**
 * A new residual encoder.
 *
 * @param patchSize rows and columns of pixels a token.
 * @param tokens number of tokens N of an image.
 */
export function initResidualEncoder(
  rng: Rng,
  config: ResidualConfig,
  patchSize: number,
  tokens: number,
): ResidualEncoderParams<HostTensor> {
  const { width, channels, mlpRatio } = config;
  const normal = (label: string, shape: number[]) =>
    float32(rng.split(label).normal(shape.reduce((a, b) => a * b, 1)).map((v) => 0.02 * v), shape);
  const params: ResidualEncoderParams<HostTensor> = {
    patch: initLinear(rng.split("patch"), 3 * patchSize ** 2, width),
    positions: normal("positions", [1, tokens + (config.classToken ? 1 : 0), width]),
    blocks: Array.from({ length: config.depth }, (_, i) => {
      const own = rng.split("block", i);
      return {
        norm1: initNorm(width),
        attention: initAttention(own.split("attention"), width, config.heads),
        norm2: initNorm(width),
        mlp: initMlp(own.split("mlp"), width, mlpRatio * width),
      };
    }),
    norm: initNorm(width),
    head: {
      fc1: initLinear(rng.split("head1"), width, width),
      fc2: initLinear(rng.split("head2"), width, channels),
    },
    maskToken: normal("maskToken", [1, 1, channels]),
  };
  if (config.classToken) params.classToken = zeros([1, 1, width]);
  return params;
}

/**
 * Number of parameters without the mask token, in closed form; 11,192,840 for the published encoder.
 *
 * @param patchSize rows and columns of pixels a token.
 * @param tokens number of tokens N of an image.
 */
export function countResidualParams(config: ResidualConfig, patchSize: number, tokens: number): number {
  const { width: e, depth, mlpRatio, channels, classToken } = config, f = mlpRatio * e;
  const block = 4 * e + (3 * e * e + 3 * e) + (e * e + e) + (2 * e * f + f + e);
  const head = e * e + e + e * channels + channels;
  const sequence = tokens * e + (classToken ? 2 * e : 0);
  return 3 * patchSize ** 2 * e + e + sequence + depth * block + 2 * e + head;
}

/**
 * Residual features of images, before masking and alignment.
 *
 * *Source*: `create_small_vit_s` of SVG, torchvision's `VisionTransformer` (pre-norm blocks, learned positions, exact
 * GELU, dropout of tokens, attention weights, hidden layers and branches) with the head Linear, GELU, Linear on each
 * token. *Differs*: the class token can be left out, since its output is never used; the masks of the dropout are
 * inputs. SVG's module also makes a normalisation of 40 channels (`norm_vit`) that nothing uses and that `embed_dim`
 * is there for, and its `double_z` means nothing: there are none of these here.
 *
 * @param imageDinoBHWC images as the frozen encoder sees them (ImageNet-normalised).
 * @param masks what training drops; nothing is dropped without them.
 * @returns `[B, N, R]`.
 * @throws TypeError if the images cannot be cut into the patches that have positions.
 */
export function encodeResidual(
  imageDinoBHWC: tf.Tensor,
  params: ResidualEncoderParams,
  config: ResidualConfig,
  masks?: DropoutMasks,
): tf.Tensor {
  const { dropout: rate = 0, width } = config;
  const patchSize = Math.sqrt(params.patch.weight.shape[0] / 3);
  const tokens = params.positions.shape[1]! - (params.classToken ? 1 : 0);
  expectPatches(imageDinoBHWC.shape, patchSize, tokens);
  const batch = imageDinoBHWC.shape[0], pixels = [batch, tokens, 3 * patchSize ** 2];
  let x = linear(tf.reshape(spaceToDepth(imageDinoBHWC, patchSize), pixels), params.patch);
  if (params.classToken) x = tf.concat([tf.tile(params.classToken, [batch, 1, 1]), x], 1);
  x = dropValues(tf.add(x, params.positions), masks?.tokens, rate);
  params.blocks.forEach((block, i) => {
    x = encoderBlock(x, block, config, masks?.blocks[i] ?? {});
  });
  if (params.classToken) x = tf.slice(x, [0, 1, 0], [batch, tokens, width]);
  return perceptron(norm(x, params.norm, NORM_EPS), params.head, config);
}

/** `x ← x + attention(norm(x))`, `x ← x + mlp(norm(x))`. */
function encoderBlock(
  x: tf.Tensor,
  params: ResidualBlockParams,
  config: ResidualConfig,
  masks: BlockMasks,
): tf.Tensor {
  const { heads, dropout: rate = 0, attentionDropout = 0 } = config;
  const weightFactors = masks.attention && dropoutFactors(masks.attention, attentionDropout);
  const attended = selfAttention(norm(x, params.norm1, NORM_EPS), params.attention, { heads, weightFactors });
  const middle = tf.add(x, dropValues(attended, masks.attended, rate));
  const added = perceptron(norm(middle, params.norm2, NORM_EPS), params.mlp, config, masks.hidden);
  return tf.add(middle, dropValues(added, masks.added, rate));
}

function perceptron(
  x: tf.Tensor,
  params: MlpParams,
  { activation, dropout = 0 }: ResidualConfig,
  kept?: tf.Tensor,
): tf.Tensor {
  return linear(dropValues(activate(linear(x, params.fc1), activation), kept, dropout), params.fc2);
}

function expectPatches(shape: readonly number[], patchSize: number, tokens: number): void {
  const [, height, width, channels] = shape, grid = Math.sqrt(tokens);
  if (shape.length === 4 && height === grid * patchSize && width === height && channels === 3) return;
  throw new TypeError(
    `Cannot encode a residual: images must have ${grid} × ${grid} patches of ${patchSize} pixels a side, ` +
      `got shape [${shape.join(", ")}]`,
  );
}

/**
 * Modality dropout: replaces whole residual maps by the learned mask token, before they are aligned.
 *
 * `r ← r + mask·(token − r)`
 *
 * *Source*: `DinoDecoder.encode` of SVG. *Differs*: which images lose their residual is drawn with the batch.
 *
 * @param residualBNR residual features.
 * @param maskB 1 for the images that lose their residual, else 0; drawn by the caller.
 */
export function maskResidual(residualBNR: tf.Tensor, maskToken: tf.Tensor, maskB: tf.Tensor): tf.Tensor {
  const mask = tf.reshape(maskB, [-1, 1, 1]);
  return tf.add(tf.mul(residualBNR, tf.sub(1, mask)), tf.mul(maskToken, mask));
}
