/**
 * The report of a study: the paper's tables and figures, drawn from what was measured.
 *
 * @module
 */
import type { RunFolder, StageRecord } from "novae/experiment/mod.ts";
import { formatDuration } from "novae/experiment/mod.ts";
import { reportPage, type Section } from "novae/plot/mod.ts";
import type { StudyConfig } from "./config.ts";
import type { StudyResult } from "./results.ts";
import { findings } from "./findings.ts";
import {
  fewStepSection,
  latentSection,
  reconstructionSection,
  sampleSection,
  scoreCaveat,
  trainingSection,
} from "./report_sections.ts";

/** What a report is made of. */
export interface ReportContent {
  /** Settings. */
  readonly config: StudyConfig;
  /** Where the pictures are. */
  readonly run: RunFolder;
  /** What was measured. */
  readonly result: StudyResult;
  /** How long the stages took. */
  readonly records: readonly StageRecord[];
  /** Where it ran and why. */
  readonly device: { device: string; reason: string };
}

/** The report as one self-contained page. */
export async function studyReport(content: ReportContent): Promise<string> {
  const { config, result, records } = content, { data } = result;
  const minutes = formatDuration(records.reduce((sum, record) => sum + record.wallSec, 0));
  return reportPage({
    title: "Latent diffusion without a VAE: four latent spaces compared",
    subtitle: `${data.name.replace("/train", "")}, ${data.train.toLocaleString("en")} training images of ` +
      `${data.imageSize}×${data.imageSize} pixels, ${data.classes.length} classes · ${minutes} on ${content.device.device}`,
    abstract: findings(result, config).abstract,
    sections: [
      questionSection(content),
      reconstructionSection(await pictures(content, "latents", "reconstructions.png"), content),
      latentSection(content),
      fewStepSection(content),
      trainingSection(content),
      sampleSection(await samplePictures(content), content),
      meaningSection(content),
      settingsSection(content),
    ],
    footer:
      `Run \`${content.run.name}\`, seed ${config.seed}. All numbers are in \`summary.json\` beside this page.`,
  });
}

function questionSection({ config, result }: ReportContent): Section {
  const { data } = result, { diffusion, sampling } = config;
  return {
    heading: "Question and method",
    blocks: [
      {
        kind: "paragraph",
        text:
          "SVG (arXiv 2510.15301) claims that frozen DINO features with a small residual make a better latent " +
          "space for diffusion than a VAE: reconstructions as good, classes that lie apart, and a transformer that " +
          "learns in fewer images and samples in fewer steps. This run compares four spaces under the same conditions.",
      },
      {
        kind: "definitions",
        items: [
          ["VAE", "the KL autoencoder of latent diffusion: a convolutional encoder, 16 channels"],
          ["DINO", "the frozen encoder's patch features alone"],
          ["SVG, no alignment", "features and the 8 channels of a residual encoder beside them"],
          ["SVG", "the same, the residual brought to the mean and standard deviation of the features"],
        ],
      },
      {
        kind: "paragraph",
        text:
          `All spaces have ${result.spaces[0].grid}×${
            result.spaces[0].grid
          } tokens, decoders of the same size, ` +
          `the same transformer (${diffusion.size}) and see the same ${
            diffusion.images.toLocaleString("en")
          } training ` +
          `images with the same seeds. Latents are normalised by channel with their own statistics. Samples start ` +
          `from the same seeds and labels in every space, with equal numbers of each class.`,
      },
      {
        kind: "note",
        heading: "How images are scored",
        text: scoreCaveat(result) +
          ` Samples are compared with the ${
            data.train.toLocaleString("en")
          } training images, reconstructions with the ` +
          `${
            data.test.toLocaleString("en")
          } held-out images that they reconstruct. Guidance scale ${sampling.cfgScale}.`,
      },
    ],
  };
}

function meaningSection({ config, result }: ReportContent): Section {
  const { shown, caution } = findings(result, config);
  return {
    heading: "What this run shows, and what it does not",
    blocks: [
      { kind: "list", items: shown },
      { kind: "note", tone: "caution", heading: "Limits", text: caution },
    ],
  };
}

function settingsSection({ config, result, records, device }: ReportContent): Section {
  const short = (hash: string) => hash.slice(0, 12);
  return {
    heading: "Settings, models and times",
    blocks: [
      {
        kind: "table",
        caption:
          "Models. A shipped model was trained before this run, its command and log are in `data/models`.",
        columns: [
          { key: "model", label: "Model" },
          { key: "origin", label: "Origin" },
          { key: "parameters", label: "Parameters", digits: 0 },
          { key: "hash", label: "SHA-256" },
        ],
        rows: [
          { name: "DINO encoder", ...result.encoder },
          { name: "classifier that scores", ...result.classifier },
          ...result.spaces.map((s) => ({ name: `autoencoder of ${s.space}`, ...s.autoencoder })),
        ].map(({ name, trained, parameters, hash }) => ({
          cells: {
            model: name,
            origin: trained ? "this run" : "given",
            parameters,
            hash: `\`${short(hash)}\``,
          },
        })),
      },
      {
        kind: "table",
        caption: "Stages.",
        columns: [
          { key: "title", label: "Stage" },
          { key: "time", label: "Seconds", digits: 1 },
          { key: "memory", label: "Memory (GB)", digits: 2 },
        ],
        rows: records.map(({ title, wallSec, rssBytes }) => ({
          cells: { title, time: wallSec, memory: rssBytes / 1e9 },
        })),
      },
      {
        kind: "definitions",
        items: [
          ["Device", `${device.device}: ${device.reason}`],
          ["Images", `training \`${short(result.data.hash)}\`, held out \`${short(result.data.testHash)}\``],
          ["Configuration", `\`${JSON.stringify(config.diffusion)}\``],
          ["Sampling", `\`${JSON.stringify(config.sampling)}\``],
        ],
      },
    ],
  };
}

/** A picture of each space from its stage's folder, the originals first. */
async function pictures(
  { config, run }: ReportContent,
  stage: string,
  file: string,
): Promise<{ label: string; png: Uint8Array }[]> {
  const read = (space: string, name: string) => Deno.readFile(run.file("stages", `${stage}-${space}`, name));
  const rows = [{ label: "original", png: await read(config.spaces[0], "originals.png") }];
  for (const space of config.spaces) rows.push({ label: space, png: await read(space, file) });
  return rows;
}

/** The guided and unguided samples of each space with the most steps at the end of the training. */
async function samplePictures(
  { config, run, result }: ReportContent,
): Promise<{ label: string; cfgScale: number; steps: number; png: Uint8Array }[]> {
  const found = [], steps = Math.max(...config.sampling.steps);
  for (const { space, scores } of result.diffusion) {
    const seen = Math.max(...scores.map((s) => s.imagesSeen));
    for (const cfgScale of [1, config.sampling.cfgScale]) {
      const png = await Deno.readFile(
        run.file("samples", `${space}-${seen}-steps${steps}-cfg${cfgScale}.png`),
      );
      found.push({ label: space, cfgScale, steps, png });
    }
  }
  return found;
}
