/** Image files by index, framing in host memory, and the threads that do both. */
import assert from "node:assert/strict";
import fc from "fast-check";
import sharp from "sharp";
import {
  framedSize,
  frameImage,
  type Framing,
  ImagePool,
  openImageFolder,
  planFrame,
} from "novae/data/mod.ts";
import { preprocess, type Preprocessing } from "novae/dino/mod.ts";
import { jit, read } from "novae/engine/mod.ts";
import {
  decodeImage,
  imagesToUnit,
  resizeBytes,
  type ResizeFilter,
  resizeFloats,
  type RgbImage,
} from "novae/io/mod.ts";
import { DataError, Rng } from "novae/tensor/mod.ts";

function picture(width: number, height: number, seed = 1): RgbImage {
  const rng = new Rng(seed);
  return { width, height, data: Uint8Array.from({ length: width * height * 3 }, () => rng.int(256)) };
}

const png = async ({ width, height, data }: RgbImage): Promise<Uint8Array> =>
  new Uint8Array(await sharp(data, { raw: { width, height, channels: 3 } }).png().toBuffer());

async function inFolder(
  files: Record<string, Uint8Array | string>,
  run: (path: string) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    for (const [name, content] of Object.entries(files)) {
      await Deno.mkdir(`${folder}/${name}`.replace(/\/[^/]*$/, ""), { recursive: true });
      await Deno.writeFile(
        `${folder}/${name}`,
        typeof content === "string" ? new TextEncoder().encode(content) : content,
      );
    }
    await run(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const side = fc.integer({ min: 1, max: 24 });
const filter = fc.constantFrom<ResizeFilter>("box", "bilinear", "bicubic", "lanczos3");

Deno.test("a part of a resized image is that part of the whole resized image", () => {
  const from = fc.record({ width: side, height: side }), to = fc.record({ width: side, height: side });
  const share = fc.double({ min: 0, max: 1, noNaN: true });
  fc.assert(
    fc.property(from, to, filter, share, share, share, share, (from, to, filter, x, y, w, h) => {
      const left = Math.floor(x * (to.width - 1)), top = Math.floor(y * (to.height - 1));
      const crop = {
        left,
        top,
        width: 1 + Math.floor(w * (to.width - left - 1)),
        height: 1 + Math.floor(h * (to.height - top - 1)),
      };
      const { data } = picture(from.width, from.height),
        area = { offset: 0, stride: 3 * from.width, channels: 3 };
      const whole = resizeBytes(data, from, to, 3, filter),
        part = resizeBytes(data, from, to, 3, filter, crop);
      const wholeFloats = new Float32Array(whole.length), partFloats = new Float32Array(part.length);
      resizeFloats(data, { ...from, ...area }, to, filter, wholeFloats);
      resizeFloats(data, { ...from, ...area }, to, filter, partFloats, crop);
      assert.equal(part.length, crop.width * crop.height * 3);
      part.forEach((value, i) => {
        const row = Math.floor(i / (crop.width * 3)), place = i % (crop.width * 3);
        const at = ((top + row) * to.width + left) * 3 + place;
        assert.equal(value, whole[at]);
        assert.equal(partFloats[i], wholeFloats[at]);
      });
    }),
    { numRuns: 300 },
  );
  assert.throws(
    () =>
      resizeBytes(new Uint8Array(12), { width: 2, height: 2 }, { width: 4, height: 4 }, 3, "box", {
        top: 0,
        left: 2,
        width: 3,
        height: 4,
      }),
    { name: "RangeError", message: "Cannot crop: 3 pixels from 2 on must lie in the 4 of the resized image" },
  );
});

const FRAMINGS: Record<string, Framing> = {
  "DINOv2's": {
    resize: { shortestEdge: 20 },
    filter: "bicubic",
    bytes: true,
    crop: { height: 16, width: 14 },
  },
  "DINOv3's": { resize: { height: 12, width: 17 }, filter: "bilinear", bytes: false, crop: null },
  "a crop alone": { resize: null, filter: "bilinear", bytes: true, crop: { height: 9, width: 12 } },
  "a crop of numbers": {
    resize: { height: 30, width: 31 },
    filter: "lanczos3",
    bytes: false,
    crop: { height: 9, width: 10 },
  },
  "a ratio kept": { resize: { shortestEdge: 11 }, filter: "box", bytes: true, crop: null },
};
for (const [name, framing] of Object.entries(FRAMINGS)) {
  Deno.test(`framing in host memory equals that in the graph: ${name}`, async () => {
    const spec: Preprocessing = { ...framing, scale: 1, mean: [0, 0, 0], std: [1, 1, 1] };
    const prepare = jit((x) => preprocess(x, spec), { device: "cpu" });
    for (const [width, height] of [[31, 23], [16, 40], [12, 12]]) {
      const image = picture(width, height), { crop } = planFrame(image, framing);
      const wanted = await read(await prepare(imagesToUnit([image])));
      assert.deepEqual(wanted.shape, [1, crop.height, crop.width, 3]);
      const got = new Float32Array(crop.height * crop.width * 3);
      frameImage(image, framing, got);
      // Bytes agree to the last bit; sums of numbers are double here and single there.
      got.forEach((value, i) =>
        assert.ok(Math.abs(value - wanted.data[i]) <= (framing.bytes ? 0 : 1e-6), `${i}`)
      );
    }
    await prepare.dispose();
  });
}

Deno.test("the size that all images come to is known from the framing, or not", () => {
  assert.deepEqual(framedSize(FRAMINGS["DINOv2's"]), { height: 16, width: 14 });
  assert.deepEqual(framedSize(FRAMINGS["DINOv3's"]), { height: 12, width: 17 });
  assert.equal(framedSize(FRAMINGS["a ratio kept"]), null);
  assert.equal(framedSize({ ...FRAMINGS["a crop alone"], crop: null }), null);
  assert.throws(() => frameImage(picture(20, 20), FRAMINGS["DINOv3's"], new Float32Array(3)), TypeError);
});

Deno.test("a folder is listed by class and name, with labels, and known by its names", async () => {
  const image = await png(picture(4, 4));
  const files = {
    "b/2.png": image,
    "b/10.PNG": image,
    "a/x.jpeg": image,
    "b/notes.txt": "",
    "a/.hidden.png": "",
    "README.md": "",
    "c/z.webp": image,
  };
  await inFolder(files, async (path) => {
    const images = await openImageFolder(path);
    assert.deepEqual([images.size, images.classes], [4, ["a", "b", "c"]]);
    const paths = [0, 1, 2, 3].map((i) => images.path(i).slice(path.length + 1));
    assert.deepEqual(paths, ["a/x.jpeg", "b/10.PNG", "b/2.png", "c/z.webp"]);
    assert.deepEqual([...images.labels(0, 4)], [0, 1, 1, 2]);
    assert.deepEqual([...images.labels(2, 3)], [1]);
    for (const index of [-1, 4, 0.5]) assert.throws(() => images.path(index), RangeError);
    const before = [await images.contentOf(0, 2), await images.contentOf(2, 4)];
    assert.equal((await openImageFolder(path)).hash, images.hash);
    await Deno.writeFile(`${path}/b/2.png`, await png(picture(9, 4)));
    assert.equal((await openImageFolder(path)).hash, images.hash, "the names are the same");
    assert.equal(await images.contentOf(0, 2), before[0]);
    assert.notEqual(await images.contentOf(2, 4), before[1]);
    await Deno.rename(`${path}/b/2.png`, `${path}/b/3.png`);
    assert.notEqual((await openImageFolder(path)).hash, images.hash);
    await assert.rejects(
      images.contentOf(0, 4),
      (error: Error) =>
        error instanceof DataError && /Cannot read .*b\/2\.png: no such file/.test(error.message),
    );
  });
});

Deno.test("a folder without classes is one class, and one without images is refused", async () => {
  await inFolder({ "1.png": await png(picture(3, 3)), "2.jpg": "", "text": "" }, async (path) => {
    const images = await openImageFolder(path);
    assert.deepEqual([images.size, images.classes.length], [2, 1]);
    assert.deepEqual([...images.labels(0, 2)], [0, 0]);
    assert.equal(images.path(1), `${path}/2.jpg`);
  });
  await inFolder({ "text": "" }, async (path) => {
    await assert.rejects(openImageFolder(path), {
      name: "DataError",
      message:
        `Cannot read images from ${path}: at least one .jpg, .jpeg, .png, .webp file or a folder of them a ` +
        "class is needed, got none",
    });
    await assert.rejects(openImageFolder(`${path}/none`), /Cannot list .*none: no such file or folder/);
  });
});

Deno.test("threads give the framed images in order, whatever their number", async () => {
  const pictures = Array.from({ length: 23 }, (_, i) => picture(10 + i, 33 - i, i));
  const entries = await Promise.all(pictures.map(async (one, i) => [`${100 + i}.png`, await png(one)]));
  await inFolder(Object.fromEntries(entries), async (path) => {
    const framing = FRAMINGS["DINOv2's"], one = 16 * 14 * 3, wanted = new Float32Array(23 * one);
    for (const i of pictures.keys()) {
      assert.deepEqual(await decodeImage(`${path}/${100 + i}.png`), pictures[i]);
      frameImage(pictures[i], framing, wanted.subarray(i * one, (i + 1) * one));
    }
    const images = await openImageFolder(path), paths = pictures.map((_, i) => images.path(i));
    for (const workers of [1, 3]) {
      using pool = new ImagePool({ framing, workers });
      assert.deepEqual(pool.size, { height: 16, width: 14 });
      const [all, some, none] = await Promise.all([
        pool.load(paths),
        pool.load(paths.slice(5, 7)),
        pool.load([]),
      ]);
      assert.deepEqual([all.shape, some.shape, none.shape], [[23, 16, 14, 3], [2, 16, 14, 3], [
        0,
        16,
        14,
        3,
      ]]);
      assert.deepEqual(all.data, wanted);
      assert.deepEqual(some.data, wanted.subarray(5 * one, 7 * one));
    }
  });
});

Deno.test("an image that cannot be used is named, and the others can be had afterwards", async () => {
  const good = picture(30, 30), bytes = await png(good);
  const files = {
    "good.png": bytes,
    "cut.png": bytes.subarray(0, 400),
    "small.png": await png(picture(5, 30)),
  };
  await inFolder(files, async (path) => {
    using pool = new ImagePool({ framing: FRAMINGS["a crop alone"], workers: 2 });
    const fails = (name: string, message: RegExp) =>
      assert.rejects(pool.load([`${path}/good.png`, `${path}/${name}`]), (error: Error) => {
        assert.ok(error instanceof DataError, `${error.stack}`);
        assert.match(error.message, message);
        return !error.message.includes("\n");
      });
    await fails("cut.png", /^Cannot decode .*cut\.png: /);
    await fails("none.png", /^Cannot read .*none\.png: no such file or folder$/);
    await fails("small.png", /^Cannot prepare .*small\.png: the crop of 12 × 9 must fit into 5 × 30/);
    assert.deepEqual((await pool.load([`${path}/good.png`])).shape, [1, 9, 12, 3]);
  });
  assert.throws(() => new ImagePool({ framing: FRAMINGS["a ratio kept"] }), RangeError);
  assert.throws(() => new ImagePool({ framing: FRAMINGS["DINOv2's"], workers: 0 }), RangeError);
});
