/**
 * What a comparison of autoencoders is made of.
 *
 * @module
 */
import { z } from "zod";
import { ConfigError } from "novae/tensor/mod.ts";
import type { DatasetName } from "novae/data/mod.ts";
import type { DinoEncoder } from "novae/dino/mod.ts";
import {
  type AutoencoderConfig,
  type AutoencoderSchedule,
  type AutoencoderSize,
  isSpaceName,
  type LpipsNetwork,
  namedAutoencoder,
  parseAutoencoderConfig,
  resolveSchedule,
  SPACE_NAMES,
  type SpaceName,
  trainsWithFeatures,
  usualPatchSize,
} from "novae/autoencoder/mod.ts";
import { applyOverrides, parseWith } from "novae/experiment/mod.ts";
import { comparedImages } from "./_compared_images.ts";

/** A latent space as it is compared: its name, and settings of its autoencoder that are changed. */
export interface ComparedSpace {
  /** As it was asked for, e.g. `svg` or `svg+residual.channels=16`. */
  readonly label: string;
  /** The latent space. */
  readonly space: SpaceName;
  /** Changed settings, `key.path=value`. */
  readonly changes: readonly string[];
}

/** Settings of a comparison. */
export interface ComparisonConfig {
  /** The images. */
  readonly data: {
    readonly name: DatasetName;
    readonly path: string;
    readonly train: number;
    readonly test: number;
    readonly imageSize: number;
  };
  /** Which images are drawn, or held out; the same for all. */
  readonly dataSeed: number;
  /** File of the frozen encoder; empty if no space needs one. */
  readonly encoder: string;
  /** File of the classifier of the Fréchet distance; empty to leave it out. */
  readonly classifier: string;
  /** LPIPS as a measure: a folder of its files, or a checkpoint that holds it; left out if absent. */
  readonly lpips?: { readonly path: string; readonly network: LpipsNetwork };
  /** What is compared. */
  readonly spaces: readonly ComparedSpace[];
  /** Seeds of the trainings; each space is trained with each. */
  readonly seeds: readonly number[];
  /** Named size of the networks. */
  readonly size: AutoencoderSize;
  /** How all are trained, but for the seed. */
  readonly schedule: Omit<AutoencoderSchedule, "seed">;
  /** Neighbours that vote. */
  readonly neighbours: number;
  /** Where it runs. */
  readonly device: string;
}

const count = z.int().positive();
const schema = z.strictObject({
  data: comparedImages,
  dataSeed: z.int(),
  encoder: z.string(),
  classifier: z.string(),
  lpips: z.strictObject({ path: z.string(), network: z.enum(["vgg16", "alexnet"]) }).optional(),
  spaces: z.array(
    z.strictObject({ label: z.string(), space: z.string(), changes: z.array(z.string()) }),
  ).min(1),
  seeds: z.array(z.int().min(0)).min(1),
  size: z.string(),
  schedule: z.record(z.string(), z.unknown()),
  neighbours: count,
  device: z.string(),
});

/**
 * Checks a configuration; the schedule's defaults are filled in.
 *
 * @throws ConfigError naming the first value that cannot be used, or what is there twice.
 */
export function parseComparisonConfig(input: ComparisonConfig): ComparisonConfig {
  const what = "Cannot compare autoencoders";
  const config = parseWith(schema, input, what) as unknown as ComparisonConfig;
  const twice = <T>(values: readonly T[]) => values.find((value, i) => values.indexOf(value) !== i);
  const label = twice(config.spaces.map((space) => space.label)), seed = twice(config.seeds);
  if (label !== undefined || seed !== undefined) {
    throw new ConfigError(`${what}: spaces and seeds must be given once, got ${label ?? seed} twice`);
  }
  const { seed: _, ...schedule } = resolveSchedule(config.schedule);
  return { ...config, schedule };
}

/**
 * Reads a list of spaces: names separated by commas, each with changed settings behind `+`, e.g.
 * `vae,svg,svg+residual.channels=16`.
 *
 * @throws ConfigError for a name that is no space.
 */
export function parseSpaces(text: string): ComparedSpace[] {
  return text.split(",").map((part) => {
    const label = part.trim(), [space, ...changes] = label.split("+").map((piece) => piece.trim());
    if (isSpaceName(space)) return { label, space, changes };
    throw new ConfigError(
      `Cannot compare autoencoders: spaces must be among ${SPACE_NAMES.join(", ")}, got "${space}"`,
    );
  });
}

/**
 * The settings of the autoencoder of a space.
 *
 * @throws ConfigError if the space needs an encoder and there is none, or a changed setting cannot be used.
 */
export function modelOf(
  { data, size }: ComparisonConfig,
  { label, space, changes }: ComparedSpace,
  encoder: DinoEncoder | undefined,
): AutoencoderConfig {
  if (trainsWithFeatures(space) && !encoder) {
    throw new ConfigError(`Cannot compare ${label}: --encoder must name its frozen encoder, got none`);
  }
  // Spaces without an encoder have as many tokens as those with one.
  const own = usualPatchSize(size, space, data.imageSize);
  const named = namedAutoencoder(size, {
    space,
    imageSize: data.imageSize,
    patchSize: own === undefined ? undefined : encoder?.config.patchSize ?? own,
    featureChannels: encoder?.width,
  });
  return parseAutoencoderConfig(applyOverrides(named, changes, `settings of ${label}`));
}
