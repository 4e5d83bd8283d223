import { type Command, Option } from "commander";
import { ConfigError } from "novae/tensor/mod.ts";
import { type Dataset, type ImageFiles, loadDataset, loadSolids, openImageFolder } from "novae/data/mod.ts";
import { parseCount } from "./_options.ts";

/** What names one part of a data set. */
export interface ImagesOptions {
  data: string;
  path?: string;
  split: "train" | "test";
  count?: number;
}

/** Images of `solids` if their number is not given. */
const SOLIDS = { train: 10_000, test: 2_000 } as const;

/** Adds the options that name the images to encode. */
export function addImagesOptions(command: Command): Command {
  return command
    .requiredOption("--data <name or folder>", "solids, cifar10 or a folder of images (class/name.jpg)")
    .option("--path <path>", "where cifar10 lies")
    .addOption(
      new Option("--split <part>", "part of solids or cifar10").choices(["train", "test"]).default("train"),
    )
    .option(
      "--count <n>",
      "images of solids or cifar10, from the first; 10,000 or 2,000 of solids or all if omitted",
      parseCount,
    );
}

/**
 * Opens the images: `solids` and CIFAR-10 in memory, image files as they are needed.
 *
 * @param what the first half of messages, e.g. "Cannot extract features".
 * @param imageSize edge of `solids` in pixels; the data set's own if omitted.
 * @throws ConfigError if an option does not belong to the data; DataError if they cannot be read.
 */
export async function openImages(
  what: string,
  { data, path, split, count }: ImagesOptions,
  imageSize?: number,
): Promise<Dataset | ImageFiles> {
  if (data === "solids") return await loadSolids({ split, count: count ?? SOLIDS[split], imageSize });
  if (data === "cifar10") return (await loadDataset({ name: data, path, [split]: count }))[split];
  for (const [option, value] of [["--path", path], ["--count", count]]) {
    if (value === undefined) continue;
    throw new ConfigError(`${what}: ${option} is for solids and cifar10, got it with ${data}`);
  }
  return await openImageFolder(data);
}
