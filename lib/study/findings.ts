/**
 * What a study's numbers say about the paper's claims, put into words by fixed rules: a difference counts if it
 * exceeds twice its standard error.
 *
 * @module
 */
import type { SpaceName } from "novae/autoencoder/mod.ts";
import { seriesLabel } from "novae/plot/mod.ts";
import type { StudyConfig } from "./config.ts";
import type { SampleScore, StudyResult } from "./results.ts";
import { finalScore } from "./tables.ts";

/** The findings of a study in sentences. */
export interface Findings {
  /** The outcome in two or three sentences. */
  readonly abstract: string;
  /** One sentence a claim: shown, not shown or refuted in this run. */
  readonly shown: string[];
  /** What the run cannot tell. */
  readonly caution: string;
}

/** Judges the paper's claims by the measured numbers. */
export function findings(result: StudyResult, config: StudyConfig): Findings {
  const claims = [
    ...residualClaim(result),
    ...alignmentClaim(result, config),
    ...vaeClaim(result, config),
    ...fewStepClaim(result, config),
  ];
  const best = [...result.diffusion]
    .map((d) => ({ space: d.space, score: finalScore(d, Math.max(...config.sampling.steps), 1)! }))
    .sort((a, b) => value(a.score) - value(b.score))[0];
  const clearest = [...result.spaces].sort((a, b) => b.reconstruction.psnr - a.reconstruction.psnr)[0];
  const abstract = `Best reconstruction: **${seriesLabel(clearest.space)}** with ` +
    `${clearest.reconstruction.psnr.toFixed(2)} dB. Best samples at ${
      Math.max(...config.sampling.steps)
    } steps without ` +
    `guidance: **${seriesLabel(best.space)}** with a Fréchet distance of ${value(best.score).toFixed(2)} ` +
    `(real held-out images: ${result.judges.floor.classifier.value.toFixed(2)}). ` +
    `One seed and ${
      config.diffusion.images.toLocaleString("en")
    } training images a space: the limits are in section 7.`;
  const caution = `One seed, one small encoder trained on the same kind of images ` +
    `(k-NN ${
      (100 * result.judges.encoderKnn).toFixed(1)
    } % on held-out images), networks some hundred times smaller ` +
    `than the paper's, and ${
      config.diffusion.images.toLocaleString("en")
    } training images where the paper uses a hundred ` +
    `million. Autoencoders are trained with pixel losses alone: no LPIPS, no GAN. Standard errors concern the choice of ` +
    `samples, not the choice of seeds; differences that are small beside the distance of real images mean nothing. ` +
    `Fréchet distances of ${
      config.sampling.samples.toLocaleString("en")
    } samples are biased upwards, alike in all spaces.`;
  return { abstract, shown: claims, caution: [caution, ...classCaution(result)].join(" ") };
}

/** Accuracy below this multiple of chance is no sign of the class. */
const CLEARLY_ABOVE_CHANCE = 1.5;

/** Whether the samples show the class that was asked for at all. */
function classCaution({ data, diffusion }: StudyResult): string[] {
  const chance = 1 / data.classes.length;
  const best = Math.max(...diffusion.flatMap(({ scores }) => scores.map(({ accuracy }) => accuracy)));
  if (best >= CLEARLY_ABOVE_CHANCE * chance) return [];
  return [
    `No space has learned its classes yet: of no set of samples does the classifier give more than ` +
    `${(100 * best).toFixed(1)} % the class they were asked for, and ${
      (100 * chance).toFixed(1)
    } % are chance; the ` +
    `distances compare colours, light and blobs.`,
  ];
}

function residualClaim({ spaces }: StudyResult): string[] {
  const dino = spaces.find((s) => s.space === "dino"), svg = spaces.find((s) => s.space === "svg");
  if (!dino || !svg) return [];
  const gain = svg.reconstruction.psnr - dino.reconstruction.psnr;
  return [
    `**The residual restores detail** (paper: 18.82 → 23.89 dB on ImageNet): ${
      verdict(gain > 0, Math.abs(gain) < 0.1)
    }. ` +
    `Features alone ${dino.reconstruction.psnr.toFixed(2)} dB, with residual and alignment ` +
    `${svg.reconstruction.psnr.toFixed(2)} dB.`,
  ];
}

function alignmentClaim(result: StudyResult, config: StudyConfig): string[] {
  return compareFinal(
    result,
    config,
    ["svg", "svg-noalign"],
    "Alignment of the residual helps generation (paper: gFID 9.03 → 6.11, with wrong statistics for the former)",
  );
}

function vaeClaim(result: StudyResult, config: StudyConfig): string[] {
  return compareFinal(
    result,
    config,
    ["svg", "vae"],
    "SVG's space is learned in fewer images than a VAE's (paper: 6.57 against 22.58 at 25 steps)",
  );
}

/** Compares two spaces after the last image, at the most steps, without guidance. */
function compareFinal(
  result: StudyResult,
  config: StudyConfig,
  [a, b]: readonly [SpaceName, SpaceName],
  claim: string,
): string[] {
  const steps = Math.max(...config.sampling.steps);
  const [first, second] = [a, b].map((space) => {
    const record = result.diffusion.find((d) => d.space === space);
    return record && finalScore(record, steps, 1);
  });
  if (!first || !second) return [];
  const noise = Math.hypot(error(first), error(second)), gain = value(second) - value(first);
  return [
    `**${claim}**: ${verdict(gain > 0, Math.abs(gain) < 2 * noise)}. ${seriesLabel(a)} ${
      value(first).toFixed(2)
    }, ` +
    `${seriesLabel(b)} ${value(second).toFixed(2)}; the difference has a standard error of ${
      noise.toFixed(2)
    }.`,
  ];
}

/** Whether quality falls less than the VAE's when steps are saved. */
function fewStepClaim(result: StudyResult, config: StudyConfig): string[] {
  const few = Math.min(...config.sampling.steps), many = Math.max(...config.sampling.steps);
  const ratio = (space: SpaceName) => {
    const record = result.diffusion.find((d) => d.space === space);
    const [a, b] = [few, many].map((n) => record && finalScore(record, n, 1));
    return a && b ? { factor: value(a) / value(b), error: relative(a) + relative(b) } : null;
  };
  const svg = ratio("svg"), vae = ratio("vae");
  if (!svg || !vae || few === many) return [];
  const close = Math.abs(Math.log(vae.factor / svg.factor)) < svg.error + vae.error;
  return [
    `**SVG needs fewer steps** (paper: from 25 to 5 steps the distance grows by a factor of 1.9, a VAE's by 3.1): ` +
    `${verdict(vae.factor > svg.factor, close)}. From ${many} to ${few} steps it grows by ${
      svg.factor.toFixed(2)
    } for SVG ` +
    `and ${vae.factor.toFixed(2)} for the VAE.`,
  ];
}

function verdict(holds: boolean, unclear: boolean): string {
  return unclear
    ? "not shown, the difference is within the noise"
    : holds
    ? "shown in this run"
    : "refuted in this run";
}

function value(score: SampleScore): number {
  return score.frechet.classifier.value;
}

function error(score: SampleScore): number {
  return score.frechet.classifier.standardError;
}

function relative(score: SampleScore): number {
  return error(score) / value(score);
}
