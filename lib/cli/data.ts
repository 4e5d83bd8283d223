/**
 * `novae data show`: a contact sheet of a data set.
 *
 * @module
 */
import type { Command } from "commander";
import { renderContactSheet } from "novae/data/mod.ts";
import { encodePng, writeFileAtomic } from "novae/io/mod.ts";
import { loadStudyData } from "novae/study/mod.ts";
import { parseCount } from "./_options.ts";

interface ShowOptions {
  data: string;
  path: string;
  count: number;
  size: number;
  seed: number;
  out: string;
}

/** Adds `data show` to the program. */
export function registerData(program: Command): void {
  program.command("data").description("look at data sets")
    .command("show")
    .description("draw a contact sheet of images, and of masks and depth maps where the data set has them")
    .option("--data <name>", "solids, cifar10 or folder", "solids")
    .option("--path <path>", "where the data set lies; not needed for solids", "")
    .option("--count <n>", "number of images", parseCount, 40)
    .option("--size <pixels>", "edge of the images; 0 for the data set's own", Number, 0)
    .option("--seed <n>", "which images are drawn", Number, 0)
    .option("--out <file>", "PNG to write", "contact-sheet.png")
    .action(async (options: ShowOptions) => {
      const imageSize = options.size || (options.data === "cifar10" ? 32 : 64);
      const { train } = await loadStudyData({
        name: options.data as "solids",
        path: options.path,
        train: Math.max(options.count, 1000),
        test: 10,
        imageSize,
      }, options.seed);
      const sheet = await renderContactSheet({ dataset: train, count: options.count, seed: options.seed });
      await writeFileAtomic(options.out, await encodePng(sheet));
      console.log(
        `${options.count} images of ${train.name} in ${options.out} (${sheet.width} × ${sheet.height})`,
      );
    });
}
