import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { gzipSync } from "node:zlib";
import { CIFAR10_CLASSES, loadCifar10, loadDataset } from "novae/data/mod.ts";
import { DataError, Rng } from "novae/tensor/mod.ts";
import { tarArchive } from "./tar_fixture.ts";

const RECORD = 3073;
const TRAIN = [1, 2, 3, 4, 5].map((i) => `data_batch_${i}.bin`);

/** `count` records with labels 0 … 9 in turn, shifted by `first`. */
function records(seed: number, count = 10, first = 0): Uint8Array {
  const rng = new Rng(seed), bytes = new Uint8Array(count * RECORD);
  for (let i = 0; i < bytes.length; i++) {
    bytes[i] = i % RECORD === 0 ? (first + i / RECORD) % 10 : rng.int(256);
  }
  return bytes;
}

/** The first pixels of a record, red, green and blue together. */
function pixelsOf(bytes: Uint8Array, record: number): Float32Array {
  return Float32Array.from(
    { length: 3072 },
    (_, i) => bytes[record * RECORD + 1 + (i % 3) * 1024 + Math.floor(i / 3)] / 255,
  );
}

async function inFolder(
  files: Record<string, Uint8Array | string>,
  run: (path: string) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    for (const [name, content] of Object.entries(files)) {
      await Deno.mkdir(`${folder}/${name}`.replace(/\/[^/]*$/, ""), { recursive: true });
      const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
      await Deno.writeFile(`${folder}/${name}`, bytes);
    }
    await run(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const official = (): [string, Uint8Array][] => [
  ["batches.meta.txt", new TextEncoder().encode(CIFAR10_CLASSES.join("\n") + "\n\n")],
  ...TRAIN.map((name, i): [string, Uint8Array] => [name, records(i, 10)]),
  ["test_batch.bin", records(9, 20)],
];

Deno.test("a pair of files is read, gzipped or not, planes becoming pixels", async () => {
  const train = records(1, 30), test = records(2, 10, 3);
  const names = JSON.stringify(CIFAR10_CLASSES);
  const hashes: string[] = [];
  for (const pack of [(b: Uint8Array) => b, (b: Uint8Array) => new Uint8Array(gzipSync(b))]) {
    const end = pack(train) === train ? "" : ".gz";
    const files = {
      [`a_train.bin${end}`]: pack(train),
      [`a_test.bin${end}`]: pack(test),
      "classes.json": names,
    };
    await inFolder(files, async (path) => {
      const data = await loadDataset({ name: "cifar10", path });
      assert.deepEqual([data.train.size, data.test.size, data.train.imageSize], [30, 10, 32]);
      assert.deepEqual(data.train.images([7]).shape, [1, 32, 32, 3]);
      assert.deepEqual(data.train.images([29, 7]).data.subarray(3072), pixelsOf(train, 7));
      assert.deepEqual(data.test.images([9]).data, pixelsOf(test, 9));
      assert.deepEqual([...data.test.labels([0, 9])], [3, 2]);
      hashes.push(data.train.hash);
    });
  }
  assert.equal(hashes[0], hashes[1]);
});

Deno.test("the official folder and archive give the same images as the pair", async () => {
  const train = new Uint8Array(Buffer.concat(official().slice(1, 6).map(([, bytes]) => bytes)));
  const test = records(9, 20),
    archive = tarArchive(official().map(([name, bytes]) => [`cifar-10-batches-bin/${name}`, bytes]));
  const folder = Object.fromEntries(
    official().map(([name, bytes]) => [`cifar-10-batches-bin/${name}`, bytes]),
  );
  const layouts: [Record<string, Uint8Array>, string][] = [
    [{ "x_train.bin": train, "x_test.bin": test }, ""],
    [folder, ""],
    [folder, "/cifar-10-batches-bin"],
    [{ "cifar-10-binary.tar.gz": new Uint8Array(gzipSync(archive)) }, "/cifar-10-binary.tar.gz"],
    [{ "cifar-10-binary.tar.gz": new Uint8Array(gzipSync(archive)) }, ""],
    [{ "any.tar": archive }, "/any.tar"],
  ];
  const seen: string[] = [];
  for (const [files, path] of layouts) {
    await inFolder(files, async (root) => {
      const data = await loadCifar10({ path: root + path });
      assert.deepEqual([data.train.size, data.test.size], [50, 20]);
      assert.deepEqual(data.train.images([23]).data, pixelsOf(train, 23));
      seen.push(data.train.hash + data.test.hash);
    });
  }
  assert.equal(new Set(seen).size, 1);
});

Deno.test("train and test take the first images, and no more than there are", () =>
  inFolder({ "a_train.bin": records(1, 30), "a_test.bin": records(2, 20) }, async (path) => {
    const data = await loadDataset({ name: "cifar10", path, train: 12, test: 5 });
    assert.deepEqual([data.train.size, data.test.size], [12, 5]);
    await assert.rejects(
      loadDataset({ name: "cifar10", path, train: 31 }),
      (error) =>
        error instanceof DataError && /Cannot take 31 train images from .*: it holds 30/.test(error.message),
    );
  }));

Deno.test("each kind of bad CIFAR-10 input is one line that names the file and what was wanted", async () => {
  const good = { "a_train.bin": records(1, 20), "a_test.bin": records(2, 10) };
  const gz = new Uint8Array(gzipSync(good["a_train.bin"])), archive = tarArchive(official());
  const without = Object.fromEntries(official().filter(([name]) => name !== "data_batch_4.bin"));
  const cases: [Record<string, Uint8Array | string>, string, RegExp][] = [
    [{}, "", /one \*_train.bin is needed, got none; give the archive/],
    [{}, "/nowhere", /nowhere: .* is needed: no such file/],
    [
      { ...good, "a_train.bin": records(1, 20).subarray(0, 5000) },
      "",
      /a_train.bin: .* multiple of 3073 .*got 5000; it is cut/,
    ],
    [{ ...good, "a_test.bin": new Uint8Array(0) }, "", /a_test.bin: .*got 0/],
    [
      { ...good, "a_test.bin": records(2, 10).fill(77, 2 * RECORD, 2 * RECORD + 1) },
      "",
      /a_test.bin: labels must be 0 … 9, got 77 in record 2/,
    ],
    [
      { "a_train.bin.gz": gz.subarray(0, 9000), "a_test.bin": good["a_test.bin"] },
      "",
      /Cannot unpack .*a_train.bin.gz.*unexpected end of file.*fetch it again/,
    ],
    [{ ...good, "b_train.bin": records(3) }, "", /one \*_train.bin is needed, got a_train.bin, b_train.bin/],
    [
      { ...good, "classes.json": '["a", "b", "c"]' },
      "",
      /classes.json: 3 class names need the labels 0 … 2, got 10 different labels up to 9/,
    ],
    [{ ...good, "classes.json": JSON.stringify([...CIFAR10_CLASSES, "more"]) }, "", /11 class names need/],
    [
      { ...good, "classes.json": "[1, 2]" },
      "",
      /classes.json: it must be a JSON list of names, got \[1, 2\]/,
    ],
    [{ ...good, "classes.json": "[" }, "", /classes.json: it must be a JSON list of names/],
    [without, "", /the folder must hold data_batch_4.bin/],
    [{ "c.tar": tarArchive(official().slice(2)) }, "/c.tar", /c.tar: the archive must hold data_batch_1.bin/],
    [
      { "c.tar": archive.subarray(0, 40000) },
      "/c.tar",
      /c.tar: "data_batch_2.bin" needs 30730 bytes, got \d+; the archive is cut/,
    ],
    [
      { "c.tar": archive.subarray(0, archive.length - 1024) },
      "/c.tar",
      /c.tar: the archive's end is missing/,
    ],
    [
      { "c.tar": Uint8Array.from(archive).fill(9, 512 * 3, 512 * 3 + 20) },
      "/c.tar",
      /c.tar: a tar header must stand at byte 1536/,
    ],
    [{ "c.bin": records(1) }, "/c.bin", /c.bin: a tar header must stand at byte 0/],
  ];
  for (const [files, path, message] of cases) {
    await inFolder(files, async (root) => {
      await assert.rejects(loadCifar10({ path: root + path }), (error: Error) => {
        assert.ok(error instanceof DataError, `${message}: ${error.stack}`);
        assert.match(error.message, message);
        assert.ok(!error.message.includes("\n"));
        return true;
      });
    });
  }
});

const REAL = "../shared/data/cifar10";
const present = await Deno.stat(REAL).then(() => true, () => false);
if (!present) console.log(`skipped: real CIFAR-10 is read only where ${REAL} is present`);

Deno.test({
  name: "the real CIFAR-10 subset has its sizes, classes and mean colour",
  ignore: !present,
  fn: async () => {
    const { train, test } = await loadDataset({ name: "cifar10", path: REAL });
    assert.deepEqual([train.size, test.size], [10_000, 2_000]);
    assert.deepEqual(train.classes, CIFAR10_CLASSES);
    const { data } = train.images(Array.from({ length: 5000 }, (_, i) => i)), mean = [0, 0, 0];
    data.forEach((value, i) => mean[i % 3] += value / (data.length / 3));
    // The means of the full training set.
    [0.4914, 0.4822, 0.4465].forEach((wanted, c) => assert.ok(Math.abs(mean[c] - wanted) < 0.01, `${mean}`));
    const labels = train.labels(Array.from({ length: 10_000 }, (_, i) => i));
    for (let label = 0; label < 10; label++) assert.equal(labels.filter((l) => l === label).length, 1000);
  },
});

Deno.test("a gzip bomb and a tar archive that leads back are refused", async () => {
  const bomb = new Uint8Array(gzipSync(new Uint8Array(1 << 26)));
  const archive = tarArchive(official()), header = archive.subarray(1536, 2048);
  header.set(new TextEncoder().encode("-0000001000\0"), 124); // back to where it begins
  header.fill(0x20, 148, 156);
  header.set(
    new TextEncoder().encode(header.reduce((a, b) => a + b, 0).toString(8).padStart(6, "0") + "\0 "),
    148,
  );
  for (
    const [name, bytes, message] of [
      [
        "a.tar.gz",
        bomb,
        /pictures unpack to at most 1048576 bytes, 4 times as many as packed, got more; if it is/,
      ],
      ["b.tar", archive, /needs NaN bytes, got \d+; the archive is cut/],
    ] as [string, Uint8Array, RegExp][]
  ) {
    await inFolder({ [name]: bytes }, async (path) => {
      await assert.rejects(loadCifar10({ path: `${path}/${name}` }), (error: Error) => {
        assert.ok(error instanceof DataError, String(error.stack));
        return message.test(error.message) || assert.fail(error.message);
      });
    });
  }
});
