/**
 * What a comparison of diffusion says about the paper's claims, by the rule of all comparisons: where the 95 % confidence
 * interval of the mean over the seeds lies beside the range that the claim names. Differences are taken seed by seed.
 *
 * @module
 */
import type { Verdict } from "./comparison_results.ts";
import { judged } from "./comparison_verdicts.ts";
import {
  type ComparedDiffusion,
  curveOf,
  type ScoredSamples,
  scoreOf,
} from "./diffusion_comparison_results.ts";

/** Two kinds of latents, trained with the same seeds. */
interface Pair {
  readonly better: readonly ComparedDiffusion[];
  readonly worse: readonly ComparedDiffusion[];
}

/** How samples are drawn for a verdict. */
export interface SamplingWays {
  /** Steps of the curve over the training. */
  readonly curveSteps: number;
  /** All numbers of steps without guidance. */
  readonly steps: readonly number[];
  /** All numbers of steps with guidance. */
  readonly guidedSteps: readonly number[];
  /** The guidance. */
  readonly cfgScale: number;
}

/** Judges the claims on generation that the trained latents bear on. */
export function diffusionVerdicts(
  trainings: readonly ComparedDiffusion[],
  samples: SamplingWays,
): Verdict[] {
  const of = (label: string) => trainings.filter((training) => training.label === label);
  const pair = (better: string, worse: string, judge: (pair: Pair) => Verdict[]): Verdict[] => {
    const both = { better: of(better), worse: of(worse) };
    return both.better.length > 0 && both.better.length === both.worse.length ? judge(both) : [];
  };
  return [
    ...pair("svg", "vae", (both) => fasterTraining(both, samples)),
    ...pair("svg", "vae", (both) => fewerSteps(both, samples)),
    ...pair("svg", "svg-noalign", (both) => [final("Alignment helps generation", both, samples)]),
    ...pair("svg", "svg-noalign@svg", (both) => [
      final(
        "Alignment helps beside the published ablation, which normalised with other statistics",
        both,
        samples,
      ),
    ]),
    ...pair("svg-noalign", "svg-noalign@svg", (both) => [
      final("Statistics of the aligned latents harm the unaligned ones", both, samples),
    ]),
    ...pair("svg", "dino", (both) => [final("The residual does no harm to generation", both, samples)]),
  ];
}

/** SVG against the VAE after each number of images; and with guidance after the last. */
function fasterTraining(both: Pair, { curveSteps, guidedSteps, cfgScale }: SamplingWays): Verdict[] {
  const points = curveOf(both.better[0], curveSteps).map(({ imagesSeen }) => imagesSeen);
  const verdicts = points.map((imagesSeen) =>
    lower(
      `svg has better samples than vae after ${imagesSeen.toLocaleString("en")} images, ${curveSteps} steps`,
      both,
      { imagesSeen, steps: curveSteps, cfgScale: 1 },
    )
  );
  if (guidedSteps.length === 0) return verdicts;
  const steps = Math.max(...guidedSteps), last = points.at(-1)!;
  const guided = lower(`the same after ${last.toLocaleString("en")} with guidance, ${steps} steps`, both, {
    imagesSeen: last,
    steps,
    cfgScale,
  });
  return [...verdicts, guided];
}

/** Whether SVG loses less when steps are saved, and whether its few steps are as good as the VAE's many. */
function fewerSteps({ better, worse }: Pair, { steps }: SamplingWays): Verdict[] {
  const few = Math.min(...steps), many = Math.max(...steps);
  if (few === many) return [];
  const at = (training: ComparedDiffusion, count: number): ScoredSamples =>
    scoreOf(training, { imagesSeen: training.imagesSeen, steps: count, cfgScale: 1 });
  const growth = (training: ComparedDiffusion) => at(training, few).frechet / at(training, many).frechet;
  return [
    judged(
      `svg with ${few} steps has better samples than vae with ${many}`,
      better.map((svg, i) => at(worse[i], many).frechet - at(svg, few).frechet),
      "",
      { least: 0, most: null },
    ),
    judged(
      `from ${many} to ${few} steps the distance grows by a smaller factor in svg than in vae`,
      better.map((svg, i) => growth(worse[i]) - growth(svg)),
      "",
      { least: 0, most: null },
    ),
  ];
}

function final(claim: string, both: Pair, { curveSteps }: SamplingWays): Verdict {
  const [{ imagesSeen }] = both.better, [{ label: better }] = both.better, [{ label: worse }] = both.worse;
  return lower(`${claim} (${better} against ${worse})`, both, { imagesSeen, steps: curveSteps, cfgScale: 1 });
}

function lower(
  claim: string,
  { better, worse }: Pair,
  way: { readonly imagesSeen: number; readonly steps: number; readonly cfgScale: number },
): Verdict {
  const gains = better.map((own, i) => scoreOf(worse[i], way).frechet - scoreOf(own, way).frechet);
  return judged(claim, gains, "", { least: 0, most: null });
}
