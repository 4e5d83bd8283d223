/**
 * Settings of vision transformers: their meaning, checks and parameter counts.
 *
 * @module
 */
import { ConfigError, oneLine, told } from "novae/tensor/mod.ts";
import { countStemParams, isStem, stemNeeds } from "./stem.ts";

/**
 * How learned positions are fitted to a grid other than their own, always bicubic: to an explicit `size`; by the
 * scale factor of a grid larger by 0.1 (`offset`); or to a size with an `antialias` filter.
 *
 * *Source*: `size` Hugging Face's ViT and Dinov2; `offset` facebookresearch/dino and facebookresearch/dinov2;
 * `antialias` both Dinov2 with registers.
 */
export type PositionFit = "size" | "offset" | "antialias";

/** Settings of a vision transformer of DINO, DINOv2 or DINOv3; what sets the three apart is all in here. */
export interface VitConfig {
  /** Side of a square patch in pixels. */
  readonly patchSize: number;
  /**
   * Channels of the stages of a convolutional stem, each of which halves the resolution; absent where patches are
   * embedded by one linear map, as in all published models.
   */
  readonly stem?: readonly number[];
  /** D, width of the tokens. */
  readonly width: number;
  /** Number of blocks. */
  readonly depth: number;
  /** A, number of attention heads; with rotary positions width / heads must be a multiple of 4. */
  readonly heads: number;
  /** Width between the layers of the perceptrons, as a multiple of `width`. */
  readonly mlpRatio: number;
  /** `geluErf` (most), `gelu` (its tanh approximation) or `gatedSilu` (DINOv2's giant, DINOv3's "plus" and 7B). */
  readonly mlp: "gelu" | "geluErf" | "gatedSilu";
  /** Number of register tokens; 0 for none. */
  readonly registers: number;
  /** Initial value of the gains behind attention and perceptron; null for a transformer without them (DINO). */
  readonly layerScaleInit: number | null;
  /** Base of the rotary frequencies (DINOv3); absent where positions are learned. */
  readonly ropeTheta?: number;
  /** Positions are learned (DINO, DINOv2) and fitted to other grids in this way; absent where they are rotary. */
  readonly learnedPositions?: PositionFit;
  /** Which of queries, keys and values have a bias; default `qv` (DINOv3). */
  readonly attentionBias?: "qkv" | "qv" | "none";
  /** Whether there is a token that stands for masked patches; default true. */
  readonly maskToken?: boolean;
  /** Epsilon of the layer normalisations. */
  readonly normEps: number;
  /**
   * Side of the images that the encoder was made for, in pixels; other multiples of the patch work too. Learned
   * positions have the grid of this size.
   */
  readonly imageSize: number;
}

/** Width between the layers of the perceptrons. */
export function mlpWidth(config: VitConfig): number {
  return Math.round(config.width * config.mlpRatio);
}

/** Rows and columns of the grid on which positions were learned. */
export function positionGrid(config: VitConfig): number {
  return config.imageSize / config.patchSize;
}

/**
 * Number of parameters, in closed form. As in Hugging Face's format the key biases of DINOv3, which are zero, do not
 * count, and the mask token does.
 */
export function countVitParams(config: VitConfig): number {
  const { width: d, depth, patchSize, registers, attentionBias = "qv", maskToken = true } = config;
  const f = mlpWidth(config);
  const biases = { qkv: 3, qv: 2, none: 0 }[attentionBias];
  const attention = 3 * d * d + biases * d + d * d + d;
  const perceptron = config.mlp === "gatedSilu" ? 3 * d * f + 2 * f + d : 2 * d * f + f + d;
  const gains = config.layerScaleInit === null ? 0 : 2 * d;
  const block = attention + perceptron + 2 * 2 * d + gains;
  const positions = config.learnedPositions ? (1 + positionGrid(config) ** 2) * d : 0;
  const tokens = (1 + (maskToken ? 1 : 0) + registers) * d;
  const { stem } = config, embedded = stem ? stem[stem.length - 1] : patchSize * patchSize * 3;
  return (stem ? countStemParams(stem) : 0) + embedded * d + d + tokens + positions + depth * block + 2 * d;
}

const INTEGERS = ["patchSize", "width", "depth", "heads", "imageSize", "registers"];
const NUMBERS = [...INTEGERS, "mlpRatio", "layerScaleInit", "ropeTheta", "normEps"];
const CHOICES: Readonly<Record<string, readonly unknown[]>> = {
  mlp: ["gelu", "geluErf", "gatedSilu"],
  learnedPositions: ["size", "offset", "antialias"],
  attentionBias: ["qkv", "qv", "none"],
  maskToken: [true, false],
};
const LISTS = ["stem"];
const OPTIONAL = ["ropeTheta", "learnedPositions", "attentionBias", "maskToken"];

/**
 * Checks settings that came from outside, e.g. from a weight file.
 *
 * @throws ConfigError naming the first setting that is missing, unknown or out of range.
 */
export function parseVitConfig(input: unknown): VitConfig {
  if (typeof input !== "object" || input === null) fail(`an object is needed, got ${told(input)}`);
  const given = input as Record<string, unknown>;
  const unknown = Object.keys(given).find((key) =>
    ![...NUMBERS, ...LISTS].includes(key) && !Object.hasOwn(CHOICES, key)
  );
  if (unknown !== undefined) fail(`unknown key "${oneLine(unknown)}"`);
  const wanted = (key: string) => given[key] !== undefined || !OPTIONAL.includes(key);
  for (const key of NUMBERS.filter(wanted)) checkNumber(key, given[key]);
  for (const [key, choices] of Object.entries(CHOICES)) {
    if (!wanted(key) || choices.includes(given[key])) continue;
    fail(`"${key}" must be ${choices.slice(0, -1).join(", ")} or ${choices.at(-1)}, got ${told(given[key])}`);
  }
  const config = given as unknown as VitConfig;
  checkTogether(config);
  return config;
}

function checkNumber(key: string, value: unknown): void {
  if (key === "layerScaleInit" && value === null) return;
  const zero = key === "registers" && value === 0;
  if (typeof value !== "number" || !(value > 0 && value < Infinity || zero)) {
    fail(`"${key}" must be a positive number${key === "registers" ? " or 0" : ""}, got ${told(value)}`);
  }
  if (INTEGERS.includes(key) && !Number.isInteger(value)) {
    fail(`"${key}" must be an integer, got ${told(value)}`);
  }
}

function checkTogether(config: VitConfig): void {
  const { width, heads, imageSize, patchSize } = config;
  const rotary = config.ropeTheta !== undefined;
  if (rotary === (config.learnedPositions !== undefined)) {
    fail(`positions need one of "ropeTheta" and "learnedPositions", got ${rotary ? "both" : "neither"}`);
  }
  if (rotary && (width / heads) % 4 !== 0) {
    fail(`"width" / "heads" must be a multiple of 4, got ${width} / ${heads}`);
  }
  if (width % heads !== 0) fail(`"heads" must divide "width", got ${heads} and ${width}`);
  const { stem } = config;
  if (stem !== undefined && !(Array.isArray(stem) && isStem(stem, patchSize))) {
    fail(`"stem" must be ${stemNeeds(patchSize)}, got ${told(stem)}`);
  }
  if (imageSize % patchSize !== 0) {
    fail(`"imageSize" must be a multiple of "patchSize", got ${imageSize} and ${patchSize}`);
  }
}

function fail(wanted: string): never {
  throw new ConfigError(`Cannot use vision transformer settings: ${wanted}`);
}
