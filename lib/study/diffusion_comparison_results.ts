/**
 * What a comparison of diffusion in several latent spaces found, with mean and spread over the seeds.
 *
 * @module
 */
import type { SpaceName } from "novae/autoencoder/mod.ts";
import type { DitConfig } from "novae/diffusion/mod.ts";
import type { Verdict } from "./comparison_results.ts";
import type { DataRecord, JudgesRecord, LossPoint, ModelRecord, SampleScore } from "./results.ts";
import { type Spread, spreadOf } from "./spread.ts";

/** One set of samples. */
export interface ScoredSamples extends Pick<SampleScore, "imagesSeen" | "steps" | "cfgScale" | "accuracy"> {
  /** Fréchet distance to the training images by the classifier's features. */
  readonly frechet: number;
  /** Its standard error by the jackknife over the samples. */
  readonly standardError: number;
  /** Fréchet distance by the encoder's class token. */
  readonly dinoFrechet: number;
}

/** One trained transformer and its samples. */
export interface ComparedDiffusion {
  /** The latents as they were asked for. */
  readonly label: string;
  /** Their space. */
  readonly space: SpaceName;
  /** The space whose statistics normalised them. */
  readonly statistics: SpaceName;
  /** Seed of its training and of its samples. */
  readonly seed: number;
  /** The transformer. */
  readonly transformer: DitConfig;
  /** Its learned weights. */
  readonly parameters: number;
  /** Training images seen. */
  readonly imagesSeen: number;
  /** Speed of the training on the machine it ran on. */
  readonly imagesPerSec: number;
  /** Course of the loss. */
  readonly losses: readonly LossPoint[];
  /** Its samples, by images seen, guidance and steps. */
  readonly scores: readonly ScoredSamples[];
}

/** Samples drawn in the same way after as many images, over the seeds. */
export interface ScoreSpread extends Pick<SampleScore, "imagesSeen" | "steps" | "cfgScale"> {
  /** Fréchet distance by the classifier's features. */
  readonly frechet: Spread;
  /** Fréchet distance by the encoder's class token. */
  readonly dinoFrechet: Spread;
  /** Share of samples that the classifier gives the class they were asked for. */
  readonly accuracy: Spread;
}

/** What it takes a space to be as good as the reference, `vae`, after its last image at its most steps. */
export interface EqualQuality {
  /** The latents. */
  readonly label: string;
  /** By seed: the fewest of the measured steps after the last image; null if none are enough. */
  readonly steps: readonly (number | null)[];
  /** By seed: training images, between two measurements by interpolation of logarithms; null if there are not enough. */
  readonly images: readonly (number | null)[];
}

/** The trainings of one kind of latents. */
export interface LatentsSummary {
  /** The latents as they were asked for. */
  readonly label: string;
  /** Their samples. */
  readonly scores: readonly ScoreSpread[];
}

/** The whole comparison. */
export interface DiffusionComparisonResult {
  /** What kind of result it is. */
  readonly kind: "diffusion-comparison";
  /** The images. */
  readonly data: DataRecord;
  /** The frozen encoder. */
  readonly encoder: ModelRecord;
  /** The classifier. */
  readonly classifier: ModelRecord;
  /** Hashes of the autoencoders' files, by space. */
  readonly autoencoders: Readonly<Record<string, string>>;
  /** How well the classifier and the encoder know the classes, and what real held-out images score. */
  readonly judges: JudgesRecord;
  /** One entry a training. */
  readonly trainings: readonly ComparedDiffusion[];
  /** One entry a kind of latents. */
  readonly summary: readonly LatentsSummary[];
  /** Against `vae`; empty without it. */
  readonly equalQuality: readonly EqualQuality[];
  /** What the numbers say about the paper's claims. */
  readonly verdicts: readonly Verdict[];
}

/** Mean and spread over the seeds, by latents. */
export function summarizeDiffusion(trainings: readonly ComparedDiffusion[]): LatentsSummary[] {
  return [...new Set(trainings.map(({ label }) => label))].map((label) => {
    const own = trainings.filter((training) => training.label === label);
    const scores = own[0].scores.map(({ imagesSeen, steps, cfgScale }) => {
      const alike = own.map((training) => scoreOf(training, { imagesSeen, steps, cfgScale }));
      return {
        imagesSeen,
        steps,
        cfgScale,
        frechet: spreadOf(alike.map(({ frechet }) => frechet)),
        dinoFrechet: spreadOf(alike.map(({ dinoFrechet }) => dinoFrechet)),
        accuracy: spreadOf(alike.map(({ accuracy }) => accuracy)),
      };
    });
    return { label, scores };
  });
}

/** The samples of a training that were drawn in a certain way. @throws RangeError if there are none. */
export function scoreOf(
  { label, seed, scores }: Pick<ComparedDiffusion, "label" | "seed" | "scores">,
  { imagesSeen, steps, cfgScale }: Pick<SampleScore, "imagesSeen" | "steps" | "cfgScale">,
): ScoredSamples {
  const found = scores.find((score) =>
    score.imagesSeen === imagesSeen && score.steps === steps && score.cfgScale === cfgScale
  );
  if (found) return found;
  throw new RangeError(
    `Cannot find samples of ${label}, seed ${seed}: ${imagesSeen} images, ${steps} steps and cfg ${cfgScale} must ` +
      `have been scored`,
  );
}

/** What each kind of latents takes to be as good as the last samples of `vae` of the same seed, without guidance. */
export function equalQuality(trainings: readonly ComparedDiffusion[], curveSteps: number): EqualQuality[] {
  const reference = trainings.filter(({ label }) => label === "vae");
  const labels = [...new Set(trainings.map(({ label }) => label))].filter((label) => label !== "vae");
  return labels.map((label) => {
    const pairs = reference.flatMap((vae) => {
      const own = trainings.find((training) => training.label === label && training.seed === vae.seed);
      return own ? [{ vae, own }] : [];
    });
    return {
      label,
      steps: pairs.map(({ vae, own }) => stepsToReach(own, bestSteps(vae))),
      images: pairs.map(({ vae, own }) => {
        const goal = scoreOf(vae, { imagesSeen: vae.imagesSeen, steps: curveSteps, cfgScale: 1 }).frechet;
        return imagesToReach(curveOf(own, curveSteps), goal);
      }),
    };
  }).filter(({ steps }) => steps.length > 0);
}

/** Fréchet distance over the course of a training, without guidance, in ascending order. */
export function curveOf({ scores }: Pick<ComparedDiffusion, "scores">, steps: number): ScoredSamples[] {
  return scores.filter((score) => score.steps === steps && score.cfgScale === 1)
    .toSorted((a, b) => a.imagesSeen - b.imagesSeen);
}

/** After the last image without guidance, by ascending steps. */
function finalSamples({ scores, imagesSeen }: ComparedDiffusion): ScoredSamples[] {
  return scores.filter((score) => score.imagesSeen === imagesSeen && score.cfgScale === 1)
    .toSorted((a, b) => a.steps - b.steps);
}

function bestSteps(training: ComparedDiffusion): number {
  return finalSamples(training).at(-1)!.frechet;
}

function stepsToReach(training: ComparedDiffusion, goal: number): number | null {
  return finalSamples(training).find(({ frechet }) => frechet <= goal)?.steps ?? null;
}

/**
 * Where a falling curve first reaches a goal, by linear interpolation of logarithms.
 *
 * @param curve Fréchet distances by ascending number of images.
 * @returns images; that of the first point if it is there already, null if the curve stays above.
 */
export function imagesToReach(
  curve: readonly Pick<ScoredSamples, "imagesSeen" | "frechet">[],
  goal: number,
): number | null {
  const after = curve.findIndex(({ frechet }) => frechet <= goal);
  if (after <= 0) return after === 0 ? curve[0].imagesSeen : null;
  const [a, b] = [curve[after - 1], curve[after]];
  const share = Math.log(a.frechet / goal) / Math.log(a.frechet / b.frechet);
  return a.imagesSeen * (b.imagesSeen / a.imagesSeen) ** share;
}
