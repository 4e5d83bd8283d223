/**
 * Files and formats: atomic writing, safetensors, npy and npz, images, hashes.
 *
 * @module
 */
export {
  type FileContent,
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
export * from "./npy.ts";
export * from "./npz.ts";
export * from "./open_files.ts";
export * from "./process_alive.ts";
export * from "./read_file.ts";
export * from "./resize.ts";
export { PRECISION_BITS, type ResizeFilter, resizeMatrix } from "./resize_taps.ts";
export * from "./safetensors.ts";
export type { SafetensorsDType, SafetensorsEntry, SafetensorsHeader } from "./safetensors_header.ts";
