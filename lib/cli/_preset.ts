import { ConfigError } from "novae/tensor/mod.ts";
import {
  type AutoencoderConfig,
  type AutoencoderSchedule,
  type FrozenEncoder,
  type SpaceName,
  svgPreset,
  type SvgPresetName,
  svgSchedule,
} from "novae/autoencoder/mod.ts";
import type { AutoencoderOptions } from "./_autoencoder_config.ts";

/** Options that a preset decides. */
export const PRESET_DECIDES = ["space", "size", "imageSize", "patchSize", "crop", "flip", "resize"] as const;

/** What a person gives: a preset, or a space. */
export type AutoencoderFlags = Omit<AutoencoderOptions, "space"> & { space?: SpaceName };

/**
 * Options with what the preset decides.
 *
 * @throws ConfigError if there is neither a preset nor a space.
 */
export function withPreset(flags: AutoencoderFlags): AutoencoderOptions {
  const { preset, space } = flags;
  if (preset === undefined) {
    if (space !== undefined) return { ...flags, space };
    throw new ConfigError("Cannot train an autoencoder: --space or --preset must be given, got neither");
  }
  const { model, training: { augmentation } } = svgPreset(preset);
  return {
    ...flags,
    space: model.space,
    imageSize: model.imageSize,
    resize: augmentation.smallestSide,
    crop: augmentation.crop,
    flip: augmentation.flip,
  };
}

/** Model and schedule of a preset on a number of training images. */
export function presetTraining(
  preset: SvgPresetName,
  trainImages: number,
): { readonly model: AutoencoderConfig; readonly schedule: AutoencoderSchedule } {
  const published = svgPreset(preset);
  return { model: published.model, schedule: svgSchedule(published, { trainImages }) };
}

/**
 * Checks that a frozen encoder has the width that a preset was published with, or that was set.
 *
 * @throws ConfigError if it has not.
 */
export function expectPresetEncoder(
  preset: SvgPresetName,
  { featureChannels }: AutoencoderConfig,
  { width }: FrozenEncoder,
): void {
  if (width === featureChannels) return;
  const { encoder } = svgPreset(preset);
  throw new ConfigError(
    `Cannot train ${preset}: the width of its frozen encoder (${encoder}) must be ${featureChannels}, got ${width}`,
  );
}
