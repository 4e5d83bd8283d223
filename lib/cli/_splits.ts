import { type Command, Option } from "commander";
import { ConfigError } from "novae/tensor/mod.ts";
import {
  type Dataset,
  type DatasetName,
  type ImageFiles,
  loadDataset,
  openImageSplits,
} from "novae/data/mod.ts";
import { parseCount } from "./_options.ts";

/** What names the training and the held-out images. */
export interface SplitsOptions {
  data: DatasetName | "files";
  path?: string;
  train?: number;
  test?: number;
  imageSize?: number;
  resize?: number;
}

/** Images to learn from and images held out: in memory, or files that are read as they are needed. */
export interface ImageSplits {
  readonly train: Dataset | ImageFiles;
  readonly test: Dataset | ImageFiles;
}

/** Images of the data sets that have many, if their number is not given. */
const USUAL = { train: 10_000, test: 2_000 } as const;

/** Adds the options that name training and held-out images. */
export function addSplitsOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--data <name>", "data set; folder reads all images into memory, files as they are needed")
        .choices(["solids", "cifar10", "folder", "files"]).default("solids"),
    )
    .option("--path <path>", "where the data set lies; for files a folder with train and val or test")
    .option(
      "--train <n>",
      "images to learn from; 10,000 of solids and cifar10, else all, if omitted",
      parseCount,
    )
    .option("--test <n>", "held-out images; 2,000 of solids and cifar10, else all, if omitted", parseCount)
    .option(
      "--resize <pixels>",
      "shorter side of the images before the crop; that of the crop if omitted",
      parseCount,
    );
}

/**
 * Opens training and held-out images.
 *
 * @param what the first half of messages, e.g. "Cannot train svg".
 * @param imageSize edge of the crop; images in memory are loaded at the size they are cropped from.
 * @throws ConfigError if an option does not belong to the data; DataError if they cannot be read.
 */
export async function openSplits(
  what: string,
  { data, path, train, test, resize }: SplitsOptions,
  imageSize: number,
): Promise<ImageSplits> {
  if (data === "files") {
    if (path === undefined) {
      throw new ConfigError(`${what}: --path must name the folder of the files, got none`);
    }
    const count = train ?? test;
    if (count === undefined) return await openImageSplits(path);
    throw new ConfigError(`${what}: --train and --test are for images in memory, got ${count} with files`);
  }
  const known: { train?: number; test?: number } = data === "folder" ? {} : USUAL;
  const counts = { train: train ?? known.train, test: test ?? known.test };
  return await loadDataset({
    name: data,
    path,
    ...counts,
    imageSize: data === "cifar10" ? undefined : resize ?? imageSize,
  });
}

/** Edge of the images that a model takes, if nobody chose one. */
export function usualImageSize(data: SplitsOptions["data"]): number {
  return data === "cifar10" ? 32 : data === "files" ? 256 : 64;
}
