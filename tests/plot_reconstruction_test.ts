import assert from "node:assert/strict";
import sharp from "sharp";
import * as plot from "novae/plot/mod.ts";
import { float32, type HostTensor, Rng, rows } from "novae/tensor/mod.ts";

const SIDE = 4, COUNT = 2, GAP = 6;
const images = (seed: number): HostTensor =>
  float32(new Rng(seed).uniform(COUNT * SIDE * SIDE * 3), [COUNT, SIDE, SIDE, 3]);
const PICTURES = images(1), GOOD = images(2), BAD = images(3);

Deno.test("a difference is the gain times the distance of the values, and 0 for equal images", () => {
  const pictures = float32([0.5, 0, 1], [1, 1, 1, 3]), others = float32([0.25, 0.5, 1], [1, 1, 1, 3]);
  assert.deepEqual([...plot.differenceImages(pictures, others).data], [1.25, 2.5, 0]);
  assert.deepEqual([...plot.differenceImages(others, pictures, 2).data], [0.5, 1, 0]);
});

Deno.test("a panel has the pictures above and each autoencoder's reconstructions above their differences", async () => {
  const reconstructions = [{ label: "good <1>", images: GOOD }, { label: "bad", images: BAD }];
  const panel = await plot.reconstructionPanel(PICTURES, reconstructions, { gain: 2 });
  const { yaxis } = panel.layout as { yaxis: { ticktext: string[] } };
  assert.deepEqual(yaxis.ticktext, ["Picture", "good &lt;1&gt;", "Difference × 2", "bad", "Difference × 2"]);
  const strips = [
    PICTURES,
    GOOD,
    plot.differenceImages(PICTURES, GOOD, 2),
    BAD,
    plot.differenceImages(PICTURES, BAD, 2),
  ];
  const wanted = plot.gridOfRasters(
    strips.map((strip) => plot.gridOfImages(strip, { columns: COUNT, gap: GAP })),
    { columns: 1, gap: GAP },
  );
  assert.deepEqual(await pixelsOf(panel), { ...wanted, data: [...wanted.data] });
});

Deno.test("a grid of reconstructions shows what a panel shows, enlarged", () => {
  const grid = plot.reconstructionGrid(PICTURES, GOOD, { gain: 3, scale: 2 });
  const difference = plot.differenceImages(PICTURES, GOOD, 3);
  const step = 2 * SIDE + 2; // two pixels lie between images
  assert.deepEqual([grid.width, grid.height], [COUNT * step - 2, 3 * step - 2]);
  for (const [row, strip] of [PICTURES, GOOD, difference].entries()) {
    for (let b = 0; b < COUNT; b++) {
      const { data } = plot.gridOfImages(rows(strip, b, b + 1), { scale: 2 });
      const at = 3 * (row * step * grid.width + b * step);
      assert.deepEqual([...grid.data.slice(at, at + 3)], [...data.slice(0, 3)]);
    }
  }
});

Deno.test("reconstructions of another shape are refused", async () => {
  const one = rows(GOOD, 0, 1),
    message = /Cannot compare images: shape must be \[2, 4, 4, 3\], got \[1, 4, 4, 3\]/;
  assert.throws(() => plot.differenceImages(PICTURES, one), message);
  await assert.rejects(plot.reconstructionPanel(PICTURES, [{ label: "one", images: one }]), message);
});

async function pixelsOf(panel: plot.Figure): Promise<{ width: number; height: number; data: number[] }> {
  const [{ source }] = panel.layout.images as unknown as { source: string }[];
  const png = Uint8Array.fromBase64(source.slice("data:image/png;base64,".length));
  const { data, info: { width, height } } = await sharp(png).ensureAlpha().raw().toBuffer({
    resolveWithObject: true,
  });
  return { width, height, data: [...data] };
}
