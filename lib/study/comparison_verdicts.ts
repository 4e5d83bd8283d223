/**
 * What a comparison of autoencoders says about the claims it bears on, by one fixed rule: where the 95 % confidence
 * interval of the mean over the seeds lies beside the range that the claim names.
 *
 * @module
 */
import type { SpaceName } from "novae/autoencoder/mod.ts";
import type { ComparedAutoencoder, ComparisonResult, Outcome, Verdict } from "./comparison_results.ts";
import { meanInterval, spreadOf } from "./spread.ts";

/** PSNR in dB that `svg` is to reach on `solids`; and points by which its probe may lie below that of the features. */
const LEAST_PSNR = 24, PROBE_POINTS = 1;

/**
 * Judges what a comparison has: features alone against features and residual, and the height of `svg`'s PSNR and of its
 * probe. Differences are taken seed by seed.
 */
export function verdictsOf(
  { data, features, autoencoders }: Pick<ComparisonResult, "data" | "features" | "autoencoders">,
): Verdict[] {
  const labelled = (...spaces: SpaceName[]) => {
    const found = autoencoders.filter(({ space }) => (spaces as string[]).includes(space));
    return [...new Set(found.map(({ label }) => label))].map((label) => ({
      label,
      own: autoencoders.filter((one) => one.label === label),
    }));
  };
  const alone = labelled("dino")[0], solids = data.name.startsWith("solids");
  const residual = !alone ? [] : labelled("svg-noalign", "svg").map(({ label, own }) =>
    judged(
      `Features alone (${alone.label}) reconstruct worse than with the residual (${label})`,
      own.map((one, i) => psnrOf(one) - psnrOf(alone.own[i])),
      "dB",
      { least: 0, most: null },
    )
  );
  const aligned = labelled("svg").flatMap(({ label, own }) => [
    ...(solids
      ? [
        judged(`${label} reaches ${LEAST_PSNR} dB`, own.map(psnrOf), "dB", { least: LEAST_PSNR, most: null }),
      ]
      : []),
    ...(features && own.every(({ probe }) => probe !== null)
      ? [judged(
        `The linear probe of the aligned latent (${label}) is at most ${PROBE_POINTS} point below the raw features'`,
        own.map(({ probe }) => 100 * (probe!.linear - features.linear)),
        "points",
        { least: -PROBE_POINTS, most: null },
      )]
      : []),
  ]);
  return [...residual, ...aligned];
}

function psnrOf({ reconstruction: { psnr } }: ComparedAutoencoder): number {
  return psnr;
}

/** Judges a claim by values of the seeds and the range in which it holds. */
export function judged(
  claim: string,
  values: readonly number[],
  unit: Verdict["unit"],
  range: Verdict["range"],
): Verdict {
  const value = spreadOf(values), interval = meanInterval(value);
  return { claim, value, unit, range, interval, outcome: interval ? outcomeOf(interval, range) : "one seed" };
}

function outcomeOf([low, high]: readonly [number, number], { least, most }: Verdict["range"]): Outcome {
  const from = least ?? -Infinity, to = most ?? Infinity;
  if (high < from || low > to) return "refuted";
  return low >= from && high <= to ? "shown" : "within noise";
}

/** A verdict as a sentence. */
export function verdictText({ claim, value: { mean, std }, unit, interval, outcome }: Verdict): string {
  const number = (value: number) => value.toFixed(2).replace(/^-/, "−");
  const spread = std === null ? "" : ` ± ${number(std)}`;
  const of = unit === "" ? "" : ` ${unit}`;
  const where = interval ? `; 95 % interval of the mean ${interval.map(number).join(" to ")}` : "";
  const judgement = outcome === "one seed" ? "not judged by one seed" : outcome;
  return `${claim}: ${judgement} (${number(mean)}${spread}${of}${where}).`;
}
