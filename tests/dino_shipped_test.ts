import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { countVitParams, DinoEncoder, loadEncoder } from "novae/dino/mod.ts";
import { hashFile } from "novae/io/mod.ts";
import { float32, Rng } from "novae/tensor/mod.ts";

const path = fileURLToPath(new URL("../data/models/encoder-solids.safetensors", import.meta.url));
const record = JSON.parse(await Deno.readTextFile(path.replace(/safetensors$/, "json")));

Deno.test("the shipped encoder is the one that its record describes", async () => {
  const { config, metadata } = await loadEncoder(path);
  assert.equal(await hashFile(path), record.sha256);
  assert.deepEqual(config, record.vit);
  assert.equal(countVitParams(config), record.parameters);
  assert.ok(record.parameters <= 3_000_000);
  assert.equal(metadata.datasetHash, record.data.hash);
  assert.equal(Number(metadata.knnAccuracy), record.knn.at(-1).clsAccuracy);
  assert.match(record.command, /^deno task novae train encoder /);
  assert.match(await Deno.readTextFile(path.replace(/safetensors$/, "log")), /k-NN accuracy of raw pixels/);
});

Deno.test("the shipped encoder gives finite features that tell images apart", async () => {
  const encoder = await DinoEncoder.load(path, { device: "cpu" });
  const images = float32(new Rng(1).uniform(3 * 64 * 64 * 3), [3, 64, 64, 3]);
  const { clsBD, patchesBND } = await encoder.features(images);
  assert.deepEqual(patchesBND.shape, [3, 64, encoder.width]);
  assert.ok([...clsBD.data, ...patchesBND.data].every(Number.isFinite));
  const first = clsBD.data.subarray(0, encoder.width),
    second = clsBD.data.subarray(encoder.width, 2 * encoder.width);
  assert.ok(first.some((v, i) => Math.abs(v - second[i]) > 1e-2));
  await encoder.dispose();
});
