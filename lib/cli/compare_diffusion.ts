/**
 * `novae compare diffusion`: transformers in several latent spaces, each trained with several seeds.
 *
 * @module
 */
import type { Command } from "commander";
import { ConfigError } from "novae/tensor/mod.ts";
import { applyOverrides } from "novae/experiment/mod.ts";
import {
  compareDiffusion,
  defaultStudy,
  type DiffusionComparisonConfig,
  diffusionComparisonTable,
  parseDiffusionComparison,
  parseLatents,
  shippedModel,
} from "novae/study/mod.ts";
import {
  addCompareOptions,
  type CompareFlags,
  dataOf,
  expectJson,
  parseSeeds,
  writeComparison,
} from "./_compare_options.ts";
import { makeFolderOf } from "./_encoder_record.ts";
import { usualClassifier } from "./_measures.ts";
import { parseCount } from "./_options.ts";

interface DiffusionFlags extends CompareFlags {
  autoencoders: string;
  encoder?: string;
  classifier?: string;
  images: number;
  samples: number;
}

const WHAT = "Cannot compare diffusion";

const HELP = `
Latents are normalised with the statistics of their own space, or of another one named behind an @: the published
ablation normalised unaligned latents with those of the aligned ones, svg-noalign@svg.
--dry-run prints the configuration, --set changes it, e.g. diffusion.size=micro sampling.guidedSteps=25.`;

/** Adds `diffusion` to the `compare` command. */
export function registerCompareDiffusion(compare: Command): void {
  const command = compare.command("diffusion")
    .description("train transformers in several latent spaces and with several seeds; score their samples")
    .option("--spaces <list>", "latents, separated by commas", "vae,dino,svg-noalign,svg-noalign@svg,svg");
  addCompareOptions(command, "change a setting, e.g. diffusion.batchSize=32 or sampling.steps=5,10,25")
    .option("--autoencoders <folder>", "folder of ae-<space>-<data>.safetensors", shippedModel(""))
    .option("--encoder <file>", "the frozen encoder; the shipped one for solids and cifar10 if omitted")
    .option("--classifier <file>", "whose features score; the shipped one for solids and cifar10 if omitted")
    .option("--images <n>", "training images of each, repetitions counted", parseCount, 12_000)
    .option("--samples <n>", "samples behind each distance", parseCount, 500)
    .addHelpText("after", HELP)
    .action(run);
}

async function run(flags: DiffusionFlags): Promise<void> {
  const config = configOf(flags);
  if (flags.dryRun) return console.log(JSON.stringify(config, null, 2));
  if (flags.out !== undefined) await makeFolderOf(expectJson(WHAT, flags.out));
  const { result, path } = await compareDiffusion(config, {
    root: flags.runs,
    resume: flags.resume ?? false,
    argv: Deno.args,
  });
  const { samples } = config.sampling;
  if (flags.out !== undefined) {
    const title = `Diffusion on ${result.data.name}`;
    const table = diffusionComparisonTable(result, samples, "markdown");
    await writeComparison(flags.out, { title, config, result, table });
  }
  console.log(`${diffusionComparisonTable(result, samples)}\n\nreport: ${path}/report.html`);
}

/** Shares of the training after which samples are scored. */
const CHECKPOINTS = [0.125, 0.25, 0.5, 1];

function configOf(flags: DiffusionFlags): DiffusionComparisonConfig {
  const data = dataOf(WHAT, flags), { name, imageSize } = data, { images, samples } = flags;
  const shipped = (file?: string) =>
    file ?? (name === "folder" ? "" : shippedModel(`encoder-${name}.safetensors`));
  const usual = defaultStudy(name, "standard", false);
  const settings = {
    diffusion: { ...usual.diffusion, images, emaHalflifeImages: Math.max(images / 20, 200) },
    sampling: {
      ...usual.sampling,
      samples,
      steps: [5, 10, 25, 50],
      guidedSteps: [5, 10, 25, 50],
      checkpoints: CHECKPOINTS,
      curveSteps: [25],
    },
  };
  return parseDiffusionComparison({
    data,
    dataSeed: flags.dataSeed,
    encoder: expectNamed("--encoder", shipped(flags.encoder)),
    classifier: expectNamed("--classifier", flags.classifier ?? usualClassifier(name, imageSize)),
    autoencoders: flags.autoencoders,
    spaces: parseLatents(flags.spaces),
    seeds: parseSeeds(WHAT, flags.seeds),
    ...applyOverrides(settings, flags.set, "settings"),
    device: flags.device,
  });
}

function expectNamed(option: string, file: string): string {
  if (file !== "") return file;
  throw new ConfigError(`${WHAT}: ${option} must name a file for these images, got none`);
}
