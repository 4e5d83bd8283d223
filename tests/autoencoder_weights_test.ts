import assert from "node:assert/strict";
import { join } from "node:path";
import {
  type AutoencoderToSave,
  CompiledAutoencoder,
  hasFeatures,
  initAutoencoder,
  latentChannels,
  loadAutoencoder,
  PAPER_SPACES,
  readAutoencoder,
  roundToHalf,
  saveAutoencoder,
  SPACE_NAMES,
  type SpaceName,
} from "novae/autoencoder/mod.ts";
import { readSafetensors, writeSafetensors } from "novae/io/mod.ts";
import {
  flattenTree,
  float32,
  type HostTensor,
  isHostTensor,
  NovaeError,
  Rng,
  WeightsError,
} from "novae/tensor/mod.ts";
import { assertSameBits, DiscImages, tinyConfig, tinyEncoder, upTo } from "./autoencoder_fixture.ts";

function modelOf(space: SpaceName, encoderHash: string): AutoencoderToSave {
  const config = tinyConfig(space), channels = latentChannels(config), rng = new Rng(2);
  return {
    config,
    params: roundToHalf(initAutoencoder(new Rng(1), config)),
    stats: { mean: rng.normal(channels), std: rng.uniform(channels).map((v) => v + 0.1), count: 640 },
    alignment: space === "svg"
      ? { featureMean: 0.1, featureStd: 1.25, residualMean: -0.3, residualStd: 1 / 3 }
      : undefined,
    encoderHash: hasFeatures(space) ? encoderHash : undefined,
    metadata: { note: "of a test" },
  };
}

async function inFolder(run: (folder: string) => Promise<void>) {
  const folder = await Deno.makeTempDir();
  try {
    await run(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const refuses = async (load: Promise<unknown>, message: RegExp) =>
  await assert.rejects(load, (error) => {
    assert.ok(error instanceof WeightsError, String(error));
    assert.match(error.message, message);
    assert.ok(!error.message.includes("\n"));
    return true;
  });

for (const space of SPACE_NAMES) {
  Deno.test(`${space} comes back from its file bit for bit and encodes as before`, () =>
    inFolder(async (folder) => {
      const encoder = tinyEncoder(), model = modelOf(space, encoder.hash);
      const path = join(folder, "ae.safetensors");
      await saveAutoencoder(path, model);
      const file = await readAutoencoder(path);
      assertSameBits(file.params, model.params);
      assert.deepEqual(file.config, model.config);
      assert.deepEqual(file.stats, model.stats);
      assert.deepEqual(file.alignment, model.alignment);
      assert.equal(file.metadata.note, "of a test");
      const own = { ...model, encoder, device: "cpu" } as const;
      const before = new CompiledAutoencoder(model.config, model.params, own);
      const after = await loadAutoencoder(path, { encoder, device: "cpu" });
      const images = new DiscImages(2).images(upTo(2));
      assertSameBits(await after.encode(images), await before.encode(images));
      assert.deepEqual(after.stats, model.stats);
      for (const disposable of [before, after, encoder]) await disposable.dispose();
    }));
}

for (const space of PAPER_SPACES) {
  Deno.test(`the shipped autoencoder of ${space} has the settings and weights that its file was written with`, async () => {
    const path = `data/models/ae-${space}-solids.safetensors`;
    const { config, params } = await readAutoencoder(path),
      { tensors, metadata } = await readSafetensors(path);
    assert.deepEqual(config, JSON.parse(metadata.config));
    const leaves = flattenTree<HostTensor>(params, isHostTensor);
    assert.deepEqual(leaves.map(({ path }) => path).sort(), [...tensors.keys()].sort());
    for (const { path, value } of leaves) assert.deepEqual(value.data, tensors.get(path)!.data, path);
  });
}

Deno.test("another encoder than the one of the training is refused, and none too", () =>
  inFolder(async (folder) => {
    const encoder = tinyEncoder(5), other = tinyEncoder(6), path = join(folder, "ae.safetensors");
    await saveAutoencoder(path, modelOf("svg", encoder.hash));
    await refuses(
      loadAutoencoder(path, { encoder: other }),
      new RegExp(`encoder ${encoder.hash.slice(0, 12)}…, got`),
    );
    await refuses(loadAutoencoder(path), /got none/);
    await (await loadAutoencoder(path, { encoder })).dispose();
    await encoder.dispose();
    await other.dispose();
  }));

Deno.test("missing, unexpected and misshapen weights are listed by name", () =>
  inFolder(async (folder) => {
    const path = join(folder, "ae.safetensors");
    await saveAutoencoder(path, modelOf("dino", "abc"));
    const { tensors, metadata } = await readSafetensors(path);
    const changed = new Map(tensors);
    changed.delete("decoder.convIn.bias");
    changed.set("decoder.extra", float32([1], [1]));
    changed.set("decoder.normOut.weight", float32([1, 2], [2]));
    await writeSafetensors(path, changed, metadata);
    await refuses(
      readAutoencoder(path),
      /missing decoder\.convIn\.bias; unexpected decoder\.extra; misshapen decoder\.normOut\.weight: wanted \[4\], got \[2\]/,
    );
  }));

Deno.test("damaged, foreign and contradictory files are refused with the reason", () =>
  inFolder(async (folder) => {
    const path = join(folder, "ae.safetensors"), bad = join(folder, "bad.safetensors");
    await saveAutoencoder(path, modelOf("svg", "abc"));
    const { tensors, metadata } = await readSafetensors(path);
    const withMetadata = async (change: Record<string, string | undefined>, message: RegExp) => {
      const merged = Object.entries({ ...metadata, ...change }).filter(([, value]) => value !== undefined);
      await writeSafetensors(bad, tensors, Object.fromEntries(merged) as Record<string, string>);
      await refuses(readAutoencoder(bad), message);
    };
    await withMetadata({ format: "other" }, /format must be novae-autoencoder-1, got other/);
    await withMetadata({ config: "{" }, /metadata "config" must be valid/);
    await withMetadata({ config: JSON.stringify({ space: "svg" }) }, /metadata "config" must be valid/);
    await withMetadata({ stats: undefined }, /metadata "stats" is needed/);
    await withMetadata(
      { stats: JSON.stringify({ mean: [0], std: [1], count: 2 }) },
      /18 channels are needed, got 1/,
    );
    await withMetadata({ alignment: undefined }, /needs statistics of the alignment/);
    await withMetadata({ alignment: "[]" }, /metadata "alignment" must be valid/);
    await withMetadata({ encoder: undefined }, /needs the hash of its encoder/);
    const bytes = await Deno.readFile(path);
    await Deno.writeFile(bad, bytes.subarray(0, bytes.length - 10));
    await refuses(readAutoencoder(bad), /bad\.safetensors/);
    await refuses(readAutoencoder(join(folder, "none.safetensors")), /none\.safetensors/);
  }));

Deno.test("what does not fit is not written, and an earlier file stays", () =>
  inFolder(async (folder) => {
    const path = join(folder, "ae.safetensors"), model = modelOf("svg", "abc");
    await saveAutoencoder(path, model);
    const before = await Deno.readFile(path);
    await refuses(
      saveAutoencoder(path, { ...model, alignment: undefined }),
      /needs statistics of the alignment/,
    );
    const { decoder: _, ...rest } = model.params;
    await refuses(
      saveAutoencoder(path, { ...model, params: rest as typeof model.params }),
      /missing decoder/,
    );
    const huge = structuredClone(model.params);
    huge.decoder.convIn.bias.data[0] = 1e6;
    await refuses(saveAutoencoder(path, { ...model, params: huge }), /float16 must stay within/);
    assert.deepEqual(await Deno.readFile(path), before);
    await assert.rejects(saveAutoencoder(join(folder, "no", "folder.safetensors"), model), NovaeError);
    assert.deepEqual([...Deno.readDirSync(folder)].map((entry) => entry.name), ["ae.safetensors"]);
  }));
