// deno-lint-ignore-file camelcase -- the keys are those of Hugging Face's files
/** Encoders by reference: hub, folder and file, under every naming scheme. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import {
  DinoEncoder,
  initVit,
  loadEncoder,
  openEncoder,
  ownPreprocessing,
  parsePreprocessorConfig,
  PREPROCESSING,
  readPretrained,
  saveEncoder,
  VIT_SIZES,
  vitConfigFromTransformers,
  weightSource,
} from "novae/dino/mod.ts";
import { hashFile, readSafetensors, writeSafetensors } from "novae/io/mod.ts";
import { ConfigError, float32, Rng, WeightsError } from "novae/tensor/mod.ts";
import { encode, failure, refuses, withHub } from "./hub_fixture.ts";

const golden = fileURLToPath(new URL("golden/dino_families", import.meta.url));
const { cases } = JSON.parse(await Deno.readTextFile(`${golden}/cases.json`)) as {
  cases: Record<string, { family: "dino" | "dinov2" | "dinov3"; transformers: Record<string, unknown> }>;
};
const PREPROCESSOR = {
  image_processor_type: "BitImageProcessor",
  do_resize: true,
  size: { shortest_edge: 20 },
  resample: 3,
  do_center_crop: true,
  crop_size: { height: 16, width: 16 },
  do_rescale: true,
  do_normalize: true,
  image_mean: [0.5, 0.4, 0.3],
  image_std: [0.2, 0.3, 0.4],
};

async function inFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await use(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** What the reader of weights makes of a golden checkpoint. */
async function expected(file: string, name: string) {
  const { tensors } = await readSafetensors(`${golden}/${file}`);
  const { config } = vitConfigFromTransformers(cases[name].transformers);
  return await readPretrained(weightSource(tensors), { config });
}

Deno.test("a folder in Hugging Face's layout is loaded with its settings and its preparation, for every family", () =>
  inFolder(async (root) => {
    for (const [name, { family, transformers }] of Object.entries(cases)) {
      const folder = `${root}/${name}`, file = `${name}.huggingface.safetensors`;
      await Deno.mkdir(folder);
      await Deno.copyFile(`${golden}/${file}`, `${folder}/model.safetensors`);
      await Deno.writeTextFile(`${folder}/config.json`, JSON.stringify(transformers));
      const plain = await loadEncoder(folder), wanted = await expected(file, name);
      assert.deepEqual([plain.family, plain.config, plain.params], [family, wanted.config, wanted.params]);
      assert.deepEqual(plain.preprocessing, PREPROCESSING[family], "the family's, as no file says otherwise");
      await Deno.writeTextFile(`${folder}/preprocessor_config.json`, JSON.stringify(PREPROCESSOR));
      const { preprocessing, source } = await loadEncoder(folder);
      assert.deepEqual(preprocessing, parsePreprocessorConfig(PREPROCESSOR));
      assert.deepEqual([source.reference, source.repository, source.commit], [folder, null, null]);
      assert.deepEqual(source.files.map(({ name }) => name), [
        "model.safetensors",
        "config.json",
        "preprocessor_config.json",
      ]);
      assert.equal(source.files[0].sha256, await hashFile(`${golden}/${file}`));
      assert.equal(source.files[0].bytes, (await Deno.stat(`${golden}/${file}`)).size);
    }
  }));

Deno.test("a file of Meta's names is loaded by itself, with the settings given if its shapes do not tell them", () =>
  inFolder(async (root) => {
    const path = `${root}/dinov3.pth.safetensors`;
    await Deno.copyFile(`${golden}/dinov3.meta.safetensors`, path);
    // Neither file beside it is its own.
    await Deno.writeTextFile(`${root}/config.json`, "{}");
    await Deno.writeTextFile(`${root}/preprocessor_config.json`, "{}");
    const { family, params, preprocessing, source } = await loadEncoder(path);
    assert.deepEqual([family, preprocessing], ["dinov3", PREPROCESSING.dinov3]);
    assert.deepEqual(params, (await expected("dinov3.meta.safetensors", "dinov3")).params);
    assert.deepEqual(source.files.map(({ name }) => name), ["dinov3.pth.safetensors"]);
    const other = `${golden}/dinov2.meta.safetensors`;
    await refuses(loadEncoder(other), /^Cannot load encoder .*: .*number of heads.*; give the settings/);
    const { config } = vitConfigFromTransformers(cases.dinov2.transformers);
    assert.deepEqual((await loadEncoder(other, { config })).config, config);
  }));

Deno.test("a PyTorch checkpoint of a training is loaded like safetensors of the same weights", async () => {
  const [pth, other] = await Promise.all(
    ["pth", "safetensors"].map((ending) => loadEncoder(`${golden}/dinov3.meta.${ending}`)),
  );
  assert.deepEqual([pth.family, pth.config, pth.params], [other.family, other.config, other.params]);
  assert.equal(pth.source.files[0].sha256, await hashFile(`${golden}/dinov3.meta.pth`));
});

Deno.test("settings of foreign classes beside the weights are refused, unless records of them are asked for", async () => {
  const path = `${golden}/dinov3.args.pth`;
  await assert.rejects(loadEncoder(path), /argparse\.Namespace/);
  const { config } = vitConfigFromTransformers(cases.dinov3.transformers);
  const known = await loadEncoder(path, { config, foreign: "record" });
  assert.deepEqual(known.params, (await loadEncoder(`${golden}/dinov3.meta.pth`, { config })).params);
});

Deno.test("an encoder of the project's own says its size, and images of it are only normalised", () =>
  inFolder(async (root) => {
    const path = `${root}/own.safetensors`, config = VIT_SIZES.tiny;
    await saveEncoder(path, config, initVit(new Rng(1), config), { dataset: "none" });
    const { family, preprocessing, metadata, ignored } = await loadEncoder(path);
    assert.deepEqual([family, preprocessing, ignored], ["novae", ownPreprocessing(16), []]);
    assert.equal(metadata.dataset, "none");
    const opened = await openEncoder(path, { device: "cpu" });
    const plain = await DinoEncoder.load(path, { device: "cpu" });
    const bytes = Float32Array.from({ length: 2 * 16 * 16 * 3 }, (_, i) => (7919 * i) % 256 / 255);
    const images = float32(bytes, [2, 16, 16, 3]);
    assert.equal(opened.encoder.hash, plain.hash);
    assert.deepEqual(await opened.encoder.features(images), await plain.features(images));
    const other = await opened.encoder.features(float32(new Rng(2).uniform(3 * 20 * 31 * 3), [3, 20, 31, 3]));
    assert.deepEqual(other.patchesBND.shape, [3, 16, 16]);
    await opened.encoder.dispose();
    await plain.dispose();
  }));

Deno.test("a repository of the hub is loaded at the revision asked for, and offline afterwards", () =>
  withHub(async ({ hub, options }) => {
    const model = await Deno.readFile(`${golden}/dinov2_reg.huggingface.safetensors`);
    hub.files = {
      "model.safetensors": { content: new Uint8Array(model), lfs: true },
      "config.json": { content: encode(JSON.stringify(cases.dinov2_reg.transformers)), lfs: false },
      "preprocessor_config.json": { content: encode(JSON.stringify(PREPROCESSOR)), lfs: false },
    };
    const loaded = await loadEncoder(`${hub.repo}@refs/pr/1`, options);
    assert.deepEqual(
      loaded.params,
      (await expected("dinov2_reg.huggingface.safetensors", "dinov2_reg")).params,
    );
    assert.deepEqual(loaded.preprocessing, parsePreprocessorConfig(PREPROCESSOR));
    assert.deepEqual(
      [loaded.source.reference, loaded.source.repository, loaded.source.commit],
      [`${hub.repo}@refs/pr/1`, hub.repo, hub.commit],
    );
    assert.equal(loaded.source.files.length, 3);
    hub.seen.length = 0;
    for (const reference of [`${hub.repo}@refs/pr/1`, `${hub.repo}@${hub.commit}`]) {
      const again = await loadEncoder(reference, { ...options, offline: true });
      assert.deepEqual(again.source.files, loaded.source.files);
    }
    assert.deepEqual(hub.seen, []);
    await refuses(
      loadEncoder(hub.repo, { ...options, offline: true }),
      /offline .* does not hold revision main/,
    );
  }));

Deno.test("a repository without settings of its own is remembered as such; a file that may be there is asked for", () =>
  withHub(async ({ hub, options, folder }) => {
    const model = await Deno.readFile(`${golden}/dinov3.huggingface.safetensors`);
    hub.files = {
      "model.safetensors": { content: new Uint8Array(model), lfs: true },
      "config.json": { content: encode(JSON.stringify(cases.dinov3.transformers)), lfs: false },
    };
    const { preprocessing } = await loadEncoder(hub.repo, options);
    assert.deepEqual(preprocessing, PREPROCESSING.dinov3);
    const again = await loadEncoder(hub.repo, { ...options, offline: true });
    assert.deepEqual(again.preprocessing, preprocessing);
    await Deno.remove(`${folder}/.no_exist`, { recursive: true });
    await refuses(
      loadEncoder(hub.repo, { ...options, offline: true }),
      /offline .* does not hold preprocessor_config\.json of revision main/,
    );
  }));

Deno.test("what cannot be had from the hub is told in its words", () =>
  withHub(async ({ hub, options }) => {
    hub.mischief = () => failure(403, "GatedRepo");
    await refuses(loadEncoder(hub.repo, options), /it is gated, and the token given has no access/);
  }));

Deno.test("what is no encoder is refused in one line that names it", () =>
  inFolder(async (root) => {
    const none = "no such file or folder; a repository of the hub is named like facebook/dinov2-small";
    for (const reference of [`${root}/nothing`, "nothing", "some/model.pth", "./a/b"]) {
      await refuses(loadEncoder(reference), `Cannot load encoder ${reference}: ${none}`);
    }
    const path = `${root}/other.safetensors`, tensors = { weight: float32([1], [1]) };
    await writeSafetensors(path, tensors, {});
    await refuses(loadEncoder(path), /^Cannot load encoder .*other\.safetensors: it must have patch_embed/);
    await writeSafetensors(path, tensors, { format: "novae-autoencoder-1" });
    await refuses(loadEncoder(path), /format must be novae-encoder-1, got novae-autoencoder-1$/);
    await refuses(loadEncoder(await Deno.makeTempDir()), /it must hold a \.safetensors, \.pth/);
    await Deno.copyFile(`${golden}/dinov2.huggingface.safetensors`, `${root}/model.safetensors`);
    await Deno.writeTextFile(`${root}/config.json`, JSON.stringify(cases.dinov3.transformers));
    await assert.rejects(loadEncoder(root), (error) => error instanceof WeightsError);
    await Deno.writeTextFile(`${root}/config.json`, JSON.stringify(cases.dinov2.transformers));
    await Deno.writeTextFile(`${root}/preprocessor_config.json`, JSON.stringify({ resample: 0 }));
    await assert.rejects(
      loadEncoder(root),
      (error) => error instanceof ConfigError && /preprocessor_config\.json: "resample"/.test(error.message),
    );
  }));
