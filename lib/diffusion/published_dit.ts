/**
 * Published diffusion transformers: the checkpoints of SVG, DiT, SiT, LightningDiT and RAE.
 *
 * @module
 */
import { expectTensors, float32, type HostTensor, mapTree, WeightsError } from "novae/tensor/mod.ts";
import { type CheckpointOptions, type LazyTensor, openWeights } from "novae/io/mod.ts";
import type { DitConfig } from "./config.ts";
import { type DitParams, ditShapes, isShape } from "./dit_params.ts";
import { checkTables } from "./published_tables.ts";
import { type DitNaming, gather, planWeights } from "./published_names.ts";
import { inferDit, namingOf } from "./inferred_dit.ts";

/** A published diffusion transformer. */
export interface PublishedDit {
  /** Shape of the transformer, read off the names and shapes of the weights. */
  readonly config: DitConfig;
  /** Weights. */
  readonly params: DitParams<HostTensor>;
  /** Whose names the file uses. */
  readonly naming: DitNaming;
  /** Names in the file of what is no weight of ours: fixed tables, other copies, optimiser states, projectors. */
  readonly ignored: readonly string[];
}

/** What of a checkpoint is wanted, and what names and shapes do not tell. */
export interface PublishedDitOptions extends CheckpointOptions {
  /** Heads of the blocks; told by query-key normalisation, else those of the published model of this width. */
  readonly heads?: number;
  /** Heads of a wide head's blocks; told alike. */
  readonly headHeads?: number;
  /** Which weights of a training's checkpoint: the moving average or those trained. Default `ema`, if there is one. */
  readonly network?: "ema" | "model";
}

/**
 * Reads a published diffusion transformer, strictly: every weight must be there in its shape, and no other.
 *
 * Fixed tables in the file (positions, rotary angles) must be those that are computed here. Weights do not tell what
 * they predict: those of SVG, SiT and LightningDiT predict the velocity at t in [0, 1] as everything here does; those
 * of RAE do so with t = 0 for data and t = 1 for noise; those of DiT predict noise at a step in [0, 999]. Of the last
 * two the samplers here make no images, and `openDiffusion` refuses them.
 *
 * *Source*: the files of shiml20/SVG (`{ema: …}` or plain), facebookresearch/DiT, willisma/SiT, hustvl/LightningDiT
 * and bytetriper/RAE. *Differs*: SVG's own `find_model` returns nothing for a checkpoint of averages; its scripts load
 * with `strict=False`.
 *
 * @param path a checkpoint of PyTorch (`.pt`, `.pth`), of which nothing runs, or a safetensors file.
 * @throws WeightsError that says what is missing, unexpected or misshapen, or why the file cannot be read.
 */
export async function readPublishedDit(
  path: string,
  options: PublishedDitOptions = {},
): Promise<PublishedDit> {
  const what = `Cannot load diffusion transformer ${path}`;
  const weights = await openWeights(path, { foreign: options.foreign });
  const { tensors, others } = chosenNetwork(what, weights.tensors, options.network);
  const naming = namingOf(what, (name) => tensors.has(name));
  const projectors = [...tensors.keys()].filter((name) => /^projectors\./.test(name));
  for (const name of projectors) tensors.delete(name);
  const config = inferDit(what, naming, tensors, options);
  const tables = await checkTables(what, tensors, naming, config);
  for (const name of tables) tensors.delete(name);
  const params = await readParams(what, tensors, naming, config);
  return { config, params, naming, ignored: [...others, ...projectors, ...tables] };
}

/** Containers around the weights of one network. */
const WRAPPERS = /^(?:(?:module|_orig_mod|state_dict)\.)+/;

/** The tensors of one network by bare name, and the names of all others. */
function chosenNetwork(
  what: string,
  tensors: ReadonlyMap<string, LazyTensor>,
  network?: "ema" | "model",
): { tensors: Map<string, LazyTensor>; others: string[] } {
  const names = [...tensors.keys()],
    has = (nest: string) => names.some((name) => name.startsWith(`${nest}.`));
  const nest = network ?? (has("ema") ? "ema" : has("model") ? "model" : undefined);
  if (nest !== undefined && !has(nest)) throw new WeightsError(`${what}: it must have "${nest}", got none`);
  const chosen = new Map<string, LazyTensor>(), others: string[] = [];
  for (const [name, tensor] of tensors) {
    if (nest !== undefined && !name.startsWith(`${nest}.`)) {
      others.push(name);
      continue;
    }
    const bare = (nest === undefined ? name : name.slice(nest.length + 1)).replace(WRAPPERS, "");
    if (chosen.has(bare)) throw new WeightsError(`${what}: ${bare} must be there once, got it twice`);
    chosen.set(bare, tensor);
  }
  return { tensors: chosen, others };
}

async function readParams(
  what: string,
  tensors: ReadonlyMap<string, LazyTensor>,
  naming: DitNaming,
  config: DitConfig,
): Promise<DitParams<HostTensor>> {
  const plan = planWeights(what, naming, config);
  const wanted = plan.flatMap(({ pieces }) =>
    pieces.map(({ name, shape }): [string, readonly number[]] => [name, shape])
  );
  expectTensors(what, tensors, new Map(wanted));
  const read = new Map<string, HostTensor>();
  for (const weight of plan) {
    const data = await gather(weight, async (name) => (await tensors.get(name)!.read()).data as Float32Array);
    read.set(weight.path, float32(data, weight.shape));
  }
  return mapTree(ditShapes(config), isShape, (_, path) => read.get(path)!);
}
