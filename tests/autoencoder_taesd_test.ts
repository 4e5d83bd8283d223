/** Tiny autoencoders: small ones against PyTorch, and the real TAEF2 where `../shared/data/taef2` is present. */
import assert from "node:assert/strict";
import { join } from "node:path";
import * as tf from "@tensorflow/tfjs";
import {
  decodeTaesd,
  encodeTaesd,
  loadTaesd,
  meanPsnr,
  measureLatents,
  readTaesd,
  type TaesdNetworkParams,
  type TaesdParams,
} from "novae/autoencoder/mod.ts";
import { openWeights, readNpz, readTensors, writeSafetensors } from "novae/io/mod.ts";
import {
  concatRows,
  flattenTree,
  float32,
  type HostTensor,
  isHostTensor,
  NovaeError,
  rows,
  sizeOf,
} from "novae/tensor/mod.ts";
import outputs from "./golden/taesd/outputs.json" with { type: "json" };
import { assertClose, toTensors, wave } from "./autoencoder_fixture.ts";

const FOLDER = "../shared/data/taef2", GOLDEN = `${FOLDER}/taef2_golden_128.npz`;
const present = await Deno.stat(GOLDEN).then(() => true, () => false);
if (!present) console.warn(`Skipped: the real pretrained TAEF2 is tested only where ${FOLDER} is present.`);
const test = (name: string, fn: () => Promise<void>) => Deno.test({ name, ignore: !present, fn });

/** The golden arrays, channels last: image in [0, 1], latent as tokens, reconstruction. */
async function golden(): Promise<{ image: HostTensor; latent: HostTensor; reconstruction: HostTensor }> {
  const arrays = await readNpz(GOLDEN);
  const image = Float32Array.from(arrays.get("image_u8")!.data as Uint8Array, (byte) => byte / 255);
  const last = (name: string, channels: number): Float32Array => {
    const { data } = arrays.get(name)!, places = data.length / channels;
    return Float32Array.from(
      { length: data.length },
      (_, i) => Number(data[(i % channels) * places + Math.floor(i / channels)]),
    );
  };
  return {
    image: float32(image, [1, 128, 128, 3]),
    latent: float32(last("latent", 32), [1, 256, 32]),
    reconstruction: float32(last("recon", 3), [1, 128, 128, 3]),
  };
}

function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  assert.equal(a.length, b.length);
  let largest = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i] - b[i]);
    if (!(difference <= largest)) largest = difference; // NaN is the largest
  }
  return largest;
}

test("TAEF2 gives the golden latent and reconstruction, and its PSNR", async () => {
  const { image, latent, reconstruction } = await golden();
  const taef2 = await loadTaesd(FOLDER, { imageSize: 128, device: "cpu" });
  try {
    const { name, channels, grid, imageSize } = taef2;
    assert.deepEqual({ name, channels, grid, imageSize }, {
      name: "taef2",
      channels: 32,
      grid: 16,
      imageSize: 128,
    });
    const z = await taef2.encode(image), back = await taef2.decode(latent);
    assert.deepEqual([z.shape, back.shape], [[1, 256, 32], [1, 128, 128, 3]]);
    assert.ok(largestDifference(z.data, latent.data) < 1e-3);
    assert.ok(largestDifference(back.data, reconstruction.data) < 1e-3);
    assert.ok(largestDifference((await taef2.decode(z)).data, reconstruction.data) < 1e-3);
    assert.equal(meanPsnr(image, back).toFixed(2), "29.76");
  } finally {
    await taef2.dispose();
  }
});

test("TAEF2 runs at any size that 8 divides, an image alone as in a batch", async () => {
  const { image } = await golden();
  for (const side of [8, 40, 64]) {
    const crops = concatRows([0, 24, 56].map((from) => crop(image, from, side)));
    const taef2 = await loadTaesd(FOLDER, { imageSize: side, device: "cpu", batchSize: 2 });
    try {
      assert.equal(taef2.grid, side / 8);
      const together = await taef2.encode(crops), decoded = await taef2.decode(together);
      assert.deepEqual(together.shape, [3, (side / 8) ** 2, 32]);
      assert.ok(decoded.data.every((v) => v >= 0 && v <= 1));
      const alone = await taef2.encode(rows(crops, 2, 3));
      assert.ok(largestDifference(alone.data, rows(together, 2, 3).data) < 1e-4);
    } finally {
      await taef2.dispose();
    }
  }
});

test("compiled and eager networks of TAEF2 agree, and so do the gradients at the latents", async () => {
  await tf.setBackend("cpu");
  const { image } = await golden(), small = crop(image, 40, 16);
  const encoder = (await readTaesd(`${FOLDER}/taef2_encoder.pth`, "encoder")).params;
  const decoder = (await readTaesd(`${FOLDER}/taef2_decoder.pth`, "decoder")).params;
  const taef2 = await loadTaesd(FOLDER, { imageSize: 16, device: "cpu" });
  try {
    const z = await taef2.encode(small), back = await taef2.decode(z);
    const eagerZ = encodeTaesd(toTensors(small), toTensors<TaesdNetworkParams>(encoder));
    assert.ok(largestDifference(z.data, eagerZ.dataSync()) < 1e-4);
    const weights = toTensors<TaesdNetworkParams>(decoder);
    const decode = (at: tf.Tensor) => decodeTaesd(at, weights);
    const eager = tf.clipByValue(decode(eagerZ), 0, 1);
    assert.ok(largestDifference(back.data, eager.dataSync()) < 1e-4);
    const sum = (at: tf.Tensor) => tf.sum(tf.square(decode(at))) as tf.Scalar;
    const slope = tf.grad(sum)(eagerZ), direction = tf.div(slope, tf.norm(slope)), step = 1e-2;
    const [above, below] = [step, -step].map((by) =>
      sum(tf.add(eagerZ, tf.mul(direction, by))).dataSync()[0]
    );
    const measured = (above - below) / (2 * step), wanted = tf.norm(slope).dataSync()[0];
    assert.ok(
      Math.abs(measured / wanted - 1) < 1e-2,
      `${measured} by differences, ${wanted} by the gradient`,
    );
  } finally {
    await taef2.dispose();
  }
});

test("statistics of its latents are measured as those of any other space", async () => {
  const { image } = await golden(), crops = concatRows([0, 64].map((from) => crop(image, from, 64)));
  const taef2 = await loadTaesd(FOLDER, { imageSize: 64, device: "cpu" });
  try {
    const stats = await measureLatents(taef2, [crops]), z = await taef2.encode(crops);
    assert.equal(stats.count, 128);
    let sum = 0;
    for (let i = 5; i < z.data.length; i += 32) sum += z.data[i];
    assert.ok(Math.abs(stats.mean[5] - sum / 128) < 1e-5);
  } finally {
    await taef2.dispose();
  }
});

/** A square of an image, its upper left corner at (from, from). */
function crop({ data, shape: [, , width] }: HostTensor, from: number, side: number): HostTensor {
  const lines = Array.from({ length: side }, (_, row) => {
    const start = ((from + row) * width + from) * 3;
    return data.subarray(start, start + side * 3) as Float32Array;
  });
  const result = new Float32Array(side * side * 3);
  lines.forEach((line, row) => result.set(line, row * side * 3));
  return float32(result, [1, side, side, 3]);
}

test("the files of TAEF2 hold as many weights as published", async () => {
  const count = (tree: unknown) =>
    flattenTree<HostTensor>(tree, isHostTensor).reduce((sum, { value }) => sum + sizeOf(value.shape), 0);
  const [encoder, decoder] = await Promise.all([
    readTaesd(`${FOLDER}/taef2_encoder.pth`, "encoder"),
    readTaesd(`${FOLDER}/taef2_decoder.pth`, "decoder"),
  ]);
  assert.deepEqual([count(encoder.params), count(decoder.params)], [1_338_528, 1_338_499]);
});

test("other layers than TAEF2's are refused by name", () =>
  inFolder(async (folder) => {
    const { tensors } = await openWeights(`${FOLDER}/taef2_encoder.pth`), read = await readTensors(tensors);
    const file = join(folder, "changed_encoder.safetensors");
    const cases: [(weights: Map<string, HostTensor>) => void, RegExp][] = [
      [(weights) => weights.delete("7.conv.2.bias"), /missing 7\.conv\.2\.bias$/],
      [(weights) => weights.set("15.weight", float32([1], [1])), /unexpected 15\.weight$/],
      [
        (weights) => weights.set("6.weight", float32(new Float32Array(64 * 64), [64, 64, 1, 1])),
        /misshapen 6\.weight: wanted \[64,64,3,3\], got \[64,64,1,1\]$/,
      ],
      [(weights) => weights.delete("11.pool.0.weight"), /missing 11\.pool\.0\.weight$/],
      [
        (weights) => weights.delete("14.weight"),
        /14\.weight must be a convolution's kernel, of rank 4, got none$/,
      ],
    ];
    for (const [change, message] of cases) {
      const changed = new Map(read);
      change(changed);
      await writeSafetensors(file, changed);
      await refuses(readTaesd(file, "encoder"), message);
    }
    await refuses(
      readTaesd(`${FOLDER}/taef2_decoder.pth`, "encoder"),
      /0\.weight must be a convolution's kernel, of rank 4, got none/,
    );
    await refuses(readTaesd(`${FOLDER}/taef2_encoder.pth`, "decoder"), /1\.weight must be/);
  }));

test("sizes that 8 does not divide and other images and latents are refused", async () => {
  for (const imageSize of [0, 12, 100, 8.5, -8]) {
    await assert.rejects(loadTaesd(FOLDER, { imageSize }), {
      name: "ConfigError",
      message: `Cannot use taef2: image size must be a multiple of 8, got ${imageSize}`,
    });
  }
  const taef2 = await loadTaesd(FOLDER, { imageSize: 16, device: "cpu" });
  try {
    await assert.rejects(taef2.encode(float32(new Float32Array(192), [1, 8, 8, 3])), {
      message: "Cannot encode images (taef2): shape must be [any, 16, 16, 3], got [1, 8, 8, 3]",
    });
    await assert.rejects(taef2.decode(float32(new Float32Array(64), [1, 16, 4])), {
      message: "Cannot decode latents (taef2): shape must be [any, 4, 32], got [1, 16, 4]",
    });
  } finally {
    await taef2.dispose();
  }
});

for (const kind of ["plain", "pooled"] as const) {
  Deno.test(`small tiny autoencoders (${kind}) give PyTorch's latents and images, compiled and eager`, async () => {
    await tf.setBackend("cpu");
    const [encoder, decoder] = ["encoder", "decoder"].map((part) => `tests/golden/taesd/${kind}_${part}.pth`);
    const taesd = await loadTaesd({ encoder, decoder }, { imageSize: 16, device: "cpu" });
    try {
      assert.deepEqual([taesd.name, taesd.channels, taesd.grid], [kind, 5, 2]);
      const params = toTensors<TaesdParams>(taesd.params), wanted = outputs[kind];
      const images = wave([2, 16, 24, 3], "x", 0.5, 0.5), latents = wave([2, 2, 3, 5], "z", 5);
      const z = encodeTaesd(toTensors(images), params.encoder),
        back = decodeTaesd(toTensors(latents), params.decoder);
      assert.deepEqual([z.shape, back.shape], [wanted.latent.shape, wanted.image.shape]);
      assertClose(z.dataSync(), wanted.latent.data, 1e-4);
      assertClose(back.dataSync(), wanted.image.data, 1e-4);
      const square = crop(rows(images, 0, 1), 0, 16), encoded = await taesd.encode(square);
      const eager = encodeTaesd(toTensors(square), params.encoder);
      assertClose(encoded.data, eager.dataSync(), 1e-4);
      const clipped = tf.clipByValue(decodeTaesd(eager, params.decoder), 0, 1).dataSync();
      assert.ok(largestDifference((await taesd.decode(encoded)).data, clipped) < 1e-4);
    } finally {
      await taesd.dispose();
    }
  });
}

Deno.test("an encoder and a decoder of different kinds are refused", () =>
  inFolder(async (folder) => {
    const decoder = join(folder, "other_decoder.safetensors");
    const { tensors } = await openWeights("tests/golden/taesd/plain_decoder.pth"),
      read = await readTensors(tensors);
    read.set("1.weight", float32(new Float32Array(8 * 4 * 9), [8, 4, 3, 3]));
    await writeSafetensors(decoder, read);
    const encoder = "tests/golden/taesd/plain_encoder.pth";
    await refuses(loadTaesd({ encoder, decoder }), /must have 5 latent channels, got 4 in .*other_decoder/);
    read.set("19.weight", float32(new Float32Array(4 * 8 * 9), [4, 8, 3, 3]));
    await writeSafetensors(decoder, read);
    await refuses(loadTaesd({ encoder, decoder }), /19\.weight must be for images of 3 channels, got 4$/);
  }));

Deno.test("folders and files without a tiny autoencoder are refused with what was wanted", () =>
  inFolder(async (folder) => {
    await refuses(loadTaesd(join(folder, "none")), /none: no such file or folder$/);
    await refuses(loadTaesd(folder), /must hold one \*_encoder\.pth, got none$/);
    for (const name of ["a_encoder.pth", "b_encoder.pth"]) {
      await Deno.writeTextFile(join(folder, name), "no weights");
    }
    await refuses(loadTaesd(folder), /must hold one \*_encoder\.pth, got a_encoder\.pth, b_encoder\.pth$/);
    const file = join(folder, "a_encoder.pth");
    await refuses(
      loadTaesd({ encoder: file, decoder: file }),
      /a_encoder\.pth: it must be a safetensors file or/,
    );
  }));

async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await run(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function refuses(load: Promise<unknown>, message: RegExp): Promise<void> {
  await assert.rejects(load, (error) => {
    assert.ok(error instanceof NovaeError, String(error));
    assert.match(error.message, message);
    assert.ok(!error.message.includes("\n"));
    return true;
  });
}
