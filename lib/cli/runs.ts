/**
 * `novae runs`: a table of the run folders.
 *
 * @module
 */
import type { Command } from "commander";
import { compareRuns, loadRuns } from "novae/experiment/mod.ts";

/** Adds the command to the program. */
export function registerRuns(program: Command): void {
  program.command("runs")
    .description("list the runs with their state and chosen values of their summaries")
    .argument("[keys...]", "dotted paths into summary.json, e.g. judges.classifierAccuracy")
    .option("--root <folder>", "where the run folders are", "experiments/runs")
    .action(async (keys: string[], { root }: { root: string }) => {
      console.log(compareRuns(await loadRuns(root), keys).toString());
    });
}
