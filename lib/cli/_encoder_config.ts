import { join } from "node:path";
import { ConfigError, type HostTensor, isHostTensor, mapTree, Rng, zeros } from "novae/tensor/mod.ts";
import type { DatasetName, DatasetSplits } from "novae/data/mod.ts";
import type { DeviceName } from "novae/engine/mod.ts";
import {
  checkRecipe,
  type DinoRecipe,
  dinoRecipe,
  type DinoState,
  initDinoState,
  loadEncoder,
  parseVitConfig,
  VIT_SIZES,
  type VitConfig,
  type VitParams,
  type VitSize,
} from "novae/dino/mod.ts";
import { applyOverrides, CheckpointStore, storedConfig } from "novae/experiment/mod.ts";
import type { KnnPoint, KnnScores } from "./_encoder_features.ts";

/** What `novae train encoder` is given. */
export interface EncoderOptions {
  data: DatasetName;
  path?: string;
  train: number;
  test: number;
  pictures: number;
  recipe: string;
  size?: VitSize;
  seed: number;
  device: DeviceName;
  workers?: number;
  evaluations: number;
  checkpointEvery: number;
  run: string;
  from?: string;
  gramTeacher?: string;
  out: string;
  set: string[];
  resume: boolean;
  standardise: boolean;
  stopOnCollapse: boolean;
}

/** What decides the result; a checkpoint of another one is refused. */
export interface EncoderConfig {
  data: { name: string; train: number; test: number; pictures: number; hash: string };
  vit: VitConfig;
  recipe: DinoRecipe;
  /** The run whose state the training starts from; null for new weights. */
  from: string | null;
  /** The encoder file of the Gram anchor; null for the teacher of the start. */
  gramTeacher: string | null;
  seed: number;
}

/** What is carried from one part of an interrupted training to the next. */
export interface Progress {
  wallSec: number;
  knn: KnnPoint[];
  /** Scores of the standardised features, which are what is written. */
  standardised?: KnnScores;
  log: string[];
}

/** The configuration of a training, checked. */
export function resolveEncoderConfig(options: EncoderOptions, splits: DatasetSplits): EncoderConfig {
  const { train, test } = splits, { from = null, gramTeacher = null, seed } = options;
  const { recipe, size } = dinoRecipe(options.recipe);
  const shape = VIT_SIZES[options.size ?? size];
  // Learned positions have the grid of what they are learned on.
  const imageSize = shape.learnedPositions ? recipe.globalSize : train.imageSize;
  const base = { vit: { ...shape, imageSize }, recipe: structuredClone(recipe) };
  if (!Number.isSafeInteger(seed)) throw refusal(`seed must be a whole number, got ${seed}`);
  const changed = applyOverrides(base, options.set, "encoder configuration");
  const vit = parseVitConfig(changed.vit);
  checkRecipe(changed.recipe, vit, train.size);
  if (changed.recipe.gram === null && gramTeacher !== null) {
    throw refusal(`--gram-teacher needs a recipe with Gram anchoring, got ${options.recipe}`);
  }
  if (changed.recipe.gram !== null && from === null && gramTeacher === null) {
    throw refusal(
      `recipe ${options.recipe} needs --from with a run to go on from, or --gram-teacher, got neither`,
    );
  }
  return {
    data: {
      name: options.data,
      train: train.size,
      test: test.size,
      pictures: options.pictures,
      hash: train.hash,
    },
    vit,
    recipe: changed.recipe,
    from,
    gramTeacher,
    seed,
  };
}

/** Where a training starts: at its newest checkpoint, at another run's end, or with new weights. */
export async function startingPoint(
  store: CheckpointStore,
  config: EncoderConfig,
  options: EncoderOptions,
): Promise<{ state?: DinoState<HostTensor>; progress: Progress; resumed: number | null }> {
  const latest = await store.latest();
  if (latest === null) {
    return { state: await startFrom(config), progress: { wallSec: 0, knn: [], log: [] }, resumed: null };
  }
  if (!options.resume) {
    throw new ConfigError(
      `Cannot start a training in ${options.run}: it has checkpoints up to step ${latest}; give --resume or another --run`,
    );
  }
  const like = initDinoState(new Rng(0), config.vit, config.recipe);
  const { state, meta } = await store.load(latest, { weights: like.teacher.vit, state: like });
  return { state, progress: meta as unknown as Progress, resumed: latest };
}

/** The state that `--from` and `--gram-teacher` ask for; undefined for new weights. */
async function startFrom({ vit, recipe, from, gramTeacher, seed }: EncoderConfig) {
  if (from === null && gramTeacher === null) return undefined;
  const state = initDinoState(new Rng(seed).split("weights"), vit, recipe);
  if (from !== null) await takeOver(state, from, vit, recipe);
  if (gramTeacher !== null) state.gram = await gramAnchor(gramTeacher, vit);
  return state;
}

/** Takes networks and centers from another run's newest checkpoint; steps and the optimiser's memory start anew. */
async function takeOver(state: DinoState<HostTensor>, from: string, vit: VitConfig, recipe: DinoRecipe) {
  const folder = join(from, "checkpoints"), stored = await storedConfig(folder);
  if (stored === null) throw refusal(`--from must be a run folder with checkpoints, got ${from}`);
  const before = stored as EncoderConfig;
  for (
    const [key, ours, theirs] of [
      ["vit", vit, before.vit],
      ["recipe.head", recipe.head, before.recipe.head],
      ["recipe.patchHead", recipe.patchHead, before.recipe.patchHead],
      ["recipe.localNorm", recipe.localNorm, before.recipe.localNorm],
    ] as const
  ) {
    if (sorted(ours) !== sorted(theirs)) throw refusal(`${key} must be that of the run ${from}, got another`);
  }
  const store = new CheckpointStore(folder, { config: stored }), step = (await store.latest())!;
  const like = initDinoState(new Rng(0), before.vit, before.recipe);
  const { state: reached } = await store.load(step, { weights: like.teacher.vit, state: like });
  const { student, teacher, centerP, patchCenterP } = reached;
  Object.assign(state, { student, teacher, centerP, patchCenterP });
  const anew = <T>(tree: T) => mapTree<T>(tree, isHostTensor, (leaf) => zeros((leaf as HostTensor).shape));
  state.adam = { first: anew(student), second: anew(student) };
  if (state.gram) state.gram = structuredClone(teacher.vit);
}

async function gramAnchor(path: string, vit: VitConfig): Promise<VitParams<HostTensor>> {
  const { config, params } = await loadEncoder(path);
  if (sorted({ ...config, imageSize: vit.imageSize }) !== sorted(vit)) {
    throw refusal(`--gram-teacher must be an encoder of the same settings, got ${path}`);
  }
  return params;
}

/** A value as text in which the order of keys does not count. */
function sorted(value: unknown): string {
  return JSON.stringify(
    value,
    (_, part) =>
      typeof part === "object" && part !== null && !Array.isArray(part)
        ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => a < b ? -1 : 1))
        : part,
  );
}

function refusal(wanted: string): ConfigError {
  return new ConfigError(`Cannot train encoder: ${wanted}`);
}
