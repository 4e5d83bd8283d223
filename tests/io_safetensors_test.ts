import assert from "node:assert/strict";
import fc from "fast-check";
import { float32, type HostTensor, int32, WeightsError } from "novae/tensor/mod.ts";
import {
  fromBfloat16Bits,
  fromFloat16Bits,
  hashFile,
  readSafetensors,
  readSafetensorsHeader,
  toFloat16Bits,
  writeSafetensors,
} from "novae/io/mod.ts";

/** The nearest binary16 by comparing with every one of them: slow, and independent of any bit arithmetic. */
function nearestHalf(value: number): number {
  const halves = Array.from({ length: 0x7c00 }, (_, bits) => {
    const exponent = bits >> 10, fraction = bits & 0x3ff;
    return exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25);
  });
  const size = Math.abs(value), sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  if (size >= 65520) return sign | 0x7c00;
  let above = halves.findIndex((half) => half >= size);
  if (above < 0) above = halves.length - 1;
  if (above === 0) return sign;
  const low = size - halves[above - 1], high = halves[above] - size;
  if (high < 0) return sign | above;
  if (low === high) return sign | (above % 2 === 0 ? above : above - 1);
  return sign | (low < high ? above - 1 : above);
}

Deno.test("float16 conversion rounds to nearest even, subnormals and overflow included", () => {
  const step = 2 ** -24,
    hard = [
      ...[
        0,
        -0,
        1,
        -1,
        65504,
        65519.99,
        65520,
        -65520,
        1e30,
        2049,
        2051,
        -2049,
        1 + 2 ** -11,
        1 + 3 * 2 ** -11,
      ],
      ...[step, step / 2, step / 2 + 2 ** -40, 1.5 * step, 2.5 * step, 1023 * step, 1023.5 * step, 1e-40],
    ];
  const values = Float32Array.from(hard);
  assert.deepEqual([...toFloat16Bits(values)], [...values].map(nearestHalf));
  assert.deepEqual([...toFloat16Bits(Float32Array.of(Infinity, -Infinity))], [0x7c00, 0xfc00]);
  assert.ok(Number.isNaN(fromFloat16Bits(toFloat16Bits(Float32Array.of(NaN)))[0]));
  const random = fc.oneof(fc.float({ noNaN: true }), fc.float({ noNaN: true, min: -1, max: 1 }));
  fc.assert(fc.property(random, (v) => {
    assert.equal(toFloat16Bits(Float32Array.of(v))[0], nearestHalf(v));
  }));
});

Deno.test("every float16 bit pattern widens and narrows to itself", () => {
  const bits = Uint16Array.from({ length: 0x10000 }, (_, i) => i).filter((b) => (b & 0x7fff) <= 0x7c00 // NaN payloads may change
  );
  assert.deepEqual(toFloat16Bits(fromFloat16Bits(bits)), bits);
  assert.deepEqual([...fromBfloat16Bits(Uint16Array.of(0x3f80, 0xc049, 0x0001))], [1, -3.140625, 2 ** -133]);
});

const tensor: fc.Arbitrary<HostTensor> = fc.tuple(
  fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 3 }),
  fc.constantFrom("float32", "int32", "bool"),
  fc.infiniteStream(fc.integer()),
).map(([shape, dtype, stream]) => {
  const values = Array.from(
    { length: shape.reduce((a, b) => a * b, 1) },
    () => stream.next().value as number,
  );
  if (dtype === "float32") return float32(values.map((v) => v / 3), shape);
  if (dtype === "int32") return int32(values, shape);
  return { dtype: "bool", shape, data: Uint8Array.from(values, (v) => v & 1) };
});

Deno.test("safetensors round trip keeps names, types, shapes, values and metadata", async () => {
  const path = await Deno.makeTempFile({ suffix: ".safetensors" });
  const names = fc.string({ minLength: 1, unit: "binary" }).filter((name) => name !== "__metadata__");
  const fileContent = fc.tuple(
    fc.uniqueArray(fc.tuple(names, tensor), { selector: ([name]) => name, maxLength: 5 }),
    fc.uniqueArray(fc.tuple(names, fc.string()), { selector: ([name]) => name, maxLength: 2 }),
  );
  await fc.assert(
    fc.asyncProperty(fileContent, async ([tensors, metadata]) => {
      const text = Object.fromEntries(metadata.filter(([name]) => name !== "__proto__"));
      const named = new Map([["__proto__", float32([1], [1])] as [string, HostTensor], ...tensors]);
      await writeSafetensors(path, named, text);
      const file = await readSafetensors(path);
      assert.deepEqual(file.tensors, named);
      assert.deepEqual(file.metadata, text);
    }),
    { numRuns: 60 },
  );
  await Deno.remove(path);
});

Deno.test("float16 storage reads back as the rounded values and halves the file", async () => {
  const path = await Deno.makeTempFile({ suffix: ".safetensors" });
  const weight = float32(Float32Array.from({ length: 3001 }, (_, i) => Math.sin(i) / 7), [3001]);
  await writeSafetensors(path, { weight, steps: int32([7], []) }, {}, { dtype: "float16" });
  const { tensors } = await readSafetensors(path);
  assert.deepEqual(tensors.get("weight")!.data, fromFloat16Bits(toFloat16Bits(weight.data as Float32Array)));
  assert.deepEqual(tensors.get("steps"), int32([7], []));
  assert.ok((await Deno.stat(path)).size < 3001 * 2 + 300);
  await assert.rejects(
    writeSafetensors(path, { big: float32([1, 7e4], [2]) }, {}, { dtype: "float16" }),
    { name: "WeightsError", message: /"big" as float16 must stay within 65504, got 70000$/ },
  );
  assert.ok((await readSafetensors(path)).tensors.has("weight"), "the earlier file is untouched");
  await Deno.remove(path);
});

Deno.test("the same tensors give the same bytes whatever their order", async () => {
  const folder = await Deno.makeTempDir(), a = float32([1], [1]), b = int32([2], [1]);
  await writeSafetensors(`${folder}/1`, { a, b });
  await writeSafetensors(`${folder}/2`, new Map([["b", b], ["a", a]]));
  assert.equal(await hashFile(`${folder}/1`), await hashFile(`${folder}/2`));
  await Deno.remove(folder, { recursive: true });
});

/** A file laid out by hand from the format's description, with data that are not aligned. */
function byHand(header: unknown, data: Uint8Array): Uint8Array {
  const text = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + text.length + data.length);
  new DataView(bytes.buffer).setUint32(0, text.length, true);
  bytes.set(text, 8);
  bytes.set(data, 8 + text.length);
  return bytes;
}

Deno.test("a file written by Python's struct is read with every storage type", async () => {
  const { tensors, metadata } = await readSafetensors("tests/golden/safetensors.safetensors");
  assert.deepEqual(metadata, { format: "by hand", note: "naïve ✓" });
  const values = Object.fromEntries([...tensors].map(([name, t]) => [name, [t.dtype, t.shape, [...t.data]]]));
  assert.deepEqual(values, {
    flag: ["bool", [3], [1, 0, 1]],
    byte: ["int32", [2], [0, 255]],
    signed: ["int32", [2], [-128, 127]],
    half: ["float32", [3], [0.5, -65504, 2 ** -24]],
    brain: ["float32", [2], [1.5, -3.140625]],
    single: ["float32", [2, 2], [1, Math.fround(0.1), -2, Math.fround(3e38)]],
    double: ["float32", [1], [Math.fround(Math.PI)]],
    short: ["int32", [2], [-32768, 32767]],
    whole: ["int32", [1, 2], [-2147483648, 2147483647]],
    long: ["int32", [2], [-5, 2147483647]],
    empty: ["float32", [0, 4], []],
    scalar: ["float32", [], [42]],
  });
});

/** A file that is nothing but the length of its header. */
function headerOf(length: bigint): Uint8Array {
  const bytes = new Uint8Array(16);
  new DataView(bytes.buffer).setBigUint64(0, length, true);
  return bytes;
}

Deno.test("headers that are sound in unusual ways are read", async () => {
  const path = await Deno.makeTempFile(), data = new Uint8Array(Float32Array.of(1, 2).buffer);
  const written = `{ "b" : {"data_offsets":[4 ,8],\n"shape":[1 ],"dtype":"F32"} ,
    "\\u0061\\"": {"dtype":"F32","shape":[],"data_offsets":[0,4]}, "__metadata__":{} }  \t\r\n `;
  await Deno.writeFile(path, byHand(written, data));
  const { tensors } = await readSafetensors(path);
  assert.deepEqual(tensors, new Map([['a"', float32([1], [])], ["b", float32([2], [1])]]));
  await Deno.writeFile(path, byHand("{}", new Uint8Array(0)));
  assert.equal((await readSafetensors(path)).tensors.size, 0);
  await Deno.remove(path);
});

Deno.test("damaged safetensors files are refused with the file and what is wrong", async () => {
  const path = await Deno.makeTempFile({ suffix: ".safetensors" });
  const entry = (from: number, to: number, shape = [(to - from) / 4]) => ({
    dtype: "F32",
    shape,
    data_offsets: [from, to],
  });
  const four = new Uint8Array(4);
  const cases: [string, Uint8Array, RegExp][] = [
    ["empty", new Uint8Array(0), /a header of 8 bytes is needed, got 0/],
    [
      "short header",
      byHand({ a: entry(0, 4) }, four).subarray(0, 20),
      /the header needs \d+ bytes, got 12: the file is tru/,
    ],
    ["other format", new Uint8Array(64).fill(0x50), /it is no safetensors file/],
    ["no JSON", byHand("{oops", four), /the header must be a JSON object/],
    [
      "truncated",
      byHand({ a: entry(0, 4), b: entry(4, 12), c: entry(12, 16) }, new Uint8Array(7)),
      /need 16 bytes, got 7: the file is truncated, "b" and 1 more missing/,
    ],
    ["rest", byHand({ a: entry(0, 4) }, new Uint8Array(9)), /must end after 4 bytes, got 9/],
    [
      "gap",
      byHand({ a: entry(0, 4), b: entry(8, 12) }, new Uint8Array(12)),
      /"b" must begin at byte 4 of the data, got 8/,
    ],
    [
      "overlap",
      byHand({ a: entry(0, 8), b: entry(4, 8) }, new Uint8Array(8)),
      /"b" must begin at byte 8 of the data, got 4/,
    ],
    ["size", byHand({ a: entry(0, 4, [2]) }, four), /"a" of type F32 and shape \[2\] needs 8 bytes, got 4/],
    ["shape", byHand({ a: entry(0, 4, [-1]) }, four), /the shape of "a" must be whole numbers, got \[-1\]$/],
    [
      "type",
      byHand({ a: { ...entry(0, 4), dtype: "F8_E4M3" } }, four),
      /"a" must be of type F64.*, got F8_E4M3/,
    ],
    ["offsets", byHand({ a: { dtype: "F32", shape: [1] } }, four), /the place of "a" must be two offsets/],
    [
      "metadata",
      byHand({ __metadata__: { a: 1 } }, new Uint8Array(0)),
      /the metadata must be text by key, got "a" 1$/,
    ],
    [
      "metadata list",
      byHand({ __metadata__: ["a"] }, new Uint8Array(0)),
      /must be text by key, got \["a"\]$/,
    ],
    [
      "metadata twice",
      byHand('{"__metadata__":{"k":"1","k":"2"}}', new Uint8Array(0)),
      /by key, got "k" twice$/,
    ],
    [
      "huge header",
      headerOf(100_000_001n),
      /must be of at most 100000000 bytes, got 100000001: it is no safetensors/,
    ],
    [
      "header of 2⁶⁴",
      headerOf(2n ** 64n - 1n),
      /at most 100000000 bytes, got 18446744073709551615: it is no saf/,
    ],
    ["long header", headerOf(99_999_999n), /the header needs 99999999 bytes, got 8: the file is truncated/],
    ["empty header", headerOf(0n).subarray(0, 8), /the header must be a JSON object/],
    ["list", byHand("[]", four), /the header must be a JSON object/],
    ["byte order mark", byHand("\ufeff{}", new Uint8Array(0)), /the header must be a JSON object/],
    ["space before", byHand(" {}", new Uint8Array(0)), /the header must be a JSON object/],
    ["rest of text", byHand("{} x", new Uint8Array(0)), /the header must be a JSON object/],
    ["zeros behind", byHand("{}\0\0", new Uint8Array(0)), /the header must be a JSON object/],
    ["comma", byHand(`{"a":${JSON.stringify(entry(0, 4))},}`, four), /the header must be a JSON object/],
    ["no UTF-8", byHand("{}", four).map((b, i) => i === 9 ? 0xff : b), /the header must be a JSON object/],
    ["depth", byHand(`{"a":${"[".repeat(100_000)}`, four), /"a" must be described by an object, got \[+$/],
    [
      "twice",
      byHand(`{"a":${JSON.stringify(entry(0, 4))},"a":${JSON.stringify(entry(4, 8))}}`, new Uint8Array(8)),
      /names must be unique, got "a" twice$/,
    ],
    [
      "twice by another spelling",
      byHand(`{"a":${JSON.stringify(entry(0, 4))},"\\u0061":${JSON.stringify(entry(0, 4))}}`, four),
      /names must be unique, got "a" twice$/,
    ],
    [
      "shape twice",
      byHand('{"a":{"dtype":"F32","shape":[1],"shape":[2],"data_offsets":[0,4]}}', four),
      /"a" must have one dtype, shape and data_offsets, got "shape" besides$/,
    ],
    ["unknown key", byHand({ a: { ...entry(0, 4), note: 1 } }, four), /data_offsets, got "note" besides$/],
    [
      "name",
      byHand({ "a\nb": { ...entry(0, 4), dtype: "\u001b[31m" } }, four),
      /"a\\u000ab" must .*, got \\u001b\[31m$/,
    ],
    [
      "fraction",
      byHand({ a: entry(0, 4, [1.5]) }, four),
      /the shape of "a" must be whole numbers, got \[1\.5\]$/,
    ],
    ["exponent", byHand({ a: entry(0, 4, [1e30]) }, four), /must be whole numbers, got \[1e\+30\]$/],
    ["text as shape", byHand({ a: { ...entry(0, 4), shape: "1" } }, four), /must be whole numbers, got "1"$/],
    [
      "no shape",
      byHand({ a: { dtype: "F32", data_offsets: [0, 4] } }, four),
      /must be whole numbers, got none$/,
    ],
    ["no type", byHand({ a: { shape: [1], data_offsets: [0, 4] } }, four), /must be of type .*, got none$/],
    ["number as type", byHand({ a: { ...entry(0, 4), dtype: 5 } }, four), /must be of type .*, got 5$/],
    ["number as entry", byHand({ a: 3 }, four), /"a" must be described by an object, got 3$/],
    [
      "three offsets",
      byHand({ a: { ...entry(0, 4), data_offsets: [0, 4, 4] } }, four),
      /two offsets, got \[0, 4, 4\]$/,
    ],
    [
      "negative offsets",
      byHand({ a: { ...entry(0, 4), data_offsets: [-4, 0] } }, four),
      /two offsets, got \[-4,0\]$/,
    ],
    ["backwards", byHand({ a: { ...entry(4, 0), shape: [1] } }, four), /needs 4 bytes, got -4$/],
    [
      "beyond",
      byHand({ a: entry(0, 2 ** 40) }, four),
      /the data need 1099511627776 bytes, got 4: the file is trunc/,
    ],
    [
      "wide offsets",
      byHand('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,9007199254740993]}}', four),
      /two offsets/,
    ],
    [
      "2⁵³ elements",
      byHand({ a: entry(0, 4, [2 ** 27, 2 ** 27]) }, four),
      /"a" must have fewer than 2⁵⁰ elements/,
    ],
    [
      "overflow behind a zero",
      byHand({ a: entry(0, 0, [0, ...new Array(40).fill(2 ** 50)]) }, new Uint8Array(0)),
      /"a" must have fewer than 2⁵⁰ elements/,
    ],
    ["axes", byHand({ a: entry(0, 4, new Array(65).fill(1)) }, four), /must have at most 64 axes, got 65$/],
    [
      "wide",
      byHand({ a: { dtype: "I64", shape: [1], data_offsets: [0, 8] } }, new Uint8Array(8).fill(0x7f)),
      /"a" must fit into 32-bit/,
    ],
  ];
  for (const [what, bytes, message] of cases) {
    await Deno.writeFile(path, bytes);
    await assert.rejects(readSafetensors(path), (error: Error) => {
      assert.ok(error instanceof WeightsError, `${what}: ${error}`);
      assert.match(error.message, message, what);
      assert.ok(error.message.includes(path) && !error.message.includes("\n"), what);
      return true;
    });
  }
  await Deno.remove(path);
  await assert.rejects(readSafetensors(path), { name: "WeightsError", message: /no such file or folder$/ });
});

Deno.test("every truncation of a safetensors file is noticed from the header alone", async () => {
  const path = await Deno.makeTempFile({ suffix: ".safetensors" });
  await writeSafetensors(path, { a: float32([1, 2, 3], [3]), b: int32([4], []) });
  const whole = await Deno.readFile(path);
  assert.deepEqual((await readSafetensorsHeader(path)).entries.map((e) => e.name), ["a", "b"]);
  for (let length = 0; length < whole.length; length += 3) {
    await Deno.writeFile(path, whole.subarray(0, length));
    await assert.rejects(readSafetensorsHeader(path), WeightsError);
  }
  await Deno.remove(path);
});

Deno.test("tensors that contradict themselves are refused before anything is written", async () => {
  const path = `${await Deno.makeTempDir()}/w`;
  const wrong = { ...float32([1, 2], [2]), shape: [3] };
  await assert.rejects(writeSafetensors(path, { wrong }), {
    name: "TypeError",
    message: /needs 3 values, got 2/,
  });
  await assert.rejects(writeSafetensors(path, { __metadata__: float32([1], []) }), RangeError);
  await assert.rejects(writeSafetensors(path, {}, { a: 1 as unknown as string }), TypeError);
  await assert.rejects(Deno.stat(path), Deno.errors.NotFound);
});

Deno.test("the hash in the metadata is that of the data, and they are those of a file without it", async () => {
  const folder = await Deno.makeTempDir(), plain = `${folder}/plain`, hashed = `${folder}/hashed`;
  const tensors = { b: float32([1, 0.1, -3], [3]), a: int32([1, 2], [2]) }, dtype = "float16";
  await writeSafetensors(plain, tensors, { note: "x" }, { dtype });
  await writeSafetensors(hashed, tensors, { note: "x" }, { dtype, hashed: true });
  const { metadata, dataStart } = await readSafetensorsHeader(hashed);
  assert.deepEqual(Object.keys(metadata), ["note", "sha256"]);
  assert.equal(metadata.sha256, await hashFile(hashed, dataStart));
  assert.equal(metadata.sha256, await hashFile(plain, (await readSafetensorsHeader(plain)).dataStart));
  assert.deepEqual((await readSafetensors(hashed)).tensors, (await readSafetensors(plain)).tensors);
});
