/**
 * Settings of training against a discriminator.
 *
 * @module
 */
import { z } from "zod";
import { ConfigError } from "novae/tensor/mod.ts";
import { betasSchema } from "../_betas.ts";
import { type DiscriminatorConfig, PUBLISHED_DISCRIMINATOR } from "./discriminator.ts";
import type { AdversarialKind } from "./losses.ts";

/** How an autoencoder is trained against a discriminator. */
export interface AdversarialSettings {
  /** Factor of the adversarial term beside its adaptive weight; 0.5 in SVG. */
  readonly weight: number;
  /** Factor of both losses once the discriminator has started; 1 in SVG. */
  readonly factor: number;
  /**
   * Training images before the discriminator starts. Until then the generator's adversarial term is 0 and the
   * discriminator does not move.
   */
  readonly startImages: number;
  /** Loss of the discriminator. */
  readonly loss: AdversarialKind;
  /** Step size of the discriminator; it follows the same warm-up and decay as the generator's. */
  readonly learningRate: number;
  /** Adam's decays of the gradient and of its square, for the discriminator. */
  readonly betas: readonly [number, number];
  /** Largest norm of the discriminator's gradient; null for any. */
  readonly maxGradientNorm: number | null;
  /** Form of the discriminator. */
  readonly discriminator: DiscriminatorConfig;
}

/**
 * The settings of SVG. *Differs*: the start is counted in images. Its 5,001 steps are those of two optimisers, both of
 * which count, so that the discriminator starts with update 2,500 (counted from 0) and the generator's term one update
 * later: about 1,280,000 images in batches of 512. Here both start together.
 */
export const PUBLISHED_ADVERSARIAL: AdversarialSettings = {
  weight: 0.5,
  factor: 1,
  startImages: 1_280_000,
  loss: "hinge",
  learningRate: 1e-4,
  betas: [0.5, 0.9],
  maxGradientNorm: null,
  discriminator: PUBLISHED_DISCRIMINATOR,
};

const adversarialSchema: z.ZodType<AdversarialSettings> = z.strictObject({
  weight: z.number().nonnegative(),
  factor: z.number().positive(),
  startImages: z.int().nonnegative(),
  loss: z.enum(["hinge", "vanilla"]),
  learningRate: z.number().positive(),
  betas: betasSchema,
  maxGradientNorm: z.number().positive().nullable(),
  discriminator: z.strictObject({ channels: z.int().positive(), layers: z.int().min(1).max(8) }),
});

/**
 * Completes settings with those of SVG, and checks them.
 *
 * @throws ConfigError if a key is unknown, has the wrong type or is out of its range.
 */
export function resolveAdversarial(
  settings: Partial<AdversarialSettings> | null | undefined,
): AdversarialSettings | null {
  if (settings === null || settings === undefined) return null;
  const parsed = adversarialSchema.safeParse({ ...PUBLISHED_ADVERSARIAL, ...settings });
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues, where = issue.path.length === 0 ? "" : `${issue.path.join(".")}: `;
  throw new ConfigError(`Cannot use adversarial settings: ${where}${issue.message}`);
}
