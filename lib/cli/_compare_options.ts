/**
 * What the commands that compare models share: images, seeds, and the files of a result.
 *
 * @module
 */
import type { Command } from "commander";
import { ConfigError } from "novae/tensor/mod.ts";
import { type DeviceName, resolveDevice } from "novae/engine/mod.ts";
import { writeFileAtomic, writeJson } from "novae/io/mod.ts";
import { describeEnvironment } from "novae/experiment/mod.ts";
import type { ComparisonConfig } from "novae/study/mod.ts";
import { parseCount } from "./_options.ts";
import { usualImageSize } from "./_splits.ts";

/** What all comparisons can be told. */
export interface CompareFlags {
  spaces: string;
  seeds: string;
  data: string;
  path?: string;
  train?: number;
  test?: number;
  imageSize?: number;
  dataSeed: number;
  device: DeviceName;
  set: string[];
  runs: string;
  resume?: boolean | string;
  out?: string;
  dryRun: boolean;
}

/** Adds what all comparisons can be told. */
export function addCompareOptions(command: Command, settings: string): Command {
  return command
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
    .option("--data-seed <n>", "decides which images are drawn or held out", Number, 0)
    .option("--device <name>", "where to train", "cpu")
    .option("--set <key=value...>", settings, [])
    .option("--runs <folder>", "where run folders are made", "experiments/runs")
    .option("--resume [run]", "go on with the latest run of this kind, or with the given run folder")
    .option("--out <file.json>", "where the result goes too; its table goes beside it as Markdown")
    .option("--dry-run", "print the configuration and stop", false);
}

/** What a comparison leaves in the files of `--out`. */
export interface ComparisonFiles {
  readonly title: string;
  readonly config: { readonly device: string; readonly seeds: readonly number[] };
  readonly result: object;
  /** The body of the Markdown file. */
  readonly table: string;
}

/** Writes a result with what made it, and its table beside it. */
export async function writeComparison(
  out: string,
  { title, config, result, table }: ComparisonFiles,
): Promise<void> {
  const choice = await resolveDevice(config.device as DeviceName);
  const { version, cpu, cores, os } = await describeEnvironment(choice, config.seeds[0]);
  const command = ["deno task novae", ...Deno.args].join(" ");
  const machine = { cpu, cores, os, device: choice.device };
  await writeJson(out, { command, config, machine, version, ...result });
  const made = `Made by\n\n    ${command}\n\non ${cpu}, ${cores} cores, ${choice.device}.\n`;
  await writeFileAtomic(out.replace(/\.json$/, ".md"), `# ${title}\n\n${table}\n\n${made}`);
}

/** @throws ConfigError for another ending. */
export function expectJson(what: string, out: string): string {
  if (out.endsWith(".json")) return out;
  throw new ConfigError(`${what}: --out must end in .json, got ${out}`);
}

/** Images of a data set that has many, if their number is not given. */
const USUAL = { train: 10_000, test: 2_000 } as const;

/** The images that are meant. @throws ConfigError for an option that does not belong to them. */
export function dataOf(
  what: string,
  { data, path, train, test, imageSize }: CompareFlags,
): ComparisonConfig["data"] {
  const counts = { train: train ?? USUAL.train, test: test ?? USUAL.test };
  if (data === "solids" || data === "cifar10") {
    return { name: data, path: path ?? "", ...counts, imageSize: imageSize ?? usualImageSize(data) };
  }
  for (const [option, value] of [["--path", path], ["--train", train], ["--test", test]] as const) {
    if (value === undefined) continue;
    throw new ConfigError(
      `${what}: ${option} is for solids and cifar10, got it with ${data}`,
    );
  }
  return { name: "folder", path: data, ...counts, imageSize: imageSize ?? usualImageSize("folder") };
}

/** @throws ConfigError for what is no list of seeds. */
export function parseSeeds(what: string, text: string): number[] {
  return text.split(",").map((part) => {
    const seed = Number(part);
    if (part.trim() !== "" && Number.isSafeInteger(seed) && seed >= 0) return seed;
    throw new ConfigError(
      `${what}: seeds must be whole numbers separated by commas, got "${text}"`,
    );
  });
}
