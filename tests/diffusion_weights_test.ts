import assert from "node:assert/strict";
import {
  type DiffusionModel,
  type DitConfig,
  ditConfig,
  initDit,
  loadDiffusion,
  saveDiffusion,
} from "novae/diffusion/mod.ts";
import { readSafetensors, writeSafetensors } from "novae/io/mod.ts";
import { flattenTree, float32, type HostTensor, isHostTensor, Rng } from "novae/tensor/mod.ts";

const CONFIG = ditConfig("tiny", { channels: 3, grid: 2, classes: 2 });

const model = (): DiffusionModel => ({
  config: CONFIG,
  params: initDit(new Rng(1), CONFIG),
  space: "svg",
  latents: { mean: Float32Array.of(1, 2, 3), std: Float32Array.of(0.5, 1, 2), count: 400 },
  metadata: { trained: "20000 images" },
});

async function inFolder(body: (path: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await body(`${folder}/model.safetensors`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("a saved model comes back with configuration, weights, space, latent scale and metadata", () =>
  inFolder(async (path) => {
    await saveDiffusion(path, model());
    assert.deepEqual(await loadDiffusion(path, { config: CONFIG, space: "svg" }), model());
    await saveDiffusion(path, model(), { dtype: "float16" });
    const half = flattenTree<HostTensor>((await loadDiffusion(path)).params, isHostTensor);
    const full = flattenTree<HostTensor>(model().params, isHostTensor);
    half.forEach(({ value }, i) =>
      value.data.forEach((v, k) =>
        assert.ok(Math.abs(v - full[i].value.data[k]) <= Math.abs(v) * 2 ** -10 + 1e-7)
      )
    );
  }));

Deno.test("a model with options comes back with them, and is refused where others are expected", () =>
  inFolder(async (path) => {
    const head = { width: 48, depth: 1, heads: 4 };
    const options = { norm: "rms", mlp: "swiglu", rope: true, patchSize: 2, head } as const;
    const config = ditConfig("tiny", { channels: 3, grid: 2, classes: 2, ...options });
    await saveDiffusion(path, { ...model(), config, params: initDit(new Rng(1), config) });
    const back = await loadDiffusion(path, { config });
    assert.deepEqual([back.config, back.params], [config, initDit(new Rng(1), config)]);
    const refused = (expected: DitConfig, message: RegExp) =>
      assert.rejects(loadDiffusion(path, { config: expected }), { name: "CheckpointError", message });
    await refused({ ...config, head: { ...head, depth: 2 } }, /head must be .*"depth":2.*, got .*"depth":1/);
    await refused({ ...config, rope: false }, /rope must be the default, got true$/);
    await refused(
      { ...CONFIG, norm: "rms", mlp: "swiglu", rope: true, head },
      /patchSize must be the default, got 2$/,
    );
  }));

Deno.test("a model of another configuration or latent space is refused", () =>
  inFolder(async (path) => {
    await saveDiffusion(path, model());
    await assert.rejects(loadDiffusion(path, { config: { ...CONFIG, depth: 3 } }), {
      name: "CheckpointError",
      message: /depth must be 3, got 2/,
    });
    await assert.rejects(loadDiffusion(path, { space: "vae" }), {
      name: "CheckpointError",
      message: /latent space must be vae, got svg/,
    });
  }));

Deno.test("missing, unexpected, misshapen and foreign files are refused, each by name", () =>
  inFolder(async (path) => {
    const damaged = async (
      change: (tensors: Map<string, HostTensor>, metadata: Record<string, string>) => void,
    ) => {
      await saveDiffusion(path, model());
      const { tensors, metadata } = await readSafetensors(path);
      change(tensors, metadata);
      await writeSafetensors(path, tensors, metadata);
    };
    const refused = (name: string, message: RegExp) => assert.rejects(loadDiffusion(path), { name, message });

    await refused("WeightsError", /model\.safetensors/);
    await damaged((tensors) => tensors.delete("transformer.blocks.1.mlp.fc2.bias"));
    await refused("WeightsError", /missing transformer\.blocks\.1\.mlp\.fc2\.bias$/);
    await damaged((tensors) => tensors.set("transformer.extra", float32([1], [1])));
    await refused("WeightsError", /unexpected transformer\.extra$/);
    await damaged((tensors) => tensors.set("latents.mean", float32([1], [1])));
    await refused("WeightsError", /misshapen latents\.mean: wanted \[3\], got \[1\]/);
    await damaged((_, metadata) => metadata.config = JSON.stringify({ ...CONFIG, heads: 5 }));
    await refused("CheckpointError", /heads must divide/);
    await damaged((_, metadata) => metadata.config = "{");
    await refused("CheckpointError", /configuration must be valid/);
    await damaged((_, metadata) => delete metadata.format);
    await refused("CheckpointError", /format must be novae.diffusion.1, got none/);

    await saveDiffusion(path, model());
    const bytes = await Deno.readFile(path);
    await Deno.writeFile(path, bytes.subarray(0, bytes.length - 100));
    await refused("WeightsError", /model\.safetensors/);
  }));

Deno.test("a model that does not fit its configuration is not saved and leaves an earlier file untouched", () =>
  inFolder(async (path) => {
    await saveDiffusion(path, model());
    const before = await Deno.readFile(path);
    await assert.rejects(saveDiffusion(path, { ...model(), config: { ...CONFIG, channels: 4 } }), {
      name: "WeightsError",
      message: /wanted \[4,32\], got \[3,32\]/,
    });
    await assert.rejects(saveDiffusion(path, { ...model(), metadata: { space: "x" } }), RangeError);
    assert.deepEqual(await Deno.readFile(path), before);
  }));
