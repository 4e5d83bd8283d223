/**
 * What a comparison of autoencoders found, with mean and spread over the seeds.
 *
 * @module
 */
import type { LpipsNetwork } from "novae/autoencoder/mod.ts";
import { type Spread, spreadOf } from "./spread.ts";
import type { AutoencoderQuality, PooledProbe } from "./autoencoder_quality.ts";

/** One trained and measured autoencoder. */
export interface ComparedAutoencoder extends AutoencoderQuality {
  /** The space as it was asked for. */
  readonly label: string;
  /** Seed of its training. */
  readonly seed: number;
  /** Its file in the run folder. */
  readonly file: string;
  /** Training images seen. */
  readonly imagesSeen: number;
  /** Number of its weights. */
  readonly parameters: number;
  /** How many of them are the decoder's. */
  readonly decoderParameters: number;
}

/** The autoencoders of one space. */
export interface ComparedSummary {
  /** The space as it was asked for. */
  readonly label: string;
  /** Spreads by measure: those of the reconstructions, and `linear` and `knn` of the latents. */
  readonly metrics: Readonly<Record<string, Spread>>;
}

/** Where an interval lies beside the range of a claim: inside, outside, across its edge; or there is one seed. */
export type Outcome = "shown" | "refuted" | "within noise" | "one seed";

/** A claim and what the numbers say about it. */
export interface Verdict {
  /** The claim in words. */
  readonly claim: string;
  /** What was measured, over the seeds. */
  readonly value: Spread;
  /** Its unit; empty for none. */
  readonly unit: "dB" | "points" | "";
  /** The values for which the claim holds; null is no bound. */
  readonly range: { readonly least: number | null; readonly most: number | null };
  /** 95 % confidence interval of the mean; null with one seed. */
  readonly interval: readonly [number, number] | null;
  /** What follows. */
  readonly outcome: Outcome;
}

/** The whole comparison. */
export interface ComparisonResult {
  /** What kind of result it is. */
  readonly kind: "autoencoder-comparison";
  /** The images. */
  readonly data: {
    readonly name: string;
    readonly hash: string;
    readonly testHash: string;
    readonly imageSize: number;
    readonly train: number;
    readonly test: number;
  };
  /** The frozen encoder; null if no space needs one. */
  readonly encoder: { readonly file: string; readonly hash: string } | null;
  /** The classifier of the Fréchet distance. */
  readonly classifier: { readonly file: string; readonly hash: string } | null;
  /** LPIPS as a measure; absent if it was left out. */
  readonly lpips?: { readonly path: string; readonly network: LpipsNetwork; readonly hash: string };
  /** Probes of the raw features. */
  readonly features: PooledProbe | null;
  /** One entry a space and seed. */
  readonly autoencoders: readonly ComparedAutoencoder[];
  /** One entry a space. */
  readonly summary: readonly ComparedSummary[];
  /** What the numbers say about the claims that they bear on. */
  readonly verdicts: readonly Verdict[];
}

/** Mean and spread over the seeds, by space. */
export function summarize(autoencoders: readonly ComparedAutoencoder[]): ComparedSummary[] {
  return [...new Set(autoencoders.map(({ label }) => label))].map((label) => {
    const own = autoencoders.filter((autoencoder) => autoencoder.label === label).map(numbersOf);
    const metrics = Object.keys(own[0]).map((name) => [name, spreadOf(own.map((numbers) => numbers[name]))]);
    return { label, metrics: Object.fromEntries(metrics) };
  });
}

function numbersOf({ reconstruction, probe }: AutoencoderQuality): Record<string, number> {
  return { ...reconstruction, ...(probe && { linear: probe.linear, knn: probe.knn }) };
}
