/**
 * Run by data_shards_processes_test.ts: waits for a line, writes the shards of a fixed plan, tells when it begins to
 * make one and when it has all, and goes on until it is done or killed.
 */
import { float32, int32 } from "novae/tensor/mod.ts";
import { type ShardPlan, type ShardRows, writeShards } from "novae/data/mod.ts";

/** Rows of 16 KB, so that a kill often meets a write. */
export const PLAN: ShardPlan = {
  config: { encoder: "abc", images: { size: 8 } },
  count: 230,
  rowsPerShard: 20,
  dtype: "float32",
};

/** Rows that depend on their numbers alone. */
export function rowsOf(first: number, last: number): ShardRows {
  const count = last - first, width = 4096;
  const x = Float32Array.from({ length: count * width }, (_, i) => Math.sin(first * width + i));
  const place = Int32Array.from({ length: count }, (_, i) => first + i);
  return {
    tensors: { x: float32(x, [count, 64, 64]), place: int32(place, [count]) },
    labels: place.map((row) => row % 7),
  };
}

if (import.meta.main) {
  const [folder, pauseMs] = Deno.args;
  console.log("ready");
  await Deno.stdin.read(new Uint8Array(1));
  const make = async (first: number, last: number) => {
    console.log(`begin ${first}`);
    await new Promise((resolve) => setTimeout(resolve, Number(pauseMs)));
    return rowsOf(first, last);
  };
  await writeShards(folder, PLAN, make, {
    heartbeatSec: 0.2,
    staleSec: 5,
    onProgress: ({ note }) => note === undefined || console.log(`note ${note}`),
  });
  console.log("done");
}
