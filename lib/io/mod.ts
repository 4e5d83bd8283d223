/**
 * Files and formats: atomic writing, weights (safetensors, PyTorch checkpoints, the model hub), npy and npz, images,
 * hashes.
 *
 * @module
 */
export {
  type FileContent,
  fillFileAtomic,
  syncFolder,
  writeFileAtomic,
  writeFileAtomicSync,
  writeJson,
  writeJsonSync,
} from "./atomic_file.ts";
export * from "./claims.ts";
export * from "./difference.ts";
export * from "./file_error.ts";
export * from "./half.ts";
export * from "./hash.ts";
export * from "./image.ts";
export * from "./lazy_tensor.ts";
export * from "./model_hub.ts";
export {
  decodeNpy,
  encodeNpy,
  type NpyArray,
  type NpyData,
  type NpyDType,
  type NpyHeader,
  npyHeader,
  parseNpyHeader,
  readNpy,
  writeNpy,
} from "./npy.ts";
export { readNpz, type StreamedArray, writeNpz, writeNpzStream } from "./npz.ts";
export { openWeights, type OpenWeightsOptions, type Weights } from "./open_weights.ts";
export * from "./pickle_values.ts";
export {
  type CheckpointOptions,
  type PytorchCheckpoint,
  readPytorchCheckpoint,
} from "./pytorch_checkpoint.ts";
export * from "./open_files.ts";
export * from "./process_alive.ts";
export { pathExists, readBytes, readJson } from "./read_file.ts";
export * from "./resize.ts";
export { PRECISION_BITS, type ResizeFilter, resizeMatrix } from "./resize_taps.ts";
export {
  type LazySafetensors,
  openSafetensors,
  readSafetensors,
  readSafetensorsHeader,
  type SafetensorsFile,
  type SafetensorsOptions,
  writeSafetensors,
} from "./safetensors.ts";
export type { SafetensorsEntry, SafetensorsHeader } from "./safetensors_header.ts";
export { stateDict } from "./state_dict.ts";
export { decodeElements, type StoredDType } from "./stored_elements.ts";
