/**
 * `novae reproduce`: the paper's comparison of latent spaces on one data set.
 *
 * @module
 */
import { type Command, Option } from "commander";
import { describeStudy, reproduce, resolveStudyConfig, type Scale, SCALES } from "novae/study/mod.ts";

interface ReproduceOptions {
  scale: Scale;
  resume?: boolean | string;
  fromScratch: boolean;
  dryRun: boolean;
  runs: string;
}

const HELP = `
Overrides are key=value pairs, for example
  data=cifar10 data.path=../shared/data/cifar10
  spaces=vae,svg  sampling.samples=5000  diffusion.images=100000
--dry-run prints every key with its value.`;

/** Adds the command to the program. */
export function registerReproduce(program: Command): void {
  program.command("reproduce")
    .description(
      "compare latent spaces: train a diffusion transformer in each, score reconstructions and samples",
    )
    .argument("[overrides...]", "configuration overrides, key=value")
    .addOption(new Option("--scale <scale>", "how much to compute").choices(SCALES).default("standard"))
    .option("--resume [run]", "go on with the latest run of this kind, or with the given run folder")
    .option("--from-scratch", "train everything, also what is shipped in data/models", false)
    .option("--dry-run", "print the configuration, parameter counts and a memory estimate, and stop", false)
    .option("--runs <folder>", "where run folders are made", "experiments/runs")
    .addHelpText("after", HELP)
    .action(async (overrides: string[], options: ReproduceOptions) => {
      const config = resolveStudyConfig({
        scale: options.scale,
        overrides,
        fromScratch: options.fromScratch,
      });
      if (options.dryRun) return console.log(await describeStudy(config));
      await reproduce(config, {
        root: options.runs,
        scale: options.scale,
        resume: options.resume ?? false,
        argv: Deno.args,
        input: { scale: options.scale, overrides, fromScratch: options.fromScratch },
      });
    });
}
