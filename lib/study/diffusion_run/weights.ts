/**
 * The weights that a training in a run folder starts from, and those that it ends with.
 *
 * @module
 */
import {
  type DiffusionState,
  initDiffusionState,
  saveDiffusion,
  type TrainedDiffusion,
} from "novae/diffusion/mod.ts";
import type { RunFolder } from "novae/experiment/mod.ts";
import { hashFile } from "novae/io/mod.ts";
import type { DiffusionRunConfig } from "./config.ts";
import type { TrainingLatents } from "./latents.ts";
import type { StartingWeights } from "./options.ts";

/** The file of the final weights in a run folder. */
export const WEIGHTS_FILE = "dit.safetensors";

/** The file of a further average of the weights. */
export function averageFile(halflifeImages: number): string {
  return `dit-halflife-${halflifeImages}.safetensors`;
}

/** The state before the first update, where weights are given. */
export function startFrom(
  { model, training }: DiffusionRunConfig,
  init: StartingWeights | undefined,
): DiffusionState | undefined {
  if (!init) return undefined;
  const initial = initDiffusionState(model, training.seed, training), { params } = init;
  return {
    ...initial,
    params,
    ema: params,
    ...(initial.moreEmas && { moreEmas: initial.moreEmas.map(() => params) }),
  };
}

/** Writes the averaged weights, and further averages beside them; the file of the former. */
export async function saveWeights(
  run: RunFolder,
  { model, training, init }: DiffusionRunConfig,
  { record, stats }: TrainingLatents,
  { ema, state }: TrainedDiffusion,
): Promise<{ file: string; sha256: string }> {
  const about = {
    config: model,
    space: record.space,
    latents: stats,
    metadata: {
      settings: JSON.stringify(training),
      dataset: record.data.hash,
      ...(record.autoencoder !== null && { autoencoder: record.autoencoder }),
      ...(init !== null && { init }),
    },
  };
  const path = run.file(WEIGHTS_FILE);
  await saveDiffusion(path, { ...about, params: ema });
  for (const [i, params] of (state.moreEmas ?? []).entries()) {
    await saveDiffusion(run.file(averageFile(training.moreEmaHalflivesImages[i])), { ...about, params });
  }
  return { file: WEIGHTS_FILE, sha256: await hashFile(path) };
}
