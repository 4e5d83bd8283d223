import assert from "node:assert/strict";
import { Command } from "commander";
import { registerTrainClassifier } from "../lib/cli/train_classifier.ts";
import { loadClassifier } from "novae/evaluation/mod.ts";
import { hashFile } from "novae/io/mod.ts";

async function run(...args: string[]): Promise<string[]> {
  const program = new Command("novae").exitOverride(), lines: string[] = [], { log } = console;
  registerTrainClassifier(program);
  console.log = (line: string) => lines.push(line);
  try {
    await program.parseAsync(["classifier", ...args], { from: "user" });
  } finally {
    console.log = log;
  }
  return lines;
}

Deno.test("the command trains a classifier and writes weights, log and record", async () => {
  const folder = await Deno.makeTempDir(), out = `${folder}/models/c.safetensors`;
  const cache = Deno.env.get("NOVAE_CACHE");
  Deno.env.set("NOVAE_CACHE", `${folder}/cache`);
  try {
    const small = [
      "--train",
      "40",
      "--test",
      "20",
      "--images",
      "64",
      "--batch-size",
      "16",
      "--device",
      "cpu",
    ];
    const lines = await run(...small, "--out", out);
    const { record, hash } = await loadClassifier(out);
    const written = JSON.parse(await Deno.readTextFile(`${folder}/models/c.json`));
    assert.deepEqual(written.record, record);
    assert.equal(written.hash, hash);
    assert.equal(written.sha256, await hashFile(out));
    assert.deepEqual([record.imagesSeen, record.heldOut, record.dataset], [64, 20, "solids/train"]);
    assert.ok(written.curve.length >= 4 && written.curve.at(-1).accuracy === record.accuracy);
    assert.equal(await Deno.readTextFile(`${folder}/models/c.log`), lines.join("\n") + "\n");
    assert.ok(lines.some((line) => line.includes("held-out accuracy")));
    const files = [...Deno.readDirSync(`${folder}/models`)].map((entry) => entry.name).sort();
    assert.deepEqual(files, ["c.json", "c.log", "c.safetensors"]);
  } finally {
    if (cache === undefined) Deno.env.delete("NOVAE_CACHE");
    else Deno.env.set("NOVAE_CACHE", cache);
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("the command refuses a file name that is no safetensors before it does any work", async () => {
  await assert.rejects(run("--out", "model.bin"), {
    name: "ConfigError",
    message: "Cannot train classifier: --out must end in .safetensors, got model.bin",
  });
});
