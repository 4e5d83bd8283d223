/**
 * Ways to sample latents: in this thread, or in several workers at once.
 *
 * @module
 */
import type { HostTensor } from "novae/tensor/mod.ts";
import { resolveDevice } from "novae/engine/mod.ts";
import type { DitConfig } from "./config.ts";
import type { LatentSampler, LatentSamplerOptions, SampleRequest } from "./sample_request.ts";
import { CompiledLatentSampler } from "./sampling.ts";
import { LatentSamplerPool } from "./sampling_pool.ts";

/** Options of {@linkcode openLatentSampler}. */
export interface OpenSamplerOptions extends LatentSamplerOptions {
  /**
   * Workers that draw batches at the same time, each with one thread, on the `cpu` device; on others this thread
   * does it. With as many workers as cores it is faster than threads inside a step, which wait for each other at
   * every operation; a worker takes about 200 MB and a second to start. Default 1: this thread.
   */
  readonly workers?: number;
}

/** Options of {@linkcode sampleLatents}. */
export interface SampleLatentsOptions extends OpenSamplerOptions, SampleRequest {
  /** Configuration that the weights belong to. */
  readonly config: DitConfig;
}

/**
 * Opens a sampler for one transformer configuration, for any number of requests. What it compiles,
 * the velocity with guidance and without, serves every sampler.
 *
 * @throws RangeError if the batch size or the number of workers is not a positive integer; DeviceError if the device
 * cannot be used.
 */
export async function openLatentSampler(
  config: DitConfig,
  options: OpenSamplerOptions = {},
): Promise<LatentSampler> {
  const { workers = 1, ...rest } = options;
  if (!Number.isInteger(workers) || workers < 1) {
    throw new RangeError(`Cannot sample latents: workers must be a positive integer, got ${workers}`);
  }
  const { device } = await resolveDevice(options.device ?? "auto");
  if (workers === 1 || device !== "cpu") return new CompiledLatentSampler(config, { ...rest, device });
  return new LatentSamplerPool(config, { ...rest, device }, workers);
}

/**
 * Samples latents: a sampler opened for one request.
 *
 * The result is a pure function of weights, labels, seed and settings; neither the batch size nor the number of
 * workers changes it, but for the order of sums in the last bits.
 *
 * @returns zBNZ [labels.length, N, Z], normalised like the training latents.
 * @throws RangeError if a label, the sampler, the steps, the shift or the guidance cannot be used.
 */
export async function sampleLatents(options: SampleLatentsOptions): Promise<HostTensor> {
  const sampler = await openLatentSampler(options.config, options);
  try {
    return await sampler.sample(options);
  } finally {
    await sampler.dispose();
  }
}
