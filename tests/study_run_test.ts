import assert from "node:assert/strict";
import { join } from "node:path";
import { encodePng, readJson } from "novae/io/mod.ts";
import { Rng } from "novae/tensor/mod.ts";
import type { StudyResult } from "novae/study/mod.ts";

/** A study so small that it takes seconds: an image folder of two classes, every part of the job trained. */
const OVERRIDES = [
  "data=folder",
  "data.imageSize=32",
  "encoder.images=64",
  "classifier.images=64",
  "autoencoder.images=64",
  "diffusion.images=128",
  "diffusion.size=tiny",
  "sampling.samples=40",
  "sampling.steps=2,3",
  "sampling.curveSteps=2",
  "analysis.umapPoints=24",
  "analysis.neighbours=3",
  "spaces=vae,svg",
];

Deno.test("a killed study resumes, and ends with the numbers of an uninterrupted one", async (t) => {
  const folder = await Deno.makeTempDir();
  try {
    const data = await makeFolder(join(folder, "images"));
    const command = (runs: string, ...rest: string[]) =>
      new Deno.Command(Deno.execPath(), {
        args: [
          "run",
          "-A",
          "lib/cli/main.ts",
          "reproduce",
          "--scale",
          "quick",
          "--runs",
          join(folder, runs),
          `data.path=${data}`,
          ...OVERRIDES,
          ...rest,
        ],
        stdout: "piped",
        stderr: "piped",
        env: { NO_COLOR: "1" },
      });

    const whole = await command("whole").output();
    const output = new TextDecoder().decode(whole.stdout);
    await t.step("an uninterrupted study ends with a table, a summary and a report", async () => {
      assert.equal(whole.code, 0, new TextDecoder().decode(whole.stderr));
      assert.match(output, /│ svg +│/);
      const run = join(folder, "whole", "00000-reproduce-folder-quick");
      const report = await Deno.readTextFile(join(run, "report.html"));
      assert.ok(report.includes("Latent diffusion without a VAE") && report.includes("What this run shows"));
      const result = await readJson(join(run, "summary.json")) as StudyResult;
      assert.deepEqual(result.diffusion[1].scores.map((s) => [s.imagesSeen, s.steps, s.cfgScale]), [
        [64, 2, 1],
        [128, 2, 1],
        [128, 3, 1],
        [128, 2, 1.5],
        [128, 3, 1.5],
      ]);
    });

    await t.step("a study killed in its diffusion goes on and gives the same scores", async () => {
      const child = command("killed").spawn();
      const checkpoint = join(folder, "killed", "00000-reproduce-folder-quick", "eval");
      await waitFor(() => hasFiles(checkpoint, 2));
      child.kill("SIGKILL");
      await child.output();
      const resumed = await command("killed", "--resume").output();
      assert.equal(resumed.code, 0, new TextDecoder().decode(resumed.stderr));
      assert.match(new TextDecoder().decode(resumed.stderr), /kept from before/);
      const [a, b] = await Promise.all(["whole", "killed"].map(async (runs) => {
        const path = join(folder, runs, "00000-reproduce-folder-quick", "summary.json");
        return await readJson(path) as StudyResult;
      }));
      const scores = ({ diffusion }: StudyResult) => diffusion.map((d) => d.scores.map((s) => s.frechet));
      assert.deepEqual(scores(b), scores(a));
    });

    await t.step("resuming with another configuration is refused and changes nothing", async () => {
      const refused = await command("whole", "--resume", "seed=5").output();
      const message = new TextDecoder().decode(refused.stderr);
      assert.equal(refused.code, 2, message);
      assert.match(message, /^novae: .*seed/);
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

/** 140 PNGs of two classes: noise around a dark and a light grey. */
async function makeFolder(path: string): Promise<string> {
  for (const [label, level] of [["dark", 60], ["light", 180]] as const) {
    for (const [part, count] of [["train", 60], ["test", 20]] as const) {
      const folder = join(path, part, label), rng = new Rng(1).split(label, part);
      await Deno.mkdir(folder, { recursive: true });
      for (let i = 0; i < count; i++) {
        const data = Uint8Array.from({ length: 32 * 32 * 3 }, () => level + rng.int(60) - 30);
        await Deno.writeFile(join(folder, `${i}.png`), await encodePng({ width: 32, height: 32, data }));
      }
    }
  }
  return path;
}

async function hasFiles(folder: string, count: number): Promise<boolean> {
  try {
    let found = 0;
    for await (const entry of Deno.readDir(folder)) if (entry.name.endsWith(".json")) found++;
    return found >= count;
  } catch {
    return false;
  }
}

async function waitFor(condition: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < 1200; i++) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error("the run did not get as far as its second score within two minutes");
}
