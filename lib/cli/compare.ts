/**
 * `novae compare autoencoders`: autoencoders of several spaces, each trained with several seeds.
 *
 * @module
 */
import { type Command, Option } from "commander";
import { ConfigError } from "novae/tensor/mod.ts";
import { type DeviceName, resolveDevice } from "novae/engine/mod.ts";
import { writeFileAtomic, writeJson } from "novae/io/mod.ts";
import { AUTOENCODER_SIZES, type AutoencoderSize, resolveSchedule } from "novae/autoencoder/mod.ts";
import { applyOverrides, describeEnvironment } from "novae/experiment/mod.ts";
import {
  compareAutoencoders,
  type ComparisonConfig,
  type ComparisonResult,
  comparisonTable,
  parseComparisonConfig,
  parseSpaces,
  shippedModel,
} from "novae/study/mod.ts";
import { makeFolderOf } from "./_encoder_record.ts";
import { addLpipsOptions, lpipsOf, type LpipsOptions } from "./_lpips.ts";
import { usualClassifier } from "./_measures.ts";
import { parseCount } from "./_options.ts";
import { usualImageSize } from "./_splits.ts";

interface CompareFlags extends LpipsOptions {
  spaces: string;
  seeds: string;
  data: string;
  path?: string;
  train?: number;
  test?: number;
  imageSize?: number;
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
  const command = program.command("compare").description("compare models, each trained with several seeds")
    .command("autoencoders")
    .description("train autoencoders of several spaces and seeds; measure reconstructions and probes");
  addLpipsOptions(command, "measure LPIPS too")
    .option("--spaces <list>", "latent spaces, separated by commas", "vae,dino,svg-noalign,svg")
    .option("--seeds <list>", "seeds of the trainings, separated by commas", "0,1,2")
    .option(
      "--data <name or folder>",
      "solids, cifar10 or a folder with train and val or test (class/name.jpg)",
      "solids",
    )
    .option("--path <path>", "where cifar10 lies")
    .option("--train <n>", "images of solids or cifar10 to learn from; 10,000 if omitted", parseCount)
    .option("--test <n>", "held-out images of solids or cifar10; 2,000 if omitted", parseCount)
    .option("--image-size <pixels>", "edge of the images; 64, of cifar10 32, if omitted", parseCount)
    .option("--encoder <file>", "the frozen encoder; the shipped one for solids and cifar10 if omitted")
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
    .option("--out <file.json>", "where the result goes too; its table goes beside it as Markdown")
    .option("--dry-run", "print the configuration and stop", false)
    .addHelpText("after", HELP)
    .action((flags: CompareFlags) => compare(flags));
}

async function compare(flags: CompareFlags): Promise<void> {
  const config = configOf(flags);
  if (flags.dryRun) return console.log(JSON.stringify(config, null, 2));
  if (flags.out !== undefined) await makeFolderOf(expectJson(flags.out));
  const { result, path } = await compareAutoencoders(config, {
    root: flags.runs,
    resume: flags.resume ?? false,
    argv: Deno.args,
  });
  if (flags.out !== undefined) await writeResult(flags.out, config, result);
  console.log(`${comparisonTable(result)}\n\nrun folder: ${path}`);
}

/** Writes the result with what made it, and its table beside it. */
async function writeResult(out: string, config: ComparisonConfig, result: ComparisonResult): Promise<void> {
  const choice = await resolveDevice(config.device as DeviceName);
  const { version, cpu, cores, os } = await describeEnvironment(choice, config.seeds[0]);
  const command = ["deno task novae", ...Deno.args].join(" ");
  const machine = { cpu, cores, os, device: choice.device };
  await writeJson(out, { command, config, machine, version, ...result });
  const text =
    `# Autoencoders on ${result.data.name}\n\n${comparisonTable(result, "markdown")}\n\nMade by\n\n` +
    `    ${command}\n\non ${cpu}, ${cores} cores, ${choice.device}.\n`;
  await writeFileAtomic(out.replace(/\.json$/, ".md"), text);
}

function expectJson(out: string): string {
  if (out.endsWith(".json")) return out;
  throw new ConfigError(`Cannot compare autoencoders: --out must end in .json, got ${out}`);
}

function configOf(flags: CompareFlags): ComparisonConfig {
  const { size, images, neighbours, dataSeed, device } = flags,
    data = dataOf(flags),
    { name, imageSize } = data;
  const lpips = lpipsOf("Cannot compare autoencoders", flags);
  const { seed: _, ...schedule } = resolveSchedule({ images });
  const shipped = name === "folder" ? "" : shippedModel(`encoder-${name}.safetensors`);
  return parseComparisonConfig({
    data,
    dataSeed,
    encoder: flags.encoder ?? shipped,
    classifier: flags.classifier ?? usualClassifier(name, imageSize),
    ...(lpips && { lpips }),
    spaces: parseSpaces(flags.spaces),
    seeds: parseSeeds(flags.seeds),
    size,
    schedule: applyOverrides(schedule, flags.set, "schedule"),
    neighbours,
    device,
  });
}

/** Images of a data set that has many, if their number is not given. */
const USUAL = { train: 10_000, test: 2_000 } as const;

function dataOf({ data, path, train, test, imageSize }: CompareFlags): ComparisonConfig["data"] {
  const counts = { train: train ?? USUAL.train, test: test ?? USUAL.test };
  if (data === "solids" || data === "cifar10") {
    return { name: data, path: path ?? "", ...counts, imageSize: imageSize ?? usualImageSize(data) };
  }
  for (const [option, value] of [["--path", path], ["--train", train], ["--test", test]] as const) {
    if (value === undefined) continue;
    throw new ConfigError(
      `Cannot compare autoencoders: ${option} is for solids and cifar10, got it with ${data}`,
    );
  }
  return { name: "folder", path: data, ...counts, imageSize: imageSize ?? usualImageSize("folder") };
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
