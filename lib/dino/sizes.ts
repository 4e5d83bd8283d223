/**
 * Named sizes of vision transformers: the published ones and the project's.
 *
 * @module
 */
import { ConfigError } from "novae/tensor/mod.ts";
import type { VitConfig } from "./config.ts";

/** Published encoders, named like their repositories; `-reg` stands for registers. */
export type PublishedVit =
  | "dino-vits16"
  | "dino-vits8"
  | "dino-vitb16"
  | "dino-vitb8"
  | "dinov2-vits14"
  | "dinov2-vitb14"
  | "dinov2-vitl14"
  | "dinov2-vitg14"
  | "dinov2-vits14-reg"
  | "dinov2-vitb14-reg"
  | "dinov2-vitl14-reg"
  | "dinov2-vitg14-reg"
  | "dinov3-vits16"
  | "dinov3-vits16plus"
  | "dinov3-vitb16"
  | "dinov3-vitl16"
  | "dinov3-vith16plus"
  | "dinov3-vit7b16";

/** Names of {@linkcode VIT_SIZES}; the short ones are DINOv3's. */
export type VitSize =
  | "tiny"
  | "solids"
  | "cifar10"
  | "vits16"
  | "vits16plus"
  | "vitb16"
  | "vitl16"
  | PublishedVit;

/**
 * Hidden width of DINOv2's gated perceptron: two thirds of that of a plain one, rounded up to a multiple of 8.
 *
 * *Source*: `SwiGLUFFNFused` of facebookresearch/dinov2.
 *
 * @param ratio hidden width of the plain perceptron as a multiple of `width`.
 */
export function swiGluWidth(width: number, ratio: number): number {
  return Math.ceil(Math.floor(Math.floor(width * ratio) * 2 / 3) / 8) * 8;
}

const S = { width: 384, depth: 12, heads: 6 } as const;
const B = { width: 768, depth: 12, heads: 12 } as const;
const L = { width: 1024, depth: 24, heads: 16 } as const;
const G = {
  width: 1536,
  depth: 40,
  heads: 24,
  mlp: "gatedSilu",
  mlpRatio: swiGluWidth(1536, 4) / 1536,
} as const;

const DINO = {
  patchSize: 16,
  mlpRatio: 4,
  mlp: "geluErf",
  registers: 0,
  layerScaleInit: null,
  learnedPositions: "offset",
  attentionBias: "qkv",
  maskToken: false,
  normEps: 1e-6,
  imageSize: 224,
} as const;

const DINOV2 = {
  patchSize: 14,
  mlpRatio: 4,
  mlp: "geluErf",
  registers: 0,
  layerScaleInit: 1e-5,
  learnedPositions: "offset",
  attentionBias: "qkv",
  normEps: 1e-6,
  imageSize: 518,
} as const;

const DINOV2_REG = { ...DINOV2, registers: 4, learnedPositions: "antialias" } as const;

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

/**
 * Settings of the published encoders, of DINO and DINOv2 as their authors' code runs them: learned positions are
 * fitted by `offset` where Hugging Face's code fits them by `size`.
 *
 * *Source*: facebookresearch/dino, facebookresearch/dinov2 and facebookresearch/dinov3.
 */
export const PUBLISHED_VITS: Readonly<Record<PublishedVit, VitConfig>> = {
  "dino-vits16": { ...DINO, ...S },
  "dino-vits8": { ...DINO, ...S, patchSize: 8 },
  "dino-vitb16": { ...DINO, ...B },
  "dino-vitb8": { ...DINO, ...B, patchSize: 8 },
  "dinov2-vits14": { ...DINOV2, ...S },
  "dinov2-vitb14": { ...DINOV2, ...B },
  "dinov2-vitl14": { ...DINOV2, ...L },
  "dinov2-vitg14": { ...DINOV2, ...G },
  "dinov2-vits14-reg": { ...DINOV2_REG, ...S },
  "dinov2-vitb14-reg": { ...DINOV2_REG, ...B },
  "dinov2-vitl14-reg": { ...DINOV2_REG, ...L },
  "dinov2-vitg14-reg": { ...DINOV2_REG, ...G },
  "dinov3-vits16": { ...DINOV3, ...S },
  "dinov3-vits16plus": { ...DINOV3, ...S, mlp: "gatedSilu" },
  "dinov3-vitb16": { ...DINOV3, ...B },
  "dinov3-vitl16": { ...DINOV3, ...L },
  "dinov3-vith16plus": { ...DINOV3, width: 1280, depth: 32, heads: 20, mlp: "gatedSilu" },
  "dinov3-vit7b16": {
    ...DINOV3,
    width: 4096,
    depth: 40,
    heads: 32,
    mlp: "gatedSilu",
    mlpRatio: 2,
    attentionBias: "none",
  },
};

const PROJECT = { ...DINOV3, width: 64, depth: 6, heads: 2, mlp: "gelu", layerScaleInit: 1 } as const;

/**
 * Named sizes: the published ones; `solids` and `cifar10`, which this project trains on 64×64 and 32×32 images;
 * `tiny` for tests.
 *
 * *Differs*: the project's sizes are of DINOv3's kind, start LayerScale at 1, as shallow networks need no damping,
 * and use the tanh form of GELU, which has a fused kernel.
 */
export const VIT_SIZES: Readonly<Record<VitSize, VitConfig>> = {
  tiny: { ...PROJECT, patchSize: 4, width: 16, depth: 2, heads: 2, mlpRatio: 2, registers: 2, imageSize: 16 },
  solids: { ...PROJECT, patchSize: 8, stem: [16, 32, 64], depth: 2, imageSize: 64 },
  cifar10: { ...PROJECT, patchSize: 4, stem: [32, 64], depth: 2, imageSize: 32 },
  vits16: PUBLISHED_VITS["dinov3-vits16"],
  vits16plus: PUBLISHED_VITS["dinov3-vits16plus"],
  vitb16: PUBLISHED_VITS["dinov3-vitb16"],
  vitl16: PUBLISHED_VITS["dinov3-vitl16"],
  ...PUBLISHED_VITS,
};

/**
 * Settings of a named size.
 *
 * @param name one of {@linkcode VIT_SIZES}, e.g. `dinov3-vits16plus`.
 * @throws ConfigError if there is no such size, listing those that there are.
 */
export function vitConfig(name: string): VitConfig {
  if (Object.hasOwn(VIT_SIZES, name)) return VIT_SIZES[name as VitSize];
  throw new ConfigError(
    `Cannot find vision transformer: size must be one of ${Object.keys(VIT_SIZES).join(", ")}, got ${name}`,
  );
}
