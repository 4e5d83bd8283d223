/**
 * A small convolutional classifier whose pooled features score samples.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { groupNorm, silu } from "novae/engine/mod.ts";
import {
  conv2d,
  type ConvParams,
  initConv,
  initLinear,
  initNorm,
  linear,
  type LinearParams,
  type NormParams,
} from "novae/nn/mod.ts";
import { ConfigError, flattenTree, type HostTensor, isHostTensor, type Rng } from "novae/tensor/mod.ts";

/** Form of a classifier. */
export interface ClassifierConfig {
  /** Edge of the square images in pixels. */
  readonly imageSize: number;
  /** Class names; logits are in this order. */
  readonly classes: readonly string[];
  /** Channels after the first convolution and after each residual stage; the last is the number of features. */
  readonly widths: readonly number[];
  /** Channels of a normalisation group; each width must be a multiple. */
  readonly groupWidth: number;
}

/** A convolution followed by a group normalisation. */
export interface ConvNormParams<T = tf.Tensor> {
  /** The convolution. */
  conv: ConvParams<T>;
  /** Scale and shift of the normalisation. */
  norm: NormParams<T>;
}

/** A residual stage that halves the resolution. */
export interface ResidualStageParams<T = tf.Tensor> {
  /** 3×3 with stride 2. */
  first: ConvNormParams<T>;
  /** 3×3. */
  second: ConvNormParams<T>;
  /** 1×1 on means over 2×2 blocks. */
  shortcut: ConvParams<T>;
}

/** Weights of a classifier. */
export interface ClassifierParams<T = tf.Tensor> {
  /** First convolution. */
  stem: ConvNormParams<T>;
  /** Residual stages. */
  stages: ResidualStageParams<T>[];
  /** From features to logits. */
  head: LinearParams<T>;
}

/** What a classifier makes of a batch. */
export interface ClassifierOutput<T = tf.Tensor> {
  /** Pooled features [B, D]. */
  featuresBD: T;
  /** Class logits [B, L]. */
  logitsBL: T;
}

/** Channels by stage: `small` has 96 features and takes 10 million multiplications for 64×64 pixels. */
export const CLASSIFIER_WIDTHS: Readonly<Record<"small" | "tiny", readonly number[]>> = {
  small: [16, 32, 64, 96],
  tiny: [8, 16],
};

/** Images larger than this are halved by the first convolution. */
const FULL_RESOLUTION_SIZE = 32;

/**
 * Completes and checks the settings of a classifier.
 *
 * @param options image size and classes; widths default to those of `small`.
 * @throws ConfigError naming the first setting that does not fit.
 */
export function classifierConfig(
  options: Pick<ClassifierConfig, "imageSize" | "classes"> & Partial<ClassifierConfig>,
): ClassifierConfig {
  const { imageSize, classes, widths = CLASSIFIER_WIDTHS.small, groupWidth = 8 } = options;
  const fail = (wanted: string): never => {
    throw new ConfigError(`Cannot make classifier: ${wanted}`);
  };
  const unknown = Object.keys(options).find((key) =>
    !["imageSize", "classes", "widths", "groupWidth"].includes(key)
  );
  if (unknown !== undefined) fail(`there is no setting "${unknown}"`);
  const isCount = (v: unknown): v is number => Number.isInteger(v) && (v as number) >= 1;
  if (!isCount(groupWidth)) fail(`groupWidth must be a positive integer, got ${groupWidth}`);
  if (
    !Array.isArray(widths) || widths.length < 1 || !widths.every((w) => isCount(w) && w % groupWidth === 0)
  ) {
    fail(`widths must be multiples of ${groupWidth}, got ${JSON.stringify(widths)}`);
  }
  if (!Array.isArray(classes) || classes.length < 2 || !classes.every((name) => typeof name === "string")) {
    fail(`classes must be at least 2 names, got ${JSON.stringify(classes)}`);
  }
  const halvings = widths.length - 1 + (imageSize > FULL_RESOLUTION_SIZE ? 1 : 0);
  if (!isCount(imageSize) || imageSize % 2 ** halvings !== 0) {
    fail(`imageSize must be a multiple of ${2 ** halvings}, got ${imageSize}`);
  }
  return { imageSize, classes, widths, groupWidth };
}

/** New weights. */
export function initClassifier(rng: Rng, config: ClassifierConfig): ClassifierParams<HostTensor> {
  const { widths, classes } = config;
  const convNorm = (label: string, from: number, to: number): ConvNormParams<HostTensor> => ({
    conv: heConv(rng.split(label), 3, from, to),
    norm: initNorm(to),
  });
  const stages = widths.slice(1).map((width, i) => ({
    first: convNorm(`stage${i}.first`, widths[i], width),
    second: convNorm(`stage${i}.second`, width, width),
    shortcut: heConv(rng.split(`stage${i}.shortcut`), 1, widths[i], width),
  }));
  const head = initLinear(rng.split("head"), widths.at(-1)!, classes.length);
  return { stem: convNorm("stem", 3, widths[0]), stages, head };
}

/**
 * Classifies images.
 *
 * Residual stages with group normalisation (no running statistics, so that training and use are the same function),
 * an average over all places, and a linear map to logits.
 *
 * @param imageUnitBHWC pixels in [0, 1], [B, S, S, 3].
 */
export function classifier(
  imageUnitBHWC: tf.Tensor,
  params: ClassifierParams,
  config: ClassifierConfig,
): ClassifierOutput {
  const featuresBD = tf.mean(classifierMaps(imageUnitBHWC, params, config).at(-1)!, [1, 2]);
  return { featuresBD, logitsBL: linear(featuresBD, params.head) };
}

/**
 * The maps of a classifier behind its first convolution and each of its stages, the finest first; what
 * {@linkcode classifier} pools is the last.
 *
 * @param imageUnitBHWC pixels in [0, 1], [B, S, S, 3].
 * @returns maps [B, S', S', C].
 */
export function classifierMaps(
  imageUnitBHWC: tf.Tensor,
  params: Pick<ClassifierParams, "stem" | "stages">,
  config: ClassifierConfig,
): tf.Tensor[] {
  const stemStride = config.imageSize > FULL_RESOLUTION_SIZE ? 2 : 1;
  const centred = tf.mul(tf.sub(imageUnitBHWC, 0.5), 4); // about unit variance
  const maps: tf.Tensor[] = [silu(convNorm(centred, params.stem, config, stemStride))];
  for (const stage of params.stages) {
    const x = maps.at(-1)!, inner = silu(convNorm(x, stage.first, config, 2));
    const shortcut = conv2d(averagePool2(x), stage.shortcut);
    maps.push(silu(tf.add(convNorm(inner, stage.second, config, 1), shortcut)));
  }
  return maps;
}

/** Number of weights. */
export function countClassifierParams(params: ClassifierParams<HostTensor>): number {
  return flattenTree<HostTensor>(params, isHostTensor).reduce((sum, leaf) => sum + leaf.value.data.length, 0);
}

function convNorm(x: tf.Tensor, params: ConvNormParams, config: ClassifierConfig, stride: number): tf.Tensor {
  const mapped = conv2d(x, params.conv, { stride });
  const groups = mapped.shape[3] / config.groupWidth;
  return groupNorm(mapped, groups, params.norm.weight, params.norm.bias);
}

/** Means over blocks of 2×2, by reshapes and sums, whose gradients are reshapes and copies. */
function averagePool2(xBHWC: tf.Tensor): tf.Tensor {
  const [batch, height, width, channels] = xBHWC.shape;
  const rows = tf.sum(tf.reshape(xBHWC, [batch, height / 2, 2, width * channels]), 2);
  const blocks = tf.sum(tf.reshape(rows, [batch, height / 2, width / 2, 2, channels]), 3);
  return tf.mul(blocks, 0.25);
}

/** A convolution of normal weights with variance 2 / fan-in (He et al., arXiv 1502.01852) and no bias at first. */
function heConv(rng: Rng, kernel: number, from: number, to: number): ConvParams<HostTensor> {
  const params = initConv(rng, kernel, from, to), { shape } = params.weight;
  const std = Math.sqrt(2 / (kernel * kernel * from));
  const data = rng.split("he").normal(kernel * kernel * from * to).map((v) => v * std);
  return {
    weight: { dtype: "float32", shape, data },
    bias: { dtype: "float32", shape: [to], data: new Float32Array(to) },
  };
}
