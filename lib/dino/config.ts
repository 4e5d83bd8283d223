/**
 * Shapes of vision transformers: their settings, the published and the project's named sizes, parameter counts.
 *
 * @module
 */
import { ConfigError } from "novae/tensor/mod.ts";

/** Settings of a vision transformer of the DINOv3 kind. */
export interface VitConfig {
  /** Side of a square patch in pixels. */
  readonly patchSize: number;
  /** D, width of the tokens. */
  readonly width: number;
  /** Number of blocks. */
  readonly depth: number;
  /** A, number of attention heads; width / heads must be a multiple of 4. */
  readonly heads: number;
  /** Width between the layers of the perceptrons, as a multiple of `width`. */
  readonly mlpRatio: number;
  /** `geluErf` (DINOv3), `gelu` (its tanh approximation) or `gatedSilu` (DINOv3's "plus" and largest sizes). */
  readonly mlp: "gelu" | "geluErf" | "gatedSilu";
  /** Number of register tokens, at least 1. */
  readonly registers: number;
  /** Initial value of the gains behind attention and perceptron. */
  readonly layerScaleInit: number;
  /** Base of the rotary frequencies. */
  readonly ropeTheta: number;
  /** Epsilon of the layer normalisations. */
  readonly normEps: number;
  /** Side of the images that the encoder was made for, in pixels; other multiples of the patch work too. */
  readonly imageSize: number;
}

/** Names of {@linkcode VIT_SIZES}. */
export type VitSize = "tiny" | "solids" | "cifar10" | "vits16" | "vits16plus" | "vitb16" | "vitl16";

const DINOV3 = {
  patchSize: 16,
  mlpRatio: 4,
  mlp: "geluErf",
  registers: 4,
  layerScaleInit: 1e-5,
  ropeTheta: 100,
  normEps: 1e-5,
  imageSize: 224,
} as const;

const PROJECT = { ...DINOV3, width: 64, depth: 6, heads: 2, mlp: "gelu", layerScaleInit: 1 } as const;

/**
 * Named sizes: DINOv3's S/16, S/16+, B/16 and L/16; `solids` and `cifar10`, which this project trains on 64×64 and
 * 32×32 images; `tiny` for tests.
 *
 * *Source*: configurations of facebookresearch/dinov3. *Differs*: the project's sizes start LayerScale at 1, as
 * shallow networks need no damping, and use the tanh form of GELU, which has a fused kernel.
 */
export const VIT_SIZES: Readonly<Record<VitSize, VitConfig>> = {
  tiny: { ...PROJECT, patchSize: 4, width: 16, depth: 2, heads: 2, mlpRatio: 2, registers: 2, imageSize: 16 },
  solids: { ...PROJECT, patchSize: 8, imageSize: 64 },
  cifar10: { ...PROJECT, patchSize: 4, imageSize: 32 },
  vits16: { ...DINOV3, width: 384, depth: 12, heads: 6 },
  vits16plus: { ...DINOV3, width: 384, depth: 12, heads: 6, mlp: "gatedSilu" },
  vitb16: { ...DINOV3, width: 768, depth: 12, heads: 12 },
  vitl16: { ...DINOV3, width: 1024, depth: 24, heads: 16 },
};

/** Width between the layers of the perceptrons. */
export function mlpWidth(config: VitConfig): number {
  return Math.round(config.width * config.mlpRatio);
}

/**
 * Number of parameters, in closed form. As in Hugging Face's format the key biases, which are zero, do not count,
 * and the mask token does.
 */
export function countVitParams(config: VitConfig): number {
  const { width: d, depth, patchSize, registers } = config;
  const f = mlpWidth(config);
  const attention = 3 * d * d + 2 * d + d * d + d;
  const perceptron = config.mlp === "gatedSilu" ? 3 * d * f + 2 * f + d : 2 * d * f + f + d;
  const block = attention + perceptron + 2 * 2 * d + 2 * d;
  const embeddings = patchSize * patchSize * 3 * d + d + (2 + registers) * d;
  return embeddings + depth * block + 2 * d;
}

/**
 * Checks settings that came from outside, e.g. from a weight file.
 *
 * @throws ConfigError naming the first setting that is missing, unknown or out of range.
 */
export function parseVitConfig(input: unknown): VitConfig {
  const fail = (wanted: string): never => {
    throw new ConfigError(`Cannot use vision transformer settings: ${wanted}`);
  };
  if (typeof input !== "object" || input === null) return fail(`an object is needed, got ${input}`);
  const given = input as Record<string, unknown>;
  const integers = ["patchSize", "width", "depth", "heads", "registers", "imageSize"];
  const numbers = [...integers, "mlpRatio", "layerScaleInit", "ropeTheta", "normEps"];
  const unknown = Object.keys(given).find((key) => key !== "mlp" && !numbers.includes(key));
  if (unknown !== undefined) fail(`unknown key "${unknown}"`);
  for (const key of numbers) {
    const value = given[key];
    if (typeof value !== "number" || !(value > 0 && value < Infinity)) {
      fail(`"${key}" must be a positive number, got ${value}`);
    }
  }
  for (const key of integers) {
    if (!Number.isInteger(given[key])) fail(`"${key}" must be an integer, got ${given[key]}`);
  }
  if (!["gelu", "geluErf", "gatedSilu"].includes(given.mlp as string)) {
    fail(`"mlp" must be gelu, geluErf or gatedSilu, got ${given.mlp}`);
  }
  const config = given as unknown as VitConfig;
  if (config.width % config.heads !== 0 || (config.width / config.heads) % 4 !== 0) {
    fail(`"width" / "heads" must be a multiple of 4, got ${config.width} / ${config.heads}`);
  }
  if (config.imageSize % config.patchSize !== 0) {
    fail(`"imageSize" must be a multiple of "patchSize", got ${config.imageSize} and ${config.patchSize}`);
  }
  return config;
}
