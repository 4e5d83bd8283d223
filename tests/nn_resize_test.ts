import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import { float32, type HostTensor, Rng, rows, sizeOf } from "novae/tensor/mod.ts";
import { jit, read } from "novae/engine/mod.ts";
import { resizeBytes, type ResizeFilter } from "novae/io/mod.ts";
import { resizeImages, type ResizeOptions } from "novae/nn/mod.ts";
import { eager } from "./engine_harness.ts";
import { golden, goldenBytes, goldenFloats } from "./golden_bytes.ts";

const FILTERS: readonly ResizeFilter[] = ["box", "bilinear", "bicubic", "lanczos3"];

async function resized(image: HostTensor, options: ResizeOptions): Promise<HostTensor> {
  const [out] = await eager({ name: "resize", inputs: [image], fn: (x) => resizeImages(x, options) });
  return out;
}

async function compiled(image: HostTensor, options: ResizeOptions): Promise<HostTensor> {
  const fn = jit((x: tf.Tensor) => resizeImages(x, options), { device: "cpu" });
  try {
    return await read(await fn(image));
  } finally {
    await fn.dispose();
  }
}

function assertClose(got: HostTensor, wanted: HostTensor, tolerance: number, what: string): void {
  assert.deepEqual([...got.shape], [...wanted.shape], what);
  got.data.forEach((value, i) => {
    assert.ok(Math.abs(value - wanted.data[i]) <= tolerance, `${what}: ${i}: ${value} ≠ ${wanted.data[i]}`);
  });
}

const random = (seed: number, shape: number[]) => float32(new Rng(seed).uniform(sizeOf(shape)), shape);

Deno.test("resized tensors equal PyTorch's antialiased interpolation, eagerly and compiled", async () => {
  const { cases } = await golden("nn_resize");
  assert.equal(cases.length, 6);
  for (const { before, after, in: image, out } of cases) {
    const data = goldenFloats(image), batch = data.length / sizeOf([...before, 3]);
    const [height, width] = after, input = float32(data, [batch, ...before, 3]);
    for (const filter of ["bilinear", "bicubic"] as const) {
      const wanted = float32(goldenFloats(out[filter]), [batch, height, width, 3]);
      const what = `${before} to ${after}, ${filter}`;
      assertClose(await resized(input, { height, width, filter }), wanted, 1e-5, what);
      assertClose(await compiled(input, { height, width, filter }), wanted, 1e-5, `${what}, compiled`);
    }
  }
});

Deno.test("with bytes every pixel is Pillow's, eagerly and compiled", async () => {
  const { cases } = await golden("io_resize");
  let pixels = 0;
  for (const { mode, before, after, in: image, out } of cases) {
    if (mode === "F") continue;
    const channels = mode === "RGB" ? 3 : 1, [width, height] = after;
    const unit = Float32Array.from(goldenBytes(image), (byte) => byte / 255);
    const input = float32(unit, [1, before[1], before[0], channels]);
    for (const filter of FILTERS) {
      const wanted = goldenBytes(out[filter]), options = { height, width, filter, bytes: true };
      for (const run of [resized, compiled]) {
        const got = (await run(input, options)).data;
        for (let i = 0; i < wanted.length; i++) {
          assert.ok(Math.abs(got[i] * 255 - wanted[i]) < 1e-4, `${mode} ${before} to ${after}, ${filter}`);
        }
        pixels += wanted.length;
      }
    }
  }
  assert.ok(pixels > 50_000, `${pixels} values`);
});

Deno.test("images of a batch do not touch each other, and bytes round as on the host", async () => {
  const shape = [3, 20, 31, 3],
    image = random(1, shape),
    options = { height: 13, width: 40, filter: "bicubic" } as const;
  const all = await resized(image, options);
  for (let b = 0; b < 3; b++) {
    const alone = await resized(rows(image, b, b + 1), options);
    assertClose(alone, rows(all, b, b + 1), 1e-6, `image ${b}`);
  }
  const levels = Uint8Array.from(image.data, (value) => Math.round(value * 255));
  const bytes = await compiled(image, { ...options, bytes: true });
  const one = 20 * 31 * 3,
    wanted = [0, 1, 2].flatMap((b) => [
      ...resizeBytes(levels.slice(b * one, (b + 1) * one), { height: 20, width: 31 }, options, 3, "bicubic"),
    ]);
  assert.deepEqual(Array.from(bytes.data, (value) => Math.round(value * 255)), wanted);
});

Deno.test("a crop is the part of the whole result, also where one side keeps its size", async () => {
  const image = random(2, [2, 12, 17, 3]), crop = { top: 2, left: 5, height: 4, width: 6 };
  for (const [height, width] of [[9, 30], [12, 30], [9, 17], [12, 17]]) {
    for (const bytes of [false, true]) {
      const options = { height, width, filter: "lanczos3", bytes } as const;
      const whole = await resized(image, options), got = await resized(image, { ...options, crop });
      const wanted = new Float32Array(2 * 4 * 6 * 3);
      for (let i = 0, o = 0; i < 2; i++) {
        for (let y = 2; y < 6; y++, o += 18) {
          const start = ((i * height + y) * width + 5) * 3;
          wanted.set(whole.data.subarray(start, start + 18), o);
        }
      }
      assertClose(got, float32(wanted, [2, 4, 6, 3]), bytes ? 0 : 1e-6, `${width} × ${height}`);
    }
  }
});

Deno.test("one compiled graph resizes whole batches without leaving tensors behind", async () => {
  const image = random(3, [2, 8, 9, 3]), options = { height: 5, width: 14, filter: "bilinear" } as const;
  const before = tf.memory().numTensors;
  await compiled(image, options);
  await resized(image, options);
  assert.equal(tf.memory().numTensors, before);
});

Deno.test("wrong shapes, sides and crops are refused", async () => {
  const options = { height: 4, width: 4, filter: "box" } as const;
  await assert.rejects(resized(random(4, [4, 4, 3]), options), {
    name: "TypeError",
    message: "Cannot resize: shape must be [any, any, any, any], got [4, 4, 3]",
  });
  const image = random(4, [1, 5, 5, 3]);
  await assert.rejects(resized(image, { ...options, height: 0 }), RangeError);
  await assert.rejects(resized(image, { ...options, crop: { top: 1, left: 0, height: 4, width: 4 } }), {
    name: "RangeError",
    message: "Cannot crop: the rectangle must lie in 4 × 4 pixels, got 4 × 4 at (0, 1)",
  });
});
