import assert from "node:assert/strict";
import { float32, int32, WeightsError } from "novae/tensor/mod.ts";
import { readSafetensors, readSafetensorsHeader, writeSafetensors } from "novae/io/mod.ts";

/** A file laid out by hand from the format's description, with data that are not aligned. */
function byHand(header: unknown, data: Uint8Array): Uint8Array {
  const text = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + text.length + data.length);
  new DataView(bytes.buffer).setUint32(0, text.length, true);
  bytes.set(text, 8);
  bytes.set(data, 8 + text.length);
  return bytes;
}

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
