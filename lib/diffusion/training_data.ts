/**
 * Batches of a diffusion training as a pure function of the step: which latents, at which times, under which noise,
 * with which labels dropped. A training that resumes at step k therefore sees what an uninterrupted one sees.
 *
 * @module
 */
import { float32, type HostTensor, int32, Rng, scalar } from "novae/tensor/mod.ts";
import { emaDecay } from "novae/nn/mod.ts";
import type { DitConfig } from "./config.ts";
import { fillNormal } from "./noise.ts";
import { sampleTimes } from "./path.ts";
import { featuresFor, type LatentData, type StoredLatents, trainingLatents } from "./training_latents.ts";
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
  /** Decays of the further averages, if there are any. */
  moreEmaDecays?: T[];
  /** Features [B, N, D] to align tokens with, if they are. */
  featuresBND?: T;
}

/**
 * The batches of a training.
 *
 * Latents come in a new random order each epoch; all randomness is drawn from streams named by seed, purpose and
 * step (or epoch), and by how often the training has gone back: what diverged is not repeated.
 *
 * @returns a pure function from the number of updates done, and of returns, to the next batch.
 * @throws DataError if latents, labels and features do not fit each other or the configuration.
 */
export function diffusionBatches(
  config: DitConfig,
  data: LatentData | StoredLatents,
  settings: DiffusionTrainingSettings,
): (step: number, returns?: number) => Promise<DiffusionBatch> {
  const stored = trainingLatents(config, data);
  const features = settings.repa ? featuresFor(config, stored, settings.repa.features) : undefined;
  const { batchSize, labelDropout, timeDistribution, timestepShift, logitNormal } = settings;
  const drawn = batchStream(settings.seed, stored.shape[0]);
  return async (step, returns = 0) => {
    const { rng, order } = drawn(returns);
    const indices = Int32Array.from({ length: batchSize }, (_, k) => order(step * batchSize + k));
    const mirrored = drawMirrored(rng, step, batchSize, stored.flip);
    const dataBNZ = await stored.read(indices, mirrored);
    const dropped = rng.split("drop", step).uniform(batchSize);
    const labels = indices.map((i, k) => dropped[k] < labelDropout ? config.classes : stored.labels[i]);
    const times = sampleTimes(
      rng.split("time", step),
      batchSize,
      timeDistribution,
      timestepShift,
      logitNormal,
    );
    const noise = fillNormal(rng.split("noise", step), new Float32Array(dataBNZ.data.length));
    return {
      dataBNZ,
      noiseBNZ: float32(noise, dataBNZ.shape),
      tB: float32(times, [batchSize]),
      labelsB: int32(labels, [batchSize]),
      learningRate: scalar(learningRateAt(settings, step)),
      ...emaDecaysAt(settings, step),
      ...(features && { featuresBND: await features.read(indices, mirrored) }),
    };
  };
}

/** The decays of all moving averages in an update. */
function emaDecaysAt(
  { batchSize, emaHalflifeImages, moreEmaHalflivesImages, emaWarmup }: DiffusionTrainingSettings,
  step: number,
): Pick<DiffusionBatch, "emaDecay" | "moreEmaDecays"> {
  const decay = (halflife: number) => scalar(emaDecay(batchSize, halflife, step * batchSize, emaWarmup));
  const more = moreEmaHalflivesImages.map(decay);
  return { emaDecay: decay(emaHalflifeImages), ...(more.length > 0 && { moreEmaDecays: more }) };
}

/** Stream and order of a training that has gone back so often. */
function batchStream(
  seed: number,
  count: number,
): (returns: number) => { rng: Rng; order: (position: number) => number } {
  const first = new Rng(seed).split("diffusion-batch");
  let returned = -1, drawn: { rng: Rng; order: (position: number) => number };
  return (returns) => {
    if (returns === returned) return drawn;
    const rng = returns === 0 ? first : first.split("return", returns);
    returned = returns;
    return drawn = { rng, order: epochOrder(rng, count) };
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

/** Each image of a batch is seen in one of its two orientations, with the same chance. */
function drawMirrored(rng: Rng, step: number, count: number, flip: boolean): Uint8Array {
  if (!flip) return new Uint8Array(count);
  return Uint8Array.from(rng.split("mirror", step).uniform(count), (u) => u < 0.5 ? 1 : 0);
}
