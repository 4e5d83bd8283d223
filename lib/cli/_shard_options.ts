import { type Command, Option } from "commander";
import type { DeviceName } from "novae/engine/mod.ts";
import { parseCount } from "./_options.ts";

/** Options of commands that write what a network makes of images into shards. */
export interface ShardOptions {
  out: string;
  dtype: "fp16" | "fp32";
  batchSize: number;
  rowsPerShard?: number;
  device: DeviceName;
  workers?: number;
  verify: "hash" | "header";
  json: boolean;
}

/** Adds the options to a command. */
export function addShardOptions(command: Command): Command {
  return command
    .requiredOption("--out <folder>", "folder of the shards; one that was begun is gone on with")
    .addOption(new Option("--dtype <type>", "storage").choices(["fp16", "fp32"]).default("fp16"))
    .option("--batch-size <n>", "images at a time", parseCount, 64)
    .option("--rows-per-shard <n>", "images a file; about 64 MB, 1024 or fewer, if omitted", parseCount)
    .option("--device <name>", "where to run", "auto")
    .option("--workers <n>", "threads that decode images; one a core if omitted", parseCount)
    .addOption(
      new Option("--verify <how>", "check of shards that are there: all data or headers alone")
        .choices(["hash", "header"]).default("hash"),
    )
    .option("--json", "print the result as JSON", false);
}

/** The storage as the library names it. */
export function storageOf({ dtype }: ShardOptions): "float16" | "float32" {
  return dtype === "fp16" ? "float16" : "float32";
}

/** How many images were encoded now, where and how fast. */
export function encodedLine(
  { made, wallSec, imagesPerSec }: { made: number; wallSec: number; imagesPerSec: number | null },
  where: string,
): string {
  const rate = imagesPerSec === null ? "" : `, ${imagesPerSec.toFixed(1)} images/s`;
  return `${made} of them encoded now on ${where} in ${wallSec.toFixed(1)} s${rate}`;
}
