/**
 * Data sets, their transforms and seeded batches.
 *
 * @module
 */
export * from "./batches.ts";
export * from "./cache_folder.ts";
export { CIFAR10_CLASSES, type Cifar10Options, loadCifar10 } from "./cifar10.ts";
export * from "./contact_sheet.ts";
export * from "./dataset.ts";
export * from "./encoded_shards.ts";
export * from "./framing.ts";
export * from "./generated_images.ts";
export { imageBytes } from "./image_parts.ts";
export * from "./image_batches.ts";
export { type ImageFiles, isImageFiles, openImageFolder, openImageSplits } from "./image_files.ts";
export * from "./image_folder.ts";
export { ImagePool, type ImagePoolOptions } from "./image_pool.ts";
export * from "./image_views.ts";
export * from "./load_dataset.ts";
export type { RowForm, ShardPlan, ShardRows } from "./shard_format.ts";
export * from "./shard_store.ts";
export * from "./shards.ts";
export * from "./solids.ts";
export * from "./solids_factors.ts";
export type { SolidsAnnotations, SolidsFileConfig, SolidsFileContent, SolidsHashes } from "./solids_file.ts";
export { DEPTH_STEP, SOLIDS_MASK } from "./solids_render.ts";
export {
  changeColors,
  type ColorChange,
  type ColorJitter,
  sampleColorChange,
  solarize,
} from "./color_transform.ts";
export {
  type ColorStep,
  jitterColors,
  makeGray,
  type OrderedColorChange,
  sampleOrderedColorChange,
} from "./color_jitter.ts";
export { CropPool, type CropPoolOptions, type CropViews, type CropWork, makeCrops } from "./crop_pool.ts";
export { gaussianBlur, pillowBlur } from "./gaussian_blur.ts";
export { multiCrop, type MultiCropOptions, type MultiCropViews } from "./multi_crop.ts";
export { type CropBox, flipHorizontal, randomFlip, resizedCrop, sampleCropBox } from "./resized_crop.ts";
