import assert from "node:assert/strict";
import fc from "fast-check";
import {
  LineDisplay,
  type ProgressDisplay,
  type ProgressView,
  RateClock,
  RunFolder,
  StageRunner,
  type StageRunnerOptions,
} from "novae/experiment/mod.ts";

async function newRun(): Promise<RunFolder> {
  const root = await Deno.makeTempDir(), device = { device: "cpu", reason: "asked for" };
  return await RunFolder.create({ root, name: "t", config: {}, configInput: {}, seed: 0, device });
}

/** Keeps what is shown. */
class Recorder implements ProgressDisplay {
  readonly views: ProgressView[] = [];
  readonly lines: string[] = [];
  start(view: ProgressView): void {
    this.views.push(view);
  }
  update(view: ProgressView): void {
    this.views.push(view);
  }
  finish(line: string): void {
    this.lines.push(line);
  }
  clear(): void {}
}

function runner(run: RunFolder, options: StageRunnerOptions = {}) {
  const display = new Recorder();
  return { display, stages: new StageRunner(run, { display, ...options }) };
}

Deno.test("a finished stage is not done again when the run is started again", async () => {
  const run = await newRun(), calls: string[] = [];
  const work = (name: string, fails = false) => () => {
    calls.push(name);
    if (fails) throw new Error("power cut");
    return { made: name };
  };
  const first = runner(run).stages;
  assert.deepEqual(await first.stage("data", "Data", work("data")), { made: "data" });
  await assert.rejects(async () => await first.stage("train", "Train", work("train", true)), /power cut/);
  const { stages, display } = runner(await RunFolder.open(run.path));
  assert.deepEqual(await stages.stage("data", "Data", work("data")), { made: "data" });
  assert.deepEqual(await stages.stage("train", "Train", work("train")), { made: "train" });
  assert.deepEqual(calls, ["data", "train", "train"]);
  assert.match(display.lines[0], /^✓ \[1\/1\] Data · kept from before \(0\.\d s\)$/);
  assert.deepEqual((await stages.records()).map(({ name, result }) => [name, result]), [
    ["data", { made: "data" }],
    ["train", { made: "train" }],
  ]);
});

Deno.test("a result reads the same at once and after a restart", async () => {
  const run = await newRun();
  const value = fc.jsonValue().filter((v) => !JSON.stringify(v).includes("$number"));
  const results = fc.record({
    value,
    odd: fc.constantFrom(NaN, Infinity, -Infinity, 1.5),
    none: fc.constant(undefined),
  });
  let count = 0;
  await fc.assert(
    fc.asyncProperty(results, async (result) => {
      const name = `s${++count}`;
      const once = await runner(run).stages.stage(name, "S", () => result);
      const later = await runner(run).stages.stage(name, "S", () => assert.fail("done again") as never);
      assert.deepEqual(later, once);
      assert.ok(Object.is(once.odd, result.odd));
      const { none: _, ...rest } = result;
      assert.equal(JSON.stringify(once), JSON.stringify(rest));
    }),
    { numRuns: 30 },
  );
  assert.equal(await runner(run).stages.stage("nothing", "S", () => {}), undefined);
  assert.equal(await runner(run).stages.stage("nothing", "S", () => {}), undefined);
});

Deno.test("results that are not plain JSON, names used twice and nested stages are refused", async () => {
  const { stages } = runner(await newRun());
  await assert.rejects(stages.stage("a", "A", () => ({ x: [new Float32Array(2)] })), {
    name: "TypeError",
    message: "Cannot keep a stage's result: x.0 must be plain JSON, got Float32Array; write it to a file",
  });
  await stages.stage("a", "A", () => 1);
  await assert.rejects(stages.stage("a", "A", () => 2), RangeError);
  await assert.rejects(stages.stage("A b", "A", () => 2), RangeError);
  await assert.rejects(stages.stage("b", "B", () => stages.stage("c", "C", () => 1)), /b must end first/);
  assert.equal(await stages.stage("c", "C", () => 1), 1);
});

Deno.test("a stage has files of its own and the run's status names it", async () => {
  const run = await newRun();
  await runner(run).stages.stage("train-svg", "Train", async (stage) => {
    await Deno.writeTextFile(stage.file("curve.json"), "[]");
    assert.equal(run.status.stage, "train-svg");
  });
  assert.equal(await Deno.readTextFile(`${run.path}/stages/train-svg/curve.json`), "[]");
  assert.match(
    await Deno.readTextFile(run.file("log.txt")),
    /stage train-svg begins\n.*stage train-svg done in 0/,
  );
});

Deno.test("a damaged stage record is told, not taken", async () => {
  const run = await newRun();
  await Deno.writeTextFile(run.file("stages", "a.json"), '{"name": "a"}');
  await assert.rejects(runner(run).stages.stage("a", "A", () => 1), {
    name: "CheckpointError",
    message: /stages\/a\.json: "title" must be text, got nothing; "wallSec" must be a number/,
  });
});

Deno.test("the time left follows the rate since the first report, also of resumed work", () => {
  let now = 100;
  const clock = new RateClock(() => now);
  assert.equal(clock.leftSec(600, 1000), null);
  now += 10;
  assert.equal(clock.leftSec(650, 1000), 70);
  now += 10;
  assert.equal(clock.leftSec(800, 1000), 20);
  assert.equal(clock.leftSec(1000, 1000), 0);
});

Deno.test("the total time left adds the stages to come at this machine's pace", async () => {
  let now = 0;
  const plan = [{ name: "a", expectedSec: 10 }, { name: "b", expectedSec: 20 }, {
    name: "c",
    expectedSec: 40,
  }];
  const { stages, display } = runner(await newRun(), { plan, now: () => now });
  await stages.stage("a", "A", () => {
    now += 30; // three times slower than expected
  });
  await stages.stage("b", "B", (stage) => {
    stage.update(0, 4);
    now += 10;
    stage.update(1, 4, "loss 0.5");
  });
  const [a, b, b0, b1] = display.views;
  assert.deepEqual([a.leftSec, a.totalLeftSec, a.label], [10, 70, "[1/3] A"]);
  assert.deepEqual([b.leftSec, b.totalLeftSec], [60, 180]);
  assert.deepEqual([b0.leftSec, b0.totalLeftSec], [60, 180]);
  // b is now known to take 40 instead of 20: 70 seconds for 30 expected ones
  assert.equal(b1.leftSec, 30);
  assert.ok(Math.abs(b1.totalLeftSec! - (30 + 40 * 70 / 30)) < 1e-9);
  assert.deepEqual([b1.fraction, b1.elapsedSec, b1.note], [0.25, 10, "loss 0.5"]);
});

Deno.test("without estimates the total time left is unknown, not wrong", async () => {
  const plan = [{ name: "a", expectedSec: 10 }, { name: "b" }];
  const { stages, display } = runner(await newRun(), { plan, now: () => 0 });
  await stages.stage("a", "A", () => {});
  await stages.stage("b", "B", () => {});
  assert.deepEqual(display.views.map((view) => [view.leftSec, view.totalLeftSec]), [[10, null], [
    null,
    null,
  ]]);
});

Deno.test("without a terminal there are plain lines, seconds apart", () => {
  let now = 0;
  const lines: string[] = [], display = new LineDisplay((line) => lines.push(line), 5, () => now);
  const view = {
    label: "[1/2] Train",
    fraction: 0,
    elapsedSec: 0,
    leftSec: null,
    totalLeftSec: null,
    note: "",
  };
  display.start(view);
  for (now = 1; now <= 12; now++) {
    display.update({
      ...view,
      fraction: now / 12,
      elapsedSec: now,
      leftSec: 12 - now,
      totalLeftSec: 300,
      note: "loss 1",
    });
  }
  display.finish("✓ done");
  assert.deepEqual(lines, [
    "[1/2] Train …",
    "[1/2] Train: 41% · 5.0 s · 7.0 s left · all: 5 min 00 s left · loss 1",
    "[1/2] Train: 83% · 10 s · 2.0 s left · all: 5 min 00 s left · loss 1",
    "✓ done",
  ]);
});

const haveScript = Deno.build.os === "linux" &&
  await new Deno.Command("script", { args: ["--version"], stdout: "null", stderr: "null" }).output()
    .then(({ success }) => success, () => false);
if (!haveScript) console.log("ignored: the bar on a terminal needs script from util-linux");

Deno.test({
  name: "on a terminal there is a bar, and the cursor comes back when the run is interrupted",
  ignore: !haveScript,
  fn: async () => {
    const root = await Deno.makeTempDir();
    const command = `'${Deno.execPath()}' run -A --no-check tests/experiment_stages_child.ts ${root}`;
    const args = ["-qec", `stty cols 100; ${command}`, "/dev/null"];
    const { stdout, code } = await new Deno.Command("script", { args, stdin: "null" }).output();
    const text = new TextDecoder().decode(stdout);
    assert.equal(code, 143, text);
    assert.match(text, /\[1\/1\] One █{6}░{18} 25% · 0\.\d s · loss 0\.5/);
    assert.match(text, /✓ \[1\/1\] One · 0\.\d s\r\n/);
    const [hidden, shown] = ["\x1b[?25l", "\x1b[?25h"].map((code) => text.lastIndexOf(code));
    assert.ok(hidden > 0 && shown > hidden, "the cursor stays hidden");
    assert.match(text.slice(shown), /Stopped; .*00000-bar can be gone on with \(--resume\)\.\r\n$/);
  },
});
