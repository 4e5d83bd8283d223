import assert from "node:assert/strict";
import { join } from "node:path";
import { Command } from "commander";
import { registerTrainEncoder } from "novae/cli/train_encoder.ts";
import { countVitParams, loadEncoder, VIT_SIZES } from "novae/dino/mod.ts";
import { hashFile } from "novae/io/mod.ts";
import { CheckpointError, ConfigError } from "novae/tensor/mod.ts";

async function train(folder: string, out: string, ...more: string[]): Promise<void> {
  const program = new Command("novae").exitOverride();
  registerTrainEncoder(program);
  const sizes = [
    "batchSize=4",
    "steps=4",
    "globalSize=16",
    "localSize=8",
    "head.hidden=16",
    "head.prototypes=16",
  ];
  const options = { train: 24, test: 4, size: "tiny", device: "cpu", evaluations: 2, "checkpoint-every": 2 };
  const given = Object.entries(options).flatMap(([key, value]) => [`--${key}`, String(value)]);
  const places = ["--run", join(folder, "run"), "--out", join(folder, out)];
  const set = ["--set", ...sizes.map((size) => `recipe.${size}`)];
  await program.parseAsync(["encoder", ...given, ...places, ...set, ...more], { from: "user" });
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
