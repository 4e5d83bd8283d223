import { join } from "node:path";
import { type Command, Option } from "commander";
import { CheckpointError, ConfigError } from "novae/tensor/mod.ts";
import { DIT_SIZES } from "novae/diffusion/mod.ts";
import { readJson } from "novae/io/mod.ts";
import { newestDiffusionRun } from "novae/study/mod.ts";
import { parseCount, parseNatural } from "./_options.ts";

/** What a person gives to a diffusion training; what is left out has a default. */
export interface DiffusionFlags {
  latents?: string;
  autoencoder?: string;
  encoder?: string;
  data?: string;
  path?: string;
  count?: number;
  saveLatents?: string;
  space?: string;
  classes?: number;
  validation?: string;
  size?: string;
  init?: string;
  images?: number;
  batchSize?: number;
  learningRate?: number;
  timestepShift?: number;
  seed?: number;
  evaluateEveryImages?: number;
  samples?: number;
  classifier?: string;
  set?: string[];
}

/** Flags that do not decide what is trained. */
export interface PlaceFlags {
  device: string;
  runs: string;
  resume?: boolean | string;
  dryRun: boolean;
  out?: string;
}

const HELP = `
--set changes any setting, for example
  training.clipNorm=null  training.betas=0.9,0.95  model.norm=rms  model.head.width=256
  evaluation.cfgScale=2  validation.images=512  keeping.keepLast=3
--dry-run prints every key with its value.`;

/** Adds all options. */
export function addDiffusionOptions(command: Command): Command {
  addSourceOptions(command)
    .addOption(
      new Option("--size <name>", "size of the transformer; micro, or that of --init, if omitted").choices(
        Object.keys(DIT_SIZES),
      ),
    )
    .option("--init <file>", "start from these weights: of this command, or a published .pt or .safetensors")
    .option("--images <n>", "training images, repetitions counted; 20,000 if omitted", parseCount)
    .option("--batch-size <n>", "images an update; 64 if omitted", parseCount)
    .option("--learning-rate <rate>", "step size of AdamW; 1e-3 if omitted", Number)
    .option(
      "--timestep-shift <s>",
      "shift of the training times; below 1 towards noise; 1 if omitted",
      Number,
    )
    .option("--seed <n>", "decides initial weights, batches and what is held out; 0 if omitted", Number)
    .option(
      "--evaluate-every-images <n>",
      "images between samples; a fifth of the training if omitted",
      parseCount,
    )
    .option("--samples <n>", "samples of each evaluation; 0 for none, 256 if omitted", parseNatural)
    .option(
      "--classifier <file>",
      "whose features score samples; the shipped one if it fits, else the encoder's, if omitted",
    );
  return command
    .option("--set <key=value...>", "change settings, e.g. training.weightDecay=0.01 or model.patchSize=2")
    .option("--device <name>", "where to train", "auto")
    .option("--runs <folder>", "where run folders are made", "experiments/runs")
    .option("--resume [run]", "go on with the newest run, or with the given run folder, with its options")
    .option("--dry-run", "print the configuration, parameter count and a memory estimate, and stop", false)
    .option("--out <file>", "write the averaged weights here too, beside dit.safetensors in the run folder")
    .addHelpText("after", HELP);
}

function addSourceOptions(command: Command): Command {
  return command
    .option(
      "--latents <path>",
      "folder made by `novae encode`, or npz or safetensors with `latents` [count, N, Z] and `labels` [count]",
    )
    .option(
      "--autoencoder <file>",
      "decodes samples; without --latents it encodes the images of --data first",
    )
    .option(
      "--encoder <reference>",
      "the frozen encoder: needed to encode, and scores where no classifier does",
    )
    .option(
      "--data <name or folder>",
      "solids, cifar10 or a folder: images to encode (solids if omitted); with --latents those to compare samples with",
    )
    .option("--path <path>", "where cifar10 lies")
    .option("--count <n>", "images of solids or cifar10, from the first", parseCount)
    .option("--save-latents <file>", "keep the encoded latents")
    .option("--space <name>", "name of the latent space, where the file does not say it")
    .option("--classes <n>", "number of classes; from names or labels if omitted", parseCount)
    .option(
      "--validation <share or folder>",
      "hold out a share of the latents, or validate on another folder",
    );
}

/** A run to go on with: its folder, and its options under those given now. */
export interface Resumed {
  readonly folder: string;
  readonly flags: DiffusionFlags;
}

/**
 * Finds the run to go on with.
 *
 * @throws ConfigError if there is none; CheckpointError if its options cannot be read.
 */
export async function resumed({ resume, runs }: PlaceFlags, given: DiffusionFlags): Promise<Resumed | null> {
  if (resume === undefined || resume === false) return null;
  const folder = resume === true ? await newestDiffusionRun(runs) : resume;
  if (folder === null) {
    throw new ConfigError(`Cannot resume: ${runs} must hold a run of a diffusion transformer, found none`);
  }
  const stored = await readJson(join(folder, "config.input.json"), CheckpointError);
  if (typeof stored !== "object" || stored === null || Array.isArray(stored)) {
    throw new CheckpointError(
      `Cannot go on with ${folder}: config.input.json must hold options, got ${stored}`,
    );
  }
  return { folder, flags: { ...stored, ...given } };
}
