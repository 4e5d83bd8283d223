/**
 * The report of one diffusion training.
 *
 * @module
 */
import { countParameters } from "novae/diffusion/mod.ts";
import { type DeviceChoice, formatDuration, type RunFolder } from "novae/experiment/mod.ts";
import { pathExists } from "novae/io/mod.ts";
import { type Block, reportPage, type Section, seriesLabel } from "novae/plot/mod.ts";
import type { DiffusionRunConfig } from "./config.ts";
import type { DiffusionCurves, TrainingPlace } from "./curves.ts";
import { columnsOf, stepName } from "./evaluation.ts";
import { shortDataName } from "./latents.ts";
import { firstRow } from "./samples.ts";
import { gradientFigure, lossByTimeFigure, lossFigure, scoreFigure, speedFigure } from "./figures.ts";
import { secondsOf } from "./summary.ts";

/** What the report is made of. */
export interface DiffusionReportContent {
  /** Where the pictures are. */
  readonly run: RunFolder;
  /** All settings. */
  readonly config: DiffusionRunConfig;
  /** What was measured. */
  readonly curves: DiffusionCurves;
  /** Where it ran and why. */
  readonly device: DeviceChoice;
}

const number = (value: number) => value.toLocaleString("en");
const short = (hash: string | null) => hash === null ? "none" : `\`${hash.slice(0, 12)}\``;

/** The report as one self-contained page. */
export async function diffusionReport(content: DiffusionReportContent): Promise<string> {
  const { run, config, curves, device } = content, { latents, training, model } = config;
  const { learned } = countParameters(model);
  const pictures = await samplePictures(content), seen = imagesSeen(curves);
  return reportPage({
    title: `Diffusion transformer on ${seriesLabel(latents.space)} latents`,
    subtitle:
      `${shortDataName(latents)}, ${
        number(latents.count)
      } images of ${latents.tokens} × ${latents.channels} ` +
      `latents, ${latents.classes} classes · ${number(learned)} parameters · ` +
      `${formatDuration(secondsOf(curves.train))} of training on ${device.device}`,
    abstract: abstract(content, seen, training.images),
    sections: [
      ...(pictures.length > 0 ? [sampleSection(content, pictures)] : []),
      lossSection(content),
      ...(curves.scores.length > 0 ? [scoreSection(content)] : []),
      speedSection(content),
      settingsSection(content),
    ],
    footer:
      `Run \`${run.name}\`, seed ${training.seed}. Rows of all curves are in \`metrics.jsonl\`, numbers in ` +
      "`summary.json` beside this page.",
  });
}

/** Training images up to the last measurement. */
function imagesSeen({ train, validation, scores }: DiffusionCurves): number {
  return Math.max(...[train, validation, scores].map((points) => points.at(-1)?.imagesSeen ?? 0));
}

function abstract({ curves, config }: DiffusionReportContent, seen: number, images: number): string {
  const how = seen >= images
    ? `After ${number(seen)} training images`
    : `After ${number(seen)} of ${number(images)} training images`;
  const loss = curves.train.at(-1)?.loss, held = curves.validation.at(-1)?.loss, score = curves.scores.at(-1);
  const parts = [
    ...(loss === undefined ? [] : [`the training loss is **${loss.toFixed(4)}**`]),
    ...(held === undefined ? [] : [`the loss on held-out latents **${held.toFixed(4)}**`]),
    ...(score === undefined ? [] : [
      `the Fréchet distance of ${number(score.frechet.samples)} samples **${
        score.frechet.value.toFixed(2)
      }** ± ` +
      score.frechet.standardError.toFixed(2),
    ]),
  ];
  const accuracy = score?.accuracy ?? null;
  const classes = accuracy === null
    ? ""
    : ` The judge gives **${(100 * accuracy).toFixed(0)} %** of them the class they were asked for.`;
  if (parts.length === 0) return `${how}: nothing was measured yet.`;
  const list = parts.length > 1 ? `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}` : parts[0];
  return `${how} ${list}.${classes}${
    config.decoder === null ? " No autoencoder was given to draw samples with." : ""
  }`;
}

interface SamplePicture extends TrainingPlace {
  readonly png: Uint8Array;
}

/** At most six pictures, evenly spread: the first rows, and the last one in full. */
async function samplePictures({ run, config }: DiffusionReportContent): Promise<SamplePicture[]> {
  const { batchSize } = config.training, found: SamplePicture[] = [];
  const names = [];
  if (config.decoder === null || !await pathExists(run.file("samples"))) return [];
  for await (const { name } of Deno.readDir(run.file("samples"))) names.push(name);
  for (const name of names.sort()) {
    const step = Number(/^step-(\d+)\.png$/.exec(name)?.[1] ?? NaN);
    if (Number.isNaN(step)) continue;
    const png = await Deno.readFile(run.file("samples", `${stepName(step)}.png`));
    found.push({ step, imagesSeen: step * batchSize, png });
  }
  const kept = Math.min(found.length, 6);
  const spread = Array.from({ length: kept }, (_, i) => found[Math.round((i + 1) * found.length / kept) - 1]);
  const { samples, shown } = config.evaluation,
    rows = Math.ceil(Math.min(shown, samples) / columnsOf(config));
  return await Promise.all(spread.map(async (sheet, i) => ({
    ...sheet,
    png: i < kept - 1 ? await firstRow(sheet.png, rows) : sheet.png,
  })));
}

function sampleSection({ config }: DiffusionReportContent, pictures: readonly SamplePicture[]): Section {
  const { sampler, steps, cfgScale, seed, shown, samples } = config.evaluation,
    { classNames } = config.latents;
  const how = `${sampler}, ${steps} steps, ${
    cfgScale === 1 ? "without guidance" : `guidance ${cfgScale}`
  }, seed ${seed}`;
  const columns = classNames && classNames.length <= 12 ? ` Columns: ${classNames.join(", ")}.` : "";
  const last = pictures.at(-1)!, earlier = pictures.slice(0, -1);
  const blocks: Block[] = [{
    kind: "image",
    caption:
      `Samples of the averaged weights after ${number(last.imagesSeen)} training images (${how}), not ` +
      `selected.${columns}`,
    n: `${number(samples)} samples, the first ${Math.min(shown, samples)} shown`,
    png: last.png,
    alt: "samples of the last evaluation",
  }];
  if (earlier.length > 0) {
    blocks.push({
      kind: "imageRows",
      caption: "The first row, of the same noise and classes, earlier in the training.",
      rows: earlier.map(({ png, imagesSeen }) => ({
        label: `${number(imagesSeen)}`,
        note: "images",
        png,
        alt: `samples after ${number(imagesSeen)} training images`,
      })),
    });
  }
  return { heading: "Samples", blocks };
}

function lossSection({ config, curves }: DiffusionReportContent): Section {
  const { latents: { heldOut }, training, validation } = config, byTime = lossByTimeFigure(curves);
  const measured = heldOut && curves.validation.length > 0;
  const blocks: Block[] = [{
    kind: "figure",
    caption: "Mean squared error of the velocity of normalised latents" +
      (measured
        ? "; of held-out latents with the averaged weights, at the same times and noise at every point."
        : ".") +
      (training.timestepShift !== 1 || training.timeDistribution !== "uniform"
        ? " Times are not drawn uniformly, so that its level depends on their distribution."
        : ""),
    n: `${number(imagesSeen(curves))} training images, drawn from ${number(config.latents.count)}` +
      (measured ? `, ${number(Math.min(validation.images, heldOut.count))} held out` : ""),
    figure: lossFigure(curves),
  }];
  if (byTime) {
    blocks.push({
      kind: "figure",
      caption: "The loss by time, at stages of the training.",
      figure: byTime,
    });
  }
  return { heading: "Loss", blocks };
}

function scoreSection({ config, curves }: DiffusionReportContent): Section {
  const { judge, evaluation } = config, { scores } = curves;
  const by = judge?.extractor === "dino" ? "the DINO encoder's class token" : "an independent classifier";
  return {
    heading: "Fréchet distance of samples",
    blocks: [
      {
        kind: "figure",
        caption:
          `Squared Fréchet distance of samples by features of ${by}, to ${judge?.reference}. Bands are two ` +
          "standard errors.",
        n: `${number(evaluation.samples)} samples a point and ${number(judge?.references ?? 0)} references`,
        figure: scoreFigure(scores),
      },
      {
        kind: "table",
        caption: "Scores.",
        n: `${number(evaluation.samples)} samples each`,
        columns: [
          { key: "images", label: "Images seen" },
          { key: "frechet", label: "FD", digits: 2, best: "min" },
          { key: "corrected", label: "FD, bias corrected", digits: 2, best: "min" },
          ...(scores.some(({ accuracy }) => accuracy !== null)
            ? [{ key: "accuracy", label: "Class as asked, %", digits: 1, best: "max" as const }]
            : []),
        ],
        rows: scores.map(({ imagesSeen, frechet, accuracy }) => ({
          cells: {
            images: number(imagesSeen),
            frechet: { value: frechet.value, error: frechet.standardError },
            corrected: frechet.biasCorrected,
            accuracy: accuracy === null ? null : 100 * accuracy,
          },
        })),
      },
      {
        kind: "note",
        heading: "What it can be compared with",
        text:
          `Only with distances by the same features (${short(judge?.extractorHash ?? null)}) to the same ` +
          `references (${
            short(judge?.referenceHash ?? null)
          }) of as many samples; it is no FID, which uses ` +
          `Inception-v3.` +
          (judge?.reference.startsWith("decoded")
            ? " References are decoded latents, so that it tells nothing of the autoencoder's own errors."
            : ""),
      },
    ],
  };
}

function speedSection({ curves }: DiffusionReportContent): Section {
  const last = curves.train.at(-1), flops = last?.flopsPerSec, used = last?.utilisation;
  const blocks: Block[] = [
    {
      kind: "figure",
      caption: "Training speed, evaluations and checkpoints not counted." +
        (flops === undefined ? "" : ` At the end ${(flops / 1e9).toFixed(1)} GFLOP/s`) +
        (flops === undefined
          ? ""
          : used == null
          ? "."
          : `, ${(100 * used).toFixed(0)} % of the device's peak.`),
      figure: speedFigure(curves),
    },
    {
      kind: "figure",
      caption: "Norm of the joint gradient before clipping.",
      figure: gradientFigure(curves),
    },
  ];
  return { heading: "Course of the training", blocks };
}

function settingsSection({ config, device, run }: DiffusionReportContent): Section {
  const { model, training, evaluation, latents, decoder, init } = config;
  return {
    heading: "Settings",
    blocks: [{
      kind: "definitions",
      items: [
        ["Run", `\`${run.path.slice(run.path.lastIndexOf("/") + 1)}\`, ${device.device}: ${device.reason}`],
        ["Transformer", settings(model)],
        ["Training", settings(training)],
        ["Sampling", settings(evaluation)],
        [
          "Latents",
          `of ${shortDataName(latents)} ${short(latents.data.hash)}, statistics ${short(latents.stats)}, ` +
          `autoencoder ${short(latents.autoencoder)}`,
        ],
        ["Decoder", short(decoder)],
        ["Starts from", init === null ? "random weights" : short(init)],
      ],
    }],
  };
}

/** Settings as running text, which breaks between them. */
function settings(group: object): string {
  return Object.entries(group).map(([key, value]) => {
    return `${key} \`${typeof value === "object" ? JSON.stringify(value) : value}\``;
  }).join(", ");
}
