/**
 * What a comparison of diffusion in several latent spaces is made of.
 *
 * @module
 */
import { z } from "zod";
import { ConfigError } from "novae/tensor/mod.ts";
import { isSpaceName, SPACE_NAMES, type SpaceName } from "novae/autoencoder/mod.ts";
import { DIT_SIZES, parseTrainingSettings } from "novae/diffusion/mod.ts";
import { parseWith } from "novae/experiment/mod.ts";
import { comparedImages } from "./_compared_images.ts";
import type { ComparisonConfig } from "./comparison_config.ts";
import type { StudyConfig } from "./config.ts";
import type { GenerationContext } from "./generation.ts";

/** Latents that a transformer is trained on. */
export interface ComparedLatents {
  /** As they were asked for, e.g. `svg` or `svg-noalign@svg`. */
  readonly label: string;
  /** The space of their autoencoder. */
  readonly space: SpaceName;
  /** The space whose statistics normalise them: their own, or another one of as many channels. */
  readonly statistics: SpaceName;
}

/** Settings of a comparison. */
export interface DiffusionComparisonConfig {
  /** The images. */
  readonly data: ComparisonConfig["data"];
  /** Which images are drawn, or held out; the same for all. */
  readonly dataSeed: number;
  /** File of the frozen encoder, whose class token measures one of the two Fréchet distances. */
  readonly encoder: string;
  /** File of the classifier of the other, which shares no weights with any space. */
  readonly classifier: string;
  /** Folder of the autoencoders, `ae-<space>-<data>.safetensors`. */
  readonly autoencoders: string;
  /** What is compared. */
  readonly spaces: readonly ComparedLatents[];
  /** Seeds of weights, batches and noise; each space is trained with each. */
  readonly seeds: readonly number[];
  /** The transformer and its training. */
  readonly diffusion: StudyConfig["diffusion"];
  /** How samples are drawn and when they are scored. */
  readonly sampling: GenerationContext["config"]["sampling"];
  /** Where it runs. */
  readonly device: string;
}

const count = z.int().positive(), positive = z.number().positive();
const schema = z.strictObject({
  data: comparedImages,
  dataSeed: z.int(),
  encoder: z.string().min(1),
  classifier: z.string().min(1),
  autoencoders: z.string().min(1),
  spaces: z.array(z.strictObject({ label: z.string(), space: z.string(), statistics: z.string() })).min(1),
  seeds: z.array(z.int().min(0)).min(1),
  diffusion: z.strictObject({ size: z.enum(Object.keys(DIT_SIZES)) }).loose(),
  sampling: z.strictObject({
    samples: count.min(40),
    steps: z.array(count).min(1),
    guidedSteps: z.array(count).optional(),
    cfgScale: z.number().gt(1),
    timestepShift: positive,
    checkpoints: z.array(positive.max(1)).min(1),
    curveSteps: z.array(count).min(1),
    curveGuided: z.boolean(),
  }),
  device: z.string(),
});

const WHAT = "Cannot compare diffusion";

/**
 * Checks a configuration.
 *
 * @throws ConfigError naming the first value that cannot be used, or what is there twice.
 */
export function parseDiffusionComparison(input: DiffusionComparisonConfig): DiffusionComparisonConfig {
  const config = parseWith(schema, input, WHAT) as unknown as DiffusionComparisonConfig;
  const { size: _, ...training } = config.diffusion;
  parseTrainingSettings({ ...training, seed: config.seeds[0] });
  const twice = <T>(values: readonly T[]) => values.find((value, i) => values.indexOf(value) !== i);
  const label = twice(config.spaces.map((space) => space.label)), seed = twice(config.seeds);
  if (label !== undefined || seed !== undefined) {
    throw new ConfigError(`${WHAT}: spaces and seeds must be given once, got ${label ?? seed} twice`);
  }
  const { checkpoints, curveSteps, steps } = config.sampling;
  if (checkpoints.at(-1) !== 1) {
    throw new ConfigError(`${WHAT}: the last of sampling.checkpoints must be 1, got ${checkpoints.at(-1)}`);
  }
  const missing = curveSteps.find((n) => !steps.includes(n));
  if (missing !== undefined) {
    throw new ConfigError(`${WHAT}: sampling.curveSteps must be among sampling.steps, got ${missing}`);
  }
  return config;
}

/**
 * Reads a list of latents: spaces separated by commas, each with the space whose statistics normalise it behind `@`
 * where they are not its own, e.g. `vae,svg-noalign,svg-noalign@svg,svg`.
 *
 * @throws ConfigError for a name that is no space.
 */
export function parseLatents(text: string): ComparedLatents[] {
  return text.split(",").map((part) => {
    const label = part.trim(), [space, statistics = space, ...rest] = label.split("@");
    if (isSpaceName(space) && isSpaceName(statistics) && rest.length === 0) {
      return { label, space, statistics };
    }
    throw new ConfigError(
      `${WHAT}: spaces must be among ${
        SPACE_NAMES.join(", ")
      }, each with another's statistics behind @ or not, ` +
        `got "${label}"`,
    );
  });
}
