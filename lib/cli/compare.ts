/**
 * `novae compare autoencoders`: autoencoders of several spaces, each trained with several seeds.
 *
 * @module
 */
import { type Command, Option } from "commander";
import { ConfigError } from "novae/tensor/mod.ts";
import { type DeviceName, resolveDevice } from "novae/engine/mod.ts";
import { writeJson } from "novae/io/mod.ts";
import type { DatasetName } from "novae/data/mod.ts";
import { AUTOENCODER_SIZES, type AutoencoderSize, resolveSchedule } from "novae/autoencoder/mod.ts";
import { applyOverrides, describeEnvironment } from "novae/experiment/mod.ts";
import {
  compareAutoencoders,
  type ComparisonConfig,
  comparisonTable,
  parseComparisonConfig,
  parseSpaces,
  shippedModel,
} from "novae/study/mod.ts";
import { makeFolderOf } from "./_encoder_record.ts";
import { usualClassifier } from "./_measures.ts";
import { parseCount } from "./_options.ts";

interface CompareFlags {
  spaces: string;
  seeds: string;
  data: DatasetName;
  path: string;
  train: number;
  test: number;
  encoder?: string;
  classifier?: string;
  size: AutoencoderSize;
  images: number;
  neighbours: number;
  dataSeed: number;
  device: DeviceName;
  set: string[];
  runs: string;
  resume?: boolean | string;
  out?: string;
  dryRun: boolean;
}

const HELP = `
A space may be followed by settings that are changed, each behind a +, for example
  --spaces dino,svg,svg+residual.channels=16,svg+residual.channels=32
--dry-run prints the configuration.`;

/** Adds the command to the program. */
export function registerCompare(program: Command): void {
  program.command("compare").description("compare models, each trained with several seeds")
    .command("autoencoders")
    .description("train autoencoders of several spaces and seeds; measure reconstructions and probes")
    .option("--spaces <list>", "latent spaces, separated by commas", "vae,dino,svg-noalign,svg")
    .option("--seeds <list>", "seeds of the trainings, separated by commas", "0,1,2")
    .addOption(
      new Option("--data <name>", "data set").choices(["solids", "cifar10", "folder"]).default("solids"),
    )
    .option("--path <path>", "where the data set lies; not needed for solids", "")
    .option("--train <n>", "images to learn from", parseCount, 10_000)
    .option("--test <n>", "held-out images", parseCount, 2_000)
    .option("--encoder <file>", "the frozen encoder; the shipped one for solids if omitted")
    .option(
      "--classifier <file>",
      "whose features measure Fréchet distances; the shipped one for solids if omitted",
    )
    .addOption(
      new Option("--size <name>", "named size").choices([...AUTOENCODER_SIZES]).default("micro"),
    )
    .option("--images <n>", "training images of each, repetitions counted", parseCount, 40_000)
    .option("--neighbours <k>", "neighbours that vote in the k-NN probe", parseCount, 20)
    .option("--data-seed <n>", "decides which images are drawn or held out", Number, 0)
    .option("--device <name>", "where to train", "cpu")
    .option("--set <key=value...>", "change the schedule of all, e.g. batchSize=16 or flip=true", [])
    .option("--runs <folder>", "where run folders are made", "experiments/runs")
    .option("--resume [run]", "go on with the latest run of this kind, or with the given run folder")
    .option("--out <file>", "JSON to write beside the summary of the run folder")
    .option("--dry-run", "print the configuration and stop", false)
    .addHelpText("after", HELP)
    .action((flags: CompareFlags) => compare(flags));
}

async function compare(flags: CompareFlags): Promise<void> {
  const config = configOf(flags);
  if (flags.dryRun) return console.log(JSON.stringify(config, null, 2));
  if (flags.out !== undefined) await makeFolderOf(flags.out);
  const { result, path } = await compareAutoencoders(config, {
    root: flags.runs,
    resume: flags.resume ?? false,
    argv: Deno.args,
  });
  if (flags.out !== undefined) {
    const choice = await resolveDevice(config.device as DeviceName);
    const { version, cpu, cores, os } = await describeEnvironment(choice, config.seeds[0]);
    const command = ["deno task novae", ...Deno.args].join(" ");
    const machine = { cpu, cores, os, device: choice.device };
    await writeJson(flags.out, { command, config, machine, version, ...result });
  }
  console.log(`${comparisonTable(result)}\n\nrun folder: ${path}`);
}

function configOf(flags: CompareFlags): ComparisonConfig {
  const { data: name, path, train, test, size, images, neighbours, dataSeed, device } = flags;
  const imageSize = name === "cifar10" ? 32 : 64, { seed: _, ...schedule } = resolveSchedule({ images });
  const shipped = name === "solids" ? shippedModel("encoder-solids.safetensors") : "";
  return parseComparisonConfig({
    data: { name, path, train, test, imageSize },
    dataSeed,
    encoder: flags.encoder ?? shipped,
    classifier: flags.classifier ?? usualClassifier(name, imageSize),
    spaces: parseSpaces(flags.spaces),
    seeds: parseSeeds(flags.seeds),
    size,
    schedule: applyOverrides(schedule, flags.set, "schedule"),
    neighbours,
    device,
  });
}

function parseSeeds(text: string): number[] {
  return text.split(",").map((part) => {
    const seed = Number(part);
    if (part.trim() !== "" && Number.isSafeInteger(seed) && seed >= 0) return seed;
    throw new ConfigError(
      `Cannot compare autoencoders: seeds must be whole numbers separated by commas, got "${text}"`,
    );
  });
}
