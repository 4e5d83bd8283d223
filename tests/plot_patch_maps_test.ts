import assert from "node:assert/strict";
import sharp from "sharp";
import * as plot from "novae/plot/mod.ts";
import { float32, type HostTensor, Rng } from "novae/tensor/mod.ts";

const GOLDEN = new URL("./golden/plot_patch_maps.json", import.meta.url);

/** Makes the golden file again: NOVAE_UPDATE_GOLDENS=1 deno test -A tests/plot_patch_maps_test.ts */
const UPDATE = Deno.env.get("NOVAE_UPDATE_GOLDENS") === "1";

/** Two pictures of 4 × 8 pixels, which have 2 × 4 patches of 2 × 2 pixels. */
const HEIGHT = 4, WIDTH = 8, PATCHES = 8, GAP = 6;
const PICTURES = float32(new Rng(1).uniform(2 * HEIGHT * WIDTH * 3), [2, HEIGHT, WIDTH, 3]);
const COMPONENTS = { data: new Rng(2).normal(2 * PATCHES * 3), rows: 2 * PATCHES, cols: 3 };

/** Weights of two heads for two pictures, with eight tokens before the patches: patch n gets n/16 and 2n/16. */
function attention(): HostTensor {
  const data = new Float32Array(2 * 2 * 16).fill(0.25);
  for (let b = 0; b < 2; b++) {
    for (let head = 0; head < 2; head++) {
      for (let n = 0; n < PATCHES; n++) data[(2 * b + head) * 16 + 8 + n] = n / 16 * (head + 1);
    }
  }
  return float32(data, [2, 2, 16]);
}

const CHOSEN = [{ label: "left <edge>", image: 0, row: 1, col: 0 }, {
  label: "far",
  image: 1,
  row: 0,
  col: 3,
}];
const SIMILARITIES = {
  data: Float64Array.from({ length: 32 }, (_, i) => i === 4 ? 1 : i === 16 + 11 ? 1 : 0.02 * i - 0.5),
  rows: 2,
  cols: 16,
};

Deno.test("figures of patches equal the rounded Plotly JSON in the golden file", async () => {
  const figures = {
    components: await plot.componentPanel(PICTURES, COMPONENTS, { title: "Components" }),
    attention: await plot.attentionPanel(PICTURES, attention(), PATCHES, { columnLabels: ["one", "two"] }),
    similarity: await plot.similarityPanel(PICTURES, SIMILARITIES, CHOSEN),
  };
  const text = JSON.stringify(figures, (key, value) => {
    if (key === "source") return "data:image/png"; // the pixels are looked at below
    return typeof value === "number" ? Number(value.toPrecision(4)) : value;
  }, 2) + "\n";
  if (UPDATE) Deno.writeTextFileSync(GOLDEN, text);
  assert.equal(text, Deno.readTextFileSync(GOLDEN));
});

Deno.test("components show pictures, maps with a square for each patch, and grey pictures under the maps", async () => {
  const pixels = await pixelsOf(await plot.componentPanel(PICTURES, COMPONENTS));
  const maps = plot.componentMaps(COMPONENTS, 2, 4), pictures = plot.gridOfImages(PICTURES, { gap: GAP });
  assert.deepEqual([pixels.width, pixels.height], [2 * WIDTH + GAP, 3 * HEIGHT + 2 * GAP]);
  for (let y = 0; y < HEIGHT; y++) {
    for (let x = 0; x < WIDTH; x++) {
      assert.deepEqual(pixels.at(x, y), at(pictures, x, y));
      const patch = at(maps[1], x >> 1, y >> 1);
      assert.deepEqual(pixels.at(WIDTH + GAP + x, HEIGHT + GAP + y), patch);
    }
  }
  // Where the map is grey and the picture too, the overlay is theirs mixed; colours come from the map alone.
  const flat = { data: new Float64Array(2 * PATCHES * 3), rows: 2 * PATCHES, cols: 3 };
  const dull = await pixelsOf(await plot.componentPanel(PICTURES, flat));
  for (let y = 0; y < HEIGHT; y++) {
    const [red, green, blue] = at(pictures, 3, y), grey = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    const mixed = dull.at(3, 2 * (HEIGHT + GAP) + y);
    assert.deepEqual(mixed.slice(0, 3), Array(3).fill(mixed[0]));
    assert.ok(Math.abs(mixed[0] - 0.35 * grey) <= 1);
  }
});

Deno.test("attention is drawn head by head in multiples of even attention, without the tokens before the patches", async () => {
  const pixels = await pixelsOf(
    await plot.attentionPanel(PICTURES, attention(), PATCHES, { range: [0, 14] }),
  );
  for (let head = 0; head < 2; head++) {
    for (let n = 0; n < PATCHES; n++) {
      const wanted = at(plot.scalarMap([n * (head + 1)], 1, 1, [0, 14]), 0, 0);
      const x = WIDTH + GAP + 2 * (n % 4), y = (head + 1) * (HEIGHT + GAP) + 2 * Math.floor(n / 4);
      assert.deepEqual(pixels.at(x, y), wanted);
      assert.deepEqual(pixels.at(x + 1, y + 1), wanted);
    }
  }
});

Deno.test("the scale of attention reaches to its 99th percentile and even attention is 1", async () => {
  const even = float32(new Float32Array(2 * 11).fill(1 / 11), [2, 1, 11]);
  const { layout } = await plot.attentionPanel(PICTURES, even, PATCHES);
  const { cmin, cmax } = layout.coloraxis as { cmin: number; cmax: number };
  assert.equal(cmin, 0);
  assert.ok(Math.abs(cmax - 1) < 1e-6);
});

Deno.test("chosen patches are framed in their pictures and in their own maps", async () => {
  const { layout } = await plot.similarityPanel(PICTURES, SIMILARITIES, CHOSEN);
  const frames = (layout.shapes as { x0: number; y0: number; x1: number; y1: number }[]).filter((_, i) =>
    i % 2 === 0
  );
  const centres = frames.map(({ x0, y0, x1, y1 }) => [(x0 + x1) / 2, (y0 + y1) / 2]);
  const down = HEIGHT + GAP, right = WIDTH + GAP;
  assert.deepEqual(centres, [[1, 3], [1, down + 3], [right + 7, 1], [right + 7, 2 * down + 1]]);
});

Deno.test("figures of patches refuse what does not fit together", async () => {
  const refused = (work: Promise<unknown>, message: RegExp) => assert.rejects(work, message);
  await refused(
    plot.componentPanel(PICTURES, { ...COMPONENTS, rows: 14 }),
    /squares must fill pictures of 8 × 4, got 7/,
  );
  await refused(plot.componentPanel(float32([1], [1, 1, 1, 1]), COMPONENTS), /Cannot draw patches/);
  await refused(
    plot.attentionPanel(PICTURES, float32([1, 1], [2, 1, 1]), PATCHES),
    /wanted 8 tokens or more, got 1/,
  );
  await refused(plot.attentionPanel(PICTURES, float32([1], [1, 1, 1]), PATCHES), /Cannot draw attention/);
  await refused(plot.similarityPanel(PICTURES, SIMILARITIES, CHOSEN.slice(1)), /wanted 1 rows, got 2/);
  const outside = [CHOSEN[0], { ...CHOSEN[1], col: 4 }];
  await refused(
    plot.similarityPanel(PICTURES, SIMILARITIES, outside),
    /there are 2 pictures of 2 × 4 patches, got row 0, column 4 of picture 1/,
  );
  await refused(plot.rasterPanel([[blank(1)], []]), /rows must have 1 images, got 0/);
});

function blank(side: number): plot.Raster {
  return { width: side, height: side, data: new Uint8Array(4 * side * side) };
}

function at({ width, data }: plot.Raster, x: number, y: number): number[] {
  return [...data.subarray(4 * (y * width + x), 4 * (y * width + x + 1))];
}

/** The pixels of a panel's picture. */
async function pixelsOf({ layout }: plot.Figure) {
  const [{ source }] = layout.images as [{ source: string }];
  const png = Uint8Array.fromBase64(source.split(",")[1]);
  const { data, info } = await sharp(png).ensureAlpha().raw().toBuffer({ resolveWithObject: true });
  const raster = { width: info.width, height: info.height, data: new Uint8Array(data) };
  return { ...raster, at: (x: number, y: number) => at(raster, x, y) };
}
