/**
 * Configuration of the diffusion transformer.
 *
 * @module
 */
import { z } from "zod";
import { ConfigError } from "novae/tensor/mod.ts";
import { DIT_SIZES, type DitSize, type DitSizeShape } from "./sizes.ts";

/** What of a transformer is a matter of taste; left out, it is as in SVG's and DiT's models. */
export interface DitVariant {
  /** Side p of the squares of latent tokens that are one token of the transformer. Default 1. */
  readonly patchSize?: number;
  /**
   * Normalisation before attention and perceptron: `layer` has no weights; `rms` has a scale of its own, here and for
   * queries and keys. Default `layer`.
   */
  readonly norm?: "layer" | "rms";
  /** Perceptron: `gelu`, or `swiglu`, gated and two thirds as wide. Default `gelu`. */
  readonly mlp?: "gelu" | "swiglu";
  /** Whether queries and keys are also rotated by the place of their token. Default false. */
  readonly rope?: boolean;
  /** Features of times: `sinCos` of fixed frequencies, or `fourier` of random ones. Default `sinCos`. */
  readonly timeFeatures?: "sinCos" | "fourier";
  /** A wide and shallow head behind the blocks, which sees the latents anew. None by default. */
  readonly head?: DitSizeShape;
}

/** Shape of a diffusion transformer. */
export interface DitConfig extends DitVariant {
  /** Channels Z of a latent token. */
  readonly channels: number;
  /** Latent tokens along each side of the square grid, so that N = grid². */
  readonly grid: number;
  /** Number of classes L, 0 of an unconditional model; label L is the null label that stands for "no class". */
  readonly classes: number;
  /** Width E of a token inside the transformer, a multiple of 4. */
  readonly width: number;
  /** Number of blocks. */
  readonly depth: number;
  /** Number of attention heads A; divides the width. */
  readonly heads: number;
  /** Width of the perceptrons as a multiple of E; a gated one has two thirds of it. */
  readonly mlpRatio: number;
  /** Whether queries and keys are normalised over the head width, which keeps long trainings stable. */
  readonly qkNorm: boolean;
  /** Whether the output has 2·Z channels, of which the second half is discarded, as in the published models. */
  readonly learnSigma: boolean;
}

/** What is left to choose beside a named size. */
export interface DitConfigOptions extends DitVariant {
  /** Channels Z of a latent token. */
  readonly channels: number;
  /** Latent tokens along each side of the square grid. */
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

const extents = {
  width: z.int().min(4).multipleOf(4),
  depth: z.int().min(1),
  heads: z.int().min(1),
};

const schema = z.strictObject({
  channels: z.int().min(1),
  grid: z.int().min(1),
  classes: z.int().min(0),
  ...extents,
  mlpRatio: z.number().positive(),
  qkNorm: z.boolean(),
  learnSigma: z.boolean(),
  patchSize: z.int().min(1).optional(),
  norm: z.enum(["layer", "rms"]).optional(),
  mlp: z.enum(["gelu", "swiglu"]).optional(),
  rope: z.boolean().optional(),
  timeFeatures: z.enum(["sinCos", "fourier"]).optional(),
  head: z.strictObject(extents).readonly().optional(),
}).readonly();

/** What is meant where a configuration is silent; it is silent about what is meant anyway. */
const DEFAULTS: Readonly<Record<string, unknown>> = {
  patchSize: 1,
  norm: "layer",
  mlp: "gelu",
  rope: false,
  timeFeatures: "sinCos",
};

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
 * @returns the configuration without the options that are at their default.
 * @throws ConfigError naming the first value that cannot be used.
 */
export function parseDitConfig(input: unknown): DitConfig {
  const parsed = schema.safeParse(input);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const where = issue.path.length > 0 ? ` at "${issue.path.join(".")}"` : "";
    throw new ConfigError(`Cannot use the transformer's configuration${where}: ${issue.message}`);
  }
  const said = Object.entries(parsed.data).filter(([key, value]) =>
    value !== undefined && !(key in DEFAULTS && DEFAULTS[key] === value)
  );
  const config = Object.fromEntries(said) as unknown as DitConfig;
  const { grid, patchSize = 1, head, rope = false } = config;
  expectHeads("heads", config, rope);
  if (head) expectHeads("head.heads", head, rope);
  if (grid % patchSize !== 0) {
    throw new ConfigError(
      `Cannot use the transformer's configuration: patchSize must divide the grid ${grid}, got ${patchSize}`,
    );
  }
  return config;
}

function expectHeads(key: string, { width, heads }: DitSizeShape, rope: boolean): void {
  if (width % heads !== 0) {
    throw new ConfigError(
      `Cannot use the transformer's configuration: ${key} must divide the width ${width}, got ${heads}`,
    );
  }
  if (rope && width / heads % 4 !== 0) {
    throw new ConfigError(
      `Cannot use the transformer's configuration: ${key} must leave rotary positions a multiple of 4 channels a ` +
        `head, got ${width / heads}`,
    );
  }
}

/** Tokens of the transformer along each side: those of the latent grid, or fewer with patches. */
export function tokenGrid({ grid, patchSize = 1 }: DitConfig): number {
  return grid / patchSize;
}

/** Values of the latents in one token of the transformer, p²·Z. */
export function tokenValues({ channels, patchSize = 1 }: DitConfig): number {
  return patchSize ** 2 * channels;
}

/** Hidden width F of the perceptrons of blocks of the given width. */
export function mlpWidth({ mlpRatio, mlp = "gelu" }: DitConfig, width: number): number {
  const full = Math.round(width * mlpRatio);
  return mlp === "swiglu" ? Math.trunc(2 / 3 * full) : full;
}
