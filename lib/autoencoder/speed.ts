/**
 * How fast a training is on this machine, to turn a time into a number of images.
 *
 * @module
 */
import { float32, type HostTensor, Rng, scalar } from "novae/tensor/mod.ts";
import { type DeviceName, disposeTree } from "novae/engine/mod.ts";
import { type AutoencoderConfig, latentChannels, latentGrid } from "./config.ts";
import type { PerceptualLoss } from "./losses.ts";
import { drawDropout, hasDropout } from "./svg/mod.ts";
import { type AutoencoderSchedule, resolveSchedule } from "./schedule.ts";
import { type AutoencoderBatch, initAutoencoderState } from "./train_step.ts";
import { TrainingUpdate } from "./training_update.ts";

/** What the speed depends on. */
export interface SpeedOptions {
  /** Settings of the autoencoder. */
  readonly config: AutoencoderConfig;
  /** Its batch size and losses count. */
  readonly schedule: AutoencoderSchedule;
  /** The perceptual loss, if there is one. */
  readonly perceptual?: PerceptualLoss;
  /** Where it trains; default `auto`. */
  readonly device?: DeviceName;
  /** Threads on the CPU; default: the number of cores. */
  readonly threads?: number;
  /** How long to measure, after compiling. Default 5. */
  readonly seconds?: number;
}

/**
 * Training images a second, measured with updates of random images that are thrown away.
 *
 * The median over the updates, so that a short disturbance does not count; compilation is not included. With a
 * discriminator it is the speed once that has started, which is the lower one.
 */
export async function measureTrainingSpeed(options: SpeedOptions): Promise<number> {
  const { config, perceptual, device = "auto", threads, seconds = 5 } = options;
  const schedule = resolveSchedule(options.schedule), { batchSize, adversarial } = schedule;
  const name = "speed", step = Number.MAX_SAFE_INTEGER; // long after the start
  const update = new TrainingUpdate({ ...schedule, config, perceptual, device, threads, name });
  try {
    const batch = randomBatch(config, batchSize);
    if (adversarial) batch.discriminatorRate = scalar(1e-4);
    let [state, metrics] = await update.run(
      initAutoencoderState(new Rng(0), config, schedule),
      batch,
      step,
    );
    const times: number[] = [], end = performance.now() + 1000 * seconds;
    do {
      const start = performance.now();
      disposeTree(metrics);
      [state, metrics] = await update.run(state, batch, step);
      await metrics.loss.read(); // a GPU is waited for
      times.push(performance.now() - start);
    } while (performance.now() < end || times.length < 3);
    disposeTree([state, metrics]);
    return 1000 * batchSize / times.sort((a, b) => a - b)[times.length >> 1];
  } finally {
    await update.dispose();
  }
}

function randomBatch(config: AutoencoderConfig, batchSize: number): AutoencoderBatch<HostTensor> {
  const { imageSize, featureChannels } = config, tokens = latentGrid(config) ** 2, rng = new Rng(0);
  const normal = (channels: number) =>
    float32(rng.normal(batchSize * tokens * channels), [batchSize, tokens, channels]);
  const pixels = rng.uniform(batchSize * imageSize ** 2 * 3);
  const batch: AutoencoderBatch<HostTensor> = {
    imageUnitBHWC: float32(pixels, [batchSize, imageSize, imageSize, 3]),
    learningRate: scalar(1e-4),
    emaDecay: scalar(0.99),
  };
  if (config.vae || config.noiseTau) batch.noiseBNZ = normal(latentChannels(config));
  if (config.noiseTau) batch.noiseStdB = float32(new Float32Array(batchSize), [batchSize]);
  if (featureChannels > 0) batch.featuresBND = normal(featureChannels);
  if (config.residual) batch.maskB = float32(new Float32Array(batchSize), [batchSize]);
  if (config.residual && hasDropout(config.residual)) {
    batch.dropout = drawDropout(rng, config.residual, batchSize, tokens);
  }
  return batch;
}
