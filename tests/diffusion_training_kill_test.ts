/** Trainings whose process is killed or whose disk is full. */
import assert from "node:assert/strict";
import { Rng } from "novae/tensor/mod.ts";

const CHILD = "tests/diffusion_training_child.ts";
const STEPS = 150, KILLS = 20;

/** When a process is killed: so long after it says a line, or after its start. */
interface Moment {
  readonly line: RegExp | null;
  readonly afterMs: number;
}

/** Starts a training and kills it at a moment; without one it runs to its end. */
async function run(folder: string, moment?: Moment): Promise<{ signal: string | null; code: number }> {
  const args = ["run", "-A", "--no-check", CHILD, folder, String(STEPS)];
  const child = new Deno.Command(Deno.execPath(), { args, stdout: "piped", stderr: "inherit" }).spawn();
  const killed = async () => {
    await new Promise((resolve) => setTimeout(resolve, moment!.afterMs));
    try {
      child.kill("SIGKILL");
    } catch { /* it ended by itself */ }
  };
  if (moment?.line === null) void killed();
  let text = "", waits = moment?.line instanceof RegExp;
  for await (const bytes of child.stdout) {
    text += new TextDecoder().decode(bytes);
    if (!waits || !moment!.line!.test(text)) continue;
    waits = false;
    void killed();
  }
  const { signal, code } = await child.status;
  return { signal, code };
}

/** Kills during the start, between and within updates, and while a checkpoint is written. */
function moments(): Moment[] {
  const rng = new Rng(17);
  return Array.from({ length: KILLS }, (_, i): Moment => {
    const count = 1 + rng.int(7), lines = (word: string) => new RegExp(`(${word} \\d+[^]*){${count}}`);
    if (i % 7 === 0) return { line: null, afterMs: rng.range(0, 600) };
    if (i % 2 === 0) return { line: lines("step"), afterMs: rng.range(0, 12) };
    return { line: lines("saving"), afterMs: rng.range(0, 12) };
  });
}

/** What a training leaves: names, bytes of tensors, and what is said of each checkpoint but when it was made. */
async function left(folder: string): Promise<Record<string, unknown>> {
  const found: Record<string, unknown> = {};
  for await (const { name } of Deno.readDir(folder)) {
    for (const part of ["weights", "state"]) {
      found[`${name} ${part}`] = await Deno.readFile(`${folder}/${name}/${part}.safetensors`);
    }
    const { created: _, ...said } = JSON.parse(await Deno.readTextFile(`${folder}/${name}/state.json`));
    found[`${name} says`] = said;
  }
  return found;
}

Deno.test("a training killed twenty times at any moment ends with the bytes of an uninterrupted one", async () => {
  const whole = await Deno.makeTempDir(), cut = await Deno.makeTempDir();
  assert.equal((await run(whole)).code, 0);
  let kills = 0;
  for (const moment of moments()) kills += (await run(cut, moment)).signal === "SIGKILL" ? 1 : 0;
  assert.equal(kills, KILLS, "none came too late");
  assert.equal((await run(cut)).code, 0);
  const wanted = await left(whole), got = await left(cut);
  assert.ok(`step-000${STEPS} weights` in wanted);
  assert.deepEqual(got, wanted);
  await Promise.all([whole, cut].map((folder) => Deno.remove(folder, { recursive: true })));
});

const canMount = Deno.build.os === "linux" &&
  await new Deno.Command("unshare", { args: ["-rm", "mount", "-t", "tmpfs", "none", "/mnt"], stderr: "null" })
    .output().then(({ success }) => success, () => false);
if (!canMount) console.log("ignored: the full-disk test needs unshare and a tmpfs of its own");

Deno.test({
  name:
    "a training whose disk fills up ends in one line with status 2, and goes on from the checkpoint before",
  ignore: !canMount,
  fn: async () => {
    const folder = await Deno.makeTempDir();
    // The second start has no room either, but finds what the first one left.
    const script = `mount -t tmpfs -o size=400k none "$1"
      for start in 1 2; do
        "$2" run -A --no-check "$3" "$1" 20 9 2>&1; echo "status $?"; ls -A "$1"
      done`;
    const child = await new Deno.Command("unshare", {
      args: ["-rm", "sh", "-c", script, "sh", folder, Deno.execPath(), CHILD],
    }).output();
    const lines = new TextDecoder().decode(child.stdout).trim().split("\n");
    const saved = lines.filter((line) => line.startsWith("saved")).map((line) => Number(line.split(" ")[1]));
    const last = saved.at(-1)!, full = last + 2;
    const error = `Cannot write ${folder}/.tmp-step-${String(full).padStart(6, "0")}/`;
    const ends = lines.filter((line) => !/^(step|saving|saved) \d+$/.test(line));
    const kept = saved.map((step) => `step-${String(step).padStart(6, "0")}`);
    assert.ok(saved.length >= 2, lines.join("\n"));
    assert.deepEqual(ends.map((line) => line.replace(/(?<=\.tmp-step-\d+\/)[^:]+/, "FILE")), [
      "from 0",
      `${error}FILE: no space left on the device; free some and run again`,
      "status 2",
      ...kept,
      `from ${last}`,
      `${error}FILE: no space left on the device; free some and run again`,
      "status 2",
      ...kept,
    ]);
  },
});
