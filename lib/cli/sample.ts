/**
 * `novae sample`: draws images with a diffusion transformer and the decoder of its latent space.
 *
 * @module
 */
import { type Command, Option } from "commander";
import { type Autoencoder, denormalizeLatents, loadAutoencoder } from "novae/autoencoder/mod.ts";
import { imageBytes, writeGeneratedImages } from "novae/data/mod.ts";
import {
  checkSampleRequest,
  type DiffusionModel,
  type GuidanceMode,
  type LatentSampler,
  loadDiffusion,
  openLatentSampler,
  type SampleRequest,
  type SamplerName,
  SAMPLERS,
} from "novae/diffusion/mod.ts";
import { DinoEncoder } from "novae/dino/mod.ts";
import type { DeviceName } from "novae/engine/mod.ts";
import { BarDisplay, LineDisplay, type ProgressDisplay } from "novae/experiment/mod.ts";
import { hashFile, imageGrid, writeNpz, writePng } from "novae/io/mod.ts";
import { ConfigError, type HostTensor, int32 } from "novae/tensor/mod.ts";
import { parseCount } from "./_options.ts";

interface SampleOptions {
  model: string;
  autoencoder: string;
  encoder?: string;
  weakModel?: string;
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
    .option("--columns <n>", "images in a row; one for each class unless given", parseCount)
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
    .requiredOption("--model <file>", "weights of the diffusion transformer")
    .requiredOption("--autoencoder <file>", "the autoencoder of its latent space")
    .option("--encoder <file>", "the frozen encoder that the autoencoder was trained with")
    .option("--weak-model <file>", "guide with this weaker transformer instead of without the class");
}

function addSampling(command: Command): void {
  const names = Object.keys(SAMPLERS);
  command
    .option("--count <n>", "number of images", parseCount, 40)
    .option("--label <n>", "class of all images; the classes in turn unless given", Number)
    .option("--steps <n>", "steps of the sampler", parseCount, 25)
    .addOption(new Option("--sampler <name>", "how to step").choices(names).default("euler"))
    .addOption(
      new Option("--trajectory <type>", "numbers that latents are summed in").choices(["float32", "float64"])
        .default("float32"),
    )
    .option("--rtol <e>", "dopri5: error as a share of the latents", Number, 1e-3)
    .option("--atol <e>", "dopri5: error beside that", Number, 1e-6)
    .option("--diffusion-norm <η>", "eulerMaruyama: how much noise is added", Number, 1)
    .option("--last-step-size <dt>", "eulerMaruyama: length of the last step", Number, 0.04)
    .option("--cfg-scale <w>", "guidance; 1 is none", Number, 1)
    .option(
      "--cfg-mode <mode>",
      "when it acts: constant, late, early, early-<time>, linear or cfg_star-<steps>-<ratio>",
      "constant",
    )
    .option("--cfg-interval <from,to>", "times in which it acts", parseInterval, [0, 1])
    .option("--timestep-shift <s>", "shift of the times; below 1 towards noise", Number, 1)
    .option("--seed <n>", "decides the noise", Number, 0);
}

/** Two numbers with a comma between. */
function parseInterval(text: string): [number, number] {
  const [from, to, ...rest] = text.split(",").map((part) => part.trim() === "" ? NaN : Number(part));
  return rest.length === 0 ? [from, to ?? NaN] : [NaN, NaN];
}

async function run(options: SampleOptions): Promise<void> {
  const { device, batchSize, workers } = options;
  const encoder = options.encoder === undefined
    ? undefined
    : await DinoEncoder.load(options.encoder, { device });
  const autoencoder = await loadAutoencoder(options.autoencoder, { encoder, device });
  try {
    const model = await loadDiffusion(options.model, {
      space: autoencoder.name,
      autoencoder: autoencoder.hash,
    });
    const request = await requestOf(options, model, autoencoder.hash);
    const sampler = await openLatentSampler(model.config, { device, batchSize, workers });
    try {
      const images = new Images(sampler, autoencoder, model, request);
      if (options.folder === undefined) await writeOnce(options, images, model.config.classes);
      else await writeFolder(options, options.folder, images);
    } finally {
      await sampler.dispose();
    }
  } finally {
    await autoencoder.dispose();
    await encoder?.dispose();
  }
}

/** What to sample. @throws ConfigError for what sampling cannot use. */
async function requestOf(
  options: SampleOptions,
  model: DiffusionModel,
  autoencoder: string,
): Promise<SampleRequest> {
  const { count, label, timestepShift: shift, weakModel, seed } = options, { config, params } = model;
  const fail = (what: string, got: unknown) => new ConfigError(`Cannot sample: ${what}, got ${got}`);
  const { classes } = config, fits = Number.isInteger(label) && label! >= 0 && label! <= classes;
  if (label !== undefined && !fits) {
    throw fail(`--label must be a class in [0, ${classes}), or ${classes} for none`, label);
  }
  if (!Number.isSafeInteger(seed)) throw fail("--seed must be a whole number", seed);
  const { space } = model;
  const weak = weakModel === undefined ? undefined : await loadDiffusion(weakModel, { space, autoencoder });
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

/** Whether the file says that no label was dropped in training, so that there is no unconditional velocity. */
function neverWithoutClass({ metadata = {} }: DiffusionModel): boolean {
  try {
    return JSON.parse(metadata.settings ?? "{}").labelDropout === 0;
  } catch {
    return false; // free text of another program
  }
}

/** Draws and decodes images by their numbers. */
class Images {
  readonly #sampler: LatentSampler;
  readonly #autoencoder: Autoencoder;
  readonly #model: DiffusionModel;
  readonly request: SampleRequest;

  constructor(
    sampler: LatentSampler,
    autoencoder: Autoencoder,
    model: DiffusionModel,
    request: SampleRequest,
  ) {
    this.#sampler = sampler;
    this.#autoencoder = autoencoder;
    this.#model = model;
    this.request = request;
  }

  async make(first: number, last: number): Promise<HostTensor> {
    const labels = Int32Array.from(this.request.labels).subarray(first, last);
    const z = await this.#sampler.sample({ ...this.request, labels, firstIndex: first });
    return await this.#autoencoder.decode(denormalizeLatents(z, this.#model.latents));
  }
}

async function writeOnce(options: SampleOptions, images: Images, classes: number): Promise<void> {
  const { out, npz, count, columns } = options, started = performance.now();
  const drawn = await images.make(0, count);
  const seconds = (performance.now() - started) / 1000;
  await writePng(out, imageGrid(drawn, columns ?? (classes || Math.ceil(Math.sqrt(count)))));
  if (npz !== undefined) {
    const labels = int32(Int32Array.from(images.request.labels), [count]);
    await writeNpz(npz, { arr_0: imageBytes(drawn), arr_1: { ...labels, dtype: "int32" } });
  }
  console.log(`${count} images in ${seconds.toFixed(1)} s, in ${out}`);
}

async function writeFolder(options: SampleOptions, folder: string, images: Images): Promise<void> {
  const { params: _, labels, autoguidance: __, ...sampling } = images.request;
  const hash = (path?: string) => path === undefined ? null : hashFile(path);
  const config = {
    model: await hash(options.model),
    autoencoder: await hash(options.autoencoder),
    encoder: await hash(options.encoder),
    weakModel: await hash(options.weakModel),
    ...sampling,
  };
  const shown = new ShownImages(labels.length), started = performance.now();
  try {
    const plan = { config, labels, imagesPerPart: options.imagesPerPart };
    const made = await writeGeneratedImages(folder, plan, (first, last) => images.make(first, last), {
      onProgress: ({ done }) => shown.update(done),
    });
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    shown.finish(`Sample: ${made} images drawn in ${seconds} s`);
    console.log(`${labels.length} images in ${folder}, ${made} of them drawn now in ${seconds} s`);
  } finally {
    shown.clear();
  }
}

/** The making of a folder on a display. */
class ShownImages {
  readonly #display: ProgressDisplay = Deno.stderr.isTerminal() ? new BarDisplay() : new LineDisplay();
  readonly #start = performance.now();
  readonly #total: number;
  #begun = false;

  constructor(total: number) {
    this.#total = total;
  }

  update(done: number): void {
    const view = {
      label: "Sample",
      fraction: done / this.#total,
      elapsedSec: (performance.now() - this.#start) / 1000,
      leftSec: null,
      totalLeftSec: null,
      note: `${done} of ${this.#total}`,
    };
    if (this.#begun) return this.#display.update(view);
    this.#begun = true;
    this.#display.start(view);
  }

  finish(text: string): void {
    this.#display.finish(text);
  }

  clear(): void {
    this.#display.clear();
  }
}
