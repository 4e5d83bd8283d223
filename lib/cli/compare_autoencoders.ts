/**
 * `novae compare autoencoders`: autoencoders of several spaces, each trained with several seeds.
 *
 * @module
 */
import { type Command, Option } from "commander";
import { AUTOENCODER_SIZES, type AutoencoderSize, resolveSchedule } from "novae/autoencoder/mod.ts";
import { applyOverrides } from "novae/experiment/mod.ts";
import {
  compareAutoencoders,
  type ComparisonConfig,
  comparisonTable,
  parseComparisonConfig,
  parseSpaces,
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
import { addLpipsOptions, lpipsOf, type LpipsOptions } from "./_lpips.ts";
import { usualClassifier } from "./_measures.ts";
import { parseCount } from "./_options.ts";

interface AutoencoderFlags extends CompareFlags, LpipsOptions {
  encoder?: string;
  classifier?: string;
  size: AutoencoderSize;
  images: number;
  neighbours: number;
}

const WHAT = "Cannot compare autoencoders";

const HELP = `
A space may be followed by settings that are changed, each behind a +, for example
  --spaces dino,svg,svg+residual.channels=16,svg+residual.channels=32
--dry-run prints the configuration.`;

/** Adds `autoencoders` to the `compare` command. */
export function registerCompareAutoencoders(compare: Command): void {
  const command = compare.command("autoencoders")
    .description("train autoencoders of several spaces and seeds; measure reconstructions and probes")
    .option("--spaces <list>", "latent spaces, separated by commas", "vae,dino,svg-noalign,svg");
  addCompareOptions(command, "change the schedule of all, e.g. batchSize=16 or flip=true");
  addLpipsOptions(command, "measure LPIPS too")
    .option("--encoder <file>", "the frozen encoder; the shipped one for solids and cifar10 if omitted")
    .option(
      "--classifier <file>",
      "whose features measure Fréchet distances; the shipped one for solids and cifar10 if omitted",
    )
    .addOption(
      new Option("--size <name>", "named size").choices([...AUTOENCODER_SIZES]).default("micro"),
    )
    .option("--images <n>", "training images of each, repetitions counted", parseCount, 40_000)
    .option("--neighbours <k>", "neighbours that vote in the k-NN probe", parseCount, 20)
    .addHelpText("after", HELP)
    .action((flags: AutoencoderFlags) => run(flags));
}

async function run(flags: AutoencoderFlags): Promise<void> {
  const config = configOf(flags);
  if (flags.dryRun) return console.log(JSON.stringify(config, null, 2));
  if (flags.out !== undefined) await makeFolderOf(expectJson(WHAT, flags.out));
  const { result, path } = await compareAutoencoders(config, {
    root: flags.runs,
    resume: flags.resume ?? false,
    argv: Deno.args,
  });
  if (flags.out !== undefined) {
    const title = `Autoencoders on ${result.data.name}`, table = comparisonTable(result, "markdown");
    await writeComparison(flags.out, { title, config, result, table });
  }
  console.log(`${comparisonTable(result)}\n\nrun folder: ${path}`);
}

function configOf(flags: AutoencoderFlags): ComparisonConfig {
  const { size, images, neighbours, dataSeed, device } = flags,
    data = dataOf(WHAT, flags),
    { name, imageSize } = data;
  const lpips = lpipsOf(WHAT, flags);
  const { seed: _, ...schedule } = resolveSchedule({ images });
  const shipped = name === "folder" ? "" : shippedModel(`encoder-${name}.safetensors`);
  return parseComparisonConfig({
    data,
    dataSeed,
    encoder: flags.encoder ?? shipped,
    classifier: flags.classifier ?? usualClassifier(name, imageSize),
    ...(lpips && { lpips }),
    spaces: parseSpaces(flags.spaces),
    seeds: parseSeeds(WHAT, flags.seeds),
    size,
    schedule: applyOverrides(schedule, flags.set, "schedule"),
    neighbours,
    device,
  });
}
