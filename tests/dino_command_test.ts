import assert from "node:assert/strict";
import { join } from "node:path";
import { Command } from "commander";
import { registerTrainEncoder } from "novae/cli/train_encoder.ts";
import { countVitParams, loadEncoder, VIT_SIZES } from "novae/dino/mod.ts";
import { hashFile } from "novae/io/mod.ts";
import { CheckpointError, ConfigError } from "novae/tensor/mod.ts";

const SIZES = ["head.hidden=16", "head.prototypes=16"];

/** Arguments of a training of seconds. */
function tinyTraining(folder: string, out: string, more: string[], changes: string[] = SIZES): string[] {
  const sizes = [
    "batchSize=4",
    "steps=4",
    "globalSize=16",
    "localSize=8",
    ...changes,
  ];
  const options = { train: 24, test: 4, size: "tiny", device: "cpu", evaluations: 2, "checkpoint-every": 2 };
  const given = Object.entries(options).flatMap(([key, value]) => [`--${key}`, String(value)]);
  const places = ["--run", join(folder, "run"), "--out", join(folder, out)];
  const set = ["--set", ...sizes.map((size) => `recipe.${size}`)];
  return ["encoder", ...given, ...places, ...set, ...more];
}

async function train(folder: string, out: string, ...more: string[]): Promise<void> {
  await runCommand(tinyTraining(folder, out, more));
}

async function runCommand(args: string[]): Promise<void> {
  const program = new Command("novae").exitOverride();
  registerTrainEncoder(program);
  await program.parseAsync(args, { from: "user" });
}

/** Runs `novae train` in a process of its own. */
function startNovae(folder: string, args: string[]): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", "lib/cli/main.ts", "train", ...args],
    env: { NO_COLOR: "1", NOVAE_CACHE: join(folder, "cache") },
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** Metrics of a run, without the times and speeds of which there are none. */
async function metricsOf(folder: string): Promise<Record<string, unknown>[]> {
  const lines = (await Deno.readTextFile(join(folder, "run/metrics.jsonl"))).trimEnd().split("\n");
  return lines.map((line) => JSON.parse(line));
}

Deno.test("train encoder writes weights, record and log, and a killed training resumes to the same bytes", async () => {
  const folder = await Deno.makeTempDir(), log = console.log;
  Deno.env.set("NOVAE_CACHE", join(folder, "cache"));
  console.log = () => {};
  try {
    await train(folder, "models/first");
    const record = JSON.parse(await Deno.readTextFile(join(folder, "models/first.json")));
    const path = join(folder, "models/first.safetensors"), { config, metadata } = await loadEncoder(path);
    assert.deepEqual(config, { ...VIT_SIZES.tiny, imageSize: 64 });
    assert.equal(metadata.imagesSeen, "16");
    assert.equal(record.sha256, await hashFile(path));
    assert.equal(record.parameters, countVitParams(config));
    assert.deepEqual(record.knn.map((point: { step: number }) => point.step), [2, 4]);
    assert.match(await Deno.readTextFile(join(folder, "models/first.log")), /k-NN accuracy of raw pixels/);

    await assert.rejects(
      train(folder, "again"),
      (e) => e instanceof ConfigError && /--resume/.test(e.message),
    );
    await assert.rejects(train(folder, "other", "--resume", "--seed", "1"), CheckpointError);

    // As after a kill between the checkpoints of steps 2 and 4.
    await Deno.remove(join(folder, "run/checkpoints/step-000004"), { recursive: true });
    await train(folder, "models/resumed", "--resume");
    assert.equal(await hashFile(join(folder, "models/resumed.safetensors")), record.sha256);
  } finally {
    console.log = log;
    Deno.env.delete("NOVAE_CACHE");
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a training killed with SIGKILL between steps resumes to the same bytes and the same metrics", async () => {
  const whole = await Deno.makeTempDir(), killed = await Deno.makeTempDir();
  const steps = ["--checkpoint-every", "1", "--workers", "1", "--recipe", "dinov2-mini"];
  const changes = [...SIZES, "steps=12", "patchHead.hidden=16", "patchHead.prototypes=16"];
  const run = (folder: string, ...more: string[]) =>
    startNovae(folder, tinyTraining(folder, "encoder", [...steps, ...more], changes));
  try {
    const { code, stderr } = await run(whole).output();
    assert.equal(code, 0, new TextDecoder().decode(stderr));
    const child = run(killed), ended = child.output();
    const place = join(killed, "run/checkpoints/step-000003");
    for (let waited = 0; waited < 600 && !await Deno.stat(place).catch(() => null); waited++) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    child.kill("SIGKILL");
    assert.equal((await ended).signal, "SIGKILL");
    assert.ok(
      !await Deno.stat(join(killed, "encoder.safetensors")).catch(() => null),
      "killed before its end",
    );
    const resumed = await run(killed, "--resume").output();
    assert.equal(resumed.code, 0, new TextDecoder().decode(resumed.stderr));
    assert.match(new TextDecoder().decode(resumed.stdout), /going on from step \d+ of 12/);
    const [wanted, found] = await Promise.all(
      [whole, killed].map((folder) => hashFile(join(folder, "encoder.safetensors"))),
    );
    assert.equal(found, wanted);
    assert.deepEqual(await metricsOf(killed), await metricsOf(whole));
    const kinds = (await metricsOf(whole)).map(({ kind, step }) => `${kind} ${step}`);
    assert.deepEqual(kinds.filter((kind) => kind.startsWith("knn")), ["knn 6", "knn 12"]);
    assert.equal(kinds.length, 14);
  } finally {
    await Promise.all([whole, killed].map((folder) => Deno.remove(folder, { recursive: true })));
  }
});

Deno.test("a Gram stage goes on from another run, and bad input is told in one line", async () => {
  const folder = await Deno.makeTempDir(), log = console.log;
  Deno.env.set("NOVAE_CACHE", join(folder, "cache"));
  console.log = () => {};
  const heads = [...SIZES, "patchHead.hidden=16", "patchHead.prototypes=16"],
    gram = ["--recipe", "dinov3-gram-mini"];
  const [first, second] = ["first", "second"].map((name) => join(folder, name));
  const stage = [...heads, "gram.cropSize=32", "gram.refreshSteps=2,2"];
  const refused = async (message: RegExp, args: string[]) =>
    await assert.rejects(
      runCommand(args),
      (e) => e instanceof ConfigError && message.test(e.message),
      String(message),
    );
  try {
    await runCommand(tinyTraining(first, "encoder", ["--recipe", "dinov3-mini"], heads));
    const from = ["--from", join(first, "run")];
    await runCommand(tinyTraining(second, "encoder", [...gram, ...from], stage));
    const [entry] = await metricsOf(second);
    assert.ok(Number(entry.gramLoss) > 0, "the anchor differs from the student");
    await runCommand(tinyTraining(join(folder, "third"), "encoder", [
      ...gram,
      "--gram-teacher",
      join(first, "encoder.safetensors"),
    ], stage));

    const fresh = join(folder, "fresh");
    await refused(
      /needs --from with a run to go on from, or --gram-teacher/,
      tinyTraining(fresh, "e", gram, stage),
    );
    await refused(
      /--from must be a run folder with checkpoints/,
      tinyTraining(fresh, "e", [...gram, "--from", folder], stage),
    );
    await refused(
      /recipe\.head must be that of the run/,
      tinyTraining(fresh, "e", [...gram, ...from], [...stage, "head.prototypes=17"]),
    );
    await refused(
      /--gram-teacher needs a recipe with Gram anchoring/,
      tinyTraining(fresh, "e", ["--gram-teacher", "x"]),
    );
    await refused(
      /masks must be null without a mask token/,
      tinyTraining(fresh, "e", ["--recipe", "dinov2-mini", "--size", "dino-vits16"], [
        ...SIZES,
        "localSize=16",
      ]),
    );
    await refused(
      /koleoWeight must be at least 0, got -1/,
      tinyTraining(fresh, "e", [], [...SIZES, "koleoWeight=-1"]),
    );
  } finally {
    console.log = log;
    Deno.env.delete("NOVAE_CACHE");
    await Deno.remove(folder, { recursive: true });
  }
});
