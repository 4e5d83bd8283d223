/**
 * What can be asked of a latent sampler, and what is refused before anything is computed.
 *
 * @module
 */
import { expectShape, type HostTensor } from "novae/tensor/mod.ts";
import type { DeviceName } from "novae/engine/mod.ts";
import type { DitConfig } from "./config.ts";
import type { DitParams } from "./dit.ts";
import { checkGuidance, type Guidance, guides } from "./guidance.ts";
import type { FollowOptions, Revision, SamplerProgress } from "./sampler.ts";
import { samplerTimes } from "./solvers.ts";

/** How latents are sampled, whatever the model and the request. */
export interface LatentSamplerOptions {
  /** Where the velocities are evaluated. Default `auto`. */
  readonly device?: DeviceName;
  /** Samples at a time. It changes the speed, not the samples. Default 32. */
  readonly batchSize?: number;
  /** Threads of the compiled velocity on the CPU; those of the engine unless given. */
  readonly threads?: number;
}

/** A model that knows less, whose velocity takes the place of the unconditional one. */
export interface WeakModel {
  /** Its shape; channels, grid and classes are those of the model that it guides. */
  readonly config: DitConfig;
  /** Its weights. */
  readonly params: DitParams<HostTensor>;
}

/** What a callback sees of a batch after each step. */
export interface LatentProgress extends SamplerProgress {
  /** Number of the batch's first sample in the request, from 0. */
  readonly first: number;
}

/** What to sample. */
export interface SampleRequest extends Guidance, Omit<FollowOptions, "callback"> {
  /** Weights, usually the moving average. */
  readonly params: DitParams<HostTensor>;
  /** Label of each sample, in [0, L]; L is the null label, for samples of no class. */
  readonly labels: ArrayLike<number>;
  /** Decides all noise: sample `i` starts from stream `(seed, "noise", i)`, whatever its batch. */
  readonly seed: number;
  /** Number of the first sample, where a long row of samples is drawn in pieces. Default 0. */
  readonly firstIndex?: number;
  /** Noise to start from instead, [labels.length, N, Z]. */
  readonly noise?: HostTensor;
  /**
   * Guides with a weaker model instead of without the label.
   *
   * *Source*: autoguidance, Karras et al., arXiv 2406.02507.
   */
  readonly autoguidance?: WeakModel;
  /** Called from time to time with the number of samples done. */
  readonly onProgress?: (done: number, count: number) => void | Promise<void>;
  /**
   * Called after each step of each batch and awaited; not with workers. Latents that it returns take the place of the
   * batch's.
   */
  readonly callback?: (progress: LatentProgress) => Revision | Promise<Revision>;
}

/** Draws latents; see {@linkcode openLatentSampler}. */
export interface LatentSampler {
  /**
   * Draws one latent for each label.
   *
   * @returns zBNZ [labels.length, N, Z], normalised like the training latents.
   * @throws RangeError if a label, the sampler, the steps, the shift or the guidance cannot be used.
   */
  sample(request: SampleRequest): Promise<HostTensor>;
  /** Releases what was compiled. */
  dispose(): Promise<void>;
}

/**
 * Checks what can be checked before anything is computed.
 *
 * @throws RangeError if a label, the sampler, the steps, the shift or the guidance cannot be used; TypeError if given
 * noise has another shape.
 */
export function checkRequest(config: DitConfig, request: Omit<SampleRequest, "params">): void {
  const { labels, sampler = "euler", steps, shift, noise, autoguidance } = request;
  if (labels.length === 0) throw new RangeError("Cannot sample latents: one label or more is needed, got 0");
  for (let i = 0; i < labels.length; i++) {
    if (Number.isInteger(labels[i]) && labels[i] >= 0 && labels[i] <= config.classes) continue;
    throw new RangeError(
      `Cannot sample latents: labels must be integers in [0, ${config.classes}], got ${labels[i]}`,
    );
  }
  samplerTimes(sampler, steps, shift, request);
  checkGuidance(request);
  if (noise !== undefined) {
    expectShape("Cannot sample latents from noise", noise.shape, [
      labels.length,
      config.grid ** 2,
      config.channels,
    ]);
  }
  if (autoguidance !== undefined) checkWeakModel(config, autoguidance.config);
  else if (config.classes === 0 && guides(request)) {
    throw new RangeError(
      `Cannot guide samples: the model must have classes, got an unconditional one and cfgScale ${request.cfgScale}`,
    );
  }
}

function checkWeakModel(config: DitConfig, weak: DitConfig): void {
  for (const key of ["channels", "grid", "classes"] as const) {
    if (weak[key] === config[key]) continue;
    throw new RangeError(
      `Cannot guide samples with another model: its ${key} must be ${config[key]}, got ${weak[key]}`,
    );
  }
}

/** The batch size of the options. @throws RangeError if it is not a positive integer. */
export function checkedBatchSize({ batchSize = 32 }: LatentSamplerOptions): number {
  if (Number.isInteger(batchSize) && batchSize >= 1) return batchSize;
  throw new RangeError(`Cannot sample latents: batchSize must be a positive integer, got ${batchSize}`);
}
