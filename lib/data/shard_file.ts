/**
 * One shard: writing it and finding out whether it is whole.
 *
 * @module
 */
import { join } from "node:path";
import { ConfigError, DataError, type HostTensor, int32, NovaeError } from "novae/tensor/mod.ts";
import {
  decodeElements,
  hashBytes,
  hashFile,
  OpenFiles,
  pathExists,
  readSafetensorsHeader,
  type SafetensorsHeader,
  writeSafetensors,
} from "novae/io/mod.ts";
import {
  LABELS,
  planHash,
  type RowForm,
  SHARD_FORMAT,
  shardFile,
  type ShardPlan,
  shardRange,
  type ShardRows,
} from "./shard_format.ts";

/**
 * Writes a shard, atomically; the same rows give the same bytes.
 *
 * @param inputs a hash of what the rows were made from, to be kept in the header.
 */
export async function writeShard(
  folder: string,
  shard: number,
  plan: ShardPlan,
  rows: ShardRows,
  inputs?: string,
): Promise<void> {
  const { first, last } = shardRange(shard, plan), what = `Cannot write rows ${first} … ${last - 1}`;
  if (Object.hasOwn(rows.tensors, LABELS)) throw new RangeError(`${what}: the name ${LABELS} is reserved`);
  const labels = Int32Array.from(rows.labels), tensors: Record<string, HostTensor> = { ...rows.tensors };
  const wrong = labels.findIndex((label, i) => label !== rows.labels[i]);
  if (wrong >= 0) {
    throw new RangeError(`${what}: labels must be whole numbers of 32 bits, got ${rows.labels[wrong]}`);
  }
  tensors[LABELS] = int32(labels, [labels.length]);
  for (const [name, { shape }] of Object.entries(tensors)) {
    if (shape[0] === last - first) continue;
    throw new TypeError(`${what}: "${name}" must have ${last - first} rows, got ${shape[0] ?? "none"}`);
  }
  const metadata = {
    ...metadataOf(shard, plan),
    ...(inputs !== undefined && { inputs }),
    ...(rows.notes !== undefined && notesMetadata(rows.notes)),
  };
  await writeSafetensors(join(folder, shardFile(shard)), tensors, metadata, {
    dtype: plan.dtype,
    hashed: true,
  });
}

/** Whether there is a file of a shard, whatever is in it. */
export async function hasShard(folder: string, shard: number): Promise<boolean> {
  return await pathExists(join(folder, shardFile(shard)));
}

/**
 * Reads the header of a shard and checks that the file is the whole shard of this plan.
 *
 * @param hashed whether all data are read and compared with the header's hash.
 * @throws ConfigError if it belongs to another plan; DataError if it is damaged.
 */
export async function checkShard(
  folder: string,
  shard: number,
  plan: ShardPlan,
  hashed: boolean,
): Promise<SafetensorsHeader> {
  const path = join(folder, shardFile(shard)), header = await readShardHeader(path), { metadata } = header;
  for (const [key, wanted] of Object.entries(metadataOf(shard, plan))) {
    if (metadata[key] === wanted) continue;
    throw new ConfigError(
      `Cannot use ${path}: it belongs to other shards, its "${key}" is ${
        metadata[key]
      } instead of ${wanted}; ` +
        "use another folder or remove it",
    );
  }
  const { first, last } = shardRange(shard, plan);
  const odd = header.entries.find(({ shape }) => shape[0] !== last - first);
  if (odd) throw new DataError(`Cannot use ${path}: "${odd.name}" must have ${last - first} rows`);
  const labels = header.entries.find(({ name }) => name === LABELS);
  if (labels?.dtype !== "I32" || labels.shape.length !== 1) {
    throw new DataError(`Cannot use ${path}: it must hold int32 labels, got none`);
  }
  if (metadata.notes !== undefined && hashBytes(metadata.notes) !== metadata.notesSha256) {
    throw new DataError(
      `Cannot use ${path}: the notes in its header are damaged, they do not fit their hash`,
    );
  }
  if (hashed && await hashFile(path, header.dataStart) !== metadata.sha256) {
    throw new DataError(`Cannot use ${path}: its data are damaged, they do not fit the hash in its header`);
  }
  return header;
}

/** What was noted of the rows of a shard whose header was checked; undefined if nothing was. */
export function readNotes({ metadata }: SafetensorsHeader): unknown {
  return metadata.notes === undefined ? undefined : JSON.parse(metadata.notes);
}

/** The hash of the data does not cover the header, so that notes have their own. */
function notesMetadata(value: unknown): Record<string, string> {
  const notes = JSON.stringify(value);
  return { notes, notesSha256: hashBytes(notes) };
}

/**
 * Checks that a shard's tensors are those of the others.
 *
 * @throws DataError naming the first that is not.
 */
export function expectForms(
  folder: string,
  shard: number,
  forms: Readonly<Record<string, RowForm>>,
  wanted: Readonly<Record<string, RowForm>>,
): void {
  const show = (form?: RowForm) => form === undefined ? "absent" : `${form.dtype} [${form.shape.join(", ")}]`;
  for (const name of new Set([...Object.keys(wanted), ...Object.keys(forms)])) {
    const [here, there] = [show(forms[name]), show(wanted[name])];
    if (here === there) continue;
    throw new DataError(
      `Cannot use ${
        join(folder, shardFile(shard))
      }: rows of "${name}" must be ${there} as in the other shards, ` +
        `got ${here}`,
    );
  }
}

/**
 * Reads the header of a shard; the file must be as long as it says.
 *
 * @throws DataError if the file is missing or is no whole safetensors file.
 */
export async function readShardHeader(path: string): Promise<SafetensorsHeader> {
  try {
    return await readSafetensorsHeader(path);
  } catch (error) {
    if (!(error instanceof NovaeError)) throw error;
    throw new DataError(error.message.replace("Cannot read weights", "Cannot use"), { cause: error });
  }
}

/** The labels of a shard whose header was checked. */
export async function readLabels(
  folder: string,
  shard: number,
  header: SafetensorsHeader,
): Promise<Int32Array> {
  const entry = header.entries.find(({ name }) => name === LABELS)!, path = join(folder, shardFile(shard));
  const bytes = new Uint8Array(entry.end - entry.begin), files = new OpenFiles(1);
  await files.read(path, header.dataStart + entry.begin, bytes);
  await files.close();
  return decodeElements(entry.dtype, bytes, `Cannot read shard ${path}: "${entry.name}"`).data as Int32Array;
}

function metadataOf(shard: number, plan: ShardPlan): Record<string, string> {
  const { first, last } = shardRange(shard, plan);
  return { format: SHARD_FORMAT, plan: planHash(plan), first: String(first), last: String(last) };
}
