import assert from "node:assert/strict";
import sharp from "sharp";
import { DataError, float32 } from "novae/tensor/mod.ts";
import {
  decodeImage,
  encodePng,
  imageFromUnit,
  imageGrid,
  imagesToUnit,
  type RgbImage,
  writePng,
} from "novae/io/mod.ts";

function gradient(width: number, height: number): RgbImage {
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++) {
    data.set([(i * 7) % 256, Math.floor(i / width) * 5, (i % width) * 3], i * 3);
  }
  return { width, height, data };
}

Deno.test("PNG round trip keeps every pixel, from bytes and from a file", async () => {
  const image = gradient(13, 9), path = await Deno.makeTempFile({ suffix: ".png" });
  assert.deepEqual(await decodeImage(await encodePng(image)), image);
  await writePng(path, image);
  assert.deepEqual(await decodeImage(path), image);
});

Deno.test("grey, transparent, 16-bit, JPEG and WebP images decode to 8-bit RGB", async () => {
  const grey = await sharp(Uint8Array.of(0, 100, 200, 255), { raw: { width: 2, height: 2, channels: 1 } })
    .toColourspace("b-w").png().toBuffer();
  assert.equal((await sharp(grey).metadata()).channels, 1);
  const spread = [0, 0, 0, 100, 100, 100, 200, 200, 200, 255, 255, 255];
  assert.deepEqual([...(await decodeImage(grey)).data], spread);
  const clear = await sharp(Uint8Array.of(1, 2, 3, 0), { raw: { width: 1, height: 1, channels: 4 } }).png()
    .toBuffer();
  assert.deepEqual([...(await decodeImage(clear)).data], [1, 2, 3]);
  const deep = await sharp(Uint16Array.of(0, 0x8080, 0xffff), { raw: { width: 1, height: 1, channels: 3 } })
    .toColourspace("rgb16").png().toBuffer();
  assert.equal((await sharp(deep).metadata()).depth, "ushort");
  assert.deepEqual([...(await decodeImage(deep)).data], [0, 128, 255]);
  const flat = { width: 16, height: 8, data: new Uint8Array(384).fill(77) };
  const raw = sharp(flat.data, { raw: { width: 16, height: 8, channels: 3 } });
  for (
    const bytes of [
      await raw.clone().jpeg().toBuffer(),
      await raw.clone().webp({ lossless: true }).toBuffer(),
    ]
  ) {
    assert.deepEqual(await decodeImage(bytes), flat);
  }
});

Deno.test("images that do not decode are refused with the file and the reason", async () => {
  const folder = await Deno.makeTempDir(), noise = gradient(64, 64);
  const png = await encodePng(noise);
  const jpeg = await sharp(noise.data, { raw: { width: 64, height: 64, channels: 3 } }).jpeg().toBuffer();
  const cases: [string, Uint8Array][] = [
    ["text.png", new TextEncoder().encode("this is no image")],
    ["empty.png", new Uint8Array(0)],
    ["cut.png", png.subarray(0, png.length >> 1)],
    ["cut.jpg", jpeg.subarray(0, jpeg.length >> 1)],
  ];
  for (const [name, bytes] of cases) {
    await Deno.writeFile(`${folder}/${name}`, bytes);
    await assert.rejects(decodeImage(`${folder}/${name}`), (error: Error) => {
      assert.ok(error instanceof DataError, String(error));
      assert.ok(error.message.startsWith(`Cannot decode ${folder}/${name}: `), error.message);
      return !error.message.includes("\n");
    });
  }
  await assert.rejects(decodeImage(`${folder}/none.png`), {
    name: "DataError",
    message: /no such file or folder$/,
  });
  await assert.rejects(decodeImage(Uint8Array.of(1, 2)), { message: /^Cannot decode image of 2 bytes: / });
});

Deno.test("pixel values round and clamp to bytes and back", () => {
  const values = [0, 1, 0.5, -2, 3, NaN, 127.4 / 255, 127.6 / 255, 1 / 255, 0, 0, 0];
  const image = imageFromUnit(float32(values, [1, 2, 2, 3]));
  assert.deepEqual([...image.data], [0, 255, 128, 0, 255, 0, 127, 128, 1, 0, 0, 0]);
  const unit = imagesToUnit([image, image]);
  assert.deepEqual(unit.shape, [2, 2, 2, 3]);
  assert.deepEqual(imageFromUnit(unit, 1), image);
  assert.throws(() => imageFromUnit(unit, 2), RangeError);
  assert.throws(() => imagesToUnit([image, gradient(1, 2)]), TypeError);
});

Deno.test("an image grid puts each image at its place, enlarged, with gaps between", () => {
  const colours = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
  const images = float32(colours.flatMap((c) => [...c, ...c]), [3, 1, 2, 3]); // three images of 1 × 2 pixels
  const grid = imageGrid(images, 2, { gap: 1, scale: 2, background: [9, 9, 9] });
  assert.equal(grid.width, 2 * 4 + 1);
  assert.equal(grid.height, 2 * 2 + 1);
  const row = (y: number) =>
    Array.from({ length: 9 }, (_, x) => {
      const pixel = [...grid.data.subarray((y * 9 + x) * 3, (y * 9 + x) * 3 + 3)];
      return { "255,0,0": "r", "0,255,0": "g", "0,0,255": "b", "9,9,9": "." }[pixel.join()] ?? "?";
    }).join("");
  assert.deepEqual([0, 1, 2, 3, 4].map(row), [
    "rrrr.gggg",
    "rrrr.gggg",
    ".........",
    "bbbb.....",
    "bbbb.....",
  ]);
  assert.deepEqual(imageGrid(images, 5).width, 5 * 2 + 4 * 2);
  assert.throws(() => imageGrid(images, 0), RangeError);
  assert.throws(() => imageGrid(images, 2, { gap: 0.5 }), RangeError);
  assert.throws(() => imageGrid(float32([1, 2], [1, 1, 2]), 1), TypeError);
});
