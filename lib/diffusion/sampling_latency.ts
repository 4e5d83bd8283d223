/**
 * How long sampling takes on this machine.
 *
 * @module
 */
import os from "node:os";
import { type DeviceName, resolveDevice } from "novae/engine/mod.ts";
import type { DitConfig } from "./config.ts";
import type { LatentSampler, SampleRequest } from "./sample_request.ts";
import { openLatentSampler } from "./latent_sampler.ts";
import { SAMPLERS } from "./solvers.ts";

/** What is timed. */
export interface SamplingLatencyOptions
  extends Pick<SampleRequest, "params" | "sampler" | "shift" | "trajectory"> {
  /** Shape of the transformer. */
  readonly config: DitConfig;
  /** Numbers of images that are sampled at once. Default [1, 32]. */
  readonly batchSizes?: readonly number[];
  /** Steps of the sampler. Default 25. */
  readonly steps?: number;
  /** Weight of the guided samples. Default 4; an unconditional model is timed without guidance. */
  readonly cfgScale?: number;
  /** Samplings that are timed. Default 5. */
  readonly repeats?: number;
  /** Samplings before them, which compile and fill caches. Default 1. */
  readonly warmUps?: number;
  /** Where. Default `auto`. */
  readonly device?: DeviceName;
  /** Threads on the CPU; those of the engine unless given. */
  readonly threads?: number;
  /** Takes the place of the sampler that is opened otherwise, and is left open. */
  readonly latentSampler?: LatentSampler;
  /** Milliseconds from any point in time. Default `performance.now`. */
  readonly clock?: () => number;
}

/** Times of one way to sample; all are medians over the repeats. */
export interface SamplingTimes {
  /** Images at once. */
  readonly batchSize: number;
  /** Whether with guidance, which evaluates the transformer for twice as many images. */
  readonly guided: boolean;
  /** Milliseconds of a whole sampling, divided by its images. */
  readonly msPerImage: number;
  /** Milliseconds of a whole sampling, divided by its steps. */
  readonly msPerStep: number;
  /** Milliseconds of the shortest and the longest sampling. */
  readonly rangeMs: readonly [shortest: number, longest: number];
}

/** Times and what they belong to. */
export interface SamplingLatency {
  /** Name of the device. */
  readonly device: string;
  /** Processor model. */
  readonly cpu: string;
  /** Logical processors that may be used. */
  readonly cores: number;
  /** Steps of the sampler. */
  readonly steps: number;
  /** Evaluations of the velocity in a step. */
  readonly evaluations: number;
  /** Samplings that were timed. */
  readonly repeats: number;
  /** Each batch size without guidance and with it. */
  readonly times: readonly SamplingTimes[];
}

/**
 * Times sampling from noise to latents, without an encoder or a decoder.
 *
 * @throws RangeError if a number is not a positive integer or a setting cannot be used.
 */
export async function samplingLatency(options: SamplingLatencyOptions): Promise<SamplingLatency> {
  const { config, batchSizes = [1, 32], steps = 25, repeats = 5, warmUps = 1, threads, sampler = "euler" } =
    options;
  for (const count of [...batchSizes, repeats]) expectCount(count, 1);
  expectCount(warmUps, 0);
  const { device } = await resolveDevice(options.device ?? "auto");
  const opened = options.latentSampler ??
    await openLatentSampler(config, { device, threads, batchSize: Math.max(...batchSizes) });
  const times: SamplingTimes[] = [];
  try {
    for (const batchSize of batchSizes) {
      for (const guided of config.classes > 0 ? [false, true] : [false]) {
        times.push(await timed(opened, { ...options, steps, repeats, warmUps }, batchSize, guided));
      }
    }
  } finally {
    if (options.latentSampler === undefined) await opened.dispose();
  }
  return {
    device,
    cpu: os.cpus()[0]?.model.trim() ?? "unknown",
    cores: navigator.hardwareConcurrency,
    steps,
    evaluations: SAMPLERS[sampler].evaluations,
    repeats,
    times,
  };
}

async function timed(
  latentSampler: LatentSampler,
  options: SamplingLatencyOptions & {
    readonly steps: number;
    readonly repeats: number;
    readonly warmUps: number;
  },
  batchSize: number,
  guided: boolean,
): Promise<SamplingTimes> {
  const { config, params, sampler, shift, trajectory, steps, repeats, warmUps } = options;
  const { cfgScale = 4, clock = () => performance.now() } = options;
  const labels = Int32Array.from(
    { length: batchSize },
    (_, i) => config.classes === 0 ? 0 : i % config.classes,
  );
  const measured: number[] = [];
  for (let i = -warmUps; i < repeats; i++) {
    const start = clock();
    await latentSampler.sample({
      params,
      labels,
      seed: 0,
      steps,
      sampler,
      shift,
      trajectory,
      cfgScale: guided ? cfgScale : 1,
    });
    if (i >= 0) measured.push(clock() - start);
  }
  measured.sort((a, b) => a - b);
  const middle = (measured[(repeats - 1) >> 1] + measured[repeats >> 1]) / 2;
  return {
    batchSize,
    guided,
    msPerImage: middle / batchSize,
    msPerStep: middle / steps,
    rangeMs: [measured[0], measured[repeats - 1]],
  };
}

function expectCount(count: number, least: number): void {
  if (Number.isInteger(count) && count >= least) return;
  throw new RangeError(`Cannot time sampling: counts must be integers of ${least} or more, got ${count}`);
}
