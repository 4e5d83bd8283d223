import assert from "node:assert/strict";
import { float32, int32, WeightsError } from "novae/tensor/mod.ts";
import {
  openSafetensors,
  openWeights,
  readSafetensors,
  readTensors,
  writeJson,
  writeSafetensors,
} from "novae/io/mod.ts";

const GOLDEN = "tests/golden/safetensors.safetensors";

async function inFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await use(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("tensors read on demand are those of the whole file, of every storage type", async () => {
  const whole = await readSafetensors(GOLDEN), { tensors, metadata } = await openSafetensors(GOLDEN);
  assert.deepEqual(metadata, whole.metadata);
  assert.deepEqual(await readTensors(tensors), whole.tensors);
  for (const [name, { dtype, shape }] of whole.tensors) {
    assert.deepEqual(
      [tensors.get(name)!.dtype, tensors.get(name)!.shape],
      [dtype, shape],
      "known before it is read",
    );
  }
  const stored = Object.fromEntries([...tensors].map(([name, tensor]) => [name, tensor.stored]));
  assert.deepEqual([stored.brain, stored.half, stored.double, stored.long], ["BF16", "F16", "F64", "I64"]);
  const reversed = await Promise.all([...tensors.keys()].reverse().map((name) => tensors.get(name)!.read()));
  assert.deepEqual(reversed, [...whole.tensors.values()].reverse(), "any order, all at once");
});

Deno.test("a safetensors file whose length begins like another format's magic is still one", () =>
  inFolder(async (folder) => {
    const path = `${folder}/w.safetensors`;
    const header = JSON.stringify({ w: { dtype: "F32", shape: [1], data_offsets: [0, 4] } });
    for (const length of [0x80, 0x4b50]) { // the first byte of a pickle; "PK", as of a zip archive
      const bytes = new Uint8Array(8 + length + 4).fill(0x20, 8, 8 + length);
      new DataView(bytes.buffer).setUint32(0, length, true);
      new TextEncoder().encodeInto(header, bytes.subarray(8));
      bytes.set(new Uint8Array(Float32Array.of(1.5).buffer), 8 + length);
      await Deno.writeFile(path, bytes);
      assert.deepEqual(await (await openWeights(path)).tensors.get("w")!.read(), float32([1.5], [1]));
    }
  }));

Deno.test("a small tensor of a 3 GB file is read alone", () =>
  inFolder(async (folder) => {
    const path = `${folder}/big.safetensors`, elements = 1.5e9;
    const header = JSON.stringify({
      big: { dtype: "BF16", shape: [elements], data_offsets: [0, elements * 2] },
      small: { dtype: "F32", shape: [2], data_offsets: [elements * 2, elements * 2 + 8] },
    });
    const start = new Uint8Array(8 + header.length);
    new DataView(start.buffer).setUint32(0, header.length, true);
    new TextEncoder().encodeInto(header, start.subarray(8));
    {
      using file = await Deno.open(path, { write: true, create: true });
      await file.write(start);
      await file.seek(start.length + elements * 2, Deno.SeekMode.Start); // a hole, read as zeros
      await file.write(new Uint8Array(Float32Array.of(1.5, -2).buffer));
    }
    const before = Deno.memoryUsage().rss, { tensors } = await openWeights(path);
    assert.deepEqual(tensors.get("big")!.shape, [elements]);
    assert.deepEqual(await tensors.get("small")!.read(), float32([1.5, -2], [2]));
    assert.ok(Deno.memoryUsage().rss - before < 2 ** 28, "the rest was not read");
  }));

/** Two shards and their index, as Hugging Face's tools write them. */
async function writeShards(folder: string): Promise<void> {
  const [one, two] = [1, 2].map((i) => `model-0000${i}-of-00002.safetensors`);
  await writeSafetensors(`${folder}/${one}`, { "model.a": float32([1], [1]) }, { format: "pt" });
  await writeSafetensors(`${folder}/${two}`, { "model.b": int32([2], []), "head.c": float32([3], [1]) });
  await writeJson(`${folder}/model.safetensors.index.json`, {
    metadata: { total_size: 12 },
    weight_map: { "model.a": one, "model.b": two, "head.c": two },
  });
}

Deno.test("a checkpoint in several files opens as one", () =>
  inFolder(async (folder) => {
    await writeShards(folder);
    const wanted = new Map([
      ["model.a", float32([1], [1])],
      ["model.b", int32([2], [])],
      ["head.c", float32([3], [1])],
    ]);
    const weights = await openWeights(folder);
    assert.deepEqual(await readTensors(weights.tensors), wanted);
    assert.deepEqual(weights.files.map((file) => file.slice(folder.length + 1)), [
      "model-00001-of-00002.safetensors",
      "model-00002-of-00002.safetensors",
    ]);
    assert.deepEqual([weights.path, weights.metadata], [folder, { format: "pt" }]);
    const byIndex = await openWeights(`${folder}/model.safetensors.index.json`, { prefix: "model" });
    assert.deepEqual([...byIndex.tensors.keys()], ["a", "b"]);
    await assert.rejects(openWeights(folder, { prefix: "ema" }), {
      name: "WeightsError",
      message: `Cannot read weights ${folder}: names must begin with "ema.", got model, head`,
    });
  }));

Deno.test("a PyTorch checkpoint in several files opens as one", () =>
  inFolder(async (folder) => {
    const golden = "tests/golden/pytorch_checkpoints";
    await Deno.copyFile(`${golden}/plain_protocol2.pth`, `${folder}/pytorch_model-1.bin`);
    await Deno.copyFile(`${golden}/types.pth`, `${folder}/pytorch_model-2.bin`);
    const map = { "layer.bias": "pytorch_model-1.bin", "int8": "pytorch_model-2.bin" };
    await writeJson(`${folder}/pytorch_model.bin.index.json`, { "weight_map": map });
    const { tensors } = await openWeights(folder);
    assert.deepEqual([...tensors.keys()], ["layer.bias", "int8"]);
    assert.deepEqual(await tensors.get("int8")!.read(), int32([-128, 127], [2]));
  }));

Deno.test("a broken index is refused with what is wrong", () =>
  inFolder(async (folder) => {
    await writeShards(folder);
    const index = `${folder}/model.safetensors.index.json`, shard = "model-00001-of-00002.safetensors";
    const cases: [unknown, RegExp][] = [
      [
        { weight_map: { "model.a": shard, x: shard, y: shard } },
        /"x" in model-00001-of-00002.safetensors and 1 more missing$/,
      ],
      [{ weight_map: { "model.a": "gone.safetensors" } }, /gone\.safetensors: no such file or folder$/],
      [
        { weight_map: { "model.a": "../up.safetensors" } },
        /its weight_map must give files of its folder by name$/,
      ],
      [{ weight_map: { "model.a": 3 } }, /its weight_map must give/],
      [{ weight_map: {} }, /its weight_map must give/],
      [null, /its weight_map must give/],
      [
        { weight_map: { a: "model.safetensors.index.json" } },
        /must be a safetensors file or a PyTorch checkpoint/,
      ],
      [{ weight_map: ["x"], toString: 1 }, /x: no such file or folder$/],
    ];
    for (const [content, message] of cases) {
      await writeJson(index, content);
      await assert.rejects(openWeights(folder), (error: Error) => {
        assert.ok(error instanceof WeightsError, String(error));
        assert.match(error.message, message);
        return true;
      });
    }
  }));

Deno.test("of a folder the usual names are taken first, then a single file, of either format", () =>
  inFolder(async (folder) => {
    const opened = async (): Promise<string[]> =>
      (await openWeights(folder)).files.map((file) => file.slice(folder.length + 1));
    await assert.rejects(
      openWeights(folder),
      /it must hold a \.safetensors, \.pth, \.pt, \.ckpt or \.bin file, got none$/,
    );
    await Deno.copyFile("tests/golden/pytorch_checkpoints/plain_protocol2.pth", `${folder}/dino.pth`);
    assert.deepEqual(await opened(), ["dino.pth"]);
    await Deno.copyFile(GOLDEN, `${folder}/b.safetensors`);
    assert.deepEqual(await opened(), ["b.safetensors"]);
    await Deno.copyFile(GOLDEN, `${folder}/a.safetensors`);
    await assert.rejects(openWeights(folder), {
      name: "WeightsError",
      message: `Cannot read weights ${folder}: name one of its files, got a.safetensors, b.safetensors`,
    });
    await Deno.copyFile(
      "tests/golden/pytorch_checkpoints/plain_protocol2.pth",
      `${folder}/pytorch_model.bin`,
    );
    assert.deepEqual(await opened(), ["pytorch_model.bin"]);
    await writeShards(folder);
    assert.equal((await opened()).length, 2);
    await Deno.copyFile(GOLDEN, `${folder}/model.safetensors`);
    assert.deepEqual(await opened(), ["model.safetensors"]);
  }));

Deno.test("a safetensors file whose header's length begins like a pickle is read as what it is", () =>
  inFolder(async (folder) => {
    const path = `${folder}/model.safetensors`, tensors = { w: float32([1, 2], [2]) };
    const found: number[] = [];
    for (let length = 0; length < 256; length += 8) {
      await writeSafetensors(path, tensors, { note: "x".repeat(length) });
      const [low] = await Deno.readFile(path);
      found.push(low);
      assert.deepEqual(
        await (await openWeights(path)).tensors.get("w")!.read(),
        tensors.w,
        `low byte ${low}`,
      );
    }
    assert.ok(found.includes(0x80));
  }));

Deno.test("the content tells the format, not the name", () =>
  inFolder(async (folder) => {
    await Deno.copyFile(GOLDEN, `${folder}/x.pth`);
    assert.equal((await openWeights(`${folder}/x.pth`)).metadata.format, "by hand");
    await Deno.copyFile("tests/golden/pytorch_checkpoints/types.pth", `${folder}/y.safetensors`);
    assert.equal((await openWeights(`${folder}/y.safetensors`)).tensors.size, 12);
    await Deno.writeTextFile(`${folder}/z`, "<html>not found</html>");
    await assert.rejects(
      openWeights(`${folder}/z`),
      /it must be a safetensors file or a PyTorch checkpoint, got another format$/,
    );
    await assert.rejects(openWeights(`${folder}/none`), {
      name: "WeightsError",
      message: /no such file or folder$/,
    });
  }));
