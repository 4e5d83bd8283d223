/**
 * The settings of a training that say how its losses are reduced and minimised, checked.
 *
 * @module
 */
import { z } from "zod";
import { ConfigError } from "novae/tensor/mod.ts";
import { betasSchema } from "./_betas.ts";
import { type AdversarialSettings, resolveAdversarial } from "./adversarial/mod.ts";
import type { LossReduction } from "./losses.ts";
import { DEFAULT_BETAS } from "./train_step.ts";

/** How losses are reduced and minimised. */
export interface Optimisation {
  /** Adam's decays of the gradient and of its square. Default 0.9 and 0.99; SVG has 0.5 and 0.9. */
  readonly betas?: readonly [number, number];
  /** Largest norm of the gradient; null for any. Default 1. */
  readonly maxGradientNorm?: number | null;
  /**
   * Share of the alignment's running statistics that an update keeps, in [0, 1); 0 aligns each batch by its own
   * statistics, as published for batches of 64. Default 0.99.
   */
  readonly alignmentMomentum?: number;
  /** Whether losses are averaged or summed over an image's values. Default `mean`. */
  readonly reduction?: LossReduction;
  /** Training against a discriminator; what is left out is as in SVG. Default null: none. */
  readonly adversarial?: Partial<AdversarialSettings> | null;
}

/** {@linkcode Optimisation} with every default filled in. */
export type ResolvedOptimisation = Required<Omit<Optimisation, "adversarial">> & {
  readonly adversarial: AdversarialSettings | null;
};

/** Settings of a schedule that came later, with what checkpoints from before were trained with. */
export const FORMER_SCHEDULE: Omit<ResolvedOptimisation, "maxGradientNorm"> = {
  betas: DEFAULT_BETAS,
  reduction: "mean",
  alignmentMomentum: 0,
  adversarial: null,
};

const schema = z.object({
  betas: betasSchema,
  maxGradientNorm: z.number().positive().nullable(),
  alignmentMomentum: z.number().min(0).lt(1),
  reduction: z.enum(["mean", "sum"]),
});

/**
 * Fills in the defaults.
 *
 * @throws ConfigError if a value has the wrong type or is out of its range.
 */
export function resolveOptimisation(settings: Optimisation): ResolvedOptimisation {
  const { betas, reduction, maxGradientNorm = 1 } = { ...FORMER_SCHEDULE, ...settings };
  const { alignmentMomentum = 0.99 } = settings;
  const parsed = schema.safeParse({ betas, reduction, maxGradientNorm, alignmentMomentum });
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new ConfigError(`Cannot use training settings: ${issue.path.join(".")}: ${issue.message}`);
  }
  return { ...parsed.data, adversarial: resolveAdversarial(settings.adversarial) };
}
