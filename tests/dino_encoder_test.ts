import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import {
  DinoEncoder,
  imageDinoFromUnit,
  initVit,
  loadEncoder,
  saveEncoder,
  vit,
  VIT_SIZES,
  type VitParams,
} from "novae/dino/mod.ts";
import { readSafetensors, writeSafetensors } from "novae/io/mod.ts";
import {
  flattenTree,
  float32,
  type HostTensor,
  isHostTensor,
  mapTree,
  Rng,
  rows,
  WeightsError,
} from "novae/tensor/mod.ts";

await tf.setBackend("cpu");

const config = VIT_SIZES.tiny;

async function withFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await use(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("an encoder survives saving and loading up to float16 rounding", () =>
  withFolder(async (folder) => {
    const path = `${folder}/encoder.safetensors`, params = initVit(new Rng(1), config);
    await saveEncoder(path, config, params, { dataset: "none" });
    const loaded = await loadEncoder(path);
    assert.deepEqual(loaded.config, config);
    assert.equal(loaded.metadata.dataset, "none");
    const before = flattenTree<HostTensor>(params, isHostTensor);
    const after = flattenTree<HostTensor>(loaded.params, isHostTensor);
    assert.deepEqual(after.map((leaf) => leaf.path), before.map((leaf) => leaf.path));
    before.forEach((leaf, i) =>
      leaf.value.data.forEach((v, j) =>
        assert.ok(Math.abs(v - after[i].value.data[j]) <= Math.abs(v) / 2048 + 1e-7, leaf.path)
      )
    );
    // Saved once more, nothing is left to round.
    await saveEncoder(`${folder}/again.safetensors`, config, loaded.params);
    assert.deepEqual((await loadEncoder(`${folder}/again.safetensors`)).params, loaded.params);
  }));

Deno.test("loading lists missing, unexpected and misshapen weights", () =>
  withFolder(async (folder) => {
    const path = `${folder}/encoder.safetensors`;
    await saveEncoder(path, config, initVit(new Rng(1), config));
    const { tensors, metadata } = await readSafetensors(path);
    tensors.delete("norm.bias");
    tensors.set("extra", float32([1], [1]));
    tensors.set("clsToken", float32([1, 2], [1, 2]));
    await writeSafetensors(path, tensors, metadata);
    await assert.rejects(loadEncoder(path), (error) => {
      assert.ok(error instanceof WeightsError);
      assert.match(
        error.message,
        /missing norm\.bias; unexpected extra; misshapen clsToken: wanted \[1,16\], got \[1,2\]/,
      );
      return true;
    });
  }));

Deno.test("files that are no encoder are refused", () =>
  withFolder(async (folder) => {
    const path = `${folder}/other.safetensors`, tensors = { weight: float32([1], [1]) };
    const refused = (message: RegExp) =>
      assert.rejects(loadEncoder(path), (e) => e instanceof WeightsError && message.test(e.message));
    await refused(/other\.safetensors/);
    await writeSafetensors(path, tensors, {});
    await refused(/it must have patch_embed\.proj\.weight/);
    await writeSafetensors(path, tensors, { format: "novae-encoder-1", config: "{" });
    await refused(/settings must be valid/);
    await writeSafetensors(path, tensors, {
      format: "novae-encoder-1",
      config: JSON.stringify({ ...config, depth: 0 }),
    });
    await refused(/"depth" must be a positive number, got 0/);
  }));

Deno.test("weights that do not fit their settings are not saved", () =>
  withFolder(async (folder) => {
    const path = `${folder}/encoder.safetensors`, params = initVit(new Rng(1), config);
    await assert.rejects(saveEncoder(path, { ...config, registers: 3 }, params), WeightsError);
    await assert.rejects(Deno.stat(path), Deno.errors.NotFound);
  }));

Deno.test("features of many images do not depend on how they are split into batches", async () => {
  const params = initVit(new Rng(1), config);
  const images = float32(new Rng(2).uniform(5 * 16 * 16 * 3), [5, 16, 16, 3]);
  const encoder = new DinoEncoder(config, params, { device: "cpu", batchSize: 2 });
  const { clsBD, patchesBND } = await encoder.features(images);
  assert.deepEqual([clsBD.shape, patchesBND.shape], [[5, 16], [5, 16, 16]]);
  const weights = mapTree<VitParams>(params, isHostTensor, (leaf) => {
    const { data, shape } = leaf as HostTensor;
    return tf.tensor(data, [...shape]);
  });
  const plain = vit(imageDinoFromUnit(tf.tensor(images.data, [5, 16, 16, 3])), weights, config);
  for (const [got, wanted] of [[clsBD, plain.clsBD], [patchesBND, plain.patchesBND]] as const) {
    const reference = wanted.dataSync();
    got.data.forEach((v, i) =>
      assert.ok(Math.abs(v - reference[i]) < 1e-4, `[${i}] ${v} and ${reference[i]}`)
    );
  }
  const last = await encoder.features(rows(images, 4, 5));
  last.clsBD.data.forEach((v, i) => assert.ok(Math.abs(v - clsBD.data[4 * 16 + i]) < 1e-5));
  await assert.rejects(encoder.features(float32([], [0, 16, 16, 3])), TypeError);
  await assert.rejects(encoder.features(float32(new Float32Array(48), [1, 4, 4, 3].slice(1))), TypeError);
  await encoder.dispose();
});

Deno.test("the hash of an encoder tells its weights and settings apart", () => {
  const hashOf = (seed: number, settings = config) =>
    new DinoEncoder(settings, initVit(new Rng(seed), config)).hash;
  assert.equal(hashOf(1), hashOf(1));
  assert.notEqual(hashOf(1), hashOf(2));
  assert.notEqual(hashOf(1), hashOf(1, { ...config, ropeTheta: 50 }));
});
