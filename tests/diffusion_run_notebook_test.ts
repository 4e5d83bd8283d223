/** A diffusion training under a cell of a notebook, and what its figures are drawn from. */
import assert from "node:assert/strict";
import { ditConfig } from "novae/diffusion/mod.ts";
import { encodePng } from "novae/io/mod.ts";
import type { MimeBundle } from "novae/plot/mod.ts";
import {
  lossByTimeFigure,
  NotebookTraining,
  openTrainingLatents,
  runDiffusionTraining,
  scoreFigure,
  TerminalTraining,
} from "novae/study/mod.ts";
import { float32, Rng } from "novae/tensor/mod.ts";
import { inFolder } from "./extraction_fixture.ts";

interface Shown {
  readonly bundle: MimeBundle;
  readonly id: string;
  readonly update: boolean;
}

/** A display whose outputs are collected. */
function collected(): { shown: Shown[]; display: NotebookTraining } {
  const shown: Shown[] = [];
  const display = new NotebookTraining("dit", (bundle, options) => {
    shown.push({ bundle, id: String(options.display_id), update: options.update === true });
    return Promise.resolve();
  });
  return { shown, display };
}

/** Fifty latents of two classes that differ in their mean. */
async function someLatents() {
  const labels = Int32Array.from({ length: 50 }, (_, i) => i % 2);
  const values = new Rng(5).normal(50 * 4 * 3).map((v, i) => v + 2 * labels[Math.floor(i / 12)]);
  return await openTrainingLatents({ latents: float32(values, [50, 4, 3]), labels }, { space: "vae" });
}

const FIGURE = "application/vnd.plotly.v1+json";

Deno.test("under a cell a bar and a curve redraw themselves, and the results come back", () =>
  inFolder(async (root) => {
    const latents = await someLatents(), { shown, display } = collected(), { log } = console;
    console.log = () => {};
    const result = await runDiffusionTraining({
      latents,
      model: ditConfig("tiny", { channels: 3, grid: 2, classes: 2 }),
      training: { images: 96, batchSize: 8 },
      device: "cpu",
      root,
      display,
    }).finally(() => console.log = log);
    const figures = shown.filter(({ bundle }) => FIGURE in bundle),
      bars = shown.filter((one) => !figures.includes(one));
    assert.equal(new Set(figures.map(({ id }) => id)).size, 1, "one figure, redrawn in its place");
    assert.deepEqual(figures.map(({ update }) => update), figures.map((_, i) => i > 0));
    assert.match(String(bars.at(-1)!.bundle["text/plain"]), /^✓ dit-vae · /);
    const last = figures.at(-1)!.bundle[FIGURE] as { data: readonly { x: number[]; y: number[] }[] };
    assert.deepEqual(last.data[0].x, result.curves.train.map(({ imagesSeen }) => imagesSeen));
    assert.equal(result.curves.train.length, 12);
    assert.deepEqual([result.step, result.stopped, result.summary?.imagesSeen], [12, false, 96]);
    assert.equal(result.path, `${root}/00000-dit-vae`);
    assert.equal(result.params.tokens.weight.shape[0], 3);
  }));

Deno.test("a training that is told to stop keeps a checkpoint, and goes on when it is called again", () =>
  inFolder(async (root) => {
    const latents = await someLatents(), stop = new AbortController();
    const quiet = () => new TerminalTraining("dit", { start() {}, update() {}, finish() {}, clear() {} });
    class Stopping extends TerminalTraining {
      override curves() {
        stop.abort();
      }
    }
    const display = new Stopping("dit", { start() {}, update() {}, finish() {}, clear() {} });
    const { error } = console;
    console.error = () => {};
    const options = {
      latents,
      model: ditConfig("tiny", { channels: 3, grid: 2, classes: 2 }),
      training: { images: 64, batchSize: 8 },
      device: "cpu" as const,
    };
    try {
      const begun = await runDiffusionTraining({ ...options, root, display, signal: stop.signal });
      assert.deepEqual([begun.stopped, begun.summary], [true, null]);
      assert.ok(begun.step < 8);
      const ended = await runDiffusionTraining({ ...options, root, display: quiet(), resume: true });
      assert.deepEqual([ended.path, ended.step, ended.stopped], [begun.path, 8, false]);
      const whole = await runDiffusionTraining({ ...options, root: `${root}/whole`, display: quiet() });
      assert.deepEqual(ended.params, whole.params);
    } finally {
      console.error = error;
    }
  }));

Deno.test("samples are shown in their own proportions", async () => {
  const { shown, display } = collected();
  display.samples(await encodePng({ width: 30, height: 20, data: new Uint8Array(3 * 30 * 20) }));
  await display.finish("done");
  const figure = shown.find(({ bundle }) => FIGURE in bundle)!.bundle[FIGURE] as {
    layout: { images: readonly { sizex: number; sizey: number }[] };
  };
  assert.deepEqual(figure.layout.images.map(({ sizex, sizey }) => [sizex, sizey]), [[30, 20]]);
});

Deno.test("figures of loss by time and of scores hold the numbers that were measured", () => {
  const point = (step: number, values: (number | null)[]) => ({
    ...{ step, imagesSeen: 8 * step, loss: 1, gradNorm: 1, learningRate: 1, imagesPerSec: 1 },
    lossByTime: values,
  });
  assert.equal(lossByTimeFigure({ train: [], validation: [], scores: [] }), null);
  const train = [point(1, [4, 2]), point(2, [2, null]), point(3, [1, 1])];
  const figure = lossByTimeFigure({ train, validation: [], scores: [] })!;
  assert.deepEqual(figure.data.map((trace) => trace.y), [[4, 2], [2, null], [1, 1]]);
  assert.deepEqual(figure.data[0].x, [0.25, 0.75]);
  const frechet = {
    ...{ value: 10, standardError: 2, biasCorrected: 9, samples: 20, references: 20, dims: 4 },
    ...{ extractor: "a", reference: "b" },
  };
  const scores = scoreFigure([{ step: 1, imagesSeen: 8, frechet, accuracy: null }]);
  const [band, line] = scores.data;
  assert.deepEqual([line.y, band.y], [[10], [14, 6]]);
});
