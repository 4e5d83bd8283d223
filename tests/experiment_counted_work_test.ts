import assert from "node:assert/strict";
import {
  CountedWork,
  describeProgress,
  type ProgressDisplay,
  type ProgressView,
} from "novae/experiment/mod.ts";

class Recorder implements ProgressDisplay {
  readonly calls: [string, ProgressView | string][] = [];
  start(view: ProgressView): void {
    this.calls.push(["start", view]);
  }
  update(view: ProgressView): void {
    this.calls.push(["update", view]);
  }
  finish(line: string): void {
    this.calls.push(["finish", line]);
  }
  clear(): void {}
}

Deno.test("counted work begins the display, estimates the time left and ends it at its total", () => {
  let time = 10;
  const display = new Recorder(), work = new CountedWork("solids", "images", display, () => time);
  for (const [at, done] of [[12, 1000], [14, 2000], [18, 4000], [19, 4000]]) {
    time = at;
    work.report({ done, total: 4000 });
  }
  const view = { label: "solids", totalLeftSec: null };
  assert.deepEqual(display.calls, [
    ["start", { ...view, fraction: 0.25, elapsedSec: 2, leftSec: null, note: "1,000 of 4,000 images" }],
    ["update", { ...view, fraction: 0.5, elapsedSec: 4, leftSec: 4, note: "2,000 of 4,000 images" }],
    ["finish", "solids: 4,000 images in 8.0 s"],
  ]);
});

Deno.test("what was done before the first report does not count into the rate", () => {
  let time = 0;
  const display = new Recorder(), work = new CountedWork("a", "rows", display, () => time);
  work.report({ done: 90, total: 100 });
  time = 3;
  work.report({ done: 91, total: 100 });
  assert.equal((display.calls[1][1] as ProgressView).leftSec, 27);
});

Deno.test("a note stays, and work of nothing is done at once", () => {
  const display = new Recorder(), work = new CountedWork("a", "rows", display, () => 0);
  work.report({ done: 1, total: 2, note: "shard 0 is damaged; it is made again" });
  work.report({ done: 2, total: 2 });
  assert.deepEqual(display.calls.at(-1), [
    "finish",
    "a: 2 rows in 0.0 s · shard 0 is damaged; it is made again",
  ]);
  const empty = new Recorder();
  new CountedWork("a", "rows", empty, () => 0).report({ done: 0, total: 0 });
  assert.deepEqual(empty.calls.map(([kind]) => kind), ["start", "finish"]);
});

Deno.test("a view is described by its times and its note", () => {
  const view = {
    label: "a",
    fraction: 0.5,
    elapsedSec: 65,
    leftSec: 3,
    totalLeftSec: null,
    note: "loss 0.71",
  };
  assert.deepEqual(describeProgress(view), {
    label: "a",
    times: "1 min 05 s · 3.0 s left",
    note: " · loss 0.71",
  });
});
