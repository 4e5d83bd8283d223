import assert from "node:assert/strict";
import fc from "fast-check";
import { float32, type HostTensor, int32 } from "novae/tensor/mod.ts";
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
