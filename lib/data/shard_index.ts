/**
 * The index of a folder of shards, made from the shards.
 *
 * @module
 */
import { checkShard, expectForms, readLabels, readNotes } from "./shard_file.ts";
import {
  formsOf,
  type RowForm,
  SHARD_FORMAT,
  shardCount,
  type ShardEntry,
  shardFile,
  type ShardIndex,
  type ShardPlan,
  shardRange,
} from "./shard_format.ts";

/**
 * Reads the headers and labels of all shards of a plan.
 *
 * @throws DataError if one is damaged or has other tensors; ConfigError if one belongs to another plan.
 */
export async function makeIndex(folder: string, plan: ShardPlan): Promise<ShardIndex> {
  const shards: ShardEntry[] = [], labels: number[] = [];
  let tensors: Record<string, RowForm> = {};
  for (let shard = 0; shard < shardCount(plan); shard++) {
    const header = await checkShard(folder, shard, plan, false), file = shardFile(shard);
    if (shard === 0) tensors = formsOf(header);
    expectForms(folder, shard, formsOf(header), tensors);
    for (const label of await readLabels(folder, shard, header)) labels.push(label);
    const bytes = header.dataStart + Math.max(...header.entries.map(({ end }) => end));
    const notes = readNotes(header);
    shards.push({
      file,
      ...shardRange(shard, plan),
      bytes,
      sha256: header.metadata.sha256,
      ...(notes !== undefined && { notes }),
    });
  }
  return { ...plan, tensors, shards, labels };
}

/** JSON with one line a key, as lists of labels are long. */
export function indexText(index: ShardIndex): string {
  const lines = Object.entries({ format: SHARD_FORMAT, ...index })
    .map(([key, value]) => `  ${JSON.stringify(key)}: ${JSON.stringify(value)}`);
  return `{\n${lines.join(",\n")}\n}\n`;
}
