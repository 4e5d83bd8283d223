/**
 * Discriminators out of checkpoints of latent diffusion, taming-transformers and SVG.
 *
 * @module
 */
import { expectTensors, type HostTensor, WeightsError } from "novae/tensor/mod.ts";
import { type LazyTensor, openWeights, readTensors } from "novae/io/mod.ts";
import { kernelFromOIHW } from "novae/nn/mod.ts";
import type { ChannelStatistics } from "./batch_norm.ts";
import type { Discriminator, DiscriminatorBlockParams, DiscriminatorConfig } from "./discriminator.ts";

/** A discriminator from a file. */
export interface LoadedDiscriminator extends Discriminator<HostTensor> {
  /** Its form, as its tensors tell it. */
  readonly config: DiscriminatorConfig;
}

/**
 * Reads a discriminator, strictly: `main.0.weight` and so on, with running statistics, and nothing besides under the
 * prefix. Its form is told by the tensors.
 *
 * *Source*: names and order of `NLayerDiscriminator` in CompVis/taming-transformers, with batch normalisation.
 *
 * @param prefix where it lies in the file, e.g. `state_dict.loss.discriminator`; the top level if omitted.
 * @throws WeightsError if the file is missing or damaged, or tensors are missing, unexpected or misshapen.
 */
export async function loadDiscriminator(path: string, prefix = ""): Promise<LoadedDiscriminator> {
  const what = `Cannot load discriminator ${path}`;
  const { tensors } = await openWeights(path, { prefix, foreign: "record" });
  // Counts of batches, which nothing here depends on.
  const own = new Map([...tensors].filter(([name]) => !name.endsWith(".num_batches_tracked")));
  const config = inferredConfig(what, own);
  expectTensors(what, own, wantedTensors(config));
  const read = await readTensors(own);
  const tensor = (name: string) => read.get(`main.${name}`)!;
  const conv = (place: number) => ({
    weight: kernelFromOIHW(tensor(`${place}.weight`)),
    bias: tensor(`${place}.bias`),
  });
  const blocks: DiscriminatorBlockParams<HostTensor>[] = [], statistics: ChannelStatistics<HostTensor>[] = [];
  for (let i = 0; i < config.layers; i++) {
    const { kernel, norm } = blockPlaces(i);
    blocks.push({
      kernel: kernelFromOIHW(tensor(`${kernel}.weight`)),
      norm: { weight: tensor(`${norm}.weight`), bias: tensor(`${norm}.bias`) },
    });
    statistics.push({ mean: tensor(`${norm}.running_mean`), variance: tensor(`${norm}.running_var`) });
  }
  const params = { first: conv(0), blocks, last: conv(lastPlace(config.layers)) };
  return { config, params, statistics };
}

/** Places of a block's convolution and normalisation; a rectifier lies behind each block and the first convolution. */
function blockPlaces(block: number): { kernel: number; norm: number } {
  return { kernel: 2 + 3 * block, norm: 3 + 3 * block };
}

function lastPlace(layers: number): number {
  return 2 + 3 * layers;
}

function inferredConfig(what: string, tensors: ReadonlyMap<string, LazyTensor>): DiscriminatorConfig {
  const places = [...tensors.keys()].map((name) => Number(/^main\.(\d+)\./.exec(name)?.[1] ?? -1));
  const layers = (Math.max(...places) - 2) / 3, channels = tensors.get("main.0.bias")?.shape[0];
  if (channels === undefined || !Number.isInteger(layers) || layers < 1) {
    throw new WeightsError(
      `${what}: it must hold a PatchGAN discriminator (main.0.weight, main.0.bias, main.2.weight, …), ` +
        `got ${[...tensors.keys()].slice(0, 4).join(", ")}`,
    );
  }
  return { channels, layers };
}

function wantedTensors({ channels, layers }: DiscriminatorConfig): Map<string, readonly number[]> {
  const wanted = new Map<string, readonly number[]>([
    ["main.0.weight", [channels, 3, 4, 4]],
    ["main.0.bias", [channels]],
  ]);
  let before = channels;
  for (let i = 0; i < layers; i++) {
    const width = channels * Math.min(2 ** (i + 1), 8), { kernel, norm } = blockPlaces(i);
    wanted.set(`main.${kernel}.weight`, [width, before, 4, 4]);
    for (const part of ["weight", "bias", "running_mean", "running_var"]) {
      wanted.set(`main.${norm}.${part}`, [width]);
    }
    before = width;
  }
  const last = `main.${lastPlace(layers)}`;
  return wanted.set(`${last}.weight`, [1, before, 4, 4]).set(`${last}.bias`, [1]);
}
