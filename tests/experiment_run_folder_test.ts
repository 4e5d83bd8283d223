import assert from "node:assert/strict";
import { CheckpointError, ConfigError } from "novae/tensor/mod.ts";
import { MetricsLog, readStatus, RunFolder, type RunOptions, superviseRun } from "novae/experiment/mod.ts";

const DEVICE = { device: "cpu", reason: "asked for" };
const BASE: RunOptions = {
  name: "dit-nano",
  config: { seed: 3, train: { steps: 10 } },
  configInput: { train: {} },
  argv: ["--scale", "quick"],
  seed: 3,
  device: DEVICE,
};

async function newRun(options: Partial<RunOptions> = {}): Promise<RunFolder> {
  return await RunFolder.create({ ...BASE, root: `${await Deno.makeTempDir()}/runs`, ...options });
}

async function json(path: string): Promise<Record<string, unknown>> {
  return JSON.parse(await Deno.readTextFile(path));
}

Deno.test("a new run folder says what runs, on what, from which source", async () => {
  const run = await newRun();
  assert.match(run.path, /\/runs\/00000-dit-nano$/);
  assert.equal(run.name, "dit-nano");
  assert.deepEqual(await json(run.file("config.json")), BASE.config);
  assert.deepEqual(await json(run.file("config.input.json")), BASE.configInput);
  const env = await json(run.file("env.json"));
  assert.deepEqual(env.device, DEVICE);
  assert.deepEqual(env.argv, ["--scale", "quick"]);
  assert.equal(env.seed, 3);
  assert.equal((env.deno as Record<string, string>).deno, Deno.version.deno);
  assert.match((env.packages as Record<string, string>)["onnxruntime-node"], /^\d+\.\d+\.\d+$/);
  assert.ok((env.memoryBytes as number) > 1e8 && (env.cores as number) >= 1);
  const git = env.git as { commit: string | null; reason: string | null };
  assert.ok(git.commit === null ? git.reason !== null : /^[0-9a-f]{40,64}$/.test(git.commit));
  const status = await readStatus(run.path);
  assert.equal(status.state, "running");
  assert.equal(status.pid, Deno.pid);
});

Deno.test("runs are numbered on, also when many are made at once", async () => {
  const root = `${await Deno.makeTempDir()}/runs`;
  await Deno.mkdir(`${root}/00041-old`, { recursive: true });
  const runs = await Promise.all(
    ["a", "b", "c", "a", "b", "c", "d", "e"].map((name) => RunFolder.create({ ...BASE, root, name })),
  );
  const numbers = runs.map((run) => Number(/(\d{5})-\w$/.exec(run.path)![1]));
  assert.equal(new Set(numbers).size, runs.length, String(numbers));
  assert.ok(numbers.every((number) => number >= 42));
  assert.equal((await Array.fromAsync(Deno.readDir(root))).length, runs.length + 1);
});

Deno.test("the newest run of a name is found, unfinished folders are not", async () => {
  const root = `${await Deno.makeTempDir()}/runs`;
  assert.equal(await RunFolder.latest(root, "dit-nano"), null);
  await newRun({ root });
  const newest = await newRun({ root });
  await newRun({ root, name: "other" });
  await Deno.mkdir(`${root}/00007-dit-nano`); // killed before its configuration was written
  assert.equal(await RunFolder.latest(root, "dit-nano"), newest.path);
});

Deno.test("a run is opened again with its configuration and refused with another", async () => {
  const run = await newRun();
  run.setState("stopped");
  const config = { train: { steps: 10 }, seed: 3 };
  const again = await RunFolder.open(run.path + "/", { config, argv: ["--resume"], device: DEVICE });
  assert.equal(again.path, run.path);
  assert.deepEqual(again.config, BASE.config);
  assert.equal((await readStatus(run.path)).state, "running");
  assert.deepEqual((await json(run.file("env.resumed-01.json"))).argv, ["--resume"]);
  await RunFolder.open(run.path);
  assert.ok((await Deno.stat(run.file("env.resumed-02.json"))).isFile);
  assert.deepEqual((await json(run.file("env.json"))).argv, ["--scale", "quick"]);
  await assert.rejects(RunFolder.open(run.path, { config: { seed: 3, train: { steps: 20 } } }), {
    name: "CheckpointError",
    message: `Cannot go on with ${run.path}: its configuration must be the same, ` +
      '"train.steps" is 10 there and 20 here',
  });
  await assert.rejects(RunFolder.open("/nowhere/00001-x"), {
    name: "CheckpointError",
    message: "Cannot go on with /nowhere/00001-x: it is no run folder (config.json is missing)",
  });
});

Deno.test("a run that another process is at work on cannot be opened, that of a dead process can", async () => {
  const run = await newRun();
  const child = new Deno.Command(Deno.execPath(), {
    args: ["eval", "setInterval(() => {}, 1000); console.log(1)"],
    stdout: "piped",
  }).spawn();
  const reader = child.stdout.getReader();
  await reader.read();
  const status = await json(run.file("status.json"));
  await Deno.writeTextFile(run.file("status.json"), JSON.stringify({ ...status, pid: child.pid }));
  await assert.rejects(RunFolder.open(run.path), (error: Error) => {
    assert.ok(error instanceof CheckpointError);
    return error.message.endsWith(`process ${child.pid} is at work on it; stop it first`);
  });
  child.kill("SIGKILL");
  await child.status;
  await reader.cancel();
  assert.equal((await RunFolder.open(run.path)).status.pid, Deno.pid);
});

Deno.test("names that cannot be folders are refused", async () => {
  for (const name of ["", "a/b", "../x", "a b", ".x"]) {
    await assert.rejects(newRun({ name }), ConfigError);
  }
  const file = await Deno.makeTempFile();
  await assert.rejects(newRun({ root: file }), {
    name: "NovaeError",
    message: /^Cannot make a run folder in /,
  });
});

Deno.test("the end of a run is in its status: done, or failed with the reason", async () => {
  const done = await newRun();
  assert.equal(await superviseRun(done, async () => (await done.finish({ fd: 3.5 }), 8)), 8);
  assert.equal((await readStatus(done.path)).state, "done");
  assert.deepEqual(await json(done.file("summary.json")), { fd: 3.5 });
  const failed = await newRun(), reason = new RangeError("loss is NaN");
  await assert.rejects(superviseRun(failed, () => Promise.reject(reason)), (error) => error === reason);
  const status = await readStatus(failed.path);
  assert.deepEqual([status.state, status.error], ["failed", "RangeError: loss is NaN"]);
  assert.match(await Deno.readTextFile(failed.file("log.txt")), /^\d{4}-.*Z RangeError: loss is NaN\n +at /);
});

Deno.test({
  name: "an interrupted run says stopped, a killed one still says running",
  ignore: Deno.build.os === "windows", // signals of another process cannot be caught there
  fn: async () => {
    for (
      const [signal, state, code] of [["SIGTERM", "stopped", 143], ["SIGINT", "stopped", 130], [
        "SIGKILL",
        "running",
        137,
      ]] as const
    ) {
      const root = await Deno.makeTempDir();
      const child = new Deno.Command(Deno.execPath(), {
        args: ["run", "-A", "--no-check", "tests/experiment_run_folder_child.ts", root],
        stdout: "piped",
        stderr: "piped",
      }).spawn();
      const reader = child.stdout.getReader();
      await reader.read();
      child.kill(signal);
      assert.equal((await child.status).code, code);
      await reader.cancel();
      const said = await new Response(child.stderr).text();
      const path = (await RunFolder.latest(root, "child"))!;
      assert.equal((await readStatus(path)).state, state);
      if (state === "stopped") assert.equal(said, `Stopped; ${path} can be gone on with (--resume).\n`);
      const run = await RunFolder.open(path); // its last line was half-written
      assert.deepEqual(await run.metrics.read(), [{ step: 1 }]);
    }
  },
});

Deno.test("heartbeats are written at most every five seconds, states at once", async () => {
  const run = await newRun();
  for (let step = 0; step < 100; step++) run.heartbeat(step);
  assert.equal((await readStatus(run.path)).step, 0);
  run.setState("stopped");
  assert.equal((await readStatus(run.path)).step, 99);
});

Deno.test("metrics are appended, a half-written line dropped, later steps taken back", async () => {
  const path = await Deno.makeTempFile(), log = MetricsLog.open(path);
  for (let step = 0; step < 300; step++) log.append({ step, loss: step === 7 ? NaN : 1 / (step + 1) });
  const records = await log.read();
  assert.equal(records.length, 300);
  assert.deepEqual(records.slice(6, 8), [{ step: 6, loss: 1 / 7 }, { step: 7, loss: null }]);
  await Deno.writeTextFile(path, `{"step": 300, "long": "${"x".repeat(9000)}`, { append: true });
  const again = MetricsLog.open(path);
  again.append({ step: 300 });
  assert.deepEqual(await again.read(), [...records, { step: 300 }]);
  assert.equal(await again.retain(({ step }) => (step as number) < 250), 51);
  again.append({ step: 250 });
  assert.equal((await again.read()).length, 251);
  assert.equal(await again.retain(() => true), 0);
  await Deno.writeTextFile(path, '{"step": 1}\nnonsense\n');
  await assert.rejects(again.read(), {
    name: "DataError",
    message: /: line 2 must be a JSON object, got nonsense$/,
  });
  await Deno.writeTextFile(path, "no newline at all");
  assert.deepEqual(await MetricsLog.open(path).read(), []);
});
