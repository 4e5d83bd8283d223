import assert from "node:assert/strict";
import {
  lineChart,
  type MimeBundle,
  NotebookFigure,
  NotebookProgress,
  progressBundle,
} from "novae/plot/mod.ts";

interface Shown {
  text: string;
  html: string;
  bundle: MimeBundle;
  options: Deno.jupyter.DisplayOptions;
}

/** A notebook that takes some time for each output. */
function notebook(ms = 0) {
  const shown: Shown[] = [];
  let busy = 0;
  const show = async (bundle: MimeBundle, options: Deno.jupyter.DisplayOptions) => {
    assert.equal(++busy, 1, "drawn while the last drawing was not taken");
    await new Promise((resolve) => setTimeout(resolve, ms));
    shown.push({ text: `${bundle["text/plain"]}`, html: `${bundle["text/html"]}`, bundle, options });
    busy--;
  };
  return { shown, show };
}

Deno.test("progress is drawn once and then redrawn in place, to its end", async () => {
  const { shown, show } = notebook(), progress = new NotebookProgress({ show, everyMs: 0 });
  const report = progress.counter("solids", "images");
  for (let done = 100; done <= 400; done += 100) {
    report({ done, total: 400 });
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await progress.settled();
  assert.deepEqual(shown.map(({ text }) => text.replaceAll(/ · [\d.]+ s( left)?/g, "")), [
    "solids: 25 % · 100 of 400 images",
    "solids: 50 % · 200 of 400 images",
    "solids: 75 % · 300 of 400 images",
    shown[3].text,
  ]);
  assert.match(shown[3].text, /^solids: 400 images in \d\.\d s$/);
  assert.deepEqual(shown.map(({ options }) => options.update), [false, true, true, true]);
  assert.equal(new Set(shown.map(({ options }) => options.display_id)).size, 1);
  assert.ok(shown.every(({ options }) => options.raw === true));
});

Deno.test("a slow notebook gets the first and the newest state, never two at once, and none is lost at the end", async () => {
  const { shown, show } = notebook(15), progress = new NotebookProgress({ show, everyMs: 5 });
  const report = progress.counter("solids", "images");
  for (let done = 1; done <= 1000; done++) report({ done, total: 1000 });
  await progress.settled();
  assert.equal(shown.length, 2);
  assert.match(shown[0].text, /^solids: 0 % .* 1 of 1,000 images$/);
  assert.match(shown[1].text, /^solids: 1,000 images in/);
});

Deno.test("two bars of one notebook are two outputs", async () => {
  const { shown, show } = notebook();
  for (const label of ["a", "b"]) {
    const progress = new NotebookProgress({ show });
    progress.counter(label, "images")({ done: 1, total: 2 });
    await progress.settled();
  }
  assert.notEqual(shown[0].options.display_id, shown[1].options.display_id);
  assert.deepEqual(shown.map(({ options }) => options.update), [false, false]);
});

Deno.test("an error of the notebook reaches who waits for the last drawing", async () => {
  const progress = new NotebookProgress({ show: () => Promise.reject(new Error("kernel gone")) });
  progress.finish("done");
  await assert.rejects(progress.settled(), /kernel gone/);
});

Deno.test("a figure is redrawn in place with all its points in the end, whatever the notebook misses", async () => {
  const { shown, show } = notebook(15), figure = new NotebookFigure({ show, everyMs: 5 });
  const line = { name: "loss", x: [] as number[], y: [] as number[] };
  for (let i = 1; i <= 100; i++) {
    line.x.push(i);
    line.y.push(1 / i);
    figure.draw(lineChart([line], { xTitle: "Update", yTitle: "Loss" }));
  }
  await figure.settled();
  const points = shown.map(({ bundle }) => {
    const { data: [trace] } = bundle["application/vnd.plotly.v1+json"] as { data: { x: number[] }[] };
    return trace.x.length;
  });
  assert.deepEqual(points, [1, 100]);
  assert.deepEqual(shown.map(({ options }) => options.update), [false, true]);
  assert.equal(shown[0].options.display_id, shown[1].options.display_id);
  const ids = shown.map(({ html }) => html.match(/<div id="([^"]+)"/)?.[1]);
  assert.notEqual(ids[0], ids[1], "a page that still holds the old drawing would draw into it");
});

Deno.test("the bar is as long as the part done and its words are text, not markup", () => {
  const view = { label: "<b>", elapsedSec: 1, leftSec: null, totalLeftSec: null, note: "1 < 2" };
  const bundle = (fraction: number) => progressBundle({ ...view, fraction });
  assert.match(`${bundle(0.426)["text/html"]}`, /width:42%/);
  assert.match(`${bundle(0.426)["text/html"]}`, /&lt;b&gt;.*42 % · 1\.0 s · 1 &lt; 2/s);
  assert.match(`${bundle(7)["text/html"]}`, /width:100%/);
  assert.equal(bundle(-1)["text/plain"], "<b>: 0 % · 1.0 s · 1 < 2");
});
