import assert from "node:assert/strict";
import { hashFile } from "novae/io/mod.ts";
import { openShards, writeShards } from "novae/data/mod.ts";
import { Rng } from "novae/tensor/mod.ts";
import { PLAN, rowsOf } from "./data_shards_child.ts";

const CHILD = "tests/data_shards_child.ts";
const FIRSTS = Array.from({ length: 12 }, (_, shard) => shard * 20);

async function hashes(folder: string): Promise<Record<string, string>> {
  const names = (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name).sort();
  const all = names.map(async (name) => [name, await hashFile(`${folder}/${name}`)]);
  return Object.fromEntries(await Promise.all(all));
}

/** What an undisturbed process writes. */
const whole = await (async () => {
  const folder = await Deno.makeTempDir();
  await writeShards(folder, PLAN, (first, last) => Promise.resolve(rowsOf(first, last)));
  return await hashes(folder);
})();

interface Child {
  readonly process: Deno.ChildProcess;
  /** Lets it begin. */
  go(): Promise<void>;
  /** Lines so far. */
  readonly lines: string[];
  /** Waits for its end and gives all lines. */
  readonly end: Promise<string[]>;
}

function start(folder: string, pauseMs: number): Child {
  const args = ["run", "-A", "--no-check", CHILD, folder, String(pauseMs)];
  const process = new Deno.Command(Deno.execPath(), { args, stdin: "piped", stdout: "piped" }).spawn();
  const lines: string[] = [];
  const end = (async () => {
    let text = "";
    for await (const part of process.stdout.pipeThrough(new TextDecoderStream())) {
      text += part;
      lines.splice(0, lines.length, ...text.split("\n").slice(0, -1));
    }
    await process.status;
    return lines;
  })();
  const go = async () => {
    const writer = process.stdin.getWriter();
    await writer.write(Uint8Array.of(10));
    await writer.close();
  };
  return { process, go, lines, end };
}

/** Children that begin together. */
async function startTogether(folder: string, count: number, pauseMs: number): Promise<Child[]> {
  const children = Array.from({ length: count }, () => start(folder, pauseMs));
  await until(() => children.every(({ lines }) => lines.includes("ready")));
  await Promise.all(children.map((child) => child.go()));
  return children;
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await pause(2);
}

const begun = (lines: readonly string[]) =>
  lines.filter((line) => line.startsWith("begin")).map((line) => Number(line.slice(6)));

Deno.test("killed at any moment and started again, a process leaves the same bytes as an undisturbed one", async () => {
  const rng = new Rng(5), folder = await Deno.makeTempDir();
  for (let round = 0; round < 10; round++) {
    const [child] = await startTogether(folder, 1, 3), target = 1 + rng.int(2);
    await until(() => begun(child.lines).length >= target || child.lines.includes("done"));
    await pause(rng.range(0, 25));
    child.process.kill("SIGKILL");
    assert.deepEqual(
      (await child.end).filter((line) => line.startsWith("note")),
      [],
      "no shard is ever damaged",
    );
  }
  const [child] = await startTogether(folder, 1, 0), last = await child.end;
  assert.equal(last.at(-1), "done");
  assert.deepEqual(await hashes(folder), whole);
  const store = await openShards(folder, { verify: "hash" });
  assert.deepEqual((await store.rowsAt([229, 0, 100], ["place"])).place.data, Int32Array.of(229, 0, 100));
  await store.close();
});

for (const count of [2, 3]) {
  Deno.test(`${count} processes share the work: each shard is made once, by one of them`, async () => {
    const folder = await Deno.makeTempDir();
    const children = await startTogether(folder, count, 150);
    const ends = await Promise.all(children.map(({ end }) => end));
    const made = ends.map(begun);
    assert.deepEqual(made.flat().sort((a, b) => a - b), FIRSTS);
    assert.ok(made.every((firsts) => firsts.length > 0), `shares: ${made.map((firsts) => firsts.length)}`);
    assert.ok(ends.every((lines) => lines.at(-1) === "done"));
    assert.deepEqual(await hashes(folder), whole);
  });
}

Deno.test("what a killed process had begun is made by those that live", async () => {
  const folder = await Deno.makeTempDir(), [victim] = await startTogether(folder, 1, 60_000);
  await until(() => begun(victim.lines).length > 0);
  const others = await startTogether(folder, 2, 20);
  await until(() => others.some(({ lines }) => begun(lines).length > 0));
  victim.process.kill("SIGKILL");
  await victim.end;
  const made = (await Promise.all(others.map(({ end }) => end))).map(begun);
  assert.deepEqual(begun(victim.lines), [0]);
  assert.deepEqual(made.flat().sort((a, b) => a - b), FIRSTS);
  assert.deepEqual(await hashes(folder), whole);
});

Deno.test("a process that was taken for dead drops its shard and finishes with the others", async () => {
  const folder = await Deno.makeTempDir(), silent = { heartbeatSec: 1000, staleSec: 0.2 };
  let release = () => {};
  const held = new Promise<void>((resolve) => release = resolve), calls: string[] = [];
  const slow = writeShards(folder, PLAN, async (first, last) => {
    calls.push(`slow ${first}`);
    if (first === 0) await held;
    return rowsOf(first, last);
  }, silent);
  await until(() => calls.length > 0);
  await writeShards(folder, PLAN, (first, last) => {
    calls.push(`quick ${first}`);
    return Promise.resolve(rowsOf(first, last));
  }, silent);
  assert.deepEqual(calls, ["slow 0", ...FIRSTS.slice(1).map((first) => `quick ${first}`), "quick 0"]);
  release();
  await slow;
  assert.equal(calls.length, 13);
  assert.deepEqual(await hashes(folder), whole);
});
