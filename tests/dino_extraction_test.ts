/** Features of data sets in shards against the encoder on the same images. */
import assert from "node:assert/strict";
import { loadDataset, openImageFolder, openShards, packDataset } from "novae/data/mod.ts";
import {
  DinoEncoder,
  type DinoFeatures,
  extractFeatures,
  type ExtractionOptions,
  type ExtractionProgress,
  type LoadedEncoder,
  loadEncoder,
  PREPROCESSING,
  preprocessingAt,
} from "novae/dino/mod.ts";
import { decodeImage, imagesToUnit, readJson } from "novae/io/mod.ts";
import { concatRows, ConfigError, DataError, DeviceError, type HostTensor, Rng } from "novae/tensor/mod.ts";
import { hashes, inFolder, writeEncoder, writeImages } from "./extraction_fixture.ts";

const all = (n: number) => Array.from({ length: n }, (_, i) => i);

/** The project's tolerance of float32, or float16's rounding. */
function assertClose(got: HostTensor, wanted: HostTensor, half = false): void {
  assert.deepEqual(got.shape, wanted.shape);
  const [relative, absolute] = half ? [2 ** -10, 2 ** -14] : [1e-4, 1e-5];
  got.data.forEach((value, i) => {
    const limit = absolute + relative * Math.abs(wanted.data[i]);
    assert.ok(Math.abs(value - wanted.data[i]) <= limit, `[${i}] ${value} and ${wanted.data[i]}`);
  });
}

/** A place with an encoder and 23 images. */
async function withImages(use: (root: string, encoder: LoadedEncoder) => Promise<void>): Promise<void> {
  await inFolder(async (root) => {
    await writeEncoder(`${root}/encoder.safetensors`);
    await writeImages(`${root}/images`, 23);
    await use(root, await loadEncoder(`${root}/encoder.safetensors`));
  });
}

/** Features of the image files one by one, prepared in the graph. */
async function oneByOne(root: string, loaded: LoadedEncoder): Promise<DinoFeatures> {
  const { config, params, preprocessing } = loaded;
  const encoder = new DinoEncoder(config, params, { device: "cpu", preprocessing });
  const images = await openImageFolder(`${root}/images`), features: DinoFeatures[] = [];
  for (const i of all(images.size)) {
    features.push(
      await encoder.features(imagesToUnit([await decodeImage(images.path(i))]), {
        lastBlocks: 2,
        norm: false,
      }),
    );
  }
  await encoder.dispose();
  const join = (pick: (of: DinoFeatures) => HostTensor) => concatRows(features.map(pick));
  return {
    clsBD: join((of) => of.clsBD),
    patchesBND: join((of) => of.patchesBND),
    lastBlocks: [0, 1].map((i) => ({
      clsBD: join((of) => of.lastBlocks![i].clsBD),
      patchesBND: join((of) => of.lastBlocks![i].patchesBND),
    })),
  };
}

Deno.test("features of an image folder are those of its images one by one, with labels and configuration", () =>
  withImages(async (root, encoder) => {
    const images = await openImageFolder(`${root}/images`), folder = `${root}/features`;
    const seen: ExtractionProgress[] = [];
    const summary = await extractFeatures(folder, {
      images,
      encoder,
      device: "cpu",
      dtype: "float32",
      batchSize: 4,
      rowsPerShard: 10,
      workers: 2,
      onProgress: (progress) => seen.push(progress),
    });
    const wanted = await oneByOne(root, encoder), store = await openShards(folder, { verify: "hash" });
    const { cls, patches } = await store.rows(0, 23);
    assertClose(cls, wanted.clsBD);
    assertClose(patches, wanted.patchesBND);
    assert.deepEqual(store.labels, images.labels(0, 23));
    const picked = await store.rowsAt([22, 0, 9], ["cls"]);
    assert.deepEqual([...picked.cls.data.subarray(0, 16)], [...cls.data.subarray(22 * 16)]);
    await store.close();
    const hash = new DinoEncoder(encoder.config, encoder.params).hash;
    assert.deepEqual(store.config, {
      kind: "dino-features",
      encoder: { hash, family: "novae", settings: encoder.config },
      data: { name: "folder/images", hash: images.hash, classes: ["ant", "bee", "cat"] },
      preprocessing: encoder.preprocessing,
      size: { height: 16, width: 16 },
      grid: [4, 4],
      tokens: "both",
      lastBlocks: 0,
      norm: true,
    });
    const { source, hash: recorded } = await readJson(`${folder}/encoder.json`) as Record<string, unknown>;
    assert.deepEqual([source, recorded], [encoder.source, hash]);
    assert.deepEqual([summary.count, summary.made, summary.encoderHash], [23, 23, hash]);
    assert.deepEqual(summary.tensors, { cls: [16], patches: [16, 16] });
    assert.ok(summary.imagesPerSec! > 0);
    const done = seen.map((progress) => progress.done);
    assert.deepEqual(done, done.toSorted((a, b) => a - b), "progress does not go back");
    assert.deepEqual(seen.at(-1), { done: 23, total: 23, made: 23 });
    assert.ok(seen.some(({ made }) => made === 4));
  }));

Deno.test("tokens, last blocks and float16 are as chosen", () =>
  withImages(async (root, encoder) => {
    const images = await openImageFolder(`${root}/images`), wanted = await oneByOne(root, encoder);
    const extract = async (options: Partial<ExtractionOptions>) => {
      const folder = `${root}/${JSON.stringify(Object.values(options))}`;
      const { tensors } = await extractFeatures(folder, {
        images,
        encoder,
        device: "cpu",
        workers: 1,
        ...options,
      });
      const store = await openShards(folder), rows = await store.rows(0, 23);
      await store.close();
      const shapes = Object.entries(rows).map(([name, { shape }]) => [name, shape.slice(1)]);
      assert.deepEqual(Object.fromEntries(shapes), tensors);
      return rows;
    };
    const half = await extract({ tokens: "cls" });
    assert.deepEqual(Object.keys(half), ["cls"]);
    assertClose(half.cls, wanted.clsBD, true);
    const blocks = await extract({ lastBlocks: 2, norm: false, dtype: "float32", batchSize: 7 });
    assert.deepEqual(Object.keys(blocks).sort(), [
      "block00.cls",
      "block00.patches",
      "block01.cls",
      "block01.patches",
    ]);
    for (const i of [0, 1]) {
      assertClose(blocks[`block0${i}.cls`], wanted.lastBlocks![i].clsBD);
      assertClose(blocks[`block0${i}.patches`], wanted.lastBlocks![i].patchesBND);
    }
    const last = await extract({ lastBlocks: 1, tokens: "patches", dtype: "float32" });
    assertClose(last["block01.patches"], wanted.patchesBND);
  }));

Deno.test("features of a data set in memory are those of the encoder, also at another size", () =>
  inFolder(async (root) => {
    await writeEncoder(`${root}/encoder.safetensors`);
    const encoder = await loadEncoder(`${root}/encoder.safetensors`), { config, params } = encoder;
    const { train } = await loadDataset({
      name: "solids",
      train: 21,
      test: 2,
      imageSize: 16,
      cacheDir: null,
    });
    const rng = new Rng(4), pixels = Uint8Array.from({ length: 9 * 32 * 32 * 3 }, () => rng.int(256));
    const classes = ["a", "b", "c"], labels = Uint8Array.from(all(9), (i) => i % 3);
    const packed = packDataset({ name: "cifar10/train", classes, imageSize: 32, pixels, labels });
    const cases = [
      [train, undefined, undefined],
      [train, 24, preprocessingAt(encoder.preprocessing, 24)],
      [packed, undefined, encoder.preprocessing],
    ] as const;
    for (const [i, [images, size, preprocessing]] of cases.entries()) {
      const folder = `${root}/${i}`,
        plain = new DinoEncoder(config, params, { device: "cpu", preprocessing });
      await extractFeatures(folder, { images, encoder, size, device: "cpu", dtype: "float32", batchSize: 8 });
      const wanted = await plain.features(images.images(all(images.size))), store = await openShards(folder);
      const { cls, patches } = await store.rows(0, images.size);
      assertClose(cls, wanted.clsBD);
      assertClose(patches, wanted.patchesBND);
      assert.deepEqual(store.labels, images.labels(all(images.size)));
      await store.close();
      await plain.dispose();
    }
  }));

Deno.test("what is there is kept, a changed image is encoded again, a damaged one is named and loses nothing", () =>
  withImages(async (root, encoder) => {
    const folder = `${root}/features`, made: number[] = [];
    const extract = async () => {
      const images = await openImageFolder(`${root}/images`), notes: string[] = [];
      const options = { images, encoder, device: "cpu", batchSize: 2, rowsPerShard: 4, workers: 2 } as const;
      const onProgress = ({ note }: ExtractionProgress) => note !== undefined && notes.push(note);
      made.push((await extractFeatures(folder, { ...options, onProgress })).made);
      return notes;
    };
    const path = (await openImageFolder(`${root}/images`)).path(13), whole = await Deno.readFile(path);
    await Deno.writeFile(path, whole.subarray(0, whole.length - 300));
    await assert.rejects(extract(), (error: Error) => {
      assert.ok(error instanceof DataError, `${error.stack}`);
      assert.match(error.message, /^Cannot decode .*bee\/00013\.png: /);
      return !error.message.includes("\n");
    });
    const finished = [...Deno.readDirSync(folder)].filter(({ name }) =>
      /^shard-\d+\.safetensors$/.test(name)
    );
    assert.ok(finished.length >= 2, `${finished.length} finished shards`);
    await Deno.writeFile(path, whole);
    assert.deepEqual(await extract(), []);
    assert.deepEqual(made, [23 - 4 * finished.length]);
    assert.deepEqual(await extract(), []);
    const before = await hashes(folder);
    await Deno.writeFile(path, await Deno.readFile((await openImageFolder(`${root}/images`)).path(2)));
    const notes = await extract();
    assert.deepEqual(made.slice(1), [0, 4]);
    assert.deepEqual(notes, [
      `${folder}/shard-00003.safetensors was made from other inputs; it is made again`,
    ]);
    const after = await hashes(folder);
    assert.deepEqual(Object.keys(after).filter((name) => after[name] !== before[name]), [
      "index.json",
      "shard-00003.safetensors",
    ]);
    await Deno.writeFile(path, whole);
    await extract();
    assert.deepEqual(await hashes(folder), before);
  }));

Deno.test("two extractions at once share the work and leave the bytes of one", () =>
  withImages(async (root, encoder) => {
    const images = await openImageFolder(`${root}/images`);
    const options = { images, encoder, device: "cpu", batchSize: 1, rowsPerShard: 2, workers: 1 } as const;
    await extractFeatures(`${root}/one`, options);
    const shares = await Promise.all([1, 2].map(() => extractFeatures(`${root}/two`, options)));
    assert.equal(shares[0].made + shares[1].made, 23);
    assert.ok(shares.every(({ made }) => made > 0), `${shares.map(({ made }) => made)}`);
    assert.deepEqual(await hashes(`${root}/two`), await hashes(`${root}/one`));
  }));

Deno.test("what cannot be extracted is refused before anything is written", () =>
  withImages(async (root, encoder) => {
    const images = await openImageFolder(`${root}/images`), folder = `${root}/features`;
    const refused = async (options: Partial<ExtractionOptions>, message: RegExp, kind = ConfigError) => {
      await assert.rejects(
        extractFeatures(folder, { images, encoder, device: "cpu", ...options }),
        (error: Error) => {
          assert.ok(error instanceof kind, `${error.stack}`);
          assert.match(error.message, message);
          return !error.message.includes("\n");
        },
      );
      await assert.rejects(Deno.stat(folder), Deno.errors.NotFound);
    };
    await refused({ size: 18 }, /size must be a multiple of the encoder's patch, 4, got 18 × 18$/);
    await refused({ size: 0 }, /size must be a positive whole number, got 0$/);
    await refused({ lastBlocks: 3 }, /number of last blocks must be 0 to 2, got 3$/);
    await refused({ tokens: "all" as "cls" }, /tokens must be cls, patches or both, got all$/);
    await refused({ dtype: "int8" as "float16" }, /dtype must be float16 or float32, got int8$/);
    await refused({ rowsPerShard: 1.5 }, /rows per shard must be a positive whole number, got 1\.5$/);
    await refused({ batchSize: 0 }, /batch size must be a positive whole number, got 0$/);
    const varying = { ...encoder, preprocessing: { ...PREPROCESSING.dinov2, crop: null } };
    await refused({ encoder: varying }, /leaves images at different sizes; give a size$/);
    await refused({ device: "cuda" }, /Cannot compile for device cuda: /, DeviceError as typeof ConfigError);
    const { train } = await loadDataset({
      name: "solids",
      train: 11,
      test: 2,
      imageSize: 16,
      cacheDir: null,
    });
    const cropping = { ...encoder, preprocessing: { ...PREPROCESSING.dinov2, resize: null } };
    await refused({ images: train, encoder: cropping }, /the crop of 224 × 224 must fit into 16 × 16/);
    await extractFeatures(folder, { images, encoder, device: "cpu", workers: 1 });
    const before = await hashes(folder);
    for (
      const [options, key] of [
        [{ size: 24 }, "config.preprocessing.resize.shortestEdge"],
        [{ tokens: "cls" }, "config.tokens"],
        [{ dtype: "float32" }, "dtype"],
        [{ images: train }, "config.data.name"],
      ] as [Partial<ExtractionOptions>, string][]
    ) {
      await assert.rejects(
        extractFeatures(folder, { images, encoder, device: "cpu", workers: 1, ...options }),
        (error: Error) =>
          error instanceof ConfigError && error.message.includes(`"${key}" is `) &&
          error.message.endsWith("use another folder"),
      );
    }
    assert.deepEqual(await hashes(folder), before);
  }));
