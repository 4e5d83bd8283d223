import assert from "node:assert/strict";
import { describeStudy, resolveStudyConfig, SCALES, stagePlan } from "novae/study/mod.ts";

Deno.test("every data set has a valid configuration at every scale, shipped models or not", () => {
  for (const scale of SCALES) {
    for (const data of ["solids", "cifar10", "folder"]) {
      for (const fromScratch of [false, true]) {
        const config = resolveStudyConfig({ scale, overrides: [`data=${data}`], fromScratch });
        assert.equal(config.data.name, data);
        assert.equal(config.encoder.path === "", data === "folder" || fromScratch);
        assert.ok(config.sampling.samples >= 1000 || scale === "quick");
      }
    }
  }
});

Deno.test("overrides change the named key and nothing else", () => {
  const base = resolveStudyConfig({ scale: "standard" });
  const changed = resolveStudyConfig({
    scale: "standard",
    overrides: ["spaces=vae,svg", "diffusion.images=99"],
  });
  assert.deepEqual(changed, {
    ...base,
    spaces: ["vae", "svg"],
    diffusion: { ...base.diffusion, images: 99 },
  });
});

for (
  const [overrides, message] of [
    [["difusion.images=10"], /difusion.*diffusion/],
    [["diffusion.images=many"], /diffusion\.images/],
    [["data=imagenet"], /data must be solids, cifar10 or folder, got imagenet/],
    [["spaces=vae,svgg"], /spaces/],
    [["sampling.checkpoints=0.5,0.9"], /must rise and end at 1, got 0\.5, 0\.9/],
    [["sampling.curveSteps=7"], /curveSteps must be among sampling\.steps 5, 10, 25, got 7/],
    [["sampling.cfgScale=0.5"], /cfgScale/],
  ] as const
) {
  Deno.test(`the override ${overrides[0]} is refused in one line that names the key`, () => {
    assert.throws(() => resolveStudyConfig({ scale: "quick", overrides }), (error: Error) => {
      assert.equal(error.name, "ConfigError");
      assert.match(error.message, message);
      assert.ok(!error.message.includes("\n"));
      return true;
    });
  });
}

Deno.test("the plan has a stage for each part and three for each space, each with an estimate", () => {
  const config = resolveStudyConfig({ scale: "quick", overrides: ["spaces=vae,svg"] });
  const plan = stagePlan(config);
  assert.deepEqual(plan.map((stage) => stage.name), [
    "data",
    "classifier",
    "encoder",
    "references",
    "autoencoder-vae",
    "latents-vae",
    "diffusion-vae",
    "autoencoder-svg",
    "latents-svg",
    "diffusion-svg",
  ]);
  assert.ok(plan.every((stage) => (stage.expectedSec ?? 0) > 0));
});

Deno.test("a dry run prints the resolved configuration, parameters, time and memory", async () => {
  const config = resolveStudyConfig({ scale: "standard" });
  const text = await describeStudy(config);
  assert.ok(text.startsWith(JSON.stringify(config, null, 2)));
  assert.match(text, /svg: 8 × 8 × 72 latents, transformer of \d+ parameters/);
  assert.match(text, /vae: 8 × 8 × 16 latents/);
  assert.match(text, /about \d+ minutes on two cores, about [\d.]+ GB of memory/);
  const absent = resolveStudyConfig({ scale: "standard", overrides: ["encoder.path=absent.safetensors"] });
  await assert.rejects(describeStudy(absent), { name: "ConfigError", message: /encoder.path/ });
});
