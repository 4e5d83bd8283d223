/**
 * `novae sample`: draws images with a diffusion transformer and the decoder of its latent space.
 *
 * @module
 */
import { type Command, Option } from "commander";
import { denormalizeLatents, loadAutoencoder } from "novae/autoencoder/mod.ts";
import { loadDiffusion, sampleLatents, type SamplerName, SAMPLERS } from "novae/diffusion/mod.ts";
import { DinoEncoder } from "novae/dino/mod.ts";
import type { DeviceName } from "novae/engine/mod.ts";
import { imageGrid, writeNpz, writePng } from "novae/io/mod.ts";
import { ConfigError, type HostTensor } from "novae/tensor/mod.ts";
import { parseCount } from "./_options.ts";

interface SampleOptions {
  model: string;
  autoencoder: string;
  encoder?: string;
  count: number;
  label?: number;
  steps: number;
  sampler: SamplerName;
  cfgScale: number;
  timestepShift: number;
  seed: number;
  batchSize: number;
  workers: number;
  columns?: number;
  device: string;
  out: string;
  npz?: string;
}

/** Adds the command to the program. */
export function registerSample(program: Command): void {
  program.command("sample")
    .description("draw images with a diffusion transformer")
    .requiredOption("--model <file>", "weights of the diffusion transformer")
    .requiredOption("--autoencoder <file>", "the autoencoder of its latent space")
    .option("--encoder <file>", "the frozen encoder that the autoencoder was trained with")
    .option("--count <n>", "number of images", parseCount, 40)
    .option("--label <n>", "class of all images; the classes in turn unless given", Number)
    .option("--steps <n>", "steps of the sampler", parseCount, 25)
    .addOption(new Option("--sampler <name>", "how to step").choices(Object.keys(SAMPLERS)).default("euler"))
    .option("--cfg-scale <w>", "guidance; 1 is none", Number, 1)
    .option("--timestep-shift <s>", "shift of the times; below 1 towards noise", Number, 1)
    .option("--seed <n>", "decides the noise", Number, 0)
    .option("--batch-size <n>", "images at a time; does not change them", parseCount, 32)
    .option("--workers <n>", "batches at the same time on the CPU", parseCount, 1)
    .option("--columns <n>", "images in a row; one for each class unless given", parseCount)
    .option("--device <name>", "where to run", "auto")
    .option("--out <file>", "PNG to write", "samples.png")
    .option("--npz <file>", "also keep the images as bytes [count, H, W, 3] with their labels")
    .action(run);
}

async function run(options: SampleOptions): Promise<void> {
  const device = options.device as DeviceName;
  const encoder = options.encoder === undefined
    ? undefined
    : await DinoEncoder.load(options.encoder, { device });
  const autoencoder = await loadAutoencoder(options.autoencoder, { encoder, device });
  try {
    const { config, params, latents } = await loadDiffusion(options.model, {
      space: autoencoder.name,
      autoencoder: autoencoder.hash,
    });
    const { cfgScale, steps, sampler, seed, batchSize, workers, label, count } = options;
    checkNumbers(options, config.classes);
    const labels = Int32Array.from({ length: count }, (_, i) => label ?? i % config.classes);
    const started = performance.now();
    const shared = { config, params, labels, seed, steps, sampler, cfgScale, batchSize, workers, device };
    const z = await sampleLatents({ ...shared, shift: options.timestepShift });
    const images = await autoencoder.decode(denormalizeLatents(z, latents));
    const seconds = (performance.now() - started) / 1000;
    await writePng(options.out, imageGrid(images, options.columns ?? config.classes));
    if (options.npz !== undefined) await writeNpz(options.npz, npzArrays(images, labels));
    console.log(`${count} images in ${seconds.toFixed(1)} s, in ${options.out}`);
  } finally {
    await autoencoder.dispose();
    await encoder?.dispose();
  }
}

/** @throws ConfigError for a number that sampling cannot use. */
function checkNumbers({ label, cfgScale, timestepShift, seed }: SampleOptions, classes: number): void {
  const fail = (what: string, got: number) => new ConfigError(`Cannot sample: ${what}, got ${got}`);
  if (label !== undefined && !(Number.isInteger(label) && label >= 0 && label <= classes)) {
    throw fail(`--label must be a class in [0, ${classes}), or ${classes} for none`, label);
  }
  if (!Number.isFinite(cfgScale)) throw fail("--cfg-scale must be a number", cfgScale);
  if (!(timestepShift > 0)) throw fail("--timestep-shift must be above 0", timestepShift);
  if (!Number.isSafeInteger(seed)) throw fail("--seed must be a whole number", seed);
}

/** Arrays named as evaluators of images expect them. */
function npzArrays(images: HostTensor, labels: Int32Array): Parameters<typeof writeNpz>[1] {
  const bytes = new Uint8ClampedArray(images.data.length); // rounds and clamps
  for (let i = 0; i < bytes.length; i++) bytes[i] = images.data[i] * 255;
  return {
    arr_0: { dtype: "uint8", shape: images.shape, data: new Uint8Array(bytes.buffer) },
    arr_1: { dtype: "int32", shape: [labels.length], data: labels },
  };
}
