/**
 * Going on with a diffusion training from its newest checkpoint.
 *
 * @module
 */
import { CheckpointError } from "novae/tensor/mod.ts";
import {
  type DiffusionState,
  type DiffusionTrainingInput,
  type DitConfig,
  initDiffusionState,
  parseTrainingSettings,
} from "novae/diffusion/mod.ts";
import type { CheckpointStore } from "novae/experiment/mod.ts";

/** A checkpoint of a training. */
export interface KeptState {
  /** Updates done. */
  readonly step: number;
  /** Everything that is needed to go on. */
  readonly state: DiffusionState;
  /** What was kept beside it. */
  readonly meta: Readonly<Record<string, unknown>>;
}

/**
 * Reads the newest checkpoint that is whole; null if none was made yet.
 *
 * @throws CheckpointError if there are checkpoints and all are damaged, or the newest belongs to another configuration.
 */
export async function newestState(
  store: CheckpointStore,
  config: DitConfig,
  training: DiffusionTrainingInput,
): Promise<KeptState | null> {
  const step = await store.latest();
  if (step === null) {
    const damaged = (await store.steps()).at(-1);
    if (damaged === undefined) return null;
    throw new CheckpointError(
      `Cannot go on from ${store.folder}: a whole checkpoint is needed, all are damaged up to step ${damaged}`,
    );
  }
  return await readState(store, config, training, step);
}

/** Reads the newest whole checkpoint of an update up to `goodUntil`; null if there is none. */
export async function stateUpTo(
  store: CheckpointStore,
  config: DitConfig,
  training: DiffusionTrainingInput,
  goodUntil: number,
): Promise<KeptState | null> {
  const step = await store.latest(goodUntil);
  return step === null ? null : await readState(store, config, training, step);
}

async function readState(
  store: CheckpointStore,
  config: DitConfig,
  training: DiffusionTrainingInput,
  step: number,
): Promise<KeptState> {
  const settings = parseTrainingSettings(training),
    like = initDiffusionState(config, settings.seed, settings);
  const { state, meta } = await store.load(step, { weights: like.ema, state: like });
  return { step, state, meta };
}
