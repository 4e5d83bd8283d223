/**
 * Measures of autoencoders as tables.
 *
 * @module
 */
import { type TableStyle, TextTable } from "novae/experiment/mod.ts";
import type { ComparisonResult } from "./comparison_results.ts";
import { verdictText } from "./comparison_verdicts.ts";
import { type Spread, spreadOf } from "./spread.ts";

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

/** A spread as text, `mean ± sample standard deviation`. */
export function spreadText(
  { mean, std }: Spread,
  { digits, scale }: { digits: number; scale: number },
): string {
  const text = (value: number) => (scale * value).toFixed(digits).replace(/^-/, "−");
  return std === null ? text(mean) : `${text(mean)} ± ${text(std)}`;
}

/** The comparison as a table with its verdicts: for the terminal, or as the body of a Markdown file. */
export function comparisonTable(
  { data, features, summary, autoencoders, verdicts }: ComparisonResult,
  style: TableStyle = "box",
): string {
  const raw = features && {
    label: "raw features",
    metrics: { linear: spreadOf([features.linear]), knn: spreadOf([features.knn]) },
  };
  const table = measuresTable("space", [...(raw ? [raw] : []), ...summary]);
  const seeds = summary[0].metrics.psnr.n, { probe, imagesSeen } = autoencoders[0];
  const caption =
    `Mean${seeds > 1 ? " ± sample standard deviation" : ""} over ${seeds} ${
      seeds > 1 ? "seeds" : "seed"
    }; ${imagesSeen} training images each, ${data.test} held-out images of ${data.name.split("/")[0]}; ` +
    `probes on mean tokens of ${probe?.train ?? data.train} training images.`;
  const lines = verdicts.map((verdict) => `- ${verdictText(verdict)}`);
  return [table.toString(style), caption, lines.join("\n")].filter((part) => part !== "").join("\n\n");
}
