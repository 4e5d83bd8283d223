/**
 * The weights of LPIPS from the files that its authors and torchvision publish.
 *
 * @module
 */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { expectTensors, float32, type HostTensor, oneLine, WeightsError } from "novae/tensor/mod.ts";
import { hashBytes, type LazyTensor, openWeights, pathExists, readTensors } from "novae/io/mod.ts";
import { type ConvParams, kernelFromOIHW } from "novae/nn/mod.ts";
import type { Lpips } from "./lpips.ts";
import { type LpipsNetwork, tapWidths, TRUNK_LAYERS } from "./trunk.ts";

/** Where the two halves of LPIPS lie; they may be one file. */
export interface LpipsFiles {
  /** Weights of the trunk: torchvision's checkpoint, or one that holds a whole LPIPS. */
  readonly trunk: string;
  /** Weights of the heads: LPIPS's own file, or one that holds a whole LPIPS. */
  readonly heads: string;
}

/** The usual files of a network, and whence they come. */
const PUBLISHED: Readonly<Record<LpipsNetwork, LpipsFiles>> = {
  vgg16: { trunk: "vgg16-397923af.pth", heads: "vgg.pth" },
  alexnet: { trunk: "alexnet-owt-7be5be79.pth", heads: "alex.pth" },
};
const TRUNK_SOURCE = "https://download.pytorch.org/models/";
const HEADS_SOURCE = "https://github.com/richzhang/PerceptualSimilarity, lpips/weights/v0.1/";

type Named = ReadonlyMap<string, LazyTensor>;

/** The files of a network in a folder, under the names they are published by; whether they are there is not looked at. */
export function lpipsFiles(folder: string, network: LpipsNetwork): LpipsFiles {
  const { trunk, heads } = PUBLISHED[network];
  return { trunk: join(folder, trunk), heads: join(folder, heads) };
}

/**
 * The files of a network at a path: a folder with both under their published names, or one checkpoint that holds a
 * whole LPIPS.
 */
export async function lpipsFilesAt(path: string, network: LpipsNetwork): Promise<LpipsFiles> {
  return await isFile(path) ? { trunk: path, heads: path } : lpipsFiles(path, network);
}

/**
 * Reads LPIPS, strictly: every convolution and head must be there in a shape that fits the others, and no other.
 *
 * The trunk is named as in torchvision (`features.0.weight`; its `classifier.…` is left alone) or as in a module of
 * LPIPS (`net.slice1.0.weight`), the heads `lin0.model.1.weight`. Either may lie within a larger checkpoint, such as
 * under `state_dict.loss.perceptual_loss` in those of latent diffusion and SVG. Widths are those of the tensors, so
 * that narrow networks can be read too.
 *
 * *Source*: versions 0.1 of `lpips/weights` in richzhang/PerceptualSimilarity; taming-transformers' `vgg.pth` is the
 * same file.
 *
 * @throws WeightsError if a file is absent, telling which and where to get it, or its tensors are missing, unexpected
 * or misshapen.
 */
export async function loadLpips(network: LpipsNetwork, files: LpipsFiles): Promise<Lpips> {
  const what = `Cannot load LPIPS (${network})`;
  await expectFiles(what, network, files);
  const trunk = await readTrunk(`${what} from ${files.trunk}`, network, await tensorsOf(files.trunk));
  const widths = tapWidths(trunk, network);
  const heads = await readHeads(`${what} from ${files.heads}`, widths, await tensorsOf(files.heads));
  const leaves = [...trunk.flatMap(({ weight, bias }) => [weight, bias]), ...heads];
  const hash = hashBytes(`lpips-0.1 ${network}`, ...leaves.map(({ data }) => data));
  return { network, params: { trunk, heads }, hash };
}

async function isFile(path: string): Promise<boolean> {
  return await stat(path).then((found) => found.isFile(), () => false);
}

async function tensorsOf(path: string): Promise<Named> {
  return (await openWeights(path, { foreign: "record" })).tensors;
}

async function expectFiles(what: string, network: LpipsNetwork, files: LpipsFiles): Promise<void> {
  const { trunk, heads } = PUBLISHED[network];
  const wanted: [string, string, string][] = [
    ["trunk", files.trunk, `torchvision's ${trunk} (${TRUNK_SOURCE}${trunk})`],
    ["heads", files.heads, `LPIPS's ${heads} (${HEADS_SOURCE}${heads})`],
  ];
  for (const [part, path, source] of wanted) {
    if (!await pathExists(path)) {
      throw new WeightsError(`${what}: its ${part} must be ${source}, got no file ${path}`);
    }
  }
}

async function readTrunk(
  what: string,
  network: LpipsNetwork,
  tensors: Named,
): Promise<ConvParams<HostTensor>[]> {
  const layers = TRUNK_LAYERS[network];
  const all = moduleTensors(what, "trunk", tensors, /(^|\.)(features|net\.slice1)\.0\.weight$/);
  const own = renamed(all, /^(?:features|net\.slice\d)\.(\d+\.(?:weight|bias))$/, "features.$1");
  const kept = without(own, /^(classifier|scaling_layer|lins?\d?)\./);
  const wanted = new Map<string, readonly number[]>();
  let inChannels = 3;
  for (const { place, kernel } of layers) {
    const name = `features.${place}`, outChannels = kept.get(`${name}.weight`)?.shape[0] ?? 0;
    wanted.set(`${name}.weight`, [outChannels, inChannels, kernel, kernel]);
    wanted.set(`${name}.bias`, [outChannels]);
    inChannels = outChannels;
  }
  expectTensors(what, kept, wanted);
  const read = await readTensors(kept);
  return layers.map(({ place }) => ({
    weight: kernelFromOIHW(read.get(`features.${place}.weight`)!),
    bias: read.get(`features.${place}.bias`)!,
  }));
}

async function readHeads(what: string, widths: readonly number[], tensors: Named): Promise<HostTensor[]> {
  const all = moduleTensors(what, "heads", tensors, /(^|\.)lin0\.model\.[01]\.weight$/);
  // The dropout before a head, which has no weights, is there or not.
  const own = renamed(all, /^(lin\d)\.model\.[01]\.weight$/, "$1");
  const kept = without(own, /^(net|scaling_layer|lins)\./);
  expectTensors(what, kept, new Map(widths.map((width, k) => [`lin${k}`, [1, width, 1, 1]])));
  const read = await readTensors(kept);
  return widths.map((width, k) => float32(read.get(`lin${k}`)!.data as Float32Array, [width]));
}

/** The tensors beside the one that matches, by their names within its module. */
function moduleTensors(what: string, part: string, tensors: Named, first: RegExp): Named {
  const found = [...tensors.keys()].filter((name) => first.test(name));
  if (found.length !== 1) {
    const nests = [...new Set([...tensors.keys()].map((name) => name.split(".")[0]))].slice(0, 8).join(", ");
    throw new WeightsError(
      `${what}: one ${part} of LPIPS is needed, got ${
        found.length === 0 ? `none among ${oneLine(nests)}` : oneLine(found.join(" and "))
      }`,
    );
  }
  const prefix = found[0].replace(first, "$1");
  const inside = [...tensors].filter(([name]) => name.startsWith(prefix));
  return new Map(inside.map(([name, tensor]) => [name.slice(prefix.length), tensor]));
}

function renamed(tensors: Named, pattern: RegExp, name: string): Named {
  return new Map([...tensors].map(([old, tensor]) => [old.replace(pattern, name), tensor]));
}

function without(tensors: Named, pattern: RegExp): Named {
  return new Map([...tensors].filter(([name]) => !pattern.test(name)));
}
