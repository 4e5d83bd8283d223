import assert from "node:assert/strict";
import fc from "fast-check";
import { DataError } from "novae/tensor/mod.ts";
import {
  decodeNpy,
  encodeNpy,
  type NpyArray,
  readNpy,
  readNpz,
  writeNpy,
  writeNpz,
  writeNpzStream,
} from "novae/io/mod.ts";
import { writeZipStream } from "novae/io/zip_stream.ts";

const array: fc.Arbitrary<NpyArray> = fc.tuple(
  fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 3 }),
  fc.constantFrom("float32", "float64", "uint8", "int32", "int64", "bool"),
  fc.infiniteStream(fc.integer()),
).map(([shape, dtype, stream]): NpyArray => {
  const values = Array.from(
    { length: shape.reduce((a, b) => a * b, 1) },
    () => stream.next().value as number,
  );
  switch (dtype) {
    case "float32":
      return { dtype, shape, data: Float32Array.from(values, (v) => v / 3) };
    case "float64":
      return { dtype, shape, data: Float64Array.from(values, (v) => v / 3) };
    case "int32":
      return { dtype, shape, data: Int32Array.from(values) };
    case "int64":
      return { dtype, shape, data: BigInt64Array.from(values, (v) => BigInt(v) ** 2n) };
    case "bool":
      return { dtype, shape, data: Uint8Array.from(values, (v) => v & 1) };
    default:
      return { dtype: "uint8", shape, data: Uint8Array.from(values) };
  }
});

Deno.test("npy round trip keeps type, shape and values, and aligns the data as numpy does", () => {
  fc.assert(fc.property(array, (value) => {
    const bytes = encodeNpy(value);
    assert.equal((bytes.length - value.data.byteLength) % 64, 0);
    assert.deepEqual(decodeNpy(bytes, "test"), value);
  }));
});

Deno.test("npz round trip keeps names and arrays", async () => {
  const path = await Deno.makeTempFile({ suffix: ".npz" });
  const names = fc.stringMatching(/^[a-zA-Zé_][a-zA-Z0-9_/]{0,8}$/);
  const files = fc.uniqueArray(fc.tuple(names, array), { selector: ([name]) => name, maxLength: 4 });
  await fc.assert(
    fc.asyncProperty(files, async (entries) => {
      await writeNpz(path, new Map(entries));
      assert.deepEqual(await readNpz(path), new Map(entries));
    }),
    { numRuns: 30 },
  );
});

const PYTHON = Deno.env.get("NOVAE_PYTHON") ?? "python3";
let havePython = true;
try {
  new Deno.Command(PYTHON, { args: ["-V"], stdout: "null", stderr: "null" }).outputSync();
} catch {
  havePython = false;
}
if (!havePython) console.log(`ignored: reading npz with Python's zipfile needs ${PYTHON}`);

Deno.test({
  name: "Python's zipfile accepts the archive, and its npy header is what numpy parses",
  ignore: !havePython,
  fn: async () => {
    const path = await Deno.makeTempFile({ suffix: ".npz" }), large = `${path}.large`;
    const arrays: Record<string, NpyArray> = {
      mean: { dtype: "float32", shape: [2, 3], data: Float32Array.of(0, 1, 2, 3, 4, 5.5) },
      ids: { dtype: "int64", shape: [2], data: BigInt64Array.of(-1n, 2n ** 40n) },
      one: { dtype: "uint8", shape: [], data: Uint8Array.of(9) },
    };
    await writeNpz(path, arrays);
    {
      using file = await Deno.open(large, { write: true, create: true });
      const entries = Object.entries(arrays).map(([name, array]) => {
        const content = encodeNpy(array);
        return { name: `${name}.npy`, bytes: content.length, content: ReadableStream.from([content]) };
      });
      await writeZipStream(file, entries, 1); // with the 64-bit fields of archives beyond 4 GiB
    }
    // numpy.lib.format: magic, version, little-endian header length, a dict literal, then the raw data
    const script = `
import ast, json, struct, sys, zipfile
archive, found = zipfile.ZipFile(sys.argv[1]), {}
assert archive.testzip() is None
for name in archive.namelist():
    raw = archive.read(name)
    assert raw[:8] == b"\\x93NUMPY\\x01\\x00" and archive.getinfo(name).compress_type == zipfile.ZIP_STORED
    (length,) = struct.unpack("<H", raw[8:10])
    header = ast.literal_eval(raw[10:10 + length].decode("latin1"))
    assert raw[9 + length:10 + length] == b"\\n" and sorted(header) == ["descr", "fortran_order", "shape"]
    code = {"<f4": "f", "<i8": "q", "|u1": "B"}[header["descr"]]
    body = raw[10 + length:]
    values = struct.unpack(f"<{len(body) // struct.calcsize('<' + code)}{code}", body)
    found[name] = [header["descr"], header["fortran_order"], list(header["shape"]), list(values)]
print(json.dumps(found))`;
    for (const written of [path, large]) {
      const { code, stdout, stderr } = await new Deno.Command(PYTHON, { args: ["-c", script, written] })
        .output();
      assert.equal(code, 0, new TextDecoder().decode(stderr));
      assert.deepEqual(JSON.parse(new TextDecoder().decode(stdout)), {
        "mean.npy": ["<f4", false, [2, 3], [0, 1, 2, 3, 4, 5.5]],
        "ids.npy": ["<i8", false, [2], [-1, 2 ** 40]],
        "one.npy": ["|u1", false, [], [9]],
      });
    }
  },
});

/** npy bytes with a header written by hand. */
function npy(header: string, data: ArrayBufferView, version = 1): Uint8Array {
  const text = new TextEncoder().encode(header + "\n");
  const length = version === 1
    ? [text.length & 255, text.length >> 8]
    : [text.length & 255, text.length >> 8, 0, 0];
  const magic = [0x93, ...new TextEncoder().encode("NUMPY"), version, 0, ...length];
  return Uint8Array.from([...magic, ...text, ...new Uint8Array(data.buffer)]);
}

Deno.test("a streamed npz holds what a whole one does, whatever its pieces, also in the form of large archives", async () => {
  const folder = await Deno.makeTempDir(),
    names = ["whole", "stream", "large"].map((n) => `${folder}/${n}.npz`);
  const images = {
    dtype: "uint8",
    shape: [50, 4],
    data: Uint8Array.from({ length: 200 }, (_, i) => i),
  } as const;
  const labels = {
    dtype: "int32",
    shape: [50],
    data: Int32Array.from({ length: 50 }, (_, i) => -i),
  } as const;
  const labelBytes = new Uint8Array(labels.data.buffer);
  const pieces = [images.data.subarray(0, 7), images.data.subarray(7, 7), images.data.subarray(7)];
  await writeNpz(names[0], { arr_0: images, arr_1: labels });
  await writeNpzStream(names[1], {
    arr_0: { ...images, bytes: pieces },
    arr_1: { ...labels, bytes: [labelBytes] },
  });
  assert.deepEqual(await Deno.readFile(names[1]), await Deno.readFile(names[0]));
  {
    using file = await Deno.open(names[2], { write: true, create: true });
    const entry = (name: string, array: NpyArray) => {
      const content = encodeNpy(array);
      return { name, bytes: content.length, content: ReadableStream.from([content]) };
    };
    await writeZipStream(file, [entry("arr_0.npy", images), entry("arr_1.npy", labels)], 1);
  }
  assert.ok((await Deno.stat(names[2])).size > (await Deno.stat(names[0])).size + 100);
  assert.deepEqual(await readNpz(names[2]), await readNpz(names[0]));
  const short = { "arr_0": { ...images, bytes: pieces.slice(0, 1) } };
  await assert.rejects(writeNpzStream(names[1], short), {
    name: "RangeError",
    message: /must have 328 bytes, got 135/,
  });
  assert.deepEqual(await Array.fromAsync(Deno.readDir(folder)).then((found) => found.length), 3);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("column-major arrays, float16 and version 2 headers are read", () => {
  const columns = npy(
    "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }",
    Float32Array.of(0, 3, 1, 4, 2, 5),
  );
  assert.deepEqual(decodeNpy(columns, "a"), {
    dtype: "float32",
    shape: [2, 3],
    data: Float32Array.of(0, 1, 2, 3, 4, 5),
  });
  const half = npy(
    "{'descr': '<f2', 'fortran_order': False, 'shape': (2,), }",
    new Float16Array([0.5, -3]),
    2,
  );
  assert.deepEqual(decodeNpy(half, "a").data, Float32Array.of(0.5, -3));
});

Deno.test("deflated archives are read", async () => {
  // tests/golden/deflated.py: float32 zeros of shape (64,), then x[3] = 1.
  const entries = await readNpz("tests/golden/deflated.npz");
  const expected = new Float32Array(64);
  expected[3] = 1;
  assert.deepEqual(entries, new Map([["x", { dtype: "float32", shape: [64], data: expected }]]));
});

Deno.test("npy headers that lie are refused", () => {
  const data = Float32Array.of(1, 2),
    header = (shape: string) => `{'descr': '<f4', 'fortran_order': True, 'shape': ${shape}, }`;
  const cases: [Uint8Array, RegExp][] = [
    [npy(header("(9007199254740993,)"), data), /its shape must be at most 64 whole numbers/],
    [npy(header("(0, 9007199254740993)"), data), /its shape must be at most 64 whole numbers/],
    [npy(header("(1 2,)"), data), /its shape must be .*, got \(1 2,\)$/],
    [npy(header(`(${"1,".repeat(65)})`), data), /its shape must be at most 64 whole numbers/],
    [npy(header("(-1,)"), data), /has no plain type, order and shape$/],
    [npy(header("(3,)"), data), /3 values need 12 bytes, got 8$/],
    [npy(header("(2,)").padEnd(11_000), data), /must be of at most 10000 bytes, got 11001$/],
    [npy(header("(2,)"), data, 9), /its npy version must be 1, 2 or 3, got 9$/],
    [npy("{'descr': [('a', '<f4')], 'fortran_order': True, 'shape': (2,)}", data), /no plain type, order/],
    [
      npy("{'descr': '|O', 'fortran_order': True, 'shape': (2,)}", data),
      /its type must be float16.*, got \|O$/,
    ],
    [
      npy("{'descr': 'toString', 'fortran_order': True, 'shape': (2,)}", data),
      /its type must be .*, got toString$/,
    ],
  ];
  for (const [bytes, message] of cases) {
    assert.throws(() => decodeNpy(bytes, "a"), (error: Error) => {
      assert.ok(error instanceof DataError, String(error.stack));
      return message.test(error.message) || assert.fail(error.message);
    });
  }
});

Deno.test("damaged npy and npz files are refused with the file and what is wrong", async () => {
  const path = await Deno.makeTempFile(), data = Float32Array.of(1, 2);
  const refuses = async (bytes: Uint8Array, message: RegExp, read: (path: string) => Promise<unknown>) => {
    await Deno.writeFile(path, bytes);
    await assert.rejects(read(path), (error: Error) => {
      assert.ok(error instanceof DataError, String(error));
      assert.match(error.message, message);
      return error.message.includes(path);
    });
  };
  const good = encodeNpy({ dtype: "float32", shape: [2], data });
  await refuses(new Uint8Array(20), /it is no npy array/, readNpy);
  await refuses(good.subarray(0, good.length - 3), /2 values need 8 bytes, got 5/, readNpy);
  await refuses(good.subarray(0, 40), /the npy header is truncated/, readNpy);
  await refuses(npy("{'descr': '>f4', 'fortran_order': False, 'shape': (2,)}", data), /got >f4/, readNpy);
  await writeNpy(path, { dtype: "float32", shape: [2], data });
  assert.deepEqual((await readNpy(path)).data, data);

  await writeNpz(path, { a: { dtype: "float32", shape: [2], data } });
  const archive = await Deno.readFile(path), flipped = archive.slice();
  flipped[good.length] ^= 1;
  await refuses(flipped, /:a\.npy: its checksum does not match/, readNpz);
  for (const cut of [1, 30, 100]) {
    await refuses(
      archive.subarray(0, archive.length - cut),
      /it is no zip archive, or it is truncated/,
      readNpz,
    );
  }
  await refuses(archive.subarray(50), /it is truncated|is broken|bytes are needed/, readNpz);
  await assert.rejects(writeNpy(path, { dtype: "float32", shape: [3], data }), TypeError);
});
