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

/** Latents to train on, in memory. */
export interface LatentData {
  /** Normalised latents [count, N, Z], float32. */
  readonly latents: HostTensor;
  /** Label of each, in [0, L). */
  readonly labels: ArrayLike<number>;
}

/** Latents to train on that are read when a step needs them. */
export interface StoredLatents {
  /** Shape of all of them, [count, N, Z]. */
  readonly shape: readonly [number, number, number];
  /** Label of each, in [0, L). */
  readonly labels: ArrayLike<number>;
  /** Whether the latents of the mirror images are there too; each step then draws one of the two for each image. */
  readonly flip: boolean;
  /**
   * Reads normalised latents.
   *
   * @param indices which, in any order, with repetitions.
   * @param mirrored one an index: non-zero for those of the mirror image; all zero without `flip`.
   * @returns [B, N, Z], float32.
   */
  read(indices: Int32Array, mirrored: Uint8Array): Promise<HostTensor>;
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
  data: LatentData | StoredLatents,
  settings: DiffusionTrainingSettings,
): (step: number) => Promise<DiffusionBatch> {
  const stored = "latents" in data ? inMemory(data) : data;
  checkData(config, stored);
  const { batchSize, labelDropout, timeDistribution, timestepShift, emaHalflifeImages, emaWarmup } = settings;
  const rng = new Rng(settings.seed).split("diffusion-batch");
  const order = epochOrder(rng, stored.shape[0]);
  return async (step) => {
    const indices = Int32Array.from({ length: batchSize }, (_, k) => order(step * batchSize + k));
    const dataBNZ = await stored.read(indices, drawMirrored(rng, step, batchSize, stored.flip));
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

/** @throws DataError if they are not of rank 3 and float32. */
function inMemory({ latents, labels }: LatentData): StoredLatents {
  const { dtype, shape } = latents;
  if (dtype !== "float32" || shape.length !== 3) {
    throw new DataError(
      `Cannot train on latents: wanted float32 [count, N, Z], got ${dtype} [${shape.join(", ")}]`,
    );
  }
  return {
    shape: [shape[0], shape[1], shape[2]],
    labels,
    flip: false,
    read: (indices) => Promise.resolve(gatherRows(latents, indices)),
  };
}

/** Each image of a batch is seen in one of its two orientations, with the same chance. */
function drawMirrored(rng: Rng, step: number, count: number, flip: boolean): Uint8Array {
  if (!flip) return new Uint8Array(count);
  return Uint8Array.from(rng.split("mirror", step).uniform(count), (u) => u < 0.5 ? 1 : 0);
}

function checkData(config: DitConfig, { shape, labels }: StoredLatents): void {
  const wanted = [config.grid ** 2, config.channels];
  const [count, ...rest] = shape;
  if (count === 0 || rest.join() !== wanted.join()) {
    throw new DataError(
      `Cannot train on latents: wanted [1 or more, ${wanted.join(", ")}], got [${shape.join(", ")}]`,
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
