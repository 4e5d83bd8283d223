/**
 * Sets of rows too large for memory, such as the features of a data set, made shard by shard: by one process or by
 * several at once, and gone on with after a kill at any moment.
 *
 * A shard is there wholly or not at all; what is there and whole is never made again.
 *
 * @module
 */
import { join } from "node:path";
import { ConfigError, DataError } from "novae/tensor/mod.ts";
import {
  type Claim,
  type ClaimOptions,
  Claims,
  describeDifference,
  fileError,
  firstDifference,
  pathExists,
  type SafetensorsHeader,
  writeFileAtomic,
  writeJson,
} from "novae/io/mod.ts";
import { checkShard, expectForms, hasShard, writeShard } from "./shard_file.ts";
import {
  formsOf,
  indexPath,
  plainPlan,
  planPath,
  readPlan,
  type RowForm,
  SHARD_FORMAT,
  shardCount,
  shardFile,
  type ShardPlan,
  shardRange,
  type ShardRows,
} from "./shard_format.ts";
import { indexText, makeIndex } from "./shard_index.ts";

/**
 * Makes the rows `first` … `last − 1`. It must give the same rows whenever it is asked for them: after a kill, or where
 * a process was taken for dead, it is asked again.
 */
export type MakeShard = (first: number, last: number) => Promise<ShardRows>;

/** How far the shards have come. */
export interface ShardProgress {
  /** Rows that are there. */
  readonly done: number;
  /** Rows in all. */
  readonly total: number;
  /** Rows that this call made; the rest was there or came from other processes. */
  readonly made: number;
  /** Something a person should know: a damaged shard that is made again. */
  readonly note?: string;
}

/** Options of {@link writeShards}. */
export interface WriteShardsOptions extends ClaimOptions {
  /** Told of each shard that is there and of what is wrong with one. */
  readonly onProgress?: (progress: ShardProgress) => void;
  /**
   * How shards of earlier calls are checked: "hash" reads them all, "header" only their headers and sizes; "hash" if
   * omitted.
   */
  readonly verify?: "hash" | "header";
  /**
   * Shards that are made at the same time, 1 or more, so that one can be computed while another is written; 1 if
   * omitted.
   */
  readonly atOnce?: number;
  /**
   * A hash of what the rows `first` … `last − 1` are made from. It is kept with the shard, and a shard made from
   * something else is made again.
   */
  readonly inputsOf?: (first: number, last: number) => Promise<string>;
}

/** What one call of {@link writeShards} knows. */
interface Work {
  readonly folder: string;
  readonly plan: ShardPlan;
  readonly makeShard: MakeShard;
  readonly claims: Claims;
  readonly hashed: boolean;
  readonly inputsOf: (first: number, last: number) => Promise<string | undefined>;
  /** Shards that were there before this call. */
  readonly old: Set<number>;
  /** Form of all tensors, from the first shard seen. */
  forms: Record<string, RowForm> | null;
  report(rows: number, made: number, note?: string): void;
}

const POLL_MS = 500;

/**
 * Makes all shards of a plan that are not there yet and then the index. Any number of processes may do so at once:
 * each takes the next shard that nobody is at work on and waits at the end until all are there.
 *
 * Shards that are there are verified; damaged ones are reported and made again. If `makeShard` fails, what is there
 * stays, and the next call goes on from there.
 *
 * @example
 * ```ts
 * import { float32 } from "novae/tensor/mod.ts";
 * import { openShards, writeShards } from "novae/data/mod.ts";
 * const folder = await Deno.makeTempDir(), plan = { config: {}, count: 5, rowsPerShard: 2, dtype: "float32" } as const;
 * await writeShards(folder, plan, (first, last) => {
 *   const numbers = Array.from({ length: last - first }, (_, i) => first + i);
 *   return Promise.resolve({ tensors: { x: float32(numbers, [numbers.length, 1]) }, labels: numbers });
 * });
 * const shards = await openShards(folder), { x } = await shards.rowsAt([4, 0]);
 * if (`${x.data}` !== "4,0") throw new Error("not equal");
 * await shards.close();
 * ```
 * @param folder made if absent.
 * @throws ConfigError if the folder holds shards of another plan, naming the first key that differs.
 * @throws DataError if the shards do not have the same tensors; NovaeError if something cannot be written or read.
 */
export async function writeShards(
  folder: string,
  plan: ShardPlan,
  makeShard: MakeShard,
  options: WriteShardsOptions = {},
): Promise<void> {
  expectPlan(plan);
  const work = await startWork(folder, plainPlan(plan), makeShard, options);
  let pending = Array.from({ length: shardCount(plan) }, (_, shard) => shard);
  while (pending.length > 0) {
    const left = await settleAll(work, pending, options.atOnce ?? 1);
    if (left.length === pending.length) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    pending = left;
  }
  while (!await finish(work)) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
}

/** Goes through shards in their order, some at the same time, and gives those that somebody else is at work on. */
async function settleAll(work: Work, shards: readonly number[], atOnce: number): Promise<number[]> {
  const left: number[] = [];
  let next = 0;
  const lane = async () => {
    while (next < shards.length) {
      const shard = shards[next++];
      if (!await settle(work, shard)) left.push(shard);
    }
  };
  const ends = await Promise.allSettled(
    Array.from({ length: atOnce }, () =>
      lane().catch((error) => {
        next = shards.length; // the others finish what they have begun
        throw error;
      })),
  );
  for (const end of ends) if (end.status === "rejected") throw end.reason;
  return left.sort((a, b) => a - b);
}

async function startWork(
  folder: string,
  plan: ShardPlan,
  makeShard: MakeShard,
  options: WriteShardsOptions,
): Promise<Work> {
  try {
    await Deno.mkdir(folder, { recursive: true });
  } catch (error) {
    throw fileError(`Cannot make folder ${folder}`, error);
  }
  await agreeOnPlan(folder, plan);
  const old = new Set<number>();
  for (let shard = 0; shard < shardCount(plan); shard++) if (await hasShard(folder, shard)) old.add(shard);
  let done = 0, made = 0;
  const report = (rows: number, ofThem: number, note?: string) => {
    done += rows;
    made += ofThem;
    options.onProgress?.({ done, total: plan.count, made, ...note === undefined ? {} : { note } });
  };
  const claims = new Claims(options), hashed = (options.verify ?? "hash") === "hash";
  const inputsOf = options.inputsOf ?? (() => Promise.resolve(undefined));
  return { folder, plan, makeShard, claims, hashed, inputsOf, old, forms: null, report };
}

/** Of several processes that write the plan at once each reads what is there in the end. */
async function agreeOnPlan(folder: string, plan: ShardPlan): Promise<void> {
  if (!await pathExists(planPath(folder))) {
    await writeJson(planPath(folder), { format: SHARD_FORMAT, ...plan });
  }
  const difference = firstDifference(await readPlan(folder), plan);
  if (difference === null) return;
  throw new ConfigError(
    `Cannot write shards to ${folder}: it holds others, ${
      describeDifference(difference)
    }; use another folder`,
  );
}

/** Sees to it that a shard is there, unless somebody else is at work on it. */
async function settle(work: Work, shard: number): Promise<boolean> {
  if (await isThere(work, shard)) return true;
  const path = join(work.folder, `${shardFile(shard)}.claim`), claim = await work.claims.take(path);
  if (claim === null) return false;
  try {
    const { first, last } = shardRange(shard, work.plan), inputs = await work.inputsOf(first, last);
    const damage = await damageOf(work, shard, inputs); // somebody else may have made it meanwhile
    if (damage === null) return true;
    if (damage !== "missing") work.report(0, 0, `${damage}; it is made again`);
    return await make(work, shard, inputs, claim);
  } finally {
    await claim.release();
  }
}

async function isThere(work: Work, shard: number): Promise<boolean> {
  if (!await hasShard(work.folder, shard)) return false;
  const { first, last } = shardRange(shard, work.plan);
  return await damageOf(work, shard, await work.inputsOf(first, last)) === null;
}

/** What is wrong with a shard; null, and its rows count as done, if nothing is. */
async function damageOf(work: Work, shard: number, inputs: string | undefined): Promise<string | null> {
  const { folder, plan, hashed, old } = work, { first, last } = shardRange(shard, plan);
  if (!await hasShard(folder, shard)) return "missing";
  let header: SafetensorsHeader;
  try {
    // What another process has written since this call began was flushed and needs no reading.
    header = await checkShard(folder, shard, plan, hashed && old.has(shard));
  } catch (error) {
    if (error instanceof DataError) return error.message;
    throw error;
  }
  if (inputs !== undefined && header.metadata.inputs !== inputs) {
    return `${join(folder, shardFile(shard))} was made from other inputs`;
  }
  accept(work, shard, header);
  work.report(last - first, 0);
  return null;
}

async function make(
  work: Work,
  shard: number,
  inputs: string | undefined,
  claim: Claim,
): Promise<boolean> {
  const { folder, plan } = work, { first, last } = shardRange(shard, plan);
  await removeLeftovers(folder, new RegExp(`^${shardFile(shard)}\\.tmp-`));
  const rows = await work.makeShard(first, last);
  if (!await claim.holds()) return false; // taken for dead; somebody else makes it
  try {
    await writeShard(folder, shard, plan, rows, inputs);
  } catch (error) {
    if (await claim.holds()) throw error;
    return false; // the other one removed the unfinished file
  }
  accept(work, shard, await checkShard(folder, shard, plan, false));
  work.report(last - first, last - first);
  return true;
}

function accept(work: Work, shard: number, header: SafetensorsHeader): void {
  const forms = formsOf(header);
  work.forms ??= forms;
  expectForms(work.folder, shard, forms, work.forms);
}

/** Writes the index from the shards, the same whoever does it; false if somebody else is just at it. */
async function finish(work: Work): Promise<boolean> {
  const { folder } = work, path = indexPath(folder), claim = await work.claims.take(`${path}.claim`);
  if (claim === null) return false;
  try {
    const text = indexText(await makeIndex(folder, work.plan));
    const known = await Deno.readTextFile(path).catch(ignoreMissing);
    if (known !== text) await writeFileAtomic(path, text);
    await removeLeftovers(folder, /\.tmp-|^shard-.*\.claim$/);
    return true;
  } finally {
    await claim.release();
  }
}

/** Removes files that killed processes left. */
async function removeLeftovers(folder: string, names: RegExp): Promise<void> {
  try {
    for await (const { name } of Deno.readDir(folder)) {
      if (names.test(name)) await Deno.remove(join(folder, name)).catch(ignoreMissing);
    }
  } catch (error) {
    throw fileError(`Cannot clear ${folder}`, error);
  }
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}

function expectPlan({ count, rowsPerShard, dtype }: ShardPlan): void {
  const whole = Number.isSafeInteger(count) && count >= 1 && Number.isSafeInteger(rowsPerShard) &&
    rowsPerShard >= 1;
  if (!whole) {
    throw new RangeError(
      `Cannot write shards: count and rowsPerShard must be whole and at least 1, got ${count} and ${rowsPerShard}`,
    );
  }
  if (dtype === "float16" || dtype === "float32") return;
  throw new RangeError(`Cannot write shards: dtype must be float16 or float32, got ${dtype}`);
}
