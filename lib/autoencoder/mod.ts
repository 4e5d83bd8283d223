/**
 * Latent spaces: the interface all of them share, SVG's, variational ones, pretrained ones, their losses, statistics, training and files.
 *
 * @module
 */
export * from "./adversarial/mod.ts";
export * from "./autoencoder.ts";
export * from "./compiled.ts";
export * from "./config.ts";
export * from "./decoder.ts";
export * from "./encode_latents.ts";
export * from "./export.ts";
export * from "./framing.ts";
export * from "./hash.ts";
export * from "./latent_set.ts";
export * from "./latent_stats.ts";
export * from "./losses.ts";
export * from "./measure.ts";
export * from "./conv_tree.ts";
export * from "./model.ts";
export * from "./optimisation.ts";
export * from "./perceptual/mod.ts";
export * from "./pretrained_vae.ts";
export * from "./reconstruction.ts";
export * from "./resnet_block.ts";
export {
  type AutoencoderSchedule,
  type ResolvedSchedule,
  resolveSchedule,
  scheduleSteps,
} from "./schedule.ts";
export * from "./sizes.ts";
export * from "./speed.ts";
export * from "./svg/mod.ts";
export * from "./svg/published_schedule.ts";
export * from "./svg/published_svg.ts";
export * from "./svg/published_weights.ts";
export * from "./taesd/mod.ts";
export * from "./train.ts";
export * from "./train_step.ts";
export * from "./training_data.ts";
export * from "./training_images.ts";
export * from "./training_loss.ts";
export * from "./training_update.ts";
export * from "./vae/mod.ts";
export * from "./vae_names.ts";
export * from "./weights.ts";
