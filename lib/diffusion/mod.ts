/**
 * Diffusion in a latent space: probability path, guidance, samplers, the diffusion transformer and its training. It
 * knows latents and labels, not which autoencoder made them.
 *
 * @module
 */
export * from "./config.ts";
export * from "./dit.ts";
export * from "./editing.ts";
export * from "./export.ts";
export * from "./flops.ts";
export * from "./guidance.ts";
export * from "./interpolation.ts";
export * from "./latent_file.ts";
export * from "./latent_sampler.ts";
export * from "./losses.ts";
export * from "./noise.ts";
export * from "./open_diffusion.ts";
export * from "./path.ts";
export * from "./published_dit.ts";
export type { DitNaming } from "./published_names.ts";
export { checkRequest as checkSampleRequest } from "./sample_request.ts";
export type {
  LatentProgress,
  LatentSampler,
  LatentSamplerOptions,
  SampleRequest,
  WeakModel,
} from "./sample_request.ts";
export {
  type FollowOptions,
  type Revision,
  sample,
  type SampleOptions,
  type SamplerProgress,
  type SamplerTap,
  type Velocity,
} from "./sampler.ts";
export * from "./sampling_latency.ts";
export * from "./sizes.ts";
export {
  type Sampler,
  type SamplerName,
  SAMPLERS,
  samplerTimes,
  type SolverOptions,
  type Stepped,
  type Stepper,
  type StepTimes,
} from "./solvers.ts";
export type { Evaluated, PerSample, StateSpace, Tolerance } from "./state_space.ts";
export { lossByTime, TIME_BINS } from "./time_bins.ts";
export * from "./training.ts";
export * from "./training_data.ts";
export type { LatentData, StoredFeatures, StoredLatents } from "./training_latents.ts";
export * from "./training_settings.ts";
export { type DiffusionState, initDiffusionState, type ProjectorState } from "./training_state.ts";
export { type DiffusionMetrics, diffusionTrainStep, type UpdateSettings } from "./training_step.ts";
export * from "./training_validation.ts";
export * from "./weights.ts";
