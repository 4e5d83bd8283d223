// deno-lint-ignore-file camelcase -- the keys are those of Hugging Face's files
import assert from "node:assert/strict";
import type * as tf from "@tensorflow/tfjs";
import { float32, type HostTensor } from "novae/tensor/mod.ts";
import { jit, read } from "novae/engine/mod.ts";
import {
  IMAGENET_MEAN,
  IMAGENET_STD,
  parsePreprocessorConfig,
  preparedSize,
  preprocess,
  PREPROCESSING,
  type Preprocessing,
} from "novae/dino/mod.ts";
import { eager } from "./engine_harness.ts";
import { golden, goldenFloats } from "./golden_bytes.ts";

/** The images of the golden files: value i is (7919 i + (i² mod 1009)) mod 256. */
function image(height: number, width: number): HostTensor {
  const data = Float32Array.from(
    { length: height * width * 3 },
    (_, i) => (7919 * i + i * i % 1009) % 256 / 255,
  );
  return float32(data, [1, height, width, 3]);
}

async function prepare(
  input: HostTensor,
  spec: Preprocessing,
): Promise<{ eager: HostTensor; compiled: HostTensor }> {
  const fn = (x: tf.Tensor) => preprocess(x, spec), jitted = jit(fn, { device: "cpu" });
  try {
    const [plain] = await eager({ name: "preprocess", inputs: [input], fn });
    return { eager: plain, compiled: await read(await jitted(input)) };
  } finally {
    await jitted.dispose();
  }
}

Deno.test("images for DINO and DINOv2 are those of Pillow: resized as bytes, cut to the middle, normalised", async () => {
  const { step, cases } = await golden("dino_preprocessing");
  assert.equal(cases.length, 5);
  for (const { height, width, out } of cases) {
    for (const got of Object.values(await prepare(image(height, width), PREPROCESSING.dinov2))) {
      assert.deepEqual([...got.shape], [1, 224, 224, 3]);
      goldenFloats(out).forEach((value, i) => { // one grey level is 0.017
        assert.ok(Math.abs(got.data[i * step] - value) < 1e-6, `${width} × ${height}, ${i * step}`);
      });
    }
  }
  assert.deepEqual(PREPROCESSING.dino, PREPROCESSING.dinov2);
});

Deno.test("images for DINOv3 are those of PyTorch: resized as numbers, normalised", async () => {
  const { dinov3: { height, width, step, out, out64 } } = await golden("nn_resize");
  const single = goldenFloats(out), double = goldenFloats(out64);
  for (const got of Object.values(await prepare(image(height, width), PREPROCESSING.dinov3))) {
    assert.deepEqual([...got.shape], [1, 224, 224, 3]);
    double.forEach((value, i) => {
      assert.ok(Math.abs(got.data[i * step] - value) < 1e-5, `${i * step}: ${got.data[i * step]} ≠ ${value}`);
      // PyTorch's own error in float32 against double precision is up to 4e-5 here.
      assert.ok(Math.abs(got.data[i * step] - single[i]) < 5e-5, `${i * step}`);
    });
  }
});

Deno.test("sizes follow torchvision: fractions of the longer side dropped, half a pixel to the even side", async () => {
  const shorter = (shortestEdge: number): Preprocessing => ({
    ...PREPROCESSING.dinov2,
    resize: { shortestEdge },
    crop: null,
  });
  const size = (height: number, width: number, spec: Preprocessing) => {
    const { height: h, width: w } = preparedSize({ height, width }, spec);
    return [h, w];
  };
  assert.deepEqual(size(480, 640, shorter(256)), [256, 341]); // 341.33
  assert.deepEqual(size(500, 333, shorter(256)), [384, 256]); // 384.38
  assert.deepEqual(size(300, 200, shorter(5)), [7, 5]); // 7.5
  assert.deepEqual(size(480, 640, PREPROCESSING.dinov2), [224, 224]);
  assert.deepEqual(size(480, 640, PREPROCESSING.dinov3), [224, 224]);
  // Rows left over: 1, 3, 5, 7 → 0, 2, 2, 4 above.
  for (const [left, above] of [[0, 0], [1, 0], [2, 1], [3, 2], [5, 2], [7, 4]]) {
    const spec: Preprocessing = {
      ...PREPROCESSING.dinov3,
      resize: null,
      crop: { height: 2, width: 1 },
      mean: [0, 0, 0],
      std: [1, 1, 1],
    };
    const ramp = float32(Array.from({ length: (2 + left) * 3 }, (_, i) => Math.floor(i / 3)), [
      1,
      2 + left,
      1,
      3,
    ]);
    const { compiled } = await prepare(ramp, spec);
    assert.deepEqual([...compiled.data], [above, above, above, above + 1, above + 1, above + 1]);
  }
});

Deno.test("a crop larger than the image and images of another form are refused", async () => {
  const spec = { ...PREPROCESSING.dinov2, resize: null };
  await assert.rejects(prepare(image(100, 300), spec), {
    name: "RangeError",
    message:
      "Cannot prepare images: the crop of 224 × 224 must fit into 300 × 100; resize to more or crop less",
  });
  await assert.rejects(prepare(float32([1, 2], [1, 1, 1, 2]), spec), {
    name: "TypeError",
    message: "Cannot prepare images: shape must be [any, any, any, 3], got [1, 1, 1, 2]",
  });
});

const NORMALIZED = { do_normalize: true, image_mean: [...IMAGENET_MEAN], image_std: [...IMAGENET_STD] };
const DINOV2_FILE = {
  crop_size: { height: 224, width: 224 },
  do_center_crop: true,
  do_convert_rgb: true,
  do_rescale: true,
  do_resize: true,
  image_processor_type: "BitImageProcessor",
  resample: 3,
  rescale_factor: 0.00392156862745098,
  size: { shortest_edge: 256 },
  ...NORMALIZED,
};
const DINOV3_FILE = {
  crop_size: null,
  data_format: "channels_first",
  default_to_square: true,
  do_center_crop: null,
  do_convert_rgb: null,
  do_rescale: true,
  do_resize: true,
  image_processor_type: "DINOv3ViTImageProcessorFast",
  resample: 2,
  rescale_factor: 0.00392156862745098,
  size: { height: 224, width: 224 },
  ...NORMALIZED,
};

Deno.test("the published preprocessor files give the families' preparation", () => {
  assert.deepEqual(parsePreprocessorConfig(DINOV2_FILE), PREPROCESSING.dinov2);
  assert.deepEqual(parsePreprocessorConfig(DINOV3_FILE), PREPROCESSING.dinov3);
  // facebook/dino-vits16 has the old form, and resizes otherwise than DINO's own code.
  const old = {
    do_resize: true,
    feature_extractor_type: "ViTFeatureExtractor",
    resample: 2,
    size: 224,
    ...NORMALIZED,
  };
  assert.deepEqual(parsePreprocessorConfig(old), { ...PREPROCESSING.dinov3, bytes: true });
});

Deno.test("what a preprocessor file switches off is left out", () => {
  const off = { do_resize: false, do_rescale: false, do_normalize: false, do_center_crop: false };
  assert.deepEqual(parsePreprocessorConfig({ ...DINOV2_FILE, ...off }), {
    resize: null,
    filter: "bilinear",
    bytes: true,
    crop: null,
    scale: 255,
    mean: [0, 0, 0],
    std: [1, 1, 1],
  });
  assert.equal(parsePreprocessorConfig({ ...DINOV2_FILE, rescale_factor: 2 / 255 }).scale, 2);
  const square = { ...DINOV2_FILE, size: 300, crop_size: 32 };
  assert.deepEqual(parsePreprocessorConfig(square).resize, { shortestEdge: 300 });
  assert.deepEqual(parsePreprocessorConfig(square).crop, { height: 32, width: 32 });
});

Deno.test("preprocessor files that ask for something else are refused, naming the key", () => {
  const cases: [Record<string, unknown>, string][] = [
    [{ resample: 0 }, '"resample" must be 1, 2, 3 or 4, got 0'],
    [{ resample: undefined }, '"resample" must be 1, 2, 3 or 4, got nothing'],
    [{ size: { longest_edge: 5 } }, '"size" must be height and width, shortest_edge or a whole number'],
    [{ size: null }, '"size" must be given, as "do_resize" is true'],
    [
      { size: 224, image_processor_type: "Other" },
      '"size" must say height and width or shortest_edge, got 224 for "Other"',
    ],
    [{ crop_size: null }, '"crop_size" must be given, as "do_center_crop" is true'],
    [{ image_mean: null }, '"image_mean" and "image_std" must be given, as "do_normalize" is true'],
    [{ image_std: [1, 2] }, '"image_std" must be three numbers'],
    [{ image_std: [1, 0, 1] }, '"image_std" must be positive, got 1, 0, 1'],
    [{ do_resize: "yes" }, '"do_resize" must be true or false'],
    [{ do_pad: true }, '"do_pad" must be false'],
  ];
  for (const [change, problem] of cases) {
    assert.throws(() => parsePreprocessorConfig({ ...DINOV2_FILE, ...change }, "a.json"), {
      name: "ConfigError",
      message: `Cannot use a.json: ${problem}`,
    });
  }
  assert.throws(() => parsePreprocessorConfig(null), {
    name: "ConfigError",
    message: "Cannot use preprocessor_config.json: it must be an object",
  });
});
