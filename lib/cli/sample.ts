/**
 * `novae sample`: draws images with a diffusion transformer and the decoder of its latent space.
 *
 * @module
 */
import { type Command, Option } from "commander";
import type { CompiledAutoencoder, LatentStats } from "novae/autoencoder/mod.ts";
import { readPublishedStats } from "novae/autoencoder/mod.ts";
import {
  checkSampleRequest,
  type GuidanceMode,
  openDiffusion,
  type OpenDiffusionOptions,
  type OpenedDiffusion,
  openLatentSampler,
  type Prediction,
  requireSameStats,
  type SampleRequest,
  type SamplerName,
  SAMPLERS,
} from "novae/diffusion/mod.ts";
import { type DeviceName, resolveDevice } from "novae/engine/mod.ts";
import { hashFile } from "novae/io/mod.ts";
import { ConfigError } from "novae/tensor/mod.ts";
import { openAutoencoder } from "./_autoencoder_file.ts";
import { parseCount, parseNatural, parseNumber } from "./_options.ts";
import { ImageSource, prepareFiles, writeImageFolder, writePicture } from "./_sampled_images.ts";

interface SampleOptions {
  model: string;
  autoencoder: string;
  encoder?: string;
  weakModel?: string;
  statistics?: string;
  prediction?: Prediction;
  heads?: number;
  count: number;
  label?: number;
  steps: number;
  sampler: SamplerName;
  trajectory: "float32" | "float64";
  rtol: number;
  atol: number;
  diffusionNorm: number;
  lastStepSize: number;
  cfgScale: number;
  cfgMode: GuidanceMode;
  cfgInterval: [number, number];
  timestepShift: number;
  seed: number;
  batchSize: number;
  workers: number;
  columns?: number;
  device: DeviceName;
  out: string;
  npz?: string;
  folder?: string;
  imagesPerPart: number;
}

/** Adds the command to the program. */
export function registerSample(program: Command): void {
  const command = program.command("sample").description("draw images with a diffusion transformer");
  addModels(command);
  addSampling(command);
  command
    .option("--batch-size <n>", "images at a time; does not change them", parseCount, 32)
    .option("--workers <n>", "batches at the same time on the CPU", parseCount, 1)
    .option("--columns <n>", "images in a row of the PNG; one for each class unless given", parseCount)
    .option("--device <name>", "where to run", "auto")
    .option("--out <file>", "PNG of all images to write", "samples.png")
    .option("--npz <file>", "also keep the images as bytes [count, H, W, 3] with their labels")
    .option(
      "--folder <folder>",
      "write each image there instead, and samples.npz, in parts that other processes share and a killed one goes on with",
    )
    .option("--images-per-part <n>", "images that a process makes before it writes", parseCount, 256)
    .action(run);
}

function addModels(command: Command): void {
  command
    .requiredOption(
      "--model <file>",
      "diffusion transformer, from `novae train diffusion` or published (SVG's, SiT's or LightningDiT's names)",
    )
    .requiredOption("--autoencoder <file>", "the autoencoder of its latent space")
    .option("--encoder <reference>", "the frozen encoder that the autoencoder was trained with")
    .option("--weak-model <file>", "guide with this weaker transformer instead of without the class")
    .option(
      "--statistics <file>",
      "published model: means and deviations of its training latents; the autoencoder's if omitted",
    )
    .addOption(
      new Option(
        "--prediction <what>",
        "published model: what it predicts, where DiT's and SiT's names leave it open",
      )
        .choices(["velocity", "noise"]),
    )
    .option(
      "--heads <n>",
      "published model: attention heads, where its width is no published one",
      parseCount,
    );
}

function addSampling(command: Command): void {
  const names = Object.keys(SAMPLERS);
  command
    .option("--count <n>", "number of images", parseCount, 40)
    .option("--label <n>", "class of all images; the classes in turn unless given", parseNatural)
    .option("--steps <n>", "steps of the sampler", parseCount, 25)
    .addOption(new Option("--sampler <name>", "how to step").choices(names).default("euler"))
    .addOption(
      new Option("--trajectory <type>", "numbers that latents are summed in").choices(["float32", "float64"])
        .default("float32"),
    )
    .option("--rtol <e>", "dopri5: error as a share of the latents", parseNumber, 1e-3)
    .option("--atol <e>", "dopri5: error beside that", parseNumber, 1e-6)
    .option("--diffusion-norm <η>", "eulerMaruyama: how much noise is added", parseNumber, 1)
    .option("--last-step-size <dt>", "eulerMaruyama: length of the last step", parseNumber, 0.04)
    .option("--cfg-scale <w>", "guidance; 1 is none", parseNumber, 1)
    .option(
      "--cfg-mode <mode>",
      "when it acts: constant, late, early, early-<time>, linear or cfg_star-<steps>-<ratio>",
      "constant",
    )
    .option("--cfg-interval <from,to>", "times in which it acts", parseInterval, [0, 1])
    .option("--timestep-shift <s>", "shift of the times; below 1 towards noise", parseNumber, 1)
    .option("--seed <n>", "decides the noise", parseNumber, 0);
}

/** Two numbers with a comma between. */
function parseInterval(text: string): [number, number] {
  const [from, to, ...rest] = text.split(",").map((part) => part.trim() === "" ? NaN : Number(part));
  return rest.length === 0 ? [from, to ?? NaN] : [NaN, NaN];
}

const WHAT = "Cannot sample";

async function run(options: SampleOptions): Promise<void> {
  const { batchSize, workers, folder, out, npz } = options;
  if (folder !== undefined && (npz !== undefined || options.columns !== undefined)) {
    throw new ConfigError(`${WHAT}: --folder has samples.npz and no rows; leave out --npz and --columns`);
  }
  if (folder === undefined) await prepareFiles(out, ...npz === undefined ? [] : [npz]);
  const { device } = await resolveDevice(options.device);
  const opened = await openAutoencoder(WHAT, options.autoencoder, options.encoder, device);
  try {
    const { autoencoder } = opened, models = await openModels(options, autoencoder);
    const { config, latents } = models.model, request = requestOf(options, models);
    const sampler = await openLatentSampler(config, { device, batchSize, workers });
    try {
      const images = new ImageSource(sampler, autoencoder, latents, request);
      if (folder === undefined) {
        const columns = options.columns ?? (config.classes || Math.ceil(Math.sqrt(options.count)));
        await writePicture(images, { out, npz, columns });
      } else {
        const { imagesPerPart } = options;
        await writeImageFolder(images, { folder, imagesPerPart, config: await provenance(options, request) });
      }
    } finally {
      await sampler.dispose();
    }
  } finally {
    await opened.dispose();
  }
}

interface Models {
  readonly model: OpenedDiffusion;
  readonly weak?: OpenedDiffusion;
}

/** The transformer and the weaker one. @throws NovaeError if they do not fit the autoencoder or each other. */
async function openModels(options: SampleOptions, autoencoder: CompiledAutoencoder): Promise<Models> {
  const { weakModel, prediction, heads } = options, { name: space, hash, channels, grid } = autoencoder;
  const latents = await latentsOf(options, autoencoder);
  const wanted: OpenDiffusionOptions = {
    ...{ space, autoencoder: hash, shape: { channels, grid }, latents, prediction, heads },
  };
  const model = await openDiffusion(options.model, wanted);
  if (!model.published) refusePublishedOptions(options);
  else if (options.statistics === undefined) {
    console.error(`${options.model}: normalised with the statistics of ${options.autoencoder}`);
  }
  if (weakModel === undefined) return { model };
  const weak = await openDiffusion(weakModel, { ...wanted, latents: model.latents });
  requireSameStats(weakModel, model.latents, weak.latents);
  return { model, weak };
}

function refusePublishedOptions(options: SampleOptions): void {
  for (const name of ["statistics", "prediction", "heads"] as const) {
    if (options[name] === undefined) continue;
    throw new ConfigError(
      `${WHAT}: --${name} is for published models, ${options.model} says it itself; leave it out`,
    );
  }
}

async function latentsOf(
  { statistics }: SampleOptions,
  autoencoder: CompiledAutoencoder,
): Promise<LatentStats> {
  return statistics === undefined
    ? autoencoder.stats
    : await readPublishedStats(statistics, autoencoder.config);
}

/** What to sample. @throws ConfigError for what sampling cannot use. */
function requestOf(options: SampleOptions, { model, weak }: Models): SampleRequest {
  const { count, label, timestepShift: shift, seed } = options,
    { config, params } = model,
    { classes } = config;
  const fail = (what: string, got: unknown) => new ConfigError(`${WHAT}: ${what}, got ${got}`);
  if (label !== undefined && classes === 0) {
    throw fail("--label must be left out for a model without classes", label);
  }
  if (label !== undefined && label > classes) {
    throw fail(`--label must be a class in [0, ${classes}), or ${classes} for none`, label);
  }
  if (!Number.isSafeInteger(seed)) throw fail("--seed must be a whole number", seed);
  const { cfgScale, cfgMode, cfgInterval, steps, sampler, trajectory } = options;
  const { rtol, atol, diffusionNorm, lastStepSize } = options;
  const request: SampleRequest = {
    params,
    labels: Int32Array.from({ length: count }, (_, i) => label ?? (classes === 0 ? 0 : i % classes)),
    ...{ seed, steps, shift, sampler, trajectory, cfgScale, cfgMode, cfgInterval },
    ...{ rtol, atol, diffusionNorm, lastStepSize },
    ...weak && { autoguidance: { config: weak.config, params: weak.params } },
  };
  try {
    checkSampleRequest(config, request);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new ConfigError(error.message, { cause: error });
  }
  if (cfgScale !== 1 && weak === undefined && neverWithoutClass(model)) {
    throw fail("--cfg-scale must be 1 for a model that was trained with all labels", cfgScale);
  }
  return request;
}

/** What decides the images of a folder: files by their hash, and all settings. */
async function provenance(options: SampleOptions, request: SampleRequest): Promise<unknown> {
  const { params: _, labels: __, autoguidance: ___, ...sampling } = request;
  const hash = (path?: string) => path === undefined ? null : hashFile(path);
  return {
    model: await hash(options.model),
    autoencoder: await hash(options.autoencoder),
    weakModel: await hash(options.weakModel),
    ...options.statistics !== undefined && { statistics: await hash(options.statistics) },
    ...sampling,
  };
}

/** Whether the file says that no label was dropped in training, so that there is no unconditional velocity. */
function neverWithoutClass({ metadata = {} }: OpenedDiffusion): boolean {
  try {
    return JSON.parse(metadata.settings ?? "{}").labelDropout === 0;
  } catch {
    return false; // free text of another program
  }
}
