/**
 * Batches of a diffusion training as a pure function of the step: which latents, at which times, under which noise,
 * with which labels dropped. A training that resumes at step k therefore sees what an uninterrupted one sees.
 *
 * @module
 */
import { DataError, float32, gatherRows, type HostTensor, int32, Rng, scalar } from "novae/tensor/mod.ts";
import { emaDecay } from "novae/nn/mod.ts";
import type { DitConfig } from "./config.ts";
import { fillNormal } from "./noise.ts";
import { sampleTimes } from "./path.ts";
import type { DiffusionTrainingSettings } from "./training_settings.ts";

/** Inputs of one update. */
export interface DiffusionBatch<T = HostTensor> {
  /** Normalised latents [B, N, Z]. */
  dataBNZ: T;
  /** Standard normal noise [B, N, Z]. */
  noiseBNZ: T;
  /** Times [B] in [0, 1]. */
  tB: T;
  /** int32 labels [B]; the null label where the label was dropped. */
  labelsB: T;
  /** Step size of this update. */
  learningRate: T;
  /** Decay of the moving average in this update. */
  emaDecay: T;
}

/** Latents to train on. */
export interface LatentData {
  /** Normalised latents [count, N, Z], float32. */
  readonly latents: HostTensor;
  /** Label of each, in [0, L). */
  readonly labels: ArrayLike<number>;
}

/**
 * The batches of a training.
 *
 * Latents come in a new random order each epoch; all randomness is drawn from streams named by seed, purpose and
 * step (or epoch).
 *
 * @returns a pure function from the number of updates done to the next batch.
 * @throws DataError if latents and labels do not fit each other or the configuration.
 */
export function diffusionBatches(
  config: DitConfig,
  data: LatentData,
  settings: DiffusionTrainingSettings,
): (step: number) => DiffusionBatch {
  checkData(config, data);
  const { batchSize, labelDropout, timeDistribution, timestepShift, emaHalflifeImages, emaWarmup } = settings;
  const rng = new Rng(settings.seed).split("diffusion-batch");
  const order = epochOrder(rng, data.latents.shape[0]);
  return (step) => {
    const indices = Int32Array.from({ length: batchSize }, (_, k) => order(step * batchSize + k));
    const dataBNZ = gatherRows(data.latents, indices);
    const dropped = rng.split("drop", step).uniform(batchSize);
    const labels = indices.map((i, k) => dropped[k] < labelDropout ? config.classes : data.labels[i]);
    const times = sampleTimes(rng.split("time", step), batchSize, timeDistribution, timestepShift);
    const noise = fillNormal(rng.split("noise", step), new Float32Array(dataBNZ.data.length));
    return {
      dataBNZ,
      noiseBNZ: float32(noise, dataBNZ.shape),
      tB: float32(times, [batchSize]),
      labelsB: int32(labels, [batchSize]),
      learningRate: scalar(learningRateAt(settings, step)),
      emaDecay: scalar(emaDecay(batchSize, emaHalflifeImages, step * batchSize, emaWarmup)),
    };
  };
}

/**
 * The learning rate of an update: linear warm-up, then constant, then linear cool-down to zero over the last share
 * of the training.
 */
export function learningRateAt(settings: DiffusionTrainingSettings, step: number): number {
  const { images, batchSize, learningRate, warmupImages, cooldown } = settings;
  const seen = (step + 1) * batchSize, total = Math.ceil(images / batchSize) * batchSize;
  const warmup = warmupImages > 0 ? Math.min(seen / warmupImages, 1) : 1;
  const rest = cooldown > 0 ? Math.min((total - seen + batchSize) / (cooldown * total), 1) : 1;
  return learningRate * Math.min(warmup, rest);
}

/** The index at a position of an endless sequence of shuffled epochs. */
function epochOrder(rng: Rng, count: number): (position: number) => number {
  let epoch = -1, order: Int32Array = Int32Array.of();
  return (position) => {
    const wanted = Math.floor(position / count);
    if (wanted !== epoch) {
      order = rng.split("epoch", wanted).permutation(count);
      epoch = wanted;
    }
    return order[position % count];
  };
}

function checkData(config: DitConfig, { latents, labels }: LatentData): void {
  const wanted = [config.grid ** 2, config.channels];
  const [count, ...rest] = latents.shape;
  if (latents.dtype !== "float32" || count === 0 || rest.join() !== wanted.join()) {
    throw new DataError(
      `Cannot train on latents: wanted float32 [1 or more, ${wanted.join(", ")}], got ${latents.dtype} [${
        latents.shape.join(", ")
      }]`,
    );
  }
  if (labels.length !== count) {
    throw new DataError(`Cannot train on latents: ${count} labels are needed, got ${labels.length}`);
  }
  for (let i = 0; i < count; i++) {
    if (Number.isInteger(labels[i]) && labels[i] >= 0 && labels[i] < config.classes) continue;
    throw new DataError(
      `Cannot train on latents: label ${i} must be an integer in [0, ${config.classes}), got ${labels[i]}`,
    );
  }
}
