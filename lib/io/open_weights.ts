/**
 * Weights from a file or folder of whatever format, as one map of names to tensors that are read on demand.
 *
 * @module
 */
import { join } from "node:path";
import { oneLine, WeightsError } from "novae/tensor/mod.ts";
import { FileRanges } from "./byte_ranges.ts";
import { fileError } from "./file_error.ts";
import type { LazyTensor } from "./lazy_tensor.ts";
import { type CheckpointOptions, readPytorchCheckpoint } from "./pytorch_checkpoint.ts";
import { readJson } from "./read_file.ts";
import { openSafetensors } from "./safetensors.ts";
import { stateDict } from "./state_dict.ts";

/** Opened weights. */
export interface Weights {
  /** What was asked for: a file or a folder. */
  readonly path: string;
  /** The files that hold the tensors. */
  readonly files: readonly string[];
  /** Tensors by name. */
  readonly tensors: Map<string, LazyTensor>;
  /** Free text by key, of a safetensors file; empty for other files. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** What is wanted of weights. */
export interface OpenWeightsOptions extends CheckpointOptions {
  /** Only tensors whose name begins with it and a dot, which are taken off, e.g. `state_dict`, `ema` or `teacher`. */
  readonly prefix?: string;
}

/** Usual names of weights in a folder, in the order in which they are taken. */
export const WEIGHT_NAMES: readonly string[] = [
  "model.safetensors",
  "model.safetensors.index.json",
  "diffusion_pytorch_model.safetensors",
  "diffusion_pytorch_model.safetensors.index.json",
  "pytorch_model.bin",
  "pytorch_model.bin.index.json",
];
const SINGLE = [/\.safetensors$/, /\.(pth|pt|ckpt|bin)$/];

/**
 * Opens weights without reading them: a safetensors file, a PyTorch checkpoint, the index of a checkpoint in several
 * files, or a folder with one of these. The format is told by the content, not by the name.
 *
 * @example
 * ```ts
 * import { float32 } from "novae/tensor/mod.ts";
 * import { openWeights, writeSafetensors } from "novae/io/mod.ts";
 * const folder = await Deno.makeTempDir();
 * await writeSafetensors(`${folder}/model.safetensors`, { "teacher.bias": float32([1, 2], [2]) });
 * const { tensors } = await openWeights(folder, { prefix: "teacher" });
 * if ((await tensors.get("bias")!.read()).data[1] !== 2) throw new Error("not equal");
 * ```
 *
 * @param path a file, or a folder such as a snapshot of a model repository. In a folder, the usual names of Hugging
 * Face come first (`model.safetensors`, its index, …), then a single file of a known ending.
 * @throws WeightsError if there are no weights or several, or they are damaged.
 */
export async function openWeights(path: string, options: OpenWeightsOptions = {}): Promise<Weights> {
  const file = await isFolder(path) ? await weightsOfFolder(path) : path;
  return file.endsWith(".json") ? await openIndex(path, file, options) : await openFile(path, file, options);
}

async function openFile(
  path: string,
  file: string,
  { prefix = "", foreign }: OpenWeightsOptions,
): Promise<Weights> {
  const ranges = await FileRanges.open(file), start = await ranges.read(0, Math.min(9, ranges.size));
  if (isSafetensors(start)) {
    const { tensors, metadata } = await openSafetensors(file);
    return { path, files: [file], tensors: withPrefix(tensors, prefix, path), metadata };
  }
  if (String.fromCharCode(...start.subarray(0, 2)) === "PK" || start[0] === 0x80) { // zip, or PyTorch before 1.6
    const checkpoint = await readPytorchCheckpoint(file, { foreign });
    return { path, files: [file], tensors: stateDict(checkpoint, prefix), metadata: {} };
  }
  throw new WeightsError(
    `Cannot read weights ${file}: it must be a safetensors file or a PyTorch checkpoint, got another format`,
  );
}

/** "{" begins the header, after its length in eight bytes; the lowest may be the one that a pickle begins with. */
function isSafetensors(start: Uint8Array): boolean {
  return start[8] === 0x7b && (start[0] !== 0x80 || start.subarray(4, 8).every((byte) => byte === 0));
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isDirectory;
  } catch (error) {
    throw fileError(`Cannot read weights ${path}`, error, WeightsError);
  }
}

async function weightsOfFolder(folder: string): Promise<string> {
  const names: string[] = [];
  for await (const entry of Deno.readDir(folder)) if (!entry.isDirectory) names.push(entry.name);
  const usual = WEIGHT_NAMES.find((name) => names.includes(name));
  if (usual !== undefined) return join(folder, usual);
  for (const ending of SINGLE) {
    const found = names.filter((name) => ending.test(name)).sort();
    if (found.length === 1) return join(folder, found[0]);
    if (found.length > 1) {
      throw new WeightsError(`Cannot read weights ${folder}: name one of its files, got ${found.join(", ")}`);
    }
  }
  throw new WeightsError(
    `Cannot read weights ${folder}: it must hold a .safetensors, .pth, .pt, .ckpt or .bin file, got none`,
  );
}

/** Opens a checkpoint in several files; the index says which file holds a tensor. */
async function openIndex(
  path: string,
  indexFile: string,
  { prefix = "", foreign }: OpenWeightsOptions,
): Promise<Weights> {
  const named = await readWeightMap(indexFile);
  const files = [...new Set(named.values())].map((name) => join(indexFile, "..", name));
  const parts = new Map<string, Weights>();
  for (const file of files) parts.set(file, await openFile(file, file, { foreign }));
  const tensors = new Map<string, LazyTensor>(), missing: string[] = [];
  for (const [name, part] of named) {
    const tensor = parts.get(join(indexFile, "..", part))?.tensors.get(name);
    if (tensor === undefined) missing.push(`"${oneLine(name)}" in ${oneLine(part)}`);
    else tensors.set(name, tensor);
  }
  if (missing.length > 0) {
    const more = missing.length > 1 ? ` and ${missing.length - 1} more` : "";
    throw new WeightsError(`Cannot read weights ${indexFile}: ${missing[0]}${more} missing`);
  }
  const metadata = parts.get(files[0])?.metadata ?? {};
  return { path, files, tensors: withPrefix(tensors, prefix, path), metadata };
}

/** The names of the files that an index refers to. */
export async function indexedFiles(indexFile: string): Promise<string[]> {
  return [...new Set((await readWeightMap(indexFile)).values())];
}

async function readWeightMap(path: string): Promise<Map<string, string>> {
  return parseWeightMap(await readJson(path, WeightsError), path);
}

/**
 * Which file holds a tensor, from the value of an index such as `model.safetensors.index.json`.
 *
 * @throws WeightsError if it does not say so, or names a file outside of its folder.
 */
export function parseWeightMap(index: unknown, path: string): Map<string, string> {
  const { weight_map: map } = (index ?? {}) as Record<string, unknown>;
  const entries = typeof map === "object" && map !== null ? Object.entries(map) : [];
  const sound = entries.every(([, file]) =>
    typeof file === "string" && /^[^/\\]+$/.test(file) && !/^\.+$/.test(file)
  );
  if (entries.length > 0 && sound) return new Map(entries);
  throw new WeightsError(`Cannot read weights ${path}: its weight_map must give files of its folder by name`);
}

function withPrefix(tensors: Map<string, LazyTensor>, prefix: string, path: string): Map<string, LazyTensor> {
  if (prefix === "") return tensors;
  const chosen = [...tensors].filter(([name]) => name.startsWith(`${prefix}.`));
  if (chosen.length > 0) {
    return new Map(chosen.map(([name, tensor]) => [name.slice(prefix.length + 1), tensor]));
  }
  const nests = [...new Set([...tensors.keys()].map((name) => name.split(".")[0]))].slice(0, 8).join(", ");
  throw new WeightsError(
    `Cannot read weights ${path}: names must begin with "${prefix}.", got ${oneLine(nests)}`,
  );
}
