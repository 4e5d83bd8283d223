/**
 * Scores of diffusion in several latent spaces as tables.
 *
 * @module
 */
import { type TableStyle, TextTable } from "novae/experiment/mod.ts";
import { verdictText } from "./comparison_verdicts.ts";
import { spreadText } from "./comparison_table.ts";
import type {
  DiffusionComparisonResult,
  EqualQuality,
  LatentsSummary,
  ScoreSpread,
} from "./diffusion_comparison_results.ts";
import type { Spread } from "./spread.ts";

const DISTANCE = { digits: 2, scale: 1 }, PERCENT = { digits: 1, scale: 100 };
const images = (count: number) => count.toLocaleString("en");

/** The comparison as tables with its verdicts: for the terminal, or as the body of a Markdown file. */
export function diffusionComparisonTable(
  result: DiffusionComparisonResult,
  samples: number,
  style: TableStyle = "box",
): string {
  const { summary, equalQuality, verdicts, judges, data, trainings } = result;
  const last = trainings[0].imagesSeen, seeds = summary[0].scores[0].frechet.n;
  const floor = judges.floor;
  const caption =
    `Fréchet distances of ${images(samples)} samples to the ${images(data.train)} training images; ` +
    `mean${seeds > 1 ? " ± sample standard deviation" : ""} over ${seeds} ${seeds > 1 ? "seeds" : "seed"}. ` +
    `${images(data.test)} real held-out images score ${
      floor.classifier.value.toFixed(2)
    } by the classifier's ` +
    `features and ${floor.dino.value.toFixed(2)} by DINO's class token; the classifier is right on ` +
    `${(100 * judges.classifierAccuracy).toFixed(1)} % of them.`;
  const parts: [string, string][] = [
    [
      "By images seen, without guidance, classifier's features",
      overTraining(summary, last, "frechet", style),
    ],
    ["The same by DINO's class token", overTraining(summary, last, "dinoFrechet", style)],
    [
      `By steps, after ${images(last)} images, classifier's features`,
      bySteps(summary, last, "frechet", style),
    ],
    ["The same by DINO's class token", bySteps(summary, last, "dinoFrechet", style)],
    ["Samples of the class that was asked for, in %", bySteps(summary, last, "accuracy", style)],
  ];
  if (equalQuality.length > 0) {
    parts.push([
      "What it takes to be as good as `vae` after its last image (by seed; – if it was not reached)",
      equalTable(equalQuality, style),
    ]);
  }
  const heading = (text: string) => style === "markdown" ? `## ${text}` : text;
  return [
    caption,
    ...parts.map(([title, table]) => `${heading(title)}\n\n${table}`),
    `${heading("Claims")}\n\n${verdicts.map((verdict) => `- ${verdictText(verdict)}`).join("\n")}`,
  ].join("\n\n");
}

type Measure = "frechet" | "dinoFrechet" | "accuracy";

function overTraining(
  summary: readonly LatentsSummary[],
  last: number,
  measure: Measure,
  style: TableStyle,
): string {
  const steps = Math.max(...stepsBefore(summary[0], last));
  return scoreTable(
    summary,
    (score) => score.steps === steps && score.cfgScale === 1,
    (score) => `${images(score.imagesSeen)} images, ${steps} steps`,
    measure,
    style,
  );
}

/** Numbers of steps that were scored before the last image; all if there was one checkpoint. */
function stepsBefore({ scores }: LatentsSummary, last: number): number[] {
  const before = scores.filter(({ imagesSeen }) => imagesSeen < last);
  return (before.length > 0 ? before : scores).map(({ steps }) => steps);
}

function bySteps(
  summary: readonly LatentsSummary[],
  last: number,
  measure: Measure,
  style: TableStyle,
): string {
  return scoreTable(
    summary,
    (score) => score.imagesSeen === last,
    ({ steps, cfgScale }) => cfgScale === 1 ? `${steps} steps` : `${steps}, cfg ${cfgScale}`,
    measure,
    style,
  );
}

function scoreTable(
  summary: readonly LatentsSummary[],
  shown: (score: ScoreSpread) => boolean,
  title: (score: ScoreSpread) => string,
  measure: Measure,
  style: TableStyle,
): string {
  const columns = summary[0].scores.filter(shown);
  const table = new TextTable([
    "latents",
    ...columns.map((score) => ({ title: title(score), align: "right" as const })),
  ]);
  const format = measure === "accuracy" ? PERCENT : DISTANCE;
  for (const { label, scores } of summary) {
    table.add(label, ...scores.filter(shown).map((score) => spreadText(score[measure] as Spread, format)));
  }
  return table.toString(style);
}

function equalTable(rows: readonly EqualQuality[], style: TableStyle): string {
  const table = new TextTable(["latents", "steps", "images"]);
  const list = (values: readonly (number | null)[]) =>
    values.map((value) => value === null ? "–" : images(Math.round(value))).join("; ");
  for (const row of rows) table.add(row.label, list(row.steps), list(row.images));
  return table.toString(style);
}
