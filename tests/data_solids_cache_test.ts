import assert from "node:assert/strict";
import { type DataProgress, loadDataset, loadSolids, type SolidsOptions } from "novae/data/mod.ts";
import { renderSolids } from "novae/data/solids_pool.ts";
import { ConfigError, DataError } from "novae/tensor/mod.ts";

async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await run(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function load(cacheDir: string, more: Partial<SolidsOptions> = {}) {
  const reports: DataProgress[] = [];
  const data = await loadSolids({
    split: "train",
    count: 30,
    imageSize: 24,
    cacheDir,
    onProgress: (progress) => reports.push(progress),
    ...more,
  });
  return { data, rendered: reports.some((r) => r.done > 0), note: reports.find((r) => r.note)?.note };
}

Deno.test("solids are rendered once and then taken from the cache", () =>
  inFolder(async (folder) => {
    const first = await load(folder), second = await load(folder);
    assert.deepEqual([first.rendered, first.note], [true, undefined]);
    assert.deepEqual([second.rendered, second.note], [false, undefined]);
    assert.equal(second.data.hash, first.data.hash);
    const indices = [29, 0, 7], direct = (await load(folder, { cacheDir: null })).data;
    for (const { data } of [first, second]) {
      assert.equal(data.hash, direct.hash);
      assert.deepEqual(data.images(indices), direct.images(indices));
      assert.deepEqual(data.masks(indices), direct.masks(indices));
      assert.deepEqual(data.depths(indices), direct.depths(indices));
    }
    assert.deepEqual(await files(folder), ["train-seed0-30x24px.bin"]);
  }));

async function files(folder: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(`${folder}/solids`))).map((entry) => entry.name);
}

Deno.test("a cache file that is cut, changed or of another renderer is rendered again with a note", () =>
  inFolder(async (folder) => {
    const { data } = await load(folder), path = `${folder}/solids/${(await files(folder))[0]}`;
    const good = await Deno.readFile(path);
    const damage: [string, Uint8Array][] = [
      ["it must have", good.subarray(0, good.length - 1000)],
      ["does not fit its header", good.with(good.length - 5, good[good.length - 5] ^ 1)],
      ["does not fit its header", good.with(20, good[20] ^ 1)],
    ];
    for (const [reason, bytes] of damage) {
      await Deno.writeFile(path, bytes);
      const again = await load(folder);
      assert.ok(again.rendered && again.note?.includes(reason), `${again.note}`);
      assert.match(again.note!, /rendering it again$/);
      assert.equal(again.data.hash, data.hash);
      assert.deepEqual(await Deno.readFile(path), good);
    }
  }));

Deno.test("a whole cache file whose pixels the renderer would not make is rendered again", () =>
  inFolder(async (folder) => {
    const { data } = await load(folder), [name] = await files(folder);
    // The file of another seed, under this one's name and with this one's seed in the header.
    const other = await load(folder, { seed: 5 });
    const path = `${folder}/solids/${name.replace("seed0", "seed5")}`, bytes = await Deno.readFile(path);
    const text = new TextDecoder().decode(bytes.subarray(0, 2048)).replace('"seed":5', '"seed":0');
    bytes.set(new TextEncoder().encode(text));
    await Deno.writeFile(`${folder}/solids/${name}`, bytes);
    const again = await load(folder);
    assert.ok(again.rendered && again.note?.includes("another renderer made it"), `${again.note}`);
    assert.equal(again.data.hash, data.hash);
    assert.notEqual(other.data.hash, data.hash);
  }));

Deno.test("masks of a cache file that is gone are a data error that names it", () =>
  inFolder(async (folder) => {
    const { data } = await load(folder);
    await Deno.remove(`${folder}/solids`, { recursive: true });
    assert.throws(
      () => data.masks([0]),
      (error) => error instanceof DataError && /seed0-30x24px/.test(error.message),
    );
    assert.equal(data.images([0]).shape[0], 1);
  }));

Deno.test("a cache folder that cannot be made is told in one line", () =>
  inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/file`, "");
    await assert.rejects(load(`${folder}/file`), /^NovaeError: Cannot make folder .*file\/solids: .*/);
  }));

Deno.test("many workers with little to do end, and progress reaches the total", async () => {
  const reports: [number, number][] = [];
  const { mask } = await renderSolids({
    seed: 0,
    split: "test",
    count: 7,
    imageSize: 128,
    workers: 5,
    onProgress: (done, total) => reports.push([done, total]),
  });
  assert.equal(mask.length, 7 * 128 * 128);
  assert.deepEqual(reports.at(-1), [7, 7]);
});

Deno.test("loadDataset gives the two streams of the solids in the size asked for", async () => {
  const { train, test } = await loadDataset({
    name: "solids",
    train: 20,
    test: 10,
    imageSize: 16,
    cacheDir: null,
  });
  assert.deepEqual([train.size, test.size, train.imageSize, train.classes.length], [20, 10, 16, 10]);
  assert.deepEqual(train.images([0, 1, 19]).shape, [3, 16, 16, 3]);
  assert.ok(train.images([0]).data.every((v) => v >= 0 && v <= 1));
  assert.notDeepEqual(train.images([0]).data, test.images([0]).data);
  assert.match(train.hash, /^[0-9a-f]{64}$/);
});

Deno.test("options that make no sense are a configuration error", async () => {
  const cases: [Record<string, unknown>, RegExp][] = [
    [{ name: "solid" }, /name must be solids, cifar10 or folder, got solid/],
    [{ name: "solids", train: 0 }, /train must be a whole number of at least 1, got 0/],
    [{ name: "solids", test: 1.5 }, /test must be/],
    [{ name: "solids", seed: 0.5 }, /seed must be a whole number, got 0.5/],
    [{ name: "solids", imageSize: 4 }, /imageSize must be/],
    [{ name: "cifar10", path: "x", imageSize: 64 }, /imageSize of cifar10 must be 32, got 64/],
    [{ name: "folder" }, /Cannot load folder: path must name its file or folder, got none/],
  ];
  for (const [options, message] of cases) {
    await assert.rejects(
      loadDataset(options as unknown as Parameters<typeof loadDataset>[0]),
      (error) => error instanceof ConfigError && message.test(error.message),
      JSON.stringify(options),
    );
  }
  await assert.rejects(loadSolids({ split: "train", count: 0 }), RangeError);
});
