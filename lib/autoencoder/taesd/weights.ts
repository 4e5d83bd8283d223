/**
 * Weights of the TAESD family in PyTorch's files, which number the layers of two sequences.
 *
 * @module
 */
import { expectTensors, float32, type HostTensor, WeightsError } from "novae/tensor/mod.ts";
import { type LazyTensor, openWeights, readTensors } from "novae/io/mod.ts";
import type { ConvParams } from "novae/nn/mod.ts";
import { convFromTorch, torchConvShape } from "../torch_layout.ts";
import type { TaesdBlockParams, TaesdNetworkParams, TaesdPoolParams } from "./networks.ts";

/** Which of the two networks a file holds. */
export type TaesdPart = "encoder" | "decoder";

/** What the shapes of a file tell of its network. */
interface TaesdForm {
  readonly part: TaesdPart;
  /** Z. */
  readonly latentChannels: number;
  /** Channels of all maps; 64 in the published ones. */
  readonly width: number;
  /** Whether the blocks on the latent grid have pools, as TAEF2's do. */
  readonly pooled: boolean;
}

/** Blocks of each stage. */
const BLOCKS: Readonly<Record<TaesdPart, readonly number[]>> = {
  encoder: [1, 3, 3, 3],
  decoder: [3, 3, 3, 1],
};

/** A network of the family, read from its file. */
export interface TaesdFile {
  /** Weights. */
  readonly params: TaesdNetworkParams<HostTensor>;
  /** Z. */
  readonly latentChannels: number;
}

/**
 * Reads the encoder or the decoder of a tiny autoencoder, strictly.
 *
 * @param path a PyTorch checkpoint or a safetensors file with the layers' numbers as names.
 * @throws WeightsError if the file is missing, damaged or holds other layers, which are listed.
 */
export async function readTaesd(path: string, part: TaesdPart): Promise<TaesdFile> {
  const what = `Cannot load TAESD ${part} ${path}`, { tensors } = await openWeights(path);
  const form = formOf(what, part, tensors);
  const shapes = new Map<string, readonly number[]>();
  networkTree(form, (name, shape) => shapes.set(name, torchConvShape(shape)));
  expectTensors(what, tensors, shapes);
  const read = await readTensors(tensors);
  const params = networkTree(form, (name, shape) => {
    return float32(convFromTorch(read.get(name)!.data as Float32Array, shape), shape);
  });
  return { params, latentChannels: form.latentChannels };
}

/** The first convolution tells the width, and of the decoder the latent channels; the last that of the encoder. */
function formOf(what: string, part: TaesdPart, tensors: ReadonlyMap<string, LazyTensor>): TaesdForm {
  const [first, last] = part === "encoder" ? ["0.weight", "14.weight"] : ["1.weight", "19.weight"];
  const kernel = (name: string) => {
    const shape = tensors.get(name)?.shape;
    if (shape?.length === 4) return shape;
    const got = shape ? `[${shape}]` : "none";
    throw new WeightsError(`${what}: ${name} must be a convolution's kernel, of rank 4, got ${got}`);
  };
  const [width, inChannels] = kernel(first), [outChannels] = kernel(last);
  const [image, latentChannels] = part === "encoder" ? [inChannels, outChannels] : [outChannels, inChannels];
  if (image !== 3) {
    const name = part === "encoder" ? first : last;
    throw new WeightsError(`${what}: ${name} must be for images of 3 channels, got ${image}`);
  }
  const pooled = [...tensors.keys()].some((name) => name.includes(".pool."));
  return { part, latentChannels, width, pooled };
}

/**
 * The tree of a network's weights. Layers without weights have numbers too: the decoder's clamp and first ReLU, and
 * each doubling of the resolution.
 *
 * @param weight makes a weight of its name in the file and of our shape.
 */
function networkTree<T>(
  { part, latentChannels, width, pooled }: TaesdForm,
  weight: (name: string, shape: readonly number[]) => T,
): TaesdNetworkParams<T> {
  const decodes = part === "decoder", [from, to] = decodes ? [latentChannels, 3] : [3, latentChannels];
  const kernel = (name: string, side: number, inChannels: number, outChannels: number) =>
    weight(`${name}.weight`, [side, side, inChannels, outChannels]);
  const conv = (name: string, inChannels: number, outChannels: number): ConvParams<T> => ({
    weight: kernel(name, 3, inChannels, outChannels),
    bias: weight(`${name}.bias`, [outChannels]),
  });
  const pool = (name: string): TaesdPoolParams<T> => ({
    expand: kernel(`${name}.0`, 1, width, 4 * width),
    norm: { weight: weight(`${name}.1.weight`, [4 * width]), bias: weight(`${name}.1.bias`, [4 * width]) },
    reduce: kernel(`${name}.3`, 1, 4 * width, width),
  });
  const block = (name: string, hasPool: boolean): TaesdBlockParams<T> => ({
    conv1: conv(`${name}.conv.0`, width, width),
    conv2: conv(`${name}.conv.2`, width, width),
    conv3: conv(`${name}.conv.4`, width, width),
    ...(hasPool && { pool: pool(`${name}.pool`) }),
  });
  let layer = decodes ? 1 : 0;
  const convIn = conv(`${layer++}`, from, width);
  if (decodes) layer++;
  const latentStage = decodes ? 0 : BLOCKS[part].length - 1;
  const stages = BLOCKS[part].map((count, stage) => {
    if (decodes && stage > 0) layer++;
    return {
      ...(stage > 0 && { resample: kernel(`${layer++}`, 3, width, width) }),
      blocks: Array.from({ length: count }, () => block(`${layer++}`, pooled && stage === latentStage)),
    };
  });
  return { convIn, stages, convOut: conv(`${layer}`, width, to) };
}
