import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { crc32, deflateSync } from "node:zlib";
import sharp from "sharp";
import { DataError, float32, Rng } from "novae/tensor/mod.ts";
import {
  decodeImage,
  encodePng,
  imageFromUnit,
  imageGrid,
  imagesToUnit,
  type RgbImage,
  writePng,
} from "novae/io/mod.ts";
import { golden, goldenBytes } from "./golden_bytes.ts";

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

const cases = await golden("io_images") as Record<string, [string, number, number, string]>;

for (const [name, [file, width, height, rgb]] of Object.entries(cases)) {
  // JPEG and lossy WebP too: Pillow's decoders are of the same families, libjpeg-turbo and libwebp.
  Deno.test(`the ${name.replaceAll("_", " ")} image decodes to the pixels that Pillow's convert("RGB") gives`, async () => {
    const image = await decodeImage(goldenBytes(file));
    assert.deepEqual([image.width, image.height], [width, height]);
    assert.deepEqual(image.data, goldenBytes(rgb));
  });
}

Deno.test("profiles, orientation, pictures and opacity are really there in the images that ignore them", async () => {
  const about = async (name: string) => await sharp(goldenBytes(cases[name][0])).metadata();
  assert.equal((await about("jpeg_exif_rotated")).orientation, 6);
  assert.deepEqual([(await about("png_profile")).hasProfile, (await about("jpeg_profile")).hasProfile], [
    true,
    true,
  ]);
  assert.deepEqual([(await about("gif_animated")).pages, (await about("webp_animated")).pages], [2, 2]);
  assert.deepEqual([(await about("rgba")).hasAlpha, (await about("palette_alphas")).hasAlpha], [true, true]);
  assert.deepEqual([(await about("jpeg_cmyk")).space, (await about("grey16")).depth], ["cmyk", "ushort"]);
  assert.equal((await about("palette")).isPalette, true);
});

Deno.test("transparent pixels of GIF are black", async () => {
  const pixels = Uint8Array.of(9, 8, 7, 255, 1, 2, 3, 0);
  const gif = await sharp(pixels, { raw: { width: 2, height: 1, channels: 4 } }).gif().toBuffer();
  assert.deepEqual([...(await decodeImage(gif)).data], [9, 8, 7, 0, 0, 0]);
});

/** A PNG that says it is of some size, with hardly any data. */
function claimingPng(width: number, height: number): Uint8Array {
  const chunk = (kind: string, body: Uint8Array): Uint8Array[] => {
    const named = new Uint8Array([...new TextEncoder().encode(kind), ...body]),
      frame = new DataView(new ArrayBuffer(8));
    frame.setUint32(0, body.length);
    frame.setUint32(4, crc32(named));
    return [new Uint8Array(frame.buffer, 0, 4), named, new Uint8Array(frame.buffer, 4, 4)];
  };
  const size = new DataView(new ArrayBuffer(13));
  size.setUint32(0, width);
  size.setUint32(4, height);
  size.setUint8(8, 8);
  size.setUint8(9, 2);
  const parts = [
    Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10),
    ...chunk("IHDR", new Uint8Array(size.buffer)),
  ];
  return new Uint8Array(
    Buffer.concat([
      ...parts,
      ...chunk("IDAT", deflateSync(new Uint8Array(99))),
      ...chunk("IEND", new Uint8Array()),
    ]),
  );
}

Deno.test("decompression bombs and other formats than pictures are refused before anything is decoded", async () => {
  const text = (value: string): Uint8Array => new TextEncoder().encode(value),
    before = Deno.memoryUsage().rss;
  const svg = `<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/hostname"/></svg>`;
  const refused: [string, Uint8Array, RegExp][] = [
    ["bomb.png", claimingPng(60_000, 60_000), /it must have at most 178956970 pixels, got 60000 × 60000$/],
    ["wide.png", claimingPng(2 ** 31 - 1, 1), /: /],
    ["zero.png", claimingPng(0, 5), /: /],
    [
      "page.jpg",
      text("<!DOCTYPE html>\n<title>404</title>"),
      /image, got text: <!DOCTYPE html>\\u000a<title>404<\/titl$/,
    ],
    ["drawing.png", text(svg), /it must be a JPEG, PNG, WebP, GIF, TIFF or AVIF image, got text: <svg/],
    ["program.png", Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, 2, 1), /image, got another format$/],
    ["magic.jpg", Uint8Array.of(0xff, 0xd8, 0xff), /: /],
  ];
  const folder = await Deno.makeTempDir();
  for (const [name, bytes, message] of refused) {
    await Deno.writeFile(`${folder}/${name}`, bytes);
    await assert.rejects(decodeImage(`${folder}/${name}`), (error: Error) => {
      assert.ok(error instanceof DataError, String(error));
      assert.match(error.message, message);
      return error.message.startsWith(`Cannot decode ${folder}/${name}: `) && !error.message.includes("\n");
    });
  }
  assert.ok(Deno.memoryUsage().rss - before < 2 ** 28, "60,000 × 60,000 pixels would be 10 GiB");
  await Deno.remove(folder, { recursive: true });
});

Deno.test("every truncation of an image is refused or decodes whole, and damage never does worse", async () => {
  for (const name of ["rgb", "palette", "jpeg", "gif", "webp", "tiff"]) {
    const bytes = goldenBytes(cases[name][0]), rng = new Rng(5).split(name);
    for (let i = 0; i < 60; i++) {
      const cut = i < 30,
        damaged = cut ? bytes.subarray(0, Math.floor(bytes.length * i / 30)) : bytes.slice();
      if (!cut) damaged[rng.int(bytes.length)] ^= 1 << rng.int(8);
      await decodeImage(damaged).then(
        ({ width, height, data }) => assert.equal(data.length, width * height * 3),
        (error) =>
          assert.ok(error instanceof DataError && !error.message.includes("\n"), String(error.stack)),
      );
    }
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
