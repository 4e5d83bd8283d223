/**
 * What determines the result of a diffusion training in a run folder.
 *
 * @module
 */
import { z } from "zod";
import { ConfigError } from "novae/tensor/mod.ts";
import {
  type DiffusionTrainingInput,
  type DiffusionTrainingSettings,
  type DitConfig,
  parseDitConfig,
  parseTrainingSettings,
  type SamplerName,
  SAMPLERS,
} from "novae/diffusion/mod.ts";
import { parseWith } from "novae/experiment/mod.ts";
import { FEWEST_SCORED, type JudgeRecord } from "./judge.ts";
import type { LatentsRecord } from "./latents.ts";

/** Samples that are drawn while a training goes on, and how they are judged. */
export interface EvaluationSettings {
  /** Images between evaluations; a fifth of the training by default. There is one at the end. */
  readonly everyImages: number;
  /** Samples of each, which the Fréchet distance is of; 0 for none. Default 256. */
  readonly samples: number;
  /** How many of them are pictured. Default 40. */
  readonly shown: number;
  /** Reference images of the Fréchet distance, at most. Default 2,000. */
  readonly references: number;
  /** Default `euler`. */
  readonly sampler: SamplerName;
  /** Steps of the sampler. Default 25. */
  readonly steps: number;
  /** Guidance; 1 is none. Default 1. */
  readonly cfgScale: number;
  /** Shift of the sampling times; below 1 towards noise. Default 1. */
  readonly timestepShift: number;
  /** Decides the noise, the same at every evaluation. Default 0. */
  readonly seed: number;
}

/** The validation loss, measured on latents that are held out. */
export interface ValidationSettings {
  /** Images between measurements; a twentieth of the training by default. */
  readonly everyImages: number;
  /** Held-out images of each, at most. Default 1,024. */
  readonly images: number;
}

/** What is written while a training goes on. */
export interface KeepingSettings {
  /** Updates between rows of the metrics; about 200 rows by default, and at least one in 100 updates. */
  readonly logEverySteps: number;
  /** Updates between reads of the losses, which wait for the device; null, the default, for what suits it. */
  readonly readEverySteps: number | null;
  /** Images between checkpoints, rounded up to rows of the metrics; a tenth of the training by default. */
  readonly checkpointEveryImages: number;
  /** Newest checkpoints that are kept, beside the best. Default 3. */
  readonly keepLast: number;
}

/** Settings of a run as they are given: what has a default may be left out. */
export interface DiffusionRunInput {
  /** Shape of the transformer. */
  readonly model: DitConfig;
  /** How it learns. */
  readonly training: DiffusionTrainingInput;
  /** Samples at intervals. */
  readonly evaluation?: Partial<EvaluationSettings>;
  /** Validation loss at intervals. */
  readonly validation?: Partial<ValidationSettings>;
  /** Metrics and checkpoints. */
  readonly keeping?: Partial<KeepingSettings>;
}

/** Settings of a run, complete. */
export interface DiffusionRunSettings {
  /** Shape of the transformer. */
  readonly model: DitConfig;
  /** How it learns. */
  readonly training: DiffusionTrainingSettings;
  /** Samples at intervals. */
  readonly evaluation: EvaluationSettings;
  /** Validation loss at intervals. */
  readonly validation: ValidationSettings;
  /** Metrics and checkpoints. */
  readonly keeping: KeepingSettings;
}

/** The resolved configuration in `config.json`: settings, and what identifies all that the run is made from. */
export interface DiffusionRunConfig extends DiffusionRunSettings {
  /** Tells it from configurations of other runs. */
  readonly kind: "diffusion";
  /** What it learns from. */
  readonly latents: LatentsRecord;
  /** Hash of the weights that it starts from; null for random ones. */
  readonly init: string | null;
  /** Hash of the autoencoder that decodes samples; null if there is none, and no pictures. */
  readonly decoder: string | null;
  /** What judges samples; null if nothing does. */
  readonly judge: JudgeRecord | null;
}

const count = z.int().positive();
const evaluation = z.strictObject({
  everyImages: count,
  samples: z.int().nonnegative().default(256),
  shown: count.default(40),
  references: count.min(FEWEST_SCORED).default(2000),
  sampler: z.enum(Object.keys(SAMPLERS) as [SamplerName, ...SamplerName[]]).default("euler"),
  steps: count.default(25),
  cfgScale: z.number().min(0).default(1),
  timestepShift: z.number().positive().default(1),
  seed: z.int().default(0),
});
const validation = z.strictObject({ everyImages: count, images: count.min(10).default(1024) });
const keeping = z.strictObject({
  logEverySteps: count,
  readEverySteps: count.nullable().default(null),
  checkpointEveryImages: count,
  keepLast: count.default(3),
});
const schema = z.strictObject({
  model: z.unknown(),
  training: z.unknown(),
  evaluation,
  validation,
  keeping,
});

/**
 * Fills in defaults and checks all settings.
 *
 * @throws ConfigError naming the first that cannot be used.
 */
export function parseRunSettings(input: DiffusionRunInput): DiffusionRunSettings {
  const model = parseDitConfig(input.model), training = parseTrainingSettings(input.training);
  const { images, batchSize } = training, steps = Math.ceil(images / batchSize);
  const given = {
    model,
    training,
    evaluation: { everyImages: Math.ceil(images / 5), ...defined(input.evaluation) },
    validation: { everyImages: Math.ceil(images / 20), ...defined(input.validation) },
    keeping: {
      logEverySteps: Math.min(Math.max(Math.round(steps / 200), 1), 100),
      checkpointEveryImages: Math.ceil(images / 10),
      ...defined(input.keeping),
    },
  };
  const parsed = parseWith(schema, given, "Cannot train a diffusion transformer", ConfigError);
  const { evaluation } = parsed;
  if (evaluation.cfgScale !== 1 && training.labelDropout === 0) {
    throw new ConfigError(
      `Cannot train a diffusion transformer: "evaluation.cfgScale" must be 1 where no label is dropped, got ` +
        `${evaluation.cfgScale}`,
    );
  }
  return { ...parsed, model, training };
}

/** Without the keys whose value is undefined, which would hide a default. */
function defined<T extends object>(settings: T = {} as T): Partial<T> {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined)) as Partial<
    T
  >;
}
