/**
 * What a comparison of autoencoders found, with mean and spread over the seeds.
 *
 * @module
 */
import { TextTable } from "novae/experiment/mod.ts";
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

/** Mean and spread of a number over the seeds. */
export interface Spread {
  /** Mean. */
  readonly mean: number;
  /** Sample standard deviation; null with one seed. */
  readonly std: number | null;
  /** Number of seeds. */
  readonly n: number;
}

/** The autoencoders of one space. */
export interface ComparedSummary {
  /** The space as it was asked for. */
  readonly label: string;
  /** Spreads by measure: those of the reconstructions, and `linear` and `knn` of the latents. */
  readonly metrics: Readonly<Record<string, Spread>>;
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
  /** Probes of the raw features. */
  readonly features: PooledProbe | null;
  /** One entry a space and seed. */
  readonly autoencoders: readonly ComparedAutoencoder[];
  /** One entry a space. */
  readonly summary: readonly ComparedSummary[];
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

/** Mean and sample standard deviation of numbers. */
export function spreadOf(values: readonly number[]): Spread {
  const n = values.length, mean = values.reduce((sum, value) => sum + value, 0) / n;
  if (n < 2) return { mean, std: null, n };
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, std: Math.sqrt(squares / (n - 1)), n };
}

/** How measures are shown: heading, digits, and what they are multiplied with. */
const SHOWN: Readonly<Record<string, { title: string; digits: number; scale: number }>> = {
  psnr: { title: "PSNR (dB)", digits: 2, scale: 1 },
  ssim: { title: "SSIM", digits: 3, scale: 1 },
  rfd: { title: "rFD", digits: 2, scale: 1 },
  lpips: { title: "LPIPS", digits: 3, scale: 1 },
  linear: { title: "linear %", digits: 1, scale: 100 },
  knn: { title: "k-NN %", digits: 1, scale: 100 },
};

/** Rows of measures as a table: known ones with their units, in their order, others behind them. */
export function measuresTable(
  first: string,
  rows: readonly { readonly label: string; readonly metrics: Readonly<Record<string, Spread>> }[],
): TextTable {
  const found = new Set(rows.flatMap(({ metrics }) => Object.keys(metrics)));
  const names = [
    ...Object.keys(SHOWN).filter((name) => found.has(name)),
    ...[...found].filter((n) => !SHOWN[n]),
  ];
  const shown = (name: string) => SHOWN[name] ?? { title: name, digits: 3, scale: 1 };
  const table = new TextTable([
    first,
    ...names.map((name) => ({ title: shown(name).title, align: "right" as const })),
  ]);
  for (const { label, metrics } of rows) {
    table.add(label, ...names.map((name) => metrics[name] ? spreadText(metrics[name], shown(name)) : null));
  }
  return table;
}

function spreadText({ mean, std }: Spread, { digits, scale }: { digits: number; scale: number }): string {
  const text = (value: number) => (scale * value).toFixed(digits).replace(/^-/, "−");
  return std === null ? text(mean) : `${text(mean)} ± ${text(std)}`;
}

/** The comparison as a table for the terminal. */
export function comparisonTable({ data, features, summary, autoencoders }: ComparisonResult): string {
  const raw = features && {
    label: "raw features",
    metrics: { linear: spreadOf([features.linear]), knn: spreadOf([features.knn]) },
  };
  const table = measuresTable("space", [...(raw ? [raw] : []), ...summary]);
  const seeds = summary[0].metrics.psnr.n, { probe, imagesSeen } = autoencoders[0];
  return `${table.toString()}
Mean${seeds > 1 ? " ± standard deviation" : ""} over ${seeds} ${
    seeds > 1 ? "seeds" : "seed"
  }; ${imagesSeen} training \
images each, ${data.test} held-out images of ${data.name.split("/")[0]}; probes on mean tokens of ${
    probe?.train ?? data.train
  } training images.`;
}
