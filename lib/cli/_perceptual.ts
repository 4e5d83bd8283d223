import { ConfigError } from "novae/tensor/mod.ts";
import {
  classifierPerceptual,
  type Lpips,
  lpipsLoss,
  type LpipsNetwork,
  type PerceptualLoss,
} from "novae/autoencoder/mod.ts";
import { classifierFeatureMaps, expectIndependentClassifiers, loadClassifier } from "novae/evaluation/mod.ts";
import { type LpipsOptions, openLpips } from "./_lpips.ts";
import type { MeasuresRecord } from "./_measures.ts";

/** What names the perceptual loss of a training. */
export interface PerceptualOptions extends LpipsOptions {
  /** File of a classifier. */
  perceptual?: string;
}

/** A perceptual loss as records and checkpoints name it. */
export interface PerceptualRecord {
  /** Only LPIPS is called so. */
  readonly name: `lpips-${LpipsNetwork}` | "classifier-perceptual";
  /** SHA-256 of its settings and weights. */
  readonly hash: string;
}

/** A perceptual loss that is open. */
export interface OpenedPerceptual {
  readonly record: PerceptualRecord;
  readonly loss: PerceptualLoss;
  /** Rows and columns of the only images it can compare; null for any that are large enough. */
  readonly imageSize: number | null;
}

/** Perceptual functions of a training. */
export interface PerceptualFunctions {
  /** What is trained by, where the weight of the perceptual part is not 0. */
  readonly loss: OpenedPerceptual | undefined;
  /** What is measured, and trained by unless a classifier is. */
  readonly lpips: Lpips | undefined;
}

/**
 * Opens the perceptual functions of a training. With a classifier LPIPS is measured alone.
 *
 * @param what the first half of a message.
 * @throws ConfigError or WeightsError as `openLpips`; WeightsError if the classifier cannot be read.
 */
export async function openPerceptual(
  what: string,
  options: PerceptualOptions,
): Promise<PerceptualFunctions> {
  const lpips = await openLpips(what, options);
  const byClassifier = options.perceptual === undefined
    ? undefined
    : await openClassifier(options.perceptual);
  return { loss: byClassifier ?? (lpips && openedLpips(lpips)), lpips };
}

function openedLpips(lpips: Lpips): OpenedPerceptual {
  const record = { name: `lpips-${lpips.network}`, hash: lpips.hash } as const;
  return { record, loss: lpipsLoss(lpips), imageSize: null };
}

async function openClassifier(path: string): Promise<OpenedPerceptual> {
  const content = await loadClassifier(path), features = classifierFeatureMaps(content);
  const record = { name: "classifier-perceptual", hash: features.hash } as const;
  return { record, loss: classifierPerceptual(features), imageSize: content.config.imageSize };
}

/**
 * Checks that a perceptual loss can compare the images of a training; those too small for LPIPS are found with its
 * measure.
 *
 * @throws ConfigError if it cannot.
 */
export function expectPerceptualImages({ record, imageSize }: OpenedPerceptual, wanted: number): void {
  if (imageSize === null || imageSize === wanted) return;
  throw new ConfigError(
    `Cannot train by ${record.name}: its classifier must take images of ${wanted} pixels, got one of ${imageSize}`,
  );
}

/**
 * Refuses a classifier that would score what it has trained.
 *
 * @throws ConfigError if classifier of the loss and of the measures are the same.
 */
export function expectIndependentLoss(
  perceptual: PerceptualRecord | null,
  { classifier }: MeasuresRecord,
): void {
  if (perceptual === null || classifier === null) return;
  expectIndependentClassifiers(perceptual, { hash: classifier });
}
