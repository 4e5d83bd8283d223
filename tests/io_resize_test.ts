import assert from "node:assert/strict";
import fc from "fast-check";
import { resizeBytes, type ResizeFilter, resizeFloats, resizeImage, resizeMatrix } from "novae/io/mod.ts";
import { golden, goldenBytes, goldenFloats } from "./golden_bytes.ts";

const FILTERS: readonly ResizeFilter[] = ["box", "bilinear", "bicubic", "lanczos3"];
const CHANNELS: Readonly<Record<string, number>> = { RGB: 3, L: 1, F: 1 };

interface Golden {
  mode: "RGB" | "L" | "F";
  before: [number, number];
  after: [number, number];
  in: string;
  out: Record<ResizeFilter, string>;
}
const cases: Golden[] = (await golden("io_resize")).cases;
const size = ([width, height]: [number, number]) => ({ width, height });

/** A whole image of numbers resized. */
function floats(
  image: ArrayLike<number>,
  before: [number, number],
  after: [number, number],
  filter: ResizeFilter,
) {
  const out = new Float32Array(after[0] * after[1]);
  const area = { ...size(before), offset: 0, stride: before[0], channels: 1 };
  resizeFloats(image, area, size(after), filter, out);
  return out;
}

Deno.test("images of bytes, colour and grey, come out bit for bit as Pillow's", () => {
  let compared = 0;
  for (const { mode, before, after, in: image, out } of cases) {
    if (mode === "F") continue;
    for (const filter of FILTERS) {
      const got = resizeBytes(goldenBytes(image), size(before), size(after), CHANNELS[mode], filter);
      assert.deepEqual(got, goldenBytes(out[filter]), `${mode} ${before} to ${after}, ${filter}`);
      compared += got.length;
    }
  }
  assert.ok(compared > 25_000, `${compared} bytes`);
});

Deno.test("images of numbers come out as Pillow's, to the last bit of float32", () => {
  for (const { before, after, in: image, out } of cases.filter(({ mode }) => mode === "F")) {
    for (const filter of FILTERS) {
      const got = floats(goldenFloats(image), before, after, filter);
      assert.deepEqual(got, goldenFloats(out[filter]), `${before} to ${after}, ${filter}`);
    }
  }
});

Deno.test("the matrices applied to rows and columns are the resize", () => {
  for (const { before, after, in: image, out } of cases.filter(({ mode }) => mode === "F")) {
    for (const filter of FILTERS) {
      const columns = resizeMatrix(before[0], after[0], filter).data;
      const rows = resizeMatrix(before[1], after[1], filter).data;
      const source = goldenFloats(image), wanted = goldenFloats(out[filter]);
      for (let y = 0; y < after[1]; y++) {
        for (let x = 0; x < after[0]; x++) {
          let sum = 0;
          for (let i = 0; i < before[1]; i++) {
            for (let j = 0; j < before[0]; j++) {
              sum += rows[y * before[1] + i] * columns[x * before[0] + j] * source[i * before[0] + j];
            }
          }
          const at = `${before} to ${after}, ${filter}, (${x}, ${y})`;
          assert.ok(Math.abs(sum - wanted[y * after[0] + x]) <= 1e-5, at);
        }
      }
    }
  }
});

const side = fc.integer({ min: 1, max: 60 });
const anyFilter = fc.constantFrom(...FILTERS);

Deno.test("weights sum to one, fixed-point ones nearly and in steps of 2 to the −22", () => {
  fc.assert(fc.property(side, side, anyFilter, (before, after, filter) => {
    const exact = resizeMatrix(before, after, filter), fixed = resizeMatrix(before, after, filter, true);
    assert.deepEqual(exact.shape, [after, before]);
    for (let i = 0; i < after; i++) {
      const sum = (data: ArrayLike<number>) =>
        Array.from({ length: before }, (_, j) => data[i * before + j]).reduce((a, b) => a + b);
      assert.ok(Math.abs(sum(exact.data) - 1) < 1e-6);
      assert.ok(Math.abs(sum(fixed.data) - 1) <= before * 2 ** -23 + 1e-12);
    }
    fixed.data.forEach((weight, i) => {
      assert.ok(Number.isInteger(weight * 2 ** 22));
      assert.ok(Math.abs(weight - exact.data[i]) <= 2 ** -23 + 1e-7);
    });
  }));
});

Deno.test("resizing to the same size changes nothing, and a flat image stays flat", () => {
  const bytes = fc.integer({ min: 1, max: 9 }).chain((width) =>
    fc.uint8Array({ minLength: 7 * width, maxLength: 7 * width }).map((data) => ({ width, data }))
  );
  fc.assert(fc.property(bytes, anyFilter, ({ width, data }, filter) => {
    const same = { width, height: 7 }, out = resizeBytes(data, same, same, 1, filter);
    assert.deepEqual(out, new Uint8Array(data));
    assert.notEqual(out.buffer, data.buffer);
  }));
  fc.assert(fc.property(side, side, side, side, fc.nat(255), anyFilter, (w, h, w2, h2, level, filter) => {
    const flat = { width: w, height: h, data: new Uint8Array(w * h * 3).fill(level) };
    assert.ok(resizeImage(flat, w2, h2, filter).data.every((byte) => byte === level));
  }));
});

Deno.test("a mirrored image resizes to the mirrored result", () => {
  const image = fc.tuple(side, side).chain(([before, after]) =>
    fc.array(fc.float({ min: 0, max: 1, noNaN: true }), { minLength: before, maxLength: before })
      .map((data) => ({ before, after, data }))
  );
  fc.assert(fc.property(image, fc.constantFrom("bilinear", "bicubic", "lanczos3"), (image, filter) => {
    const { before, after, data } = image;
    const out = floats(data, [before, 1], [after, 1], filter).reverse();
    const mirrored = floats(data.toReversed(), [before, 1], [after, 1], filter);
    out.forEach((value, i) => assert.ok(Math.abs(value - mirrored[i]) < 1e-6));
  }));
});

Deno.test("the box filter repeats pixels when enlarging by a whole number and averages when shrinking", () => {
  const image = { width: 2, height: 1, data: Uint8Array.of(10, 20, 30, 40, 50, 60) };
  const large = resizeImage(image, 4, 2, "box").data, row = [10, 20, 30, 10, 20, 30, 40, 50, 60, 40, 50, 60];
  assert.deepEqual([...large], [...row, ...row]);
  assert.deepEqual([...resizeImage(image, 1, 1, "box").data], [25, 35, 45]);
});

Deno.test("a part of an image is resized without its surroundings", () => {
  const wide = Float32Array.from({ length: 2 * 6 * 5 * 2 }, (_, i) => Math.sin(i)),
    out = new Float32Array(24);
  const offset = ((1 * 6 + 2) * 5 + 1) * 2; // image 1 of two, 5 × 6 pixels of 2 channels: from (1, 2)
  resizeFloats(
    wide,
    { offset, stride: 10, height: 3, width: 4, channels: 2 },
    { height: 4, width: 3 },
    "bicubic",
    out,
  );
  const cut = new Float32Array(24);
  for (let y = 0; y < 3; y++) cut.set(wide.subarray(offset + y * 10, offset + y * 10 + 8), y * 8);
  const alone = new Float32Array(24);
  resizeFloats(
    cut,
    { offset: 0, stride: 8, height: 3, width: 4, channels: 2 },
    { height: 4, width: 3 },
    "bicubic",
    alone,
  );
  assert.deepEqual(out, alone);
});

Deno.test("sizes that are no whole numbers and data that do not fit are refused", () => {
  const image = { width: 2, height: 2, data: new Uint8Array(12) };
  for (const wrong of [0, -1, 1.5, NaN, Infinity]) {
    const message = `Cannot resize: sides must be whole and at least 1, got ${wrong}`;
    assert.throws(() => resizeImage(image, wrong, 2), { name: "RangeError", message });
    assert.throws(() => resizeImage(image, 2, wrong), { name: "RangeError", message });
    assert.throws(() => resizeMatrix(wrong, 2, "box"), { name: "RangeError", message });
  }
  assert.throws(() => resizeImage({ ...image, height: 3 }, 2, 2), {
    name: "TypeError",
    message: "Cannot resize: 2 × 3 × 3 needs 18 bytes, got 12",
  });
});
