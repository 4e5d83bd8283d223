/**
 * A comparison of diffusion in several latent spaces as one page.
 *
 * @module
 */
import {
  type Block,
  lineChart,
  type LineSeries,
  reportPage,
  type Section,
  seriesLabel,
  type TableRow,
} from "novae/plot/mod.ts";
import { verdictText } from "./comparison_verdicts.ts";
import type { DiffusionComparisonConfig } from "./diffusion_comparison_config.ts";
import type {
  DiffusionComparisonResult,
  LatentsSummary,
  ScoreSpread,
} from "./diffusion_comparison_results.ts";
import type { Spread } from "./spread.ts";

const number = (value: number) => value.toLocaleString("en");

/** The page: curves over the training, scores by steps, what equal quality takes, and verdicts. */
export function diffusionComparisonReport(
  result: DiffusionComparisonResult,
  config: DiffusionComparisonConfig,
  run: string,
): string {
  const { data, trainings } = result, seeds = config.seeds.length, [first] = trainings;
  return reportPage({
    title: "Diffusion in several latent spaces",
    subtitle: `${data.name.replace("/train", "")}, ${number(data.train)} training images of ` +
      `${data.imageSize}×${data.imageSize} pixels · ${seeds} ${seeds === 1 ? "seed" : "seeds"} · ` +
      `${number(first.parameters)} weights · ${number(first.imagesSeen)} images seen by each`,
    sections: [trainingSection(result, config), stepsSection(result, config), claimsSection(result)],
    footer: `Run \`${run}\`. All numbers are in \`summary.json\` beside this page.`,
  });
}

/** A line a kind of latents; bands are one sample standard deviation over the seeds. */
function series(
  { label, scores }: LatentsSummary,
  shown: (score: ScoreSpread) => boolean,
  x: "imagesSeen" | "steps",
): LineSeries {
  const points = scores.filter(shown).toSorted((a, b) => a[x] - b[x]);
  const edge = (sign: number) => points.map(({ frechet: { mean, std } }) => mean + sign * (std ?? 0));
  return {
    name: label,
    x: points.map((point) => point[x]),
    y: points.map(({ frechet }) => frechet.mean),
    ...(points.some(({ frechet }) => frechet.std !== null) && { low: edge(-1), high: edge(1) }),
  };
}

function trainingSection(
  { summary, trainings, equalQuality, data }: DiffusionComparisonResult,
  { sampling }: DiffusionComparisonConfig,
): Section {
  const steps = Math.max(...sampling.curveSteps);
  const n = `${number(sampling.samples)} samples a seed and ${number(data.train)} training images`;
  const curves = summary.map((one) =>
    series(one, (score) => score.steps === steps && score.cfgScale === 1, "imagesSeen")
  );
  const losses = summary.map(({ label }) => {
    const [one] = trainings.filter((training) => training.label === label);
    return { name: label, x: one.losses.map((p) => p.imagesSeen), y: one.losses.map((p) => p.loss) };
  });
  const list = (values: readonly (number | null)[]) =>
    values.map((value) => value === null ? "–" : number(Math.round(value))).join("; ");
  const equal: Block[] = equalQuality.length === 0 ? [] : [{
    kind: "table",
    caption:
      "What it takes, by seed, to be as good as the VAE after its last image: the fewest steps that were " +
      "measured, and training images (between two measurements by interpolation). A dash: it was not reached.",
    columns: [
      { key: "label", label: "Latents", type: "space" },
      { key: "steps", label: "Steps" },
      { key: "images", label: "Images" },
    ],
    rows: equalQuality.map(({ label, steps, images }) => ({
      cells: { label, steps: list(steps), images: list(images) },
    })),
  }];
  return {
    heading: "Over the course of training",
    blocks: [
      {
        kind: "figure",
        caption:
          `Fréchet distance by the classifier's features, ${steps} steps, without guidance; bands are one ` +
          `standard deviation over the seeds. The transformers are equal but for the number of channels that they ` +
          `read and write, so that equal images are equal computations.`,
        n,
        figure: lineChart(curves, {
          xTitle: "Training images seen",
          yTitle: "Fréchet distance",
          xScale: "log",
          yScale: "log",
        }),
      },
      ...equal,
      {
        kind: "figure",
        caption:
          "Training loss of the first seed. Levels of different spaces cannot be compared, only courses.",
        figure: lineChart(losses, {
          xTitle: "Training images seen",
          yTitle: "Loss",
          yScale: "log",
          markers: false,
        }),
      },
    ],
  };
}

function stepsSection(
  { summary, trainings, data }: DiffusionComparisonResult,
  { sampling: { samples, steps, cfgScale, guidedSteps = steps } }: DiffusionComparisonConfig,
): Section {
  const last = trainings[0].imagesSeen,
    n = `${number(samples)} samples a seed and ${number(data.train)} training images`;
  const figure = (scale: number, ticks: readonly number[]): Block[] =>
    ticks.length < 2 ? [] : [{
      kind: "figure",
      caption: scale === 1
        ? "Fréchet distance by Euler steps, without guidance."
        : `The same with guidance of ${scale}.`,
      n,
      figure: lineChart(
        summary.map((one) =>
          series(one, (score) => score.imagesSeen === last && score.cfgScale === scale, "steps")
        ),
        { xTitle: "Steps", yTitle: "Fréchet distance", xScale: "log", yScale: "log", xTicks: ticks },
      ),
    }];
  return {
    heading: "Few steps",
    blocks: [
      stepsTable(summary, last, "frechet", "by the classifier's features"),
      stepsTable(summary, last, "dinoFrechet", "by DINO's class token, which favours the spaces built on it"),
      ...figure(1, steps),
      ...figure(cfgScale, guidedSteps),
    ],
  };
}

function stepsTable(
  summary: readonly LatentsSummary[],
  last: number,
  measure: "frechet" | "dinoFrechet",
  by: string,
): Block {
  const final = (scores: readonly ScoreSpread[]) => scores.filter(({ imagesSeen }) => imagesSeen === last);
  const key = ({ steps, cfgScale }: ScoreSpread) => `${steps}-${cfgScale}`;
  const cell = ({ mean, std }: Spread) => std === null ? mean : { value: mean, error: std };
  const rows: TableRow[] = summary.map(({ label, scores }) => ({
    cells: { label, ...Object.fromEntries(final(scores).map((score) => [key(score), cell(score[measure])])) },
  }));
  return {
    kind: "table",
    caption: `Fréchet distances ${by}, by steps; ± is the sample standard deviation over the seeds.`,
    columns: [
      { key: "label", label: "Latents", type: "space" },
      ...final(summary[0].scores).map((score) => ({
        key: key(score),
        label: String(score.steps),
        group: score.cfgScale === 1 ? "Steps, no guidance" : `Steps, guidance ${score.cfgScale}`,
        digits: 2,
        best: "min" as const,
      })),
    ],
    rows,
  };
}

function claimsSection({ verdicts, judges, summary }: DiffusionComparisonResult): Section {
  const { classifier, dino } = judges.floor;
  return {
    heading: "The paper's claims",
    blocks: [
      { kind: "list", items: verdicts.map(verdictText) },
      {
        kind: "note",
        text:
          `A claim is shown or refuted if the 95 % confidence interval of the mean over the seeds (Student's t) lies ` +
          `wholly on one side. Seeds decide weights, batches and samples; the autoencoders are the same for all. Real ` +
          `held-out images score ${classifier.value.toFixed(2)} by the classifier and ${
            dino.value.toFixed(2)
          } by DINO. ` +
          `Compared were ${summary.map(({ label }) => seriesLabel(label)).join(", ")}.`,
      },
    ],
  };
}
