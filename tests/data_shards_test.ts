import assert from "node:assert/strict";
import fc from "fast-check";
import { float32, gatherRows, type HostTensor, int32, Rng, rows } from "novae/tensor/mod.ts";
import { hashFile, readJson, writeSafetensors } from "novae/io/mod.ts";
import {
  openShards,
  type ShardPlan,
  type ShardProgress,
  type ShardRows,
  type ShardStore,
  writeShards,
} from "novae/data/mod.ts";

const PLAN: ShardPlan = {
  config: { encoder: { width: 64 }, seed: 3 },
  count: 23,
  rowsPerShard: 5,
  dtype: "float32",
};

/** Everything that a store of `count` rows should hold. */
function table(count: number): { tensors: Record<string, HostTensor>; labels: Int32Array } {
  const rng = new Rng(count);
  return {
    tensors: {
      features: float32(rng.split("f").normal(count * 6), [count, 2, 3]),
      norm: float32(rng.split("n").normal(count), [count]),
      place: int32(Int32Array.from({ length: count }, (_, i) => i), [count]),
      flags: {
        dtype: "bool",
        shape: [count, 2],
        data: Uint8Array.from({ length: count * 2 }, (_, i) => i % 3 & 1),
      },
    },
    labels: Int32Array.from({ length: count }, (_, i) => i * 7 % 5 - 1),
  };
}

const source = (count: number) => {
  const { tensors, labels } = table(count);
  return (first: number, last: number): Promise<ShardRows> =>
    Promise.resolve({
      tensors: Object.fromEntries(Object.entries(tensors).map(([name, t]) => [name, rows(t, first, last)])),
      labels: labels.subarray(first, last),
    });
};

async function written(plan: ShardPlan = PLAN): Promise<string> {
  const folder = `${await Deno.makeTempDir()}/shards`;
  await writeShards(folder, plan, source(plan.count));
  return folder;
}

async function names(folder: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name).sort();
}

async function hashes(folder: string): Promise<Record<string, string>> {
  const all = (await names(folder)).map(async (name) => [name, await hashFile(`${folder}/${name}`)]);
  return Object.fromEntries(await Promise.all(all));
}

const plainRows = (read: Record<string, HostTensor>) =>
  Object.fromEntries(
    Object.entries(read).map(([name, { dtype, shape, data }]) => [name, { dtype, shape: [...shape], data }]),
  );

async function withStore(
  folder: string,
  use: (store: ShardStore) => Promise<void>,
  openFiles = 2,
): Promise<void> {
  const store = await openShards(folder, { openFiles, verify: "hash" });
  try {
    await use(store);
  } finally {
    await store.close();
  }
}

async function flipBit(path: string): Promise<void> {
  const bytes = await Deno.readFile(path);
  bytes[bytes.length - 9] ^= 4;
  await Deno.writeFile(path, bytes);
}

Deno.test("rows, labels and configuration come back equal", async () => {
  const folder = await written(), { tensors, labels } = table(23);
  assert.deepEqual(await names(folder), [
    "index.json",
    ...[0, 1, 2, 3, 4].map((shard) => `shard-0000${shard}.safetensors`),
    "shards.json",
  ]);
  await withStore(folder, async (store) => {
    assert.equal(store.count, 23);
    assert.deepEqual(store.config, PLAN.config);
    assert.deepEqual(store.labels, labels);
    assert.deepEqual(store.tensors, {
      features: { dtype: "F32", shape: [2, 3] },
      flags: { dtype: "BOOL", shape: [2] },
      norm: { dtype: "F32", shape: [] },
      place: { dtype: "I32", shape: [] },
    });
    assert.deepEqual(plainRows(await store.rows(0, 23)), plainRows(tensors));
    assert.deepEqual(Object.keys(await store.rows(0, 2, ["place"])), ["place"]);
    assert.deepEqual((await store.rows(7, 7)).features.shape, [0, 2, 3]);
  });
});

Deno.test("float16 rounds to nearest with ties to even and comes back exactly", async () => {
  const pairs = [
    [1 + 2 ** -11, 1],
    [1 + 3 * 2 ** -11, 1 + 2 ** -9],
    [-(1 + 2 ** -11 + 2 ** -20), -(1 + 2 ** -10)],
    [2 ** -25, 0],
    [3 * 2 ** -25, 2 ** -23],
    [65519, 65504],
    [0.1, 0.0999755859375],
    [NaN, NaN],
    [-Infinity, -Infinity],
  ];
  const folder = await Deno.makeTempDir(), plan = { ...PLAN, count: pairs.length, dtype: "float16" as const };
  const make = (first: number, last: number) => {
    const values = pairs.slice(first, last).map(([value]) => value);
    return Promise.resolve({
      tensors: { x: float32(values, [values.length, 1]) },
      labels: values.map(() => 0),
    });
  };
  await writeShards(folder, plan, make);
  await withStore(folder, async (store) => {
    assert.deepEqual(store.tensors, { x: { dtype: "F16", shape: [1] } });
    assert.deepEqual(
      (await store.rows(0, pairs.length)).x.data,
      Float32Array.from(pairs, ([, rounded]) => rounded),
    );
  });
  const large = () => Promise.resolve({ tensors: { x: float32([65520], [1, 1]) }, labels: [0] });
  const other = await Deno.makeTempDir();
  await assert.rejects(
    writeShards(other, { ...plan, count: 1 }, large),
    /"x" as float16 must stay within 65504/,
  );
  assert.deepEqual(await names(other), ["shards.json"]);
});

Deno.test("rows at random equal those read in sequence, whatever the shards and open files", async () => {
  const any = fc.record({
    count: fc.integer({ min: 1, max: 40 }),
    rowsPerShard: fc.integer({ min: 1, max: 45 }),
    openFiles: fc.integer({ min: 1, max: 4 }),
    dtype: fc.constantFrom("float16" as const, "float32" as const),
    picks: fc.array(fc.nat(1000), { maxLength: 60 }),
  });
  await fc.assert(
    fc.asyncProperty(any, async ({ count, rowsPerShard, openFiles, dtype, picks }) => {
      const folder = await written({ config: null, count, rowsPerShard, dtype });
      const indices = picks.map((pick) => pick % count);
      await withStore(folder, async (store) => {
        const [all, some, again] = await Promise.all([
          store.rows(0, count),
          store.rowsAt(indices),
          store.rowsAt(Int32Array.from(indices)),
        ]);
        for (const name of Object.keys(all)) {
          assert.deepEqual(
            plainRows(some)[name],
            plainRows({ [name]: gatherRows(all[name], indices) })[name],
          );
        }
        assert.deepEqual(some, again);
      }, openFiles);
      await Deno.remove(folder, { recursive: true });
    }),
    { numRuns: 40 },
  );
});

Deno.test("only the files of the rows asked for are read", async () => {
  const folder = await written(), store = await openShards(folder);
  await Deno.remove(`${folder}/shard-00001.safetensors`);
  assert.deepEqual((await store.rowsAt([22, 0, 11], ["place"])).place.data, Int32Array.of(22, 0, 11));
  await assert.rejects(store.rowsAt([0, 5]), {
    name: "DataError",
    message: /shard-00001.*no such file or folder$/,
  });
  await store.close();
  assert.deepEqual((await store.rows(10, 12, ["place"])).place.data, Int32Array.of(10, 11), "it opens again");
  await store.close();
});

Deno.test("rows and tensors that are not there are refused", async () => {
  const store = await openShards(await written());
  for (const wrong of [[-1, 3], [0, 24], [5, 4], [0.5, 2]] as const) {
    await assert.rejects(store.rows(wrong[0], wrong[1]), {
      name: "RangeError",
      message: `Cannot read rows: the range must lie in 0 … 23, got ${wrong[0]} … ${wrong[1]}`,
    });
  }
  await assert.rejects(store.rowsAt([1, 23]), {
    name: "RangeError",
    message: "Cannot read rows: index must be in 0 … 22, got 23",
  });
  await assert.rejects(store.rowsAt([1], ["feature"]), {
    name: "RangeError",
    message: 'Cannot read rows: the tensors are features, flags, norm, place, got "feature"',
  });
  await store.close();
});

Deno.test("shards that are there are not made again, and progress counts both", async () => {
  const folder = await Deno.makeTempDir(), make = source(23), made: number[] = [];
  const failing = (first: number, last: number) => {
    if (first === 10) throw new Error("the third fails");
    return make(first, last);
  };
  await assert.rejects(writeShards(folder, PLAN, failing), /the third fails/);
  assert.deepEqual(await names(folder), [
    "shard-00000.safetensors",
    "shard-00001.safetensors",
    "shards.json",
  ]);
  await assert.rejects(openShards(folder), {
    name: "DataError",
    message: `Cannot open shards ${folder}: ${folder}/index.json is missing; not all shards are made yet, ` +
      "go on with writing them",
  });
  const progress: ShardProgress[] = [];
  await writeShards(folder, PLAN, (first, last) => {
    made.push(first);
    return make(first, last);
  }, { onProgress: (one) => progress.push(one) });
  assert.deepEqual(made, [10, 15, 20]);
  assert.deepEqual(progress, [
    { done: 5, total: 23, made: 0 },
    { done: 10, total: 23, made: 0 },
    { done: 15, total: 23, made: 5 },
    { done: 20, total: 23, made: 10 },
    { done: 23, total: 23, made: 13 },
  ]);
  const whole = await hashes(folder);
  assert.deepEqual(whole, await hashes(await written()));
  await writeShards(folder, PLAN, () => Promise.reject(new Error("nothing is left to make")));
  assert.deepEqual(await hashes(folder), whole);
});

Deno.test("damaged shards are refused when reading and made again when writing", async () => {
  const damages: [string, (path: string) => Promise<void>, RegExp, RegExp][] = [
    ["a bit", flipBit, /its data are damaged, they do not fit the hash/, /its data are damaged/],
    [
      "cut",
      (path) => Deno.truncate(path, 300),
      /the file is truncated/,
      /must have \d+ bytes, got 300; write the shards again/,
    ],
    [
      "empty",
      (path) => Deno.truncate(path, 0),
      /a header of 8 bytes is needed, got 0/,
      /must have \d+ bytes, got 0;/,
    ],
    ["missing", (path) => Deno.remove(path), /^$/, /must have \d+ bytes, got no file;/],
    ["text", (path) => Deno.writeTextFile(path, "no shard at all"), /it is no safetensors file/, /must have/],
  ];
  for (const [what, damage, note, refusal] of damages) {
    const folder = await written(), whole = await hashes(folder), made: number[] = [], notes: string[] = [];
    await damage(`${folder}/shard-00002.safetensors`);
    await assert.rejects(
      openShards(folder, { verify: "hash" }),
      { name: "DataError", message: refusal },
      what,
    );
    await writeShards(folder, PLAN, (first, last) => {
      made.push(first);
      return source(23)(first, last);
    }, { onProgress: (progress) => progress.note === undefined || notes.push(progress.note) });
    assert.deepEqual(made, [10], what);
    assert.equal(notes.length, what === "missing" ? 0 : 1, what);
    for (const line of notes) {
      assert.match(line, note);
      assert.ok(
        line.startsWith(`Cannot use ${folder}/shard-00002.safetensors: `) &&
          line.endsWith("; it is made again"),
      );
    }
    assert.deepEqual(await hashes(folder), whole, what);
  }
});

Deno.test("checking headers alone takes the data on trust, checking hashes does not", async () => {
  const folder = await written(), path = `${folder}/shard-00001.safetensors`, whole = await hashFile(path);
  await flipBit(path);
  const damaged = await hashFile(path);
  await writeShards(folder, PLAN, source(23), { verify: "header" });
  assert.equal(await hashFile(path), damaged);
  await writeShards(folder, PLAN, source(23), { verify: "hash" });
  assert.equal(await hashFile(path), whole);
});

Deno.test("a folder of another plan is refused, naming the key, and stays as it was", async () => {
  const folder = await written(), whole = await hashes(folder);
  const cases: [Partial<ShardPlan>, string][] = [
    [{ config: { encoder: { width: 32 }, seed: 3 } }, '"config.encoder.width" is 64 there and 32 here'],
    [{ config: { encoder: { width: 64 } } }, '"config.seed" is 3 there and absent here'],
    [{ count: 24 }, '"count" is 23 there and 24 here'],
    [{ rowsPerShard: 6 }, '"rowsPerShard" is 5 there and 6 here'],
    [{ dtype: "float16" }, '"dtype" is "float32" there and "float16" here'],
  ];
  for (const [change, difference] of cases) {
    await assert.rejects(writeShards(folder, { ...PLAN, ...change }, source(24)), {
      name: "ConfigError",
      message: `Cannot write shards to ${folder}: it holds others, ${difference}; use another folder`,
    });
  }
  assert.deepEqual(await hashes(folder), whole);
  const other = await written({ ...PLAN, config: {} });
  await Deno.copyFile(`${other}/shard-00003.safetensors`, `${folder}/shard-00003.safetensors`);
  await assert.rejects(writeShards(folder, PLAN, source(23)), {
    name: "ConfigError",
    message: /shard-00003\.safetensors: it belongs to other shards, its "plan" is [0-9a-f]{64} instead of/,
  });
});

Deno.test("rows that do not fit are refused and leave nothing behind", async () => {
  const good = await source(23)(0, 5), { features } = good.tensors;
  const cases: [Partial<ShardRows>, string, string][] = [
    [{ labels: [1, 2] }, "TypeError", '"labels" must have 5 rows, got 2'],
    [{ labels: [1, 2, 3, 4, 0.5] }, "RangeError", "labels must be whole numbers of 32 bits, got 0.5"],
    [
      { labels: [1, 2, 3, 4, 2 ** 31] },
      "RangeError",
      "labels must be whole numbers of 32 bits, got 2147483648",
    ],
    [{ tensors: { features: rows(features, 0, 4) } }, "TypeError", '"features" must have 5 rows, got 4'],
    [{ tensors: { x: float32([1], []) } }, "TypeError", '"x" must have 5 rows, got none'],
    [{ tensors: { labels: features } }, "RangeError", "the name labels is reserved"],
  ];
  for (const [change, name, problem] of cases) {
    const folder = await Deno.makeTempDir(), make = () => Promise.resolve({ ...good, ...change });
    await assert.rejects(writeShards(folder, PLAN, make), {
      name,
      message: `Cannot write rows 0 … 4: ${problem}`,
    });
    assert.deepEqual(await names(folder), ["shards.json"]);
  }
  const folder = await Deno.makeTempDir();
  const changing = async (first: number, last: number): Promise<ShardRows> => {
    const { tensors, labels } = await source(23)(first, last), { norm, ...rest } = tensors;
    return { tensors: first < 10 ? { ...rest, norm } : { ...rest, length: norm }, labels };
  };
  await assert.rejects(writeShards(folder, PLAN, changing), {
    name: "DataError",
    message:
      `Cannot use ${folder}/shard-00002.safetensors: rows of "norm" must be F32 [] as in the other shards, ` +
      "got absent",
  });
  for (const wrong of [{ count: 0 }, { rowsPerShard: 1.5 }, { dtype: "bfloat16" as "float16" }]) {
    await assert.rejects(writeShards(folder, { ...PLAN, ...wrong }, source(1)), RangeError);
  }
});

Deno.test("a folder that holds no or a damaged index is refused in one line", async () => {
  const folder = await Deno.makeTempDir();
  await assert.rejects(openShards(folder), {
    name: "DataError",
    message: `Cannot open shards ${folder}: ${folder}/index.json is missing: it is no folder of shards`,
  });
  const whole = await written(), index = await readJson(`${whole}/index.json`) as Record<string, unknown>;
  const cases: [Record<string, unknown>, RegExp][] = [
    [{ format: "other" }, /"format" is wrong/],
    [{ labels: [1, 2] }, /labels and shards must cover 23 rows$/],
    [{ shards: [] }, /labels and shards must cover 23 rows$/],
    [{ more: 1 }, /is wrong/],
  ];
  for (const [change, message] of cases) {
    await Deno.writeTextFile(`${whole}/index.json`, JSON.stringify({ ...index, ...change }));
    await assert.rejects(openShards(whole), { name: "DataError", message });
  }
});

Deno.test("a shard replaced under an open store is noticed before its rows are read", async () => {
  const folder = await written(), store = await openShards(folder);
  const other = await written({ ...PLAN, config: { encoder: { width: 65 }, seed: 3 } });
  await Deno.copyFile(`${other}/shard-00000.safetensors`, `${folder}/shard-00000.safetensors`);
  await store.rows(0, 5); // equal data: the hash is that of the rows
  const { tensors } = await source(23)(5, 10);
  await writeSafetensors(`${folder}/shard-00001.safetensors`, tensors, {}, { hashed: true });
  await assert.rejects(store.rows(5, 6), {
    name: "DataError",
    message: /its hash must be the one in the index/,
  });
  await store.close();
});

Deno.test("a shard is made again if what it was made from has changed, and only then", async () => {
  const folder = `${await Deno.makeTempDir()}/shards`,
    inputs = new Map<number, string>(),
    made: number[] = [];
  const write = async () => {
    made.length = 0;
    const notes: string[] = [];
    await writeShards(folder, PLAN, async (first, last) => {
      made.push(first);
      return await source(23)(first, last);
    }, {
      inputsOf: (first) => Promise.resolve(inputs.get(first) ?? "as ever"),
      onProgress: ({ note }) => note !== undefined && notes.push(note),
    });
    return notes;
  };
  assert.deepEqual(await write(), []);
  assert.deepEqual(made, [0, 5, 10, 15, 20]);
  const before = await hashes(folder);
  assert.deepEqual(await write(), []);
  assert.deepEqual(made, []);
  inputs.set(10, "changed");
  assert.deepEqual(await write(), [
    `${folder}/shard-00002.safetensors was made from other inputs; it is made again`,
  ]);
  assert.deepEqual(made, [10]);
  inputs.clear();
  await write();
  assert.deepEqual(made, [10]);
  assert.deepEqual(await hashes(folder), before);
});

Deno.test("several shards may be in the making, and a failure leaves those that were begun finished", async () => {
  const folder = `${await Deno.makeTempDir()}/shards`, begun: number[] = [], running = new Set<number>();
  let most = 0, fail = true;
  const make = async (first: number, last: number) => {
    begun.push(first);
    running.add(first);
    most = Math.max(most, running.size);
    while (most < (fail ? 2 : 3)) await new Promise((resolve) => setTimeout(resolve, 1));
    if (first !== 5) await new Promise((resolve) => setTimeout(resolve, 30));
    running.delete(first);
    if (first === 5 && fail) throw new RangeError("no luck");
    return await source(23)(first, last);
  };
  await assert.rejects(writeShards(folder, PLAN, make, { atOnce: 2 }), { message: "no luck" });
  assert.deepEqual([begun.sort(), most], [[0, 5], 2]);
  assert.deepEqual((await names(folder)).filter((name) => /^shard-/.test(name)), ["shard-00000.safetensors"]);
  fail = false;
  await writeShards(folder, PLAN, make, { atOnce: 3 });
  assert.deepEqual([begun.length, most], [6, 3]);
  assert.deepEqual(await hashes(folder), await hashes(await written()));
});
