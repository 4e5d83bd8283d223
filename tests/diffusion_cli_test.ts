import assert from "node:assert/strict";
import { Command } from "commander";
import { initAutoencoder, latentStats, namedAutoencoder, saveAutoencoder } from "novae/autoencoder/mod.ts";
import { registerSample } from "novae/cli/sample.ts";
import { registerTrainDiffusion } from "novae/cli/train_diffusion.ts";
import { loadDiffusion, readLatents, saveDiffusion, writeLatents } from "novae/diffusion/mod.ts";
import { decodeImage, readNpz, writeNpz } from "novae/io/mod.ts";
import { ChannelMoments, float32, Rng } from "novae/tensor/mod.ts";

const COUNT = 30, TOKENS = 4, CHANNELS = 4;

function someLatents() {
  const values = new Rng(1).normal(COUNT * TOKENS * CHANNELS).map((v) => 3 * v + 1);
  return {
    latents: float32(values, [COUNT, TOKENS, CHANNELS]),
    labels: Int32Array.from({ length: COUNT }, (_, i) => i % 3),
  };
}

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir(), { log, error } = console;
  console.log = console.error = () => {};
  try {
    await body(folder);
  } finally {
    Object.assign(console, { log, error });
    await Deno.remove(folder, { recursive: true });
  }
}

function novae(...argv: string[]): Promise<unknown> {
  const program = new Command("novae").exitOverride().configureOutput({ writeErr: () => {} });
  registerTrainDiffusion(program.command("train").exitOverride());
  registerSample(program);
  return program.parseAsync(argv, { from: "user" });
}

const trainArgs = (folder: string, out: string, images: number, ...more: string[]) => [
  ...["train", "diffusion", "--latents", `${folder}/latents.npz`, "--space", "vae", "--size", "tiny"],
  ...[
    "--images",
    String(images),
    "--batch-size",
    "8",
    "--device",
    "cpu",
    "--out",
    `${folder}/${out}`,
    "--runs",
    `${folder}/runs`,
    ...more,
  ],
];

Deno.test("train diffusion and sample go from a file of latents to a picture", () =>
  inFolder(async (folder) => {
    const data = someLatents();
    await writeLatents(`${folder}/latents.npz`, data);
    await novae(...trainArgs(folder, "model.safetensors", 40));
    const model = await loadDiffusion(`${folder}/model.safetensors`, { space: "vae" });
    assert.deepEqual([model.config.channels, model.config.grid, model.config.classes], [4, 2, 3]);
    const moments = new ChannelMoments(CHANNELS);
    moments.add(data.latents);
    assert.deepEqual(model.latents, latentStats([moments]));

    // The newest checkpoint is the end of the training, so going on from it gives the same weights.
    await novae(...trainArgs(folder, "again.safetensors", 40, "--resume"));
    assert.deepEqual((await loadDiffusion(`${folder}/again.safetensors`)).params, model.params);
    await assert.rejects(
      novae(...trainArgs(folder, "x.safetensors", 48, "--resume")),
      { name: "CheckpointError", message: /"training\.images" is 40 there and 48 here/ },
    );

    const config = namedAutoencoder("tiny", { space: "vae", imageSize: 8, patchSize: 4 });
    const autoencoder = `${folder}/vae.safetensors`;
    const params = initAutoencoder(new Rng(2), config);
    await saveAutoencoder(autoencoder, { config, params, stats: model.latents });
    const sampleArgs = ["sample", "--model", `${folder}/model.safetensors`, "--autoencoder", autoencoder];
    const more = ["--steps", "2", "--count", "6", "--device", "cpu", "--cfg-scale", "2"];
    const files = ["--out", `${folder}/samples.png`, "--npz", `${folder}/samples.npz`];
    await novae(...sampleArgs, ...more, ...files);
    const picture = await decodeImage(`${folder}/samples.png`);
    assert.deepEqual([picture.width, picture.height], [3 * 10 - 2, 2 * 10 - 2]);
    const arrays = await readNpz(`${folder}/samples.npz`);
    assert.deepEqual(arrays.get("arr_0")!.shape, [6, 8, 8, 3]);
    assert.deepEqual([...arrays.get("arr_1")!.data], [0, 1, 2, 0, 1, 2]);
    const refused = (message: RegExp, ...argv: string[]) =>
      assert.rejects(novae(...sampleArgs, ...argv), { name: "ConfigError", message });
    await refused(/--label.*got 7/, "--label", "7");
    await refused(/shift must be a positive number, got 0/, "--timestep-shift", "0");
    await refused(/interval must lie in order within \[0, 1\]/, "--cfg-interval", "0.8,0.2");
    await refused(/interval must lie in order within \[0, 1\]/, "--cfg-interval", "0.8");
    await refused(/cfgMode must be constant, late, .*got sometimes/, "--cfg-mode", "sometimes");
    await refused(/rtol must be a positive number/, "--sampler", "dopri5", "--rtol", "0");
    await assert.rejects(novae(...sampleArgs, "--steps", "0"), /positive whole number/);
    await assert.rejects(novae(...sampleArgs, "--sampler", "rk4"), /euler, heun, midpoint, dpmpp2m, dopri5/);

    // In a folder the images are those of one batch, whatever the parts.
    const many = ["--folder", `${folder}/many`, "--images-per-part", "4"];
    await novae(...sampleArgs, ...more, ...many);
    const parts = (await readNpz(`${folder}/many/samples.npz`)).get("arr_0")!.data as Uint8Array;
    const whole = arrays.get("arr_0")!.data as Uint8Array;
    assert.ok(parts.every((byte, i) => Math.abs(byte - whole[i]) <= 1) && parts.length === whole.length);
    assert.equal((await decodeImage(`${folder}/many/images/000005.png`)).width, 8);
    await refused(/"config.steps" is 2 there and 3 here/, ...more, ...many, "--steps", "3");

    // Guidance by a weaker model; and none without the class for a model that always saw it.
    await novae(...sampleArgs, ...more, "--weak-model", `${folder}/again.safetensors`, ...files);
    const settings = JSON.stringify({ labelDropout: 0 });
    await saveDiffusion(`${folder}/always.safetensors`, { ...model, metadata: { settings } });
    await refused(/trained with all labels, got 2/, ...more, "--model", `${folder}/always.safetensors`);
  }));

Deno.test("commands refuse what they cannot use in one line", () =>
  inFolder(async (folder) => {
    const refused = (argv: string[], name: string, message: RegExp) =>
      assert.rejects(novae(...argv), { name, message });
    await refused(["train", "diffusion"], "ConfigError", /wanted --latents or an --autoencoder/);
    await refused(trainArgs(folder, "x", 8), "DataError", /latents\.npz/);
    await writeNpz(`${folder}/latents.npz`, {
      latents: float32([1, 2], [1, 1, 2]) as { dtype: "float32"; shape: number[]; data: Float32Array },
    });
    await refused(trainArgs(folder, "x", 8), "DataError", /"latents" and "labels" are needed, got latents/);
    const constant = { latents: float32(new Float32Array(16).fill(2), [4, 1, 4]), labels: [0, 1, 0, 1] };
    await writeLatents(`${folder}/latents.npz`, constant);
    await refused(trainArgs(folder, "x", 8), "DataError", /every channel must vary/);
    await writeLatents(`${folder}/latents.npz`, someLatents());
    await assert.rejects(
      novae(...trainArgs(folder, "x", 8, "--size", "huge")),
      /Allowed choices are .*micro/,
    );
    await refused(trainArgs(folder, "x", 8, "--learning-rate", "fast"), "ConfigError", /learningRate/);
    await refused(trainArgs(folder, "x", 8, "--resume"), "ConfigError", /must hold a run/);
  }));

Deno.test("latents come back from both kinds of file, with the space where it is kept", () =>
  inFolder(async (folder) => {
    const data = someLatents();
    for (const [name, space] of [["latents.npz", undefined], ["latents.safetensors", "svg"]] as const) {
      await writeLatents(`${folder}/${name}`, { ...data, space });
      assert.deepEqual(await readLatents(`${folder}/${name}`), { ...data, space });
    }
    await assert.rejects(readLatents(`${folder}/latents.pt`), {
      name: "DataError",
      message: /\.npz or \.safetensors/,
    });
  }));
