/**
 * The sections of the report that hold tables and figures.
 *
 * @module
 */
import {
  type Block,
  type Cell,
  classScatter,
  lineChart,
  type Section,
  type TableColumn,
  type TableRow,
} from "novae/plot/mod.ts";
import type { ReportContent } from "./report.ts";
import type { SampleScore, StudyResult } from "./results.ts";
import { finalScore } from "./tables.ts";

const number = (value: number) => value.toLocaleString("en");

/** What the Fréchet distances are measured with, in words. */
export function scoreCaveat({ judges, classifier, data }: StudyResult): string {
  return `Fréchet distances (FD) use features of a small classifier that shares no weights with the encoder ` +
    `(${(100 * judges.classifierAccuracy).toFixed(1)} % of ${number(data.test)} held-out images correct, ` +
    `\`${
      classifier.hash.slice(0, 12)
    }\`), and beside it the DINO encoder's class token, which favours the spaces that ` +
    `are built on it. They are not comparable with FID, which uses Inception-v3. Real held-out images score ` +
    `${judges.floor.classifier.value.toFixed(2)} (classifier) and ${
      judges.floor.dino.value.toFixed(2)
    } (DINO) against ` +
    `the training images, n = ${number(judges.floor.classifier.samples)}.`;
}

/** Table of reconstruction quality and the reconstructions. */
export function reconstructionSection(
  pictures: readonly { label: string; png: Uint8Array }[],
  { result }: ReportContent,
): Section {
  const n = `${number(result.data.test)} held-out images`;
  const rows: TableRow[] = result.spaces.map(({ space, channels, decoderParameters, reconstruction }) => ({
    cells: {
      space,
      channels,
      decoder: decoderParameters,
      psnr: reconstruction.psnr,
      ssim: reconstruction.ssim,
      classifier: measured(reconstruction.frechet.classifier),
      dino: measured(reconstruction.frechet.dino),
    },
  }));
  return {
    heading: "Reconstruction",
    blocks: [
      {
        kind: "table",
        caption:
          "Reconstruction of held-out images. FD compares the reconstructions with the images themselves; ± is " +
          "the jackknife's standard error.",
        n,
        columns: [
          { key: "space", label: "Space", type: "space" },
          { key: "channels", label: "Channels", digits: 0 },
          { key: "decoder", label: "Decoder weights", digits: 0 },
          { key: "psnr", label: "PSNR (dB)", digits: 2, best: "max" },
          { key: "ssim", label: "SSIM", digits: 3, best: "max" },
          { key: "classifier", label: "Classifier", group: "FD", digits: 2, best: "min" },
          { key: "dino", label: "DINO", group: "FD", digits: 2, best: "min" },
        ],
        rows,
      },
      {
        kind: "imageRows",
        caption: "The first held-out images and their reconstructions.",
        n: `${n}, the first 10 shown`,
        rows: pictures.map(({ label, png }) => ({
          label,
          png,
          alt: label === "original" ? "ten held-out images" : "their reconstructions",
          note: noteOf(result, label),
        })),
      },
    ],
  };
}

function noteOf(result: StudyResult, label: string): string | undefined {
  const space = result.spaces.find((s) => s.space === label);
  return space && `${space.reconstruction.psnr.toFixed(1)} dB`;
}

/** Table of probes and the maps. */
export function latentSection({ result, config }: ReportContent): Section {
  const { k, train, n } = result.spaces[0].probes, points = result.spaces[0].umap.labels.length;
  return {
    heading: "What the latents know of the class",
    blocks: [
      {
        kind: "table",
        caption:
          `Top-1 accuracy in percent on held-out images. The mean token is read by softmax regression and by ${k} ` +
          `cosine neighbours, all tokens by ridge regression.`,
        n: `${number(n)} held-out and ${number(train)} training images`,
        columns: [
          { key: "space", label: "Space", type: "space" },
          { key: "pooled", label: "Linear probe, mean token", digits: 1, best: "max" },
          { key: "tokens", label: "Linear probe, all tokens", digits: 1, best: "max" },
          { key: "knn", label: "k-NN, mean token", digits: 1, best: "max" },
        ],
        rows: result.spaces.map(({ space, probes }) => ({
          cells: {
            space,
            pooled: 100 * probes.linearPooled,
            tokens: 100 * probes.linearTokens,
            knn: 100 * probes.knn,
          },
        })),
      },
      {
        kind: "figure",
        caption:
          "UMAP of the mean token of held-out images, coloured by class. Distances on such a map mean little; " +
          "whether colours form groups is what it shows.",
        n: `${number(points)} held-out images, seed ${config.seed}`,
        figure: classScatter(
          result.spaces.map(({ space, umap, probes }) => ({
            name: space,
            xy: umap.xy,
            labels: umap.labels,
            note: `k-NN ${(100 * probes.knn).toFixed(1)} %`,
          })),
          result.data.classes,
        ),
      },
    ],
  };
}

/** Fréchet distance of the final samples by number of steps, with and without guidance. */
export function fewStepSection({ result, config }: ReportContent): Section {
  const { steps, cfgScale, samples } = config.sampling;
  const n = `${number(samples)} samples and ${number(result.data.train)} training images`;
  const table = (by: "classifier" | "dino", title: string): Block => ({
    kind: "table",
    caption: `FD by ${title}, by number of Euler steps, of samples after ${
      number(config.diffusion.images)
    } training images.`,
    n,
    columns: [
      { key: "space", label: "Space", type: "space" },
      ...stepColumns(steps, cfgScale, { digits: 2, best: "min" }),
    ],
    rows: scoreRows(result, steps, cfgScale, (score) => measured(score.frechet[by])),
  });
  const fewStepCurves = result.diffusion.map((record) =>
    curve(record.space, steps.map((s) => finalScore(record, s, 1)), "steps")
  );
  return {
    heading: "Few steps",
    blocks: [
      table("classifier", "the independent classifier's features"),
      table("dino", "the DINO encoder's class token, which favours the spaces built on it"),
      {
        kind: "table",
        caption: "Share of these samples in percent that the classifier gives the class they were asked for.",
        n: `${number(samples)} samples; of real held-out images it gives ${
          (100 * result.judges.classifierAccuracy).toFixed(1)
        } % their class`,
        columns: [
          { key: "space", label: "Space", type: "space" },
          ...stepColumns(steps, cfgScale, { digits: 1, best: "max" }),
        ],
        rows: scoreRows(result, steps, cfgScale, (score) => 100 * score.accuracy),
      },
      {
        kind: "figure",
        caption:
          "FD of the final samples by number of Euler steps, without guidance, by the classifier's features. Bands " +
          "are two standard errors.",
        n,
        figure: lineChart(fewStepCurves, {
          xTitle: "Euler steps",
          yTitle: "Fréchet distance",
          xScale: "log",
          yScale: scaleOf(fewStepCurves),
          xTicks: steps,
        }),
      },
    ],
  };
}

/** A column for each number of steps, without and with guidance. */
function stepColumns(
  steps: readonly number[],
  cfgScale: number,
  shared: Pick<TableColumn, "digits" | "best">,
): TableColumn[] {
  return [1, cfgScale].flatMap((scale) =>
    steps.map((n): TableColumn => ({
      key: `${scale}-${n}`,
      label: String(n),
      group: scale === 1 ? "Steps, no guidance" : `Steps, guidance ${cfgScale}`,
      ...shared,
    }))
  );
}

/** A row for each space with a cell for each number of steps, without and with guidance. */
function scoreRows(
  result: StudyResult,
  steps: readonly number[],
  cfgScale: number,
  cell: (score: SampleScore) => Cell,
): TableRow[] {
  return result.diffusion.map((record) => {
    const cells: [string, Cell][] = [1, cfgScale].flatMap((scale) =>
      steps.map((n): [string, Cell] => {
        const score = finalScore(record, n, scale);
        return [`${scale}-${n}`, score && cell(score)];
      })
    );
    return { cells: { space: record.space, ...Object.fromEntries(cells) } };
  });
}

/** Quality over the course of training. */
export function trainingSection({ result, config }: ReportContent): Section {
  const { curveSteps, samples } = config.sampling, shown = curveSteps.includes(10) ? 10 : curveSteps[0];
  const blocks: Block[] = [];
  if (shown !== undefined && config.sampling.checkpoints.length > 1) {
    const curves = result.diffusion.map((record) =>
      curve(record.space, record.scores.filter((s) => s.steps === shown && s.cfgScale === 1), "imagesSeen")
    );
    blocks.push({
      kind: "figure",
      caption:
        `FD of samples at ${shown} steps without guidance over the course of training, by the classifier's ` +
        `features. Bands are two standard errors.`,
      n: `${number(samples)} samples a point and ${number(result.data.train)} training images`,
      figure: lineChart(curves, {
        xTitle: "Training images seen",
        yTitle: "Fréchet distance",
        yScale: scaleOf(curves),
      }),
    });
  }
  const losses = result.diffusion.map(({ space, losses }) => ({
    name: space,
    x: losses.map((p) => p.imagesSeen),
    y: losses.map((p) => p.loss),
  }));
  blocks.push({
    kind: "figure",
    caption:
      "Training loss (mean squared error of the velocity of normalised latents). Spaces differ in the number and " +
      "correlation of their channels, so that levels cannot be compared, only courses.",
    n: `${number(config.diffusion.images)} training images a space`,
    figure: lineChart(losses, {
      xTitle: "Training images seen",
      yTitle: "Loss",
      yScale: scaleOf(losses),
      markers: false,
    }),
  });
  blocks.push({
    kind: "table",
    caption: "The transformers.",
    columns: [
      { key: "space", label: "Space", type: "space" },
      { key: "parameters", label: "Parameters", digits: 0 },
      { key: "images", label: "Images seen", digits: 0 },
      { key: "speed", label: "Images/s in training", digits: 0 },
      { key: "loss", label: "Last loss", digits: 3 },
    ],
    rows: result.diffusion.map((d) => ({
      cells: {
        space: d.space,
        parameters: d.parameters,
        images: d.imagesSeen,
        speed: d.imagesPerSec,
        loss: d.losses.at(-1)?.loss,
      },
    })),
  });
  return { heading: "Over the course of training", blocks };
}

/** The final samples as pictures. */
export function sampleSection(
  pictures: readonly { label: string; cfgScale: number; steps: number; png: Uint8Array }[],
  { config, result }: ReportContent,
): Section {
  const { classes } = result.data;
  const rows = (cfgScale: number) =>
    pictures.filter((p) => p.cfgScale === cfgScale).map(({ label, png }) => ({
      label,
      png,
      alt: "twenty samples, two of each class",
    }));
  const scales = [...new Set(pictures.map((p) => p.cfgScale))];
  return {
    heading: "Samples",
    blocks: scales.map((cfgScale): Block => ({
      kind: "imageRows",
      caption:
        `Samples after ${number(config.diffusion.images)} training images, ${pictures[0].steps} steps, ` +
        `${
          cfgScale === 1 ? "without guidance" : `guidance ${cfgScale}`
        }. Seed ${config.seed} in every space, not ` +
        `selected; classes in order: ${classes.slice(0, 10).join(", ")}.`,
      n: `${number(config.sampling.samples)} samples, the first 20 shown`,
      rows: rows(cfgScale),
    })),
  };
}

function measured({ value, standardError }: { value: number; standardError: number }) {
  return { value, error: standardError };
}

/** A logarithmic axis where the values span much, so that it has marks. */
export function scaleOf(series: readonly { y: readonly number[] }[]): "log" | "linear" {
  const values = series.flatMap(({ y }) => [...y]);
  return Math.max(...values) > 8 * Math.min(...values) ? "log" : "linear";
}

/** A line through scores, with a band of two standard errors. */
function curve(name: string, scores: readonly (SampleScore | undefined)[], x: "steps" | "imagesSeen") {
  const found = scores.filter((s): s is SampleScore => s !== undefined);
  const value = (s: SampleScore) => s.frechet.classifier.value;
  const spread = (s: SampleScore) => 2 * s.frechet.classifier.standardError;
  return {
    name,
    x: found.map((s) => s[x]),
    y: found.map(value),
    low: found.map((s) => Math.max(value(s) - spread(s), value(s) / 10)),
    high: found.map((s) => value(s) + spread(s)),
  };
}
