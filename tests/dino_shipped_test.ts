import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { countVitParams, DinoEncoder, loadEncoder } from "novae/dino/mod.ts";
import { knnClassify } from "novae/analysis/mod.ts";
import { type Dataset, loadDataset } from "novae/data/mod.ts";
import { hashFile } from "novae/io/mod.ts";
import { asMatrix, float32, Rng } from "novae/tensor/mod.ts";

const modelPath = (name: string) =>
  fileURLToPath(new URL(`../data/models/${name}.safetensors`, import.meta.url));
const path = modelPath("encoder-solids");

const models = [...Deno.readDirSync(new URL("../data/models", import.meta.url))].map(({ name }) => name);
for (const file of models.filter((name) => /^encoder-.*\.safetensors$/.test(name))) {
  const name = file.replace(/\.safetensors$/, "");
  Deno.test(`${name} is the encoder that its record describes`, () => assertRecorded(modelPath(name)));
}

async function assertRecorded(path: string): Promise<void> {
  const record = JSON.parse(await Deno.readTextFile(path.replace(/safetensors$/, "json")));
  const { config, metadata } = await loadEncoder(path);
  assert.equal(await hashFile(path), record.sha256);
  assert.deepEqual(config, record.vit);
  assert.equal(countVitParams(config), record.parameters);
  assert.ok(record.parameters <= 3_000_000);
  assert.equal(metadata.datasetHash, record.data.hash);
  assert.equal(Number(metadata.knnAccuracy), record.standardised.clsAccuracy);
  assert.match(record.command, /^deno task novae train encoder /);
  assert.match(await Deno.readTextFile(path.replace(/safetensors$/, "log")), /k-NN accuracy of raw pixels/);
}

Deno.test("the shipped encoder tells the kinds of solids apart", async () => {
  const encoder = await DinoEncoder.load(path, { device: "cpu" });
  // Another seed than that of its training; fewer references than the 5,000 of its record make neighbours rarer.
  const { train, test } = await loadDataset({
    name: "solids",
    train: 1000,
    test: 300,
    seed: 1,
    cacheDir: null,
  });
  const labelled = async (set: Dataset) => {
    const indices = Int32Array.from({ length: set.size }, (_, i) => i);
    const { clsBD } = await encoder.features(set.images(indices));
    return { features: asMatrix(clsBD), labels: set.labels(indices) };
  };
  const { accuracy } = await knnClassify(await labelled(train), await labelled(test));
  assert.ok(accuracy >= 0.9, `k-NN accuracy ${accuracy}`);
  await encoder.dispose();
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
