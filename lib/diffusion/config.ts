/**
 * Configuration of the diffusion transformer, its named sizes, and its parameter shapes without any allocation.
 *
 * @module
 */
import { z } from "zod";
import { ConfigError, flattenTree, sizeOf } from "novae/tensor/mod.ts";
import type { DitParams } from "./dit.ts";

/** Shape of a diffusion transformer. */
export interface DitConfig {
  /** Channels Z of a latent token. */
  readonly channels: number;
  /** Tokens along each side of the square grid, so that N = grid². */
  readonly grid: number;
  /** Number of classes L, 0 of an unconditional model; label L is the null label that stands for "no class". */
  readonly classes: number;
  /** Width E of a token inside the transformer, a multiple of 4. */
  readonly width: number;
  /** Number of blocks. */
  readonly depth: number;
  /** Number of attention heads A; divides the width. */
  readonly heads: number;
  /** Width of the perceptrons as a multiple of E. */
  readonly mlpRatio: number;
  /** Whether queries and keys pass a LayerNorm over the head width, which keeps long trainings stable. */
  readonly qkNorm: boolean;
  /** Whether the output has 2·Z channels, of which the second half is discarded, as in the published models. */
  readonly learnSigma: boolean;
}

/** Names of the sizes in {@linkcode DIT_SIZES}. */
export type DitSize = "tiny" | "pico" | "micro" | "nano" | "S" | "B" | "L" | "XL" | "XXL" | "XXXL";

/** What a named size decides. */
export interface DitSizeShape {
  /** Width E. */
  readonly width: number;
  /** Number of blocks. */
  readonly depth: number;
  /** Number of heads A. */
  readonly heads: number;
}

/**
 * Named sizes. `S` to `XXXL` are the published ones (33M to 1,355M parameters at 392 channels); `pico`, `micro`
 * and `nano` train on a CPU; `tiny` is for tests.
 *
 * *Source*: models of shiml20/SVG, whose parameter counts are given in {@linkcode countParameters}.
 */
export const DIT_SIZES: Readonly<Record<DitSize, DitSizeShape>> = {
  tiny: { width: 32, depth: 2, heads: 2 },
  pico: { width: 96, depth: 3, heads: 3 },
  micro: { width: 96, depth: 4, heads: 3 },
  nano: { width: 192, depth: 6, heads: 3 },
  S: { width: 384, depth: 12, heads: 6 },
  B: { width: 768, depth: 12, heads: 12 },
  L: { width: 1024, depth: 24, heads: 16 },
  XL: { width: 1152, depth: 28, heads: 16 },
  XXL: { width: 1280, depth: 32, heads: 20 },
  XXXL: { width: 1440, depth: 36, heads: 24 },
};

/** Number of sine-cosine features that a time is expanded to. */
export const TIME_FEATURES = 256;

/** What is left to choose beside a named size. */
export interface DitConfigOptions {
  /** Channels Z of a latent token. */
  readonly channels: number;
  /** Tokens along each side of the square grid. */
  readonly grid: number;
  /** Number of classes L. */
  readonly classes: number;
  /** Default 4. */
  readonly mlpRatio?: number;
  /** Default true. */
  readonly qkNorm?: boolean;
  /** Default false; true gives the published parameter counts. */
  readonly learnSigma?: boolean;
}

const schema = z.strictObject({
  channels: z.int().min(1),
  grid: z.int().min(1),
  classes: z.int().min(0),
  width: z.int().min(4).multipleOf(4),
  depth: z.int().min(1),
  heads: z.int().min(1),
  mlpRatio: z.number().positive(),
  qkNorm: z.boolean(),
  learnSigma: z.boolean(),
}).readonly();

/**
 * The configuration of a named size.
 *
 * @example
 * ```ts
 * import { countParameters, ditConfig } from "novae/diffusion/mod.ts";
 * const config = ditConfig("S", { channels: 392, grid: 16, classes: 1000, learnSigma: true });
 * if (countParameters(config).total !== 33_400_336) throw new Error("not the published size");
 * ```
 * @throws ConfigError if a value cannot be used.
 */
export function ditConfig(size: DitSize, options: DitConfigOptions): DitConfig {
  const shape = DIT_SIZES[size];
  if (shape === undefined) {
    throw new ConfigError(
      `Cannot make a diffusion transformer: size must be one of ${
        Object.keys(DIT_SIZES).join(", ")
      }, got ${size}`,
    );
  }
  const { mlpRatio = 4, qkNorm = true, learnSigma = false } = options;
  return parseDitConfig({ ...shape, ...options, mlpRatio, qkNorm, learnSigma });
}

/**
 * Checks a configuration that came from outside, e.g. from a weights file.
 *
 * @throws ConfigError naming the first value that cannot be used.
 */
export function parseDitConfig(input: unknown): DitConfig {
  const parsed = schema.safeParse(input);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const where = issue.path.length > 0 ? ` at "${issue.path.join(".")}"` : "";
    throw new ConfigError(`Cannot use the transformer's configuration${where}: ${issue.message}`);
  }
  const config: DitConfig = parsed.data;
  if (config.width % config.heads !== 0) {
    throw new ConfigError(
      `Cannot use the transformer's configuration: heads must divide the width ${config.width}, got ${config.heads}`,
    );
  }
  return config;
}

/** The shape of each learned parameter, as a tree of the form of {@linkcode DitParams}; allocates nothing. */
export function ditShapes(config: DitConfig): DitParams<readonly number[]> {
  const { channels, classes, width, depth, qkNorm } = config;
  const hidden = Math.round(width * config.mlpRatio), headDim = width / config.heads;
  const linear = (from: number, to: number) => ({ weight: [from, to], bias: [to] });
  const norm = () => ({ weight: [headDim], bias: [headDim] });
  return {
    tokens: linear(channels, width),
    time: { fc1: linear(TIME_FEATURES, width), fc2: linear(width, width) },
    labels: { table: [classes + 1, width] },
    modulation: linear(width, (6 * depth + 2) * width),
    blocks: Array.from({ length: depth }, () => ({
      attention: {
        qkv: linear(width, 3 * width),
        proj: linear(width, width),
        ...(qkNorm ? { qNorm: norm(), kNorm: norm() } : {}),
      },
      mlp: { fc1: linear(width, hidden), fc2: linear(hidden, width) },
    })),
    output: linear(width, config.learnSigma ? 2 * channels : channels),
  };
}

/** Numbers of parameters. */
export interface ParameterCount {
  /** Learned parameters. */
  readonly learned: number;
  /** The fixed table of positions, N·E, which published counts include. */
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
  const shapes = flattenTree<readonly number[]>(ditShapes(config), isShape);
  const learned = shapes.reduce((sum, leaf) => sum + sizeOf(leaf.value), 0);
  const fixed = config.grid ** 2 * config.width;
  return { learned, fixed, total: learned + fixed };
}

/** Whether a value is a leaf of the tree that {@linkcode ditShapes} returns. */
export function isShape(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((extent) => typeof extent === "number");
}
