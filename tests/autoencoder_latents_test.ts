/** Latents of data sets in shards against the autoencoder on the same images. */
import assert from "node:assert/strict";
import {
  encodeLatents,
  type EncodeLatentsOptions,
  type LatentEncoder,
  LATENTS,
  type LatentSet,
  measureLatents,
  MIRRORED,
  normalizeLatents,
  openLatents,
} from "novae/autoencoder/mod.ts";
import { flipHorizontal, openImageFolder, openShards } from "novae/data/mod.ts";
import { diffusionBatches, ditConfig, parseTrainingSettings, storedLatents } from "novae/diffusion/mod.ts";
import { decodeImage, imagesToUnit, readJson, readSafetensors, writeSafetensors } from "novae/io/mod.ts";
import { ConfigError, DataError, gatherRows, type HostTensor, type NovaeError } from "novae/tensor/mod.ts";
import { assertClose, upTo } from "./autoencoder_fixture.ts";
import { hashes, inFolder, writeImages } from "./extraction_fixture.ts";
import { tinySolids, withAutoencoder, writeTinyAutoencoder } from "./latents_fixture.ts";

const COUNT = 23;

const mirror = (images: HostTensor) => flipHorizontal(images, new Uint8Array(images.shape[0]).fill(1));

/** A place with an autoencoder of the space `svg`. */
async function withSvg(use: (root: string, autoencoder: LatentEncoder) => Promise<void>): Promise<void> {
  await inFolder(async (root) => {
    const path = await writeTinyAutoencoder(root, "svg");
    await withAutoencoder(root, path, (autoencoder) => use(root, autoencoder));
  });
}

const SMALL = { dtype: "float32", batchSize: 4, rowsPerShard: 10 } as const;

async function refuses(work: Promise<unknown>, kind: typeof NovaeError, message: RegExp): Promise<void> {
  await assert.rejects(work, (error: Error) => {
    assert.ok(error instanceof kind, `${error.stack}`);
    assert.match(error.message, message);
    return !error.message.includes("\n");
  });
}

Deno.test("latents in shards are those of the images and of their mirror images, with labels and statistics", () =>
  withSvg(async (root, autoencoder) => {
    const images = await tinySolids(COUNT), folder = `${root}/latents`, all = images.images(upTo(COUNT));
    const summary = await encodeLatents(folder, { images, autoencoder, ...SMALL });
    const wanted = { plain: await autoencoder.encode(all), mirrored: await autoencoder.encode(mirror(all)) };
    const set = await openLatents(folder, { verify: "hash", autoencoder });
    assertClose((await set.read(upTo(COUNT))).data, wanted.plain.data, 1e-5);
    assertClose((await set.read(upTo(COUNT), upTo(COUNT).fill(1))).data, wanted.mirrored.data, 1e-5);
    const mixed = await set.read([22, 0, 22, 7], [1, 0, 0, 1]);
    const pick = (of: HostTensor, i: number) => gatherRows(of, [i]).data;
    const rows = [
      pick(wanted.mirrored, 22),
      pick(wanted.plain, 0),
      pick(wanted.plain, 22),
      pick(wanted.mirrored, 7),
    ];
    assertClose(mixed.data, rows.flatMap((row) => [...row]), 1e-5);
    assert.deepEqual(set.labels, images.labels(upTo(COUNT)));
    const measured = await measureLatents(autoencoder, [all, mirror(all)]);
    assert.equal(set.stats.count, 2 * COUNT * 16);
    assertClose(set.stats.mean, measured.mean, 1e-5);
    assertClose(set.stats.std, measured.std, 1e-5);
    const { hash, config, name, encoder } = autoencoder;
    assert.deepEqual(set.config, {
      kind: "latents",
      autoencoder: {
        hash,
        space: name,
        settings: JSON.parse(JSON.stringify(config)),
        encoder: encoder!.hash,
      },
      data: { name: "solids/train", hash: images.hash, classes: [...images.classes] },
      framing: null,
      imageSize: 16,
      grid: 4,
      channels: 18,
      flip: true,
    });
    const record = await readJson(`${folder}/autoencoder.json`) as Record<string, unknown>;
    assert.deepEqual([record.hash, record.stats], [hash, {
      mean: [...set.stats.mean],
      std: [...set.stats.std],
      count: set.stats.count,
    }]);
    assert.deepEqual([summary.count, summary.made, summary.shape], [COUNT, COUNT, [16, 18]]);
    assert.equal(summary.autoencoderHash, hash);
    await set.close();
  }));

Deno.test("a mirrored latent is not the latent of the mirror image, so that both are stored", () =>
  withSvg(async (_, autoencoder) => {
    const image = (await tinySolids(12)).images([3]);
    const z = await autoencoder.encode(image), wanted = await autoencoder.encode(mirror(image));
    const turned = flipHorizontal({ ...z, shape: [1, 4, 4, 18] }, [1]);
    const largest = Math.max(...wanted.data.map(Math.abs));
    assert.ok(turned.data.some((v, i) => Math.abs(v - wanted.data[i]) > 0.1 * largest));
  }));

Deno.test("statistics are those of what is stored, also in 16 bits and however the rows are cut", () =>
  withSvg(async (root, autoencoder) => {
    const images = await tinySolids(COUNT), sets: LatentSet[] = [];
    for (const rowsPerShard of [4, 1000]) {
      const folder = `${root}/${rowsPerShard}`;
      await encodeLatents(folder, { images, autoencoder, rowsPerShard });
      sets.push(await openLatents(folder));
    }
    for (const { stats } of sets) {
      const stored = [await sets[0].read(upTo(COUNT)), await sets[0].read(upTo(COUNT), upTo(COUNT).fill(1))];
      const again = await measureLatents({ channels: 18, encode: (z) => Promise.resolve(z) }, stored);
      assertClose(stats.mean, again.mean, 1e-7);
      assertClose(stats.std, again.std, 1e-7);
    }
    const z = await sets[1].read([5]);
    assert.deepEqual(z.data, new Float32Array(new Float16Array(z.data)), "16 bits");
    for (const set of sets) await set.close();
  }));

Deno.test("images in files are cut to the middle square; without flips there are no mirrored latents", () =>
  withSvg(async (root, autoencoder) => {
    await writeImages(`${root}/images`, 9);
    const images = await openImageFolder(`${root}/images`), folder = `${root}/latents`;
    await encodeLatents(folder, { images, autoencoder, flip: false, workers: 1, ...SMALL });
    const set = await openLatents(folder), store = await openShards(folder);
    assert.deepEqual(Object.keys(store.tensors), ["latents"]);
    assert.deepEqual(set.labels, images.labels(0, 9));
    await assert.rejects(set.read([1], [1]), RangeError);
    // The shorter side of this image is 16 already, so that the middle is cut out without a resize.
    const decoded = await Promise.all(upTo9().map((i) => decodeImage(images.path(i))));
    const plain = decoded.findIndex(({ width, height }) => Math.min(width, height) === 16);
    assert.ok(plain >= 0);
    const unit = imagesToUnit([decoded[plain]]), [, height, width] = unit.shape;
    const top = middle(height - 16), left = middle(width - 16), square = new Float32Array(16 * 16 * 3);
    for (let y = 0; y < 16; y++) {
      const start = ((top + y) * width + left) * 3;
      square.set(unit.data.subarray(start, start + 48) as Float32Array, y * 48);
    }
    const wanted = await autoencoder.encode({ dtype: "float32", shape: [1, 16, 16, 3], data: square });
    assertClose((await set.read([plain])).data, wanted.data, 1e-5);
    await set.close();
    await store.close();
  }));

const upTo9 = () => Array.from({ length: 9 }, (_, i) => i);

/** Half of the pixels left over; half a pixel goes to the even side, as Python rounds. */
function middle(rest: number): number {
  return rest % 4 === 3 ? (rest + 1) / 2 : Math.floor(rest / 2);
}

Deno.test("two encodings at once share the work and leave the bytes of one; a later call makes nothing", () =>
  withSvg(async (root, autoencoder) => {
    const images = await tinySolids(COUNT), options = { images, autoencoder, batchSize: 1, rowsPerShard: 2 };
    await encodeLatents(`${root}/one`, options);
    const shares = await Promise.all([1, 2].map(() => encodeLatents(`${root}/two`, options)));
    assert.equal(shares[0].made + shares[1].made, COUNT);
    assert.ok(shares.every(({ made }) => made > 0), `${shares.map(({ made }) => made)}`);
    assert.deepEqual(await hashes(`${root}/two`), await hashes(`${root}/one`));
    assert.equal((await encodeLatents(`${root}/two`, options)).made, 0);
  }));

Deno.test("a shard whose moments were changed in the file is made again, and not read", () =>
  withSvg(async (root, autoencoder) => {
    const images = await tinySolids(COUNT),
      folder = `${root}/latents`,
      options = { images, autoencoder, ...SMALL };
    await encodeLatents(folder, options);
    const before = await hashes(folder), path = `${folder}/shard-00001.safetensors`;
    const { tensors, metadata } = await readSafetensors(path);
    const { sha256: _, ...rest } = metadata;
    const changed = { ...rest, notes: rest.notes.replace(/"mean":\[(-?)/, '"mean":[$19') };
    assert.notEqual(changed.notes, rest.notes);
    await writeSafetensors(path, tensors, changed, { dtype: "float32", hashed: true });
    const notes: string[] = [];
    const onProgress: EncodeLatentsOptions["onProgress"] = ({ note }) =>
      note !== undefined && notes.push(note);
    await encodeLatents(folder, { ...options, verify: "header", onProgress });
    assert.match(notes.join(), /the notes in its header are damaged.*made again$/);
    assert.deepEqual(await hashes(folder), before);
  }));

Deno.test("what cannot be encoded is refused before anything is written", () =>
  withSvg(async (root, autoencoder) => {
    const images = await tinySolids(COUNT), folder = `${root}/latents`;
    const refused = async (
      options: Partial<EncodeLatentsOptions>,
      message: RegExp,
      kind: typeof NovaeError = ConfigError,
    ) => {
      await refuses(encodeLatents(folder, { images, autoencoder, ...SMALL, ...options }), kind, message);
      await assert.rejects(Deno.stat(folder), Deno.errors.NotFound);
    };
    const large = { ...images, imageSize: 32, size: COUNT, name: "solids/train" } as typeof images;
    await refused({ images: large }, /solids\/train must have images of 16 pixels, got 32$/);
    await refused({ dtype: "int8" as "float16" }, /dtype must be float16 or float32, got int8$/);
    await refused({ batchSize: 0 }, /batch size must be a positive whole number, got 0$/);
    await refused({ rowsPerShard: 1.5 }, /rows per shard must be a positive whole number, got 1\.5$/);
  }));

Deno.test("latents that cannot be stored are refused, and the shards before them stay", () =>
  withSvg(async (root, autoencoder) => {
    const images = await tinySolids(COUNT);
    const faulty = (value: number): LatentEncoder => ({
      ...plainOf(autoencoder),
      encode: async (batch) => {
        const z = await autoencoder.encode(batch);
        const last = images.images([COUNT - 1]).data, row = last.length;
        const at = Array.from({ length: batch.shape[0] }, (_, i) => i)
          .find((i) => batch.data.subarray(i * row, (i + 1) * row).every((v, j) => v === last[j]));
        if (at !== undefined) z.data[at * 16 * 18 + 5] = value;
        return z;
      },
    });
    const encode = (value: number, dtype: "float16" | "float32") =>
      encodeLatents(`${root}/${value}`, { images, autoencoder: faulty(value), ...SMALL, dtype });
    await refuses(encode(NaN, "float32"), DataError, /they must be finite, got NaN$/);
    await refuses(encode(1e6, "float16"), DataError, /at most 65504, got 1000000; store float32$/);
    assert.ok((await Deno.stat(`${root}/NaN/shard-00000.safetensors`)).isFile);
    await refuses(openLatents(`${root}/NaN`), DataError, /not all shards are made yet/);
    const constant = { ...plainOf(autoencoder), encode: constantLatents };
    await refuses(
      encodeLatents(`${root}/constant`, { images, autoencoder: constant, ...SMALL }),
      DataError,
      /every channel must vary, channel 0 has standard deviation 0$/,
    );
  }));

function plainOf(
  { name, channels, grid, imageSize, hash, config }: LatentEncoder,
): Omit<LatentEncoder, "encode"> {
  return { name, channels, grid, imageSize, hash, config };
}

function constantLatents({ shape: [count] }: HostTensor): Promise<HostTensor> {
  const shape = [count, 16, 18];
  return Promise.resolve({ dtype: "float32", shape, data: new Float32Array(count * 16 * 18).fill(1) });
}

Deno.test("a folder of another autoencoder, form or kind is refused, naming what differs", () =>
  withSvg(async (root, autoencoder) => {
    const images = await tinySolids(COUNT),
      folder = `${root}/latents`,
      options = { images, autoencoder, ...SMALL };
    await encodeLatents(folder, options);
    const before = await hashes(folder), other = { ...plainOf(autoencoder), hash: "0".repeat(64) };
    const again = (changes: Partial<EncodeLatentsOptions>) =>
      encodeLatents(folder, { ...options, ...changes });
    const encode = (batch: HostTensor) => autoencoder.encode(batch);
    await refuses(
      again({ autoencoder: { ...other, encode } }),
      ConfigError,
      /"config\.autoencoder\.hash" is /,
    );
    await refuses(again({ flip: false }), ConfigError, /"config\.flip" is true there and false here/);
    await refuses(again({ dtype: "float16" }), ConfigError, /"dtype" is "float32" there/);
    await refuses(again({ images: await tinySolids(COUNT + 1) }), ConfigError, /"config\.data\.hash" is /);
    assert.deepEqual(await hashes(folder), before);
    await refuses(
      openLatents(folder, { autoencoder: other }),
      DataError,
      /must be of autoencoder 000000000000…, got those of \w{12}… \(svg\)$/,
    );
    await refuses(openLatents(`${root}/none`), DataError, /it is no folder of shards$/);
    await Deno.remove(`${folder}/shard-00002.safetensors`);
    await refuses(
      openLatents(folder),
      DataError,
      /shard-00002\.safetensors must have \d+ bytes, got no file/,
    );
    const path = `${folder}/index.json`, index = await Deno.readTextFile(path);
    await Deno.writeTextFile(path, index.replace('"kind":"latents"', '"kind":"dino-features"'));
    await encodeLatents(`${root}/fresh`, options);
    await Deno.copyFile(path, `${root}/fresh/index.json`);
    await refuses(openLatents(`${root}/fresh`), DataError, /they must be latents, got dino-features$/);
  }));

Deno.test("a training sees the normalised latents of the shards, each image in either orientation", () =>
  withSvg(async (root, autoencoder) => {
    const images = await tinySolids(COUNT),
      config = ditConfig("tiny", { channels: 18, grid: 4, classes: 10 });
    const settings = parseTrainingSettings({ images: 2300, batchSize: 8, seed: 2, labelDropout: 0 });
    for (const flip of [false, true]) {
      const folder = `${root}/${flip}`;
      await encodeLatents(folder, { images, autoencoder, flip, ...SMALL });
      const set = await openLatents(folder), all = upTo(COUNT), plain = await set.read(all);
      const batch = diffusionBatches(config, storedLatents(set), settings);
      const memory = diffusionBatches(config, {
        latents: normalizeLatents(plain, set.stats),
        labels: set.labels,
      }, settings);
      if (!flip) {
        for (const step of [0, 3, 40]) assert.deepEqual(await batch(step), await memory(step));
        await set.close();
        continue;
      }
      const turned = normalizeLatents(await set.read(all, all.map(() => 1)), set.stats);
      let mirrored = 0;
      for (let step = 0; step < 40; step++) {
        const [stored, upright] = [await batch(step), await memory(step)];
        assert.deepEqual(stored.labelsB, upright.labelsB);
        assert.deepEqual(stored.noiseBNZ, upright.noiseBNZ, "what is drawn besides stays as it is");
        for (let b = 0; b < 8; b++) {
          const row = stored.dataBNZ.data.subarray(b * 288, (b + 1) * 288);
          const same = (other: HostTensor, at: number) => row.every((v, i) => v === other.data[at * 288 + i]);
          if (same(upright.dataBNZ, b)) continue;
          assert.ok(upTo(COUNT).some((i) => same(turned, i)), "a mirror image of the set");
          mirrored++;
        }
      }
      assert.ok(mirrored > 120 && mirrored < 200, `${mirrored} of 320 mirrored`);
      const again = diffusionBatches(config, storedLatents(set), settings);
      assert.deepEqual(await again(17), await batch(17), "a pure function of the step");
      await set.close();
    }
  }));

Deno.test("the names of the tensors are those that other programs find", () =>
  withSvg(async (root, autoencoder) => {
    await encodeLatents(`${root}/latents`, { images: await tinySolids(11), autoencoder });
    const { tensors } = await readSafetensors(`${root}/latents/shard-00000.safetensors`);
    assert.deepEqual([...tensors.keys()].sort(), ["labels", LATENTS, MIRRORED].sort());
  }));
