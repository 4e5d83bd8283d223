import assert from "node:assert/strict";
import sharp from "sharp";
import { type Browser, chromium } from "playwright-core";
import * as plot from "novae/plot/mod.ts";
import { float32, Rng } from "novae/tensor/mod.ts";

const GOLDEN = new URL("./golden/plot_diffusion.json", import.meta.url);

/** Makes the golden file again: NOVAE_UPDATE_GOLDENS=1 deno test -A tests/plot_diffusion_test.ts */
const UPDATE = Deno.env.get("NOVAE_UPDATE_GOLDENS") === "1";

const CHROMIUM = Deno.env.get("NOVAE_CHROMIUM") ?? "/usr/bin/chromium";
const REQUIRED = Deno.env.get("NOVAE_REQUIRE_ALL") === "1";
const missing = chromiumMissing();

const CLASSES = ["left", "right <2>"];
const PANELS: plot.VectorPanel[] = [
  {
    name: "overlapping",
    note: "dispersion 0.1",
    xy: [-1, 0, 1, 0, 0.5, 1],
    labels: [0, 1, 1],
    arrows: [
      { name: "mean velocity", at: [0, 0, 0, 1], by: [1, 0, 0, 0.5] },
      { name: "left", at: [0, 0], by: [-1, 0], label: 0 },
    ],
  },
  {
    name: "separated",
    xy: [-3, 0, 3, 0],
    labels: [0, 1],
    arrows: [{ name: "mean velocity", at: [0, 0], by: [0, 2] }],
  },
];

const POINTS = [1, 2, 3].map((k) => ({
  imagesSeen: 1000 * k,
  loss: 2 / k,
  lossByTime: [3 / k, null, k === 1 ? null : 1 / k],
}));

function figures(): Record<string, plot.Figure> {
  return {
    field: plot.vectorField(PANELS, CLASSES, { title: "Velocities" }),
    movie: plot.animatedFigure(
      [0, 1].map((t) => ({
        label: t.toFixed(1),
        figure: plot.classScatter([{ ...PANELS[1], xy: [t, 0, 1, t] }], CLASSES),
      })),
      { prefix: "t = " },
    ),
    pictures: plot.animatedFigure(
      [1, 2, 3].map((byte) => ({
        label: `<${byte}>`,
        figure: plot.imagePanel({ png: Uint8Array.of(byte), width: 20, height: 10 }),
      })),
      { start: 0, stepMs: 100 },
    ),
    curve: plot.trainingCurve(POINTS, { validation: [{ imagesSeen: 3000, loss: 0.9 }] }),
  };
}

Deno.test("figures of diffusion equal the Plotly JSON in the golden file and survive JSON", () => {
  const drawn = figures();
  assert.deepEqual(JSON.parse(JSON.stringify(drawn)), drawn);
  if (UPDATE) Deno.writeTextFileSync(GOLDEN, JSON.stringify(drawn, null, 2) + "\n");
  assert.deepEqual(drawn, JSON.parse(Deno.readTextFileSync(GOLDEN)));
});

Deno.test("arrows begin at their points, end at scale times what they show, and have heads at their tips", () => {
  const { data } = plot.vectorField(PANELS, CLASSES, { arrowScale: 0.5 });
  const field = data.find(({ name }) => name === "mean velocity")!,
    x = field.x as number[],
    y = field.y as number[];
  assert.deepEqual([x.slice(0, 3), y.slice(0, 3)], [[0, 0.5, null], [0, 0, null]]);
  assert.deepEqual([x[4], y[4], x[11], y[11]], [0.5, 0, 0, 1.25]);
  const strokes = [3, 5].map((k) => Math.hypot(x[k] - 0.5, y[k]));
  assert.ok(Math.abs(strokes[0] - strokes[1]) < 1e-4 && strokes[0] > 0.05 && x[3] < 0.5 && y[3] === -y[5]);
});

Deno.test("panels of a field have one undistorted range and one scale, and its name once in the legend", () => {
  const { data, layout } = plot.vectorField(PANELS, CLASSES);
  const axis = (name: string) => layout[name] as { range: number[]; scaleanchor?: string };
  const range = axis("xaxis").range;
  for (const name of ["xaxis2", "yaxis", "yaxis2"]) assert.deepEqual(axis(name).range, range);
  assert.deepEqual([axis("yaxis").scaleanchor, axis("yaxis2").scaleanchor], ["x", "x2"]);
  const fields = data.filter(({ name }) => name === "mean velocity");
  assert.deepEqual(fields.map(({ showlegend }) => showlegend), [true, false]);
  const longest = (fields[1].y as number[])[1];
  assert.ok(Math.abs(longest - (range[1] - range[0]) / 8) < 1e-3);
  const own = data.find(({ mode, name }) => mode === "lines" && name === "left")!;
  assert.equal((own.line as { color: string }).color, plot.CLASS_COLOURS[0]);
  assert.throws(
    () => plot.vectorField([{ ...PANELS[1], arrows: [{ name: "a", at: [0, 0], by: [1] }] }], CLASSES),
    new RangeError('Cannot draw arrows "a": wanted 2 values, got 1'),
  );
});

Deno.test("an animation has a frame and a place of the slider for each step, and frames only what changes", () => {
  const { movie, pictures } = figures(), frames = pictures.frames!;
  assert.equal(frames.length, 3);
  assert.deepEqual(Object.keys(frames[0].layout as object), ["images"]);
  assert.equal(movie.frames![0].layout, undefined);
  for (const { layout, frames } of [movie, pictures]) {
    const [slider] = layout.sliders as { active: number; steps: { args: [[string]] }[] }[];
    assert.deepEqual(slider.steps.map(({ args }) => args[0][0]), frames!.map(({ name }) => name));
  }
  assert.deepEqual(movie.data, movie.frames![1].data, "the last step is seen at first");
  const { figure } = { figure: plot.classScatter([PANELS[0]], CLASSES) };
  assert.throws(() => plot.animatedFigure([]), /at least one is needed, got 0/);
  assert.throws(
    () => plot.animatedFigure([{ label: "a", figure }], { start: 1 }),
    /start must be 0 to 0, got 1/,
  );
  assert.throws(
    () => plot.animatedFigure([{ label: "a", figure }, { label: "b", figure: { ...figure, data: [] } }]),
    new RangeError("Cannot animate figures: all must have 2 traces, got 0 at b"),
  );
});

Deno.test("a training curve shows losses by time in stages where they are known, gaps where nothing fell", () => {
  const plain = plot.trainingCurve(POINTS.map(({ imagesSeen, loss }) => ({ imagesSeen, loss })));
  assert.deepEqual([plain.data.length, plain.layout.xaxis2], [1, undefined]);
  const { data } = plot.trainingCurve(POINTS, { stages: 2 });
  const stages = data.filter(({ xaxis }) => xaxis === "x2");
  assert.deepEqual(stages.map(({ name }) => name), ["until 1,000 images", "until 3,000 images"]);
  assert.deepEqual(stages.map(({ y }) => y), [[3, null, null], [1.25, null, 0.41667]]);
  const validation = [{ imagesSeen: 1, loss: 1, lossByTime: [1, 2] }];
  const timed = plot.trainingCurve(POINTS, { validation }).data.filter(({ xaxis }) => xaxis === "x2");
  assert.deepEqual(timed.map(({ y }) => y), [[1, 2]]);
});

Deno.test("a panel of samples has a row for each set of images with its label", async () => {
  const images = (seed: number) => float32(new Rng(seed).uniform(2 * 4 * 4 * 3), [2, 4, 4, 3]);
  const sets = [1, 2].map((seed) => ({ label: `${seed} steps`, images: images(seed) }));
  const panel = await plot.samplePanel(sets, { columnLabels: ["a", "b"], gap: 2 });
  const { xaxis, yaxis } = panel.layout as Record<"xaxis" | "yaxis", { ticktext: string[] }>;
  assert.deepEqual([xaxis.ticktext, yaxis.ticktext], [["a", "b"], ["1 steps", "2 steps"]]);
  const [{ source }] = panel.layout.images as { source: string }[];
  const { data, info } = await sharp(Uint8Array.fromBase64(source.split(",")[1])).raw().toBuffer({
    resolveWithObject: true,
  });
  const wanted = plot.gridOfRasters(
    sets.map(({ images }) => plot.gridOfImages(images, { columns: 2, gap: 2 })),
    { columns: 1, gap: 2 },
  );
  assert.deepEqual([info.width, info.height, [...data]], [wanted.width, wanted.height, [...wanted.data]]);
});

Deno.test({
  name: "an animation plays and slides in a notebook's output and on a page",
  ignore: missing !== undefined && !REQUIRED,
  fn: async () => {
    assert.ok(missing === undefined, missing ?? "");
    const { movie, pictures, field, curve } = figures();
    const html = plot.reportPage({
      title: "t",
      sections: [{
        heading: "h",
        blocks: [movie, field, curve].map((figure) => ({ kind: "figure", figure, caption: "c" })),
      }],
    });
    const cells = [movie, pictures].map((figure, i) => plot.figureBundle(figure, `figure-${i}`)["text/html"]);
    await withBrowser(async (browser) => {
      for (const content of [html, `<!doctype html><body>${cells.join("\n")}</body>`]) {
        const page = await browser.newPage(), problems: string[] = [];
        page.on("pageerror", (error) => problems.push(error.message));
        await page.setContent(content);
        await page.waitForSelector(".slider-group >> nth=0");
        // Where the first point is in the plot, in whole pixels: a transition ends a little beside.
        const places = () =>
          page.evaluate(() =>
            document.querySelector(".scatterlayer .point")!.getAttribute("transform")!.match(/[\d.]+/g)!
              .map((number) => Math.round(Number(number))).join()
          );
        const end = await places();
        await page.locator(".slider-rail-touch-rect").first().click({ position: { x: 4, y: 4 } });
        for (let tries = 0; await places() === end; tries++) {
          assert.ok(tries < 50, "the slider moved nothing");
          await page.waitForTimeout(100);
        }
        await page.locator(".updatemenu-button").first().click();
        for (let tries = 0; await places() !== end; tries++) {
          assert.ok(tries < 50, "the button played nothing");
          await page.waitForTimeout(100);
        }
        assert.deepEqual(problems, []);
        await page.close();
      }
    });
  },
});

async function withBrowser(use: (browser: Browser) => Promise<void>): Promise<void> {
  const flags = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
  ];
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: flags });
  try {
    await use(browser);
  } finally {
    await browser.close();
  }
}

function chromiumMissing(): string | undefined {
  try {
    Deno.statSync(CHROMIUM);
    return undefined;
  } catch {
    return `no Chromium at ${CHROMIUM}; name one in NOVAE_CHROMIUM`;
  }
}
