import assert from "node:assert/strict";
import sharp from "sharp";
import { loadDataset, loadImageFolder } from "novae/data/mod.ts";
import { DataError } from "novae/tensor/mod.ts";

type Color = [number, number, number];

/** Encodes one colour, with a stripe of another at the left of the given width. */
function picture(
  width: number,
  height: number,
  color: Color,
  format: "png" | "jpeg" | "webp",
  stripe = 0,
): Promise<Uint8Array> {
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < data.length; i++) {
    data[i] = Math.floor(i / 3) % width < stripe ? 255 : color[i % 3];
  }
  return sharp(data, { raw: { width, height, channels: 3 } }).toFormat(format, {
    quality: 95,
    lossless: true,
  }).toBuffer();
}

async function inFolder(
  files: Record<string, Uint8Array | string>,
  run: (path: string) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    for (const [name, content] of Object.entries(files)) {
      await Deno.mkdir(`${folder}/${name}`.replace(/\/[^/]*$/, ""), { recursive: true });
      if (name.endsWith("/")) continue;
      const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
      await Deno.writeFile(`${folder}/${name}`, bytes);
    }
    await run(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const RED: Color = [200, 10, 20],
  BLUE: Color = [10, 20, 200],
  all = (n: number) => Array.from({ length: n }, (_, i) => i);

/** Ten images of each of two classes, in all formats; image i of a class has the green value 10 · i. */
async function twoClasses(prefix = ""): Promise<Record<string, Uint8Array>> {
  const files: Record<string, Uint8Array> = {},
    formats = [["png", "png"], ["jpg", "jpeg"], ["webp", "webp"], ["JPEG", "jpeg"]] as const;
  for (const [name, color] of [["red", RED], ["blue", BLUE]] as const) {
    for (let i = 0; i < 10; i++) {
      const [ending, format] = formats[i % 4];
      files[`${prefix}${name}/${i}.${ending}`] = await picture(20, 20, [color[0], 10 * i, color[2]], format);
    }
  }
  return files;
}

Deno.test("a folder of classes is read in all formats with a held-out part of each class", async () => {
  const files = {
    ...await twoClasses(),
    "red/notes.txt": "no image",
    ".hidden/x.png": "no class",
    "README.md": "x",
  };
  await inFolder(files, async (path) => {
    const { train, test } = await loadDataset({ name: "folder", path, imageSize: 16, seed: 1 });
    assert.deepEqual([train.classes, train.size, test.size, train.imageSize], [["blue", "red"], 16, 4, 16]);
    assert.deepEqual([...test.labels(all(4))].sort(), [0, 0, 1, 1]);
    const seen = new Set<string>();
    for (const part of [train, test]) {
      const { data } = part.images(all(part.size)), labels = part.labels(all(part.size));
      labels.forEach((label, i) => {
        const at = (i * 256 + 100) * 3,
          green = Math.round(data[at + 1] * 25.5),
          wanted = label === 1 ? RED : BLUE;
        // JPEG moves colours by a few steps of 255.
        assert.ok(Math.abs(data[at] * 255 - wanted[0]) < 6 && Math.abs(data[at + 2] * 255 - wanted[2]) < 6);
        seen.add(`${label} ${green}`);
      });
    }
    assert.equal(seen.size, 20, "each image is in one part, once");
    const again = await loadDataset({ name: "folder", path, imageSize: 16, seed: 1 });
    const other = await loadDataset({ name: "folder", path, imageSize: 16, seed: 2 });
    assert.equal(again.train.hash, train.hash);
    assert.notEqual(other.train.hash, train.hash);
  });
});

Deno.test("a folder with train and test, or val, keeps its own split", async () => {
  for (const heldOut of ["test", "val"]) {
    const files = {
      ...await twoClasses("train/"),
      [`${heldOut}/red/a.png`]: await picture(8, 8, RED, "png"),
      [`${heldOut}/blue/b.png`]: await picture(8, 8, BLUE, "png"),
    };
    await inFolder(files, async (path) => {
      const { train, test } = await loadImageFolder({ path, imageSize: 8 });
      assert.deepEqual([train.size, test.size, test.classes], [20, 2, ["blue", "red"]]);
      const { data } = test.images([0, 1]);
      test.labels([0, 1]).forEach((label, i) =>
        assert.equal(Math.round(data[i * 192] * 255), label === 1 ? 200 : 10)
      );
    });
  }
});

Deno.test("images are scaled by their shorter side and cut to the middle square", async () => {
  const files = {
    // 40 × 20 with a white stripe of 10 columns: scaled to 16 × 8, cut to columns 4 … 11, the stripe is just outside.
    "a/wide.png": await picture(40, 20, RED, "png", 10),
    "a/other.png": await picture(40, 20, RED, "png", 10),
    "b/tall.png": await picture(5, 30, BLUE, "png"),
    "b/other.png": await picture(5, 30, BLUE, "png"),
  };
  await inFolder(files, async (path) => {
    const { train } = await loadImageFolder({ path, imageSize: 8, testFraction: 0.5 });
    const at = [...train.labels([0, 1])].indexOf(0), { data } = train.images([at]);
    const column = (x: number) => data[(4 * 8 + x) * 3 + 1] * 255;
    for (let x = 2; x < 8; x++) assert.ok(Math.abs(column(x) - 10) < 3, `column ${x}: ${column(x)}`);
    assert.ok(column(0) < 80);
  });
});

Deno.test("train and test choose that many images at random, and no more than there are", async () => {
  await inFolder(await twoClasses(), async (path) => {
    const { train, test } = await loadDataset({ name: "folder", path, imageSize: 8, train: 9, test: 2 });
    assert.deepEqual([train.size, test.size], [9, 2]);
    assert.equal(new Set(train.labels(all(9))).size, 2);
    await assert.rejects(
      loadDataset({ name: "folder", path, test: 5 }),
      /Cannot take 5 test images from .*: it holds 4/,
    );
  });
});

Deno.test("each kind of bad folder is one line that names the file or folder", async () => {
  const png = await picture(8, 8, RED, "png"), jpg = await picture(64, 64, RED, "jpeg", 20);
  const cases: [Record<string, Uint8Array | string>, string, RegExp][] = [
    [{}, "/nowhere", /Cannot list .*nowhere: no such file or folder/],
    [{ "a/1.png": png }, "", /at least 2 folders, one a class, are needed, got 1/],
    [
      { "a/1.png": png, "a/2.png": png, "b/": "" },
      "",
      /class .*\/b: at least one .* file is needed, got none/,
    ],
    [
      { "a/1.png": png, "a/2.png": png, "b/1.png": png },
      "",
      /Cannot split .*\/b: at least 2 images are needed, got 1/,
    ],
    [
      { "a/1.png": png, "a/2.png": "no image", "b/1.png": png, "b/2.png": png },
      "",
      /Cannot decode .*a\/2.png: /,
    ],
    [
      { "a/1.png": png, "a/2.png": png, "b/1.jpg": jpg.subarray(0, jpg.length / 2), "b/2.png": png },
      "",
      /Cannot decode .*b\/1.jpg: /,
    ],
    [{ "a/1.png": png, "a/2.png": png, "b/1.webp": "", "b/2.png": png }, "", /Cannot decode .*b\/1.webp: /],
    [
      { "train/a/1.png": png, "train/b/1.png": png, "test/a/1.png": png, "test/c/1.png": png },
      "",
      /test: its classes must be those of .*train, got a difference in b, c/,
    ],
  ];
  for (const [files, path, message] of cases) {
    await inFolder(files, async (root) => {
      await assert.rejects(loadImageFolder({ path: root + path, imageSize: 8 }), (error: Error) => {
        assert.ok(error instanceof DataError, `${message}: ${error.stack}`);
        assert.match(error.message, message);
        assert.ok(!error.message.includes("\n"));
        return true;
      });
    });
  }
});
