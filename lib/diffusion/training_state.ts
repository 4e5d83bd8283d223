/**
 * What changes during a diffusion training: how it begins, and whether a stored one can be gone on from.
 *
 * @module
 */
import type * as tf from "@tensorflow/tfjs";
import {
  CheckpointError,
  ConfigError,
  flattenTree,
  type HostTensor,
  isHostTensor,
  Rng,
  scalar,
  unflattenLike,
} from "novae/tensor/mod.ts";
import { type AdamState, initAdam } from "novae/nn/mod.ts";
import type { DitConfig } from "./config.ts";
import { type DitParams, initDit } from "./dit.ts";
import { initProjector, type ProjectorParams } from "./losses.ts";
import type { DiffusionTrainingSettings } from "./training_settings.ts";

/** Everything that changes during a training. */
export interface DiffusionState<T = HostTensor> {
  /** Updates done, a float32 scalar. */
  step: T;
  /** Weights. */
  params: DitParams<T>;
  /** Moving average of `params`, for use. */
  ema: DitParams<T>;
  /** Running means of the optimiser. */
  adam: AdamState<DitParams<T>>;
  /** Further moving averages, if there are any. */
  moreEmas?: DitParams<T>[];
  /** What takes tokens to the features that they are aligned with, if they are. */
  projector?: ProjectorState<T>;
}

/** A projector that is trained with the transformer. */
export interface ProjectorState<T = tf.Tensor> {
  /** Its weights. */
  params: ProjectorParams<T>;
  /** Running means of its optimiser. */
  adam: AdamState<ProjectorParams<T>>;
}

/**
 * The state before the first update.
 *
 * @param settings how many averages there are, and the projector; one average and none by default.
 * @throws ConfigError if tokens are to be aligned behind a block that there is not.
 */
export function initDiffusionState(
  config: DitConfig,
  seed: number,
  settings: Partial<Pick<DiffusionTrainingSettings, "moreEmaHalflivesImages" | "repa">> = {},
): DiffusionState {
  const rng = new Rng(seed), params = initDit(rng.split("diffusion-init"), config);
  const { moreEmaHalflivesImages = [], repa } = settings;
  if (repa && repa.block >= config.depth) {
    throw new ConfigError(
      `Cannot align tokens: the block must be in [0, ${config.depth - 1}], got ${repa.block}`,
    );
  }
  const projector = repa &&
    initProjector(rng.split("diffusion-projector"), config.width, repa.features, repa.hidden);
  return {
    step: scalar(0),
    params,
    ema: params,
    adam: initAdam(params),
    ...(moreEmaHalflivesImages.length > 0 && { moreEmas: moreEmaHalflivesImages.map(() => params) }),
    ...(projector && { projector: { params: projector, adam: initAdam(projector) } }),
  };
}

/**
 * Initial weights, or the state to resume after a check of its form.
 *
 * @param steps updates of the whole training.
 * @throws CheckpointError naming the first tensor that does not fit, or a step beyond the training.
 */
export function startingState(
  config: DitConfig,
  settings: DiffusionTrainingSettings,
  steps: number,
  resume: DiffusionState | undefined,
): { state: DiffusionState; startStep: number } {
  const initial = initDiffusionState(config, settings.seed, settings);
  if (!resume) return { state: initial, startStep: 0 };
  const leaves = flattenTree<HostTensor>(resume, isHostTensor);
  const byPath = new Map(leaves.map((leaf) => [leaf.path, leaf.value]));
  for (const { path, value } of flattenTree<HostTensor>(initial, isHostTensor)) {
    const shape = byPath.get(path)?.shape;
    if (shape?.join() === value.shape.join()) continue;
    throw new CheckpointError(
      `Cannot resume diffusion training: "${path}" must be of shape [${value.shape.join(", ")}], got ${
        shape ? `[${shape.join(", ")}]` : "nothing"
      }`,
    );
  }
  const startStep = resume.step.data[0];
  if (!Number.isInteger(startStep) || startStep < 0 || startStep > steps) {
    throw new CheckpointError(
      `Cannot resume diffusion training: its step must be in [0, ${steps}], got ${startStep}`,
    );
  }
  return { state: unflattenLike<DiffusionState>(initial, isHostTensor, byPath), startStep };
}
