/**
 * What a folder of shards holds and how its files are called.
 *
 * ```
 * shards.json                        what is to be in the folder, written first
 * shard-00000.safetensors            rows 0 … rowsPerShard − 1: named tensors and `labels`
 * shard-00001.safetensors  …
 * index.json                         labels, shapes and hashes, written when all shards are there
 * ```
 *
 * @module
 */
import { join } from "node:path";
import { z } from "zod";
import { DataError, type HostTensor } from "novae/tensor/mod.ts";
import { hashValue, readJson, type SafetensorsHeader, type StoredDType } from "novae/io/mod.ts";

/** What is to be in a folder of shards; all of it must agree for work to go on in that folder. */
export interface ShardPlan {
  /** What the rows are made from and with: plain JSON. */
  readonly config: unknown;
  /** Number of rows, 1 or more. */
  readonly count: number;
  /** Rows a shard, 1 or more; the last one may have fewer. */
  readonly rowsPerShard: number;
  /** Storage of float32 tensors. */
  readonly dtype: "float16" | "float32";
}

/** The rows of one shard. */
export interface ShardRows {
  /** Tensors [rows, …] by name; every shard has the same names, types and shapes of rows. */
  readonly tensors: Readonly<Record<string, HostTensor>>;
  /** One label a row: whole numbers of 32 bits. */
  readonly labels: ArrayLike<number>;
  /** What is to be noted of these rows, such as their moments: plain JSON, kept in the shard and in the index. */
  readonly notes?: unknown;
}

/** Storage of one row of a tensor. */
export interface RowForm {
  /** Type in the file. */
  readonly dtype: StoredDType;
  /** Shape of one row; empty for a number. */
  readonly shape: readonly number[];
}

/** One file of rows. */
export interface ShardEntry {
  /** Name of the file in the folder. */
  readonly file: string;
  /** Its first row. */
  readonly first: number;
  /** One past its last row. */
  readonly last: number;
  /** Size of the file. */
  readonly bytes: number;
  /** SHA-256 of its data, labels included, without the header. */
  readonly sha256: string;
  /** What was noted of its rows, if anything was. */
  readonly notes?: unknown;
}

/** What `index.json` holds. */
export interface ShardIndex extends ShardPlan {
  /** Form of the tensors by name. */
  readonly tensors: Readonly<Record<string, RowForm>>;
  /** All files in the order of their rows. */
  readonly shards: readonly ShardEntry[];
  /** One label a row. */
  readonly labels: readonly number[];
}

/** Version of the files. */
export const SHARD_FORMAT = "novae-shards-1";
/** Name of the labels' tensor in each shard. */
export const LABELS = "labels";

const whole = z.int().min(0);
const planFields = {
  format: z.literal(SHARD_FORMAT),
  config: z.unknown(),
  count: z.int().min(1),
  rowsPerShard: z.int().min(1),
  dtype: z.enum(["float16", "float32"]),
};
const planSchema = z.strictObject(planFields);
const indexSchema = z.strictObject({
  ...planFields,
  tensors: z.record(
    z.string(),
    z.strictObject({ dtype: z.enum(["F32", "F16", "I32", "BOOL"]), shape: z.array(whole) }),
  ),
  shards: z.array(
    z.strictObject({
      file: z.string(),
      first: whole,
      last: whole,
      bytes: whole,
      sha256: z.string(),
      notes: z.unknown().optional(),
    }),
  ),
  labels: z.array(z.int()),
});

/** Path of the file that says what is to be in the folder. */
export function planPath(folder: string): string {
  return join(folder, "shards.json");
}

/** Path of the index. */
export function indexPath(folder: string): string {
  return join(folder, "index.json");
}

/** Name of a shard's file. */
export function shardFile(shard: number): string {
  return `shard-${String(shard).padStart(5, "0")}.safetensors`;
}

/** The plan as plain JSON, without further keys. */
export function plainPlan({ config, count, rowsPerShard, dtype }: ShardPlan): ShardPlan {
  return { config: JSON.parse(JSON.stringify(config ?? null)), count, rowsPerShard, dtype };
}

/** What a shard's header says of the plan it belongs to. */
export function planHash(plan: ShardPlan): string {
  return hashValue(plainPlan(plan));
}

/** Number of shards. */
export function shardCount({ count, rowsPerShard }: ShardPlan): number {
  return Math.ceil(count / rowsPerShard);
}

/** First row of a shard and one past its last. */
export function shardRange(
  shard: number,
  { count, rowsPerShard }: ShardPlan,
): { first: number; last: number } {
  return { first: shard * rowsPerShard, last: Math.min(count, (shard + 1) * rowsPerShard) };
}

/** Form of the rows of a shard's tensors, labels left out, in the order of names. */
export function formsOf(header: SafetensorsHeader): Record<string, RowForm> {
  const named = header.entries.filter(({ name }) => name !== LABELS)
    .map(({ name, dtype, shape }): [string, RowForm] => [name, { dtype, shape: shape.slice(1) }]);
  return Object.fromEntries(named.sort(([a], [b]) => a < b ? -1 : 1));
}

/**
 * Reads what is to be in a folder.
 *
 * @throws DataError if the file is missing or damaged.
 */
export async function readPlan(folder: string): Promise<ShardPlan> {
  return plainPlan(await readChecked(planPath(folder), planSchema));
}

/**
 * Reads the index of a folder and checks that it is consistent in itself.
 *
 * @throws DataError if the file is missing or damaged.
 */
export async function readIndex(folder: string): Promise<ShardIndex> {
  const path = indexPath(folder), index = await readChecked(path, indexSchema);
  const fits = index.labels.length === index.count && index.shards.length === shardCount(index) &&
    index.shards.every(({ file, first, last }, shard) => {
      const range = shardRange(shard, index);
      return file === shardFile(shard) && first === range.first && last === range.last;
    });
  if (!fits) throw new DataError(`Cannot read ${path}: labels and shards must cover ${index.count} rows`);
  return index;
}

async function readChecked<T>(path: string, schema: z.ZodType<T>): Promise<T> {
  const parsed = schema.safeParse(await readJson(path));
  if (parsed.success) return parsed.data;
  const [{ path: key, message }] = parsed.error.issues;
  throw new DataError(`Cannot read ${path}: "${key.join(".")}" is wrong: ${message}`);
}
