/** Commands of novae in this process and in processes of their own, and labelled images for them. */
import assert from "node:assert/strict";
import { main } from "novae/cli/mod.ts";
import { writeImages } from "./extraction_fixture.ts";

/** What a command came to. */
export interface Finished {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** The command in a process of its own, which can be killed. */
export function command(args: readonly string[]): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", "lib/cli/main.ts", ...args],
    env: { NO_COLOR: "1" },
    stdout: "piped",
    stderr: "piped",
  });
}

/** The command in this process. */
export async function novae(...args: string[]): Promise<Finished> {
  const { log, error } = console, out: string[] = [], err: string[] = [];
  console.log = (line: string) => out.push(line);
  console.error = (line: string) => err.push(line);
  try {
    return { code: await main(args), out: out.join("\n"), err: err.join("\n") };
  } finally {
    Object.assign(console, { log, error });
  }
}

/** The command in this process, which must succeed; what it printed. */
export async function succeeds(...args: string[]): Promise<string> {
  const { code, out, err } = await novae(...args);
  assert.equal(code, 0, err);
  return out;
}

/** One line on standard error and exit status 2. */
export async function isRefused(args: readonly string[], message: RegExp): Promise<void> {
  const { code, err } = await novae(...args),
    told = err.split("\n").filter((line) => line.startsWith("novae: "));
  assert.deepEqual([code, told.length], [2, 1], err);
  assert.match(told[0], message);
}

/** Starts a command and kills it as soon as a file is there. */
export async function killedAt(file: string, args: readonly string[]): Promise<void> {
  const child = command(args).spawn(), end = child.output();
  let ended = false;
  end.then(() => ended = true);
  while (!ended && !await exists(file)) await new Promise((resolve) => setTimeout(resolve, 2));
  assert.ok(!ended, `the command ended before ${file} was there`);
  child.kill("SIGKILL");
  await end;
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

/** Writes `train` and `test` with noisy images of 16 to 25 pixels a side in three classes. */
export async function writeSplits(folder: string, counts: { train: number; test: number }): Promise<void> {
  for (const [part, count] of Object.entries(counts)) await writeImages(`${folder}/${part}`, count);
}
