/** Crops and mirror images of data sets in memory and of image files. */
import assert from "node:assert/strict";
import sharp from "sharp";
import { type ImageView, openImageFolder, openImageViews } from "novae/data/mod.ts";
import { ConfigError, Rng } from "novae/tensor/mod.ts";
import { DiscImages, IMAGE_SIZE } from "./autoencoder_fixture.ts";
import { inFolder } from "./extraction_fixture.ts";

const SIDE = 10;
const framing = (shortestEdge: number) => ({
  resize: { shortestEdge },
  filter: "lanczos3" as const,
  bytes: true,
  crop: { height: SIDE, width: SIDE },
});

/** The crop whose first pixel is (`top`, `left`) of an image of rows of `width` pixels. */
function cut(
  pixels: ArrayLike<number>,
  width: number,
  [top, left]: readonly number[],
  mirrored: boolean,
): number[] {
  const out: number[] = [];
  for (let y = 0; y < SIDE; y++) {
    for (let x = 0; x < SIDE; x++) {
      const column = left + (mirrored ? SIDE - 1 - x : x), start = 3 * ((top + y) * width + column);
      out.push(pixels[start], pixels[start + 1], pixels[start + 2]);
    }
  }
  return out;
}

/**
 * Views and the first pixel that each must have, of images of `height` × `width`.
 *
 * @param middle first pixel of the middle crop; half a pixel goes to the even side, as in torchvision.
 */
function cases(height: number, width: number, middle: readonly number[]): [ImageView, readonly number[]][] {
  const [down, right] = [height - SIDE, width - SIDE];
  const place = (x: number, y: number) => ({ x, y });
  return [
    [{ index: 2, mirrored: false, place: null }, middle],
    [{ index: 2, mirrored: true, place: null }, middle],
    [{ index: 0, mirrored: false, place: place(0, 0) }, [0, 0]],
    [{ index: 1, mirrored: true, place: place(0.999, 0) }, [0, right]],
    [{ index: 2, mirrored: false, place: place(0, 0.999) }, [down, 0]],
    [{ index: 0, mirrored: true, place: place(0.999, 0.999) }, [down, right]],
  ];
}

Deno.test("views of images in memory are their crops, mirrored after the cut", async () => {
  const dataset = new DiscImages(3), wanted = cases(IMAGE_SIZE, IMAGE_SIZE, [3, 3]);
  using views = openImageViews(dataset, { framing: framing(IMAGE_SIZE) });
  assert.deepEqual([views.size, views.imageSize, views.cropped], [3, SIDE, true]);
  const { shape, data } = await views.load(wanted.map(([view]) => view));
  assert.deepEqual(shape, [wanted.length, SIDE, SIDE, 3]);
  const stride = SIDE * SIDE * 3;
  wanted.forEach(([{ index, mirrored }, corner], i) => {
    const image = dataset.images([index]).data;
    assert.deepEqual(
      [...data.subarray(i * stride, (i + 1) * stride)],
      cut(image, IMAGE_SIZE, corner, mirrored),
    );
  });
});

Deno.test("views of image files are the same crops of what the files hold, to the byte", () =>
  inFolder(async (folder) => {
    const height = 14, width = 17, rng = new Rng(4);
    const pictures = Array.from(
      { length: 3 },
      () => Uint8Array.from({ length: height * width * 3 }, () => rng.int(256)),
    );
    for (const [i, data] of pictures.entries()) {
      const file = sharp(data, { raw: { width, height, channels: 3 } }).png();
      await Deno.writeFile(`${folder}/${i}.png`, await file.toBuffer());
    }
    // The shorter side is 14 already, so that no pixel is resized.
    using views = openImageViews(await openImageFolder(folder), { framing: framing(height), workers: 2 });
    const wanted = cases(height, width, [2, 4]), { data } = await views.load(wanted.map(([view]) => view));
    const stride = SIDE * SIDE * 3;
    wanted.forEach(([{ index, mirrored }, corner], i) => {
      const bytes = Array.from(data.subarray(i * stride, (i + 1) * stride), (v) => Math.round(255 * v));
      assert.deepEqual(bytes, cut(pictures[index], width, corner, mirrored));
    });
  }));

Deno.test("a crop that does not fit into the images is refused", () => {
  const large = { ...framing(32), crop: { height: 20, width: 20 } };
  assert.throws(() => openImageViews(new DiscImages(2), { framing: large }), (error) => {
    assert.ok(error instanceof ConfigError);
    assert.match(error.message, /the crop of 20 × 20 must fit into its images, got a side of 16 pixels$/);
    return true;
  });
});
