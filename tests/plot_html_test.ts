import assert from "node:assert/strict";
import { gunzipSync } from "node:zlib";
import * as plot from "novae/plot/mod.ts";
import { sampleFigures, sampleReport, samplesTable } from "./plot_fixture.ts";

Deno.test("a page escapes every text and cannot be ended by its data", () => {
  const evil = `<script>alert("1")</script> & '`;
  const figure = plot.lineChart([{ name: evil, x: [1], y: [1] }], {
    xTitle: evil,
    yTitle: evil,
    title: evil,
  });
  const html = plot.reportPage({
    title: evil,
    subtitle: evil,
    abstract: evil,
    footer: evil,
    sections: [{
      heading: evil,
      blocks: [
        { kind: "paragraph", text: evil },
        { kind: "list", items: [evil] },
        { kind: "definitions", items: [[evil, evil]] },
        { kind: "note", heading: evil, text: evil },
        { kind: "figure", figure, caption: evil, n: evil },
        {
          kind: "table",
          caption: evil,
          columns: [{ key: evil, label: evil, group: evil }],
          rows: [{ cells: { [evil]: evil } }],
          footnotes: [evil],
        },
      ],
    }, { heading: evil, blocks: [] }],
  });
  assert.ok(!html.includes("<script>alert"));
  assert.ok(!html.includes(`"${evil}`));
  assert.equal(html.match(/<script/g)?.length, 3);
  assert.equal(html.match(/<\/script/g)?.length, 3);
});

Deno.test("a page asks for nothing from elsewhere", async () => {
  const html = plot.reportPage(await sampleReport());
  const outside = html.replace(plot.plotlySource(), "");
  assert.match(html, /Content-Security-Policy" content="default-src 'none'/);
  assert.equal(outside.match(/\b(?:src|href)="(?!data:|#)/), null);
  assert.equal(outside.match(/url\(|@import|https?:/), null);
});

Deno.test("a page without figures carries no script", () => {
  const html = plot.reportPage({
    title: "t",
    sections: [{ heading: "h", blocks: [{ kind: "paragraph", text: "p" }] }],
  });
  assert.ok(!html.includes("<script") && html.length < 20_000);
});

Deno.test("tables and figures are numbered apart and say their n", async () => {
  const html = plot.reportPage(await sampleReport());
  const labels = [...html.matchAll(/<b class="label">([^<]+)\.<\/b>/g)].map((match) => match[1]);
  const figures = [1, 2, 3, 4, 5, 6].map((number) => `Figure ${number}`);
  assert.deepEqual(labels.filter((label) => label.startsWith("Figure")), figures);
  assert.deepEqual(labels.filter((label) => label.startsWith("Table")), ["Table 1", "Table 2"]);
  assert.match(html, /<i>n<\/i>&nbsp;=&nbsp;1,000 samples, 8,000 images\./);
});

Deno.test("code and strong text are marked up, other asterisks and backticks are left alone", () => {
  const text = "a `x < y` b **very good** c 3 * 4 * 5 d ** e ** f `";
  const html = plot.reportPage({
    title: "t",
    sections: [{ heading: "h", blocks: [{ kind: "paragraph", text }] }],
  });
  assert.ok(
    html.includes("<p>a <code>x &lt; y</code> b <strong>very good</strong> c 3 * 4 * 5 d ** e ** f `</p>"),
  );
});

Deno.test("the best of a column is bold as it reads, ties included and rows for comparison left out", () => {
  const html = plot.reportPage({ title: "t", sections: [{ heading: "h", blocks: [samplesTable()] }] });
  const strong = [...html.matchAll(/<td class="number"><strong>([\d.]+)/g)].map((match) => match[1]);
  // Both 42.41 and 42.39 read 42.4; the paper's smaller numbers never win.
  assert.deepEqual(strong, ["42.4", "54.5", "42.4", "31.2", "29.3", "25.3", "22.1"]);
  assert.match(html, /Bold: the best of its column/);
});

Deno.test("a column of one value has no best", () => {
  const columns = [{ key: "a", label: "a", best: "max" as const }];
  const table = { kind: "table" as const, caption: "c", columns, rows: [{ cells: { a: 1 } }] };
  const html = plot.reportPage({ title: "t", sections: [{ heading: "h", blocks: [table] }] });
  assert.ok(!html.includes("<strong>"));
});

Deno.test("a table as text lines up its columns", () => {
  const text = plot.tableText({
    kind: "table",
    caption: "Scores of `svg`.",
    n: "5",
    columns: [
      { key: "space", label: "Space", type: "space" },
      { key: "score", label: "Score", digits: 1, best: "min", group: "At 5" },
    ],
    rows: [{ cells: { space: "svg", score: { value: -1234.56, error: 2, note: 1 } } }, {
      cells: { space: "other" },
    }],
    footnotes: ["**Few** samples."],
  });
  assert.equal(
    text,
    [
      "Scores of svg. n = 5.",
      "",
      "Space        At 5 Score ↓",
      "─────  ──────────────────",
      "SVG    −1,234.6 ± 2.0 [1]",
      "other                   –",
      "[1] Few samples.",
    ].join("\n"),
  );
});

Deno.test("a picture that is no PNG is refused", () => {
  const image = { kind: "image" as const, png: Uint8Array.of(1, 2), alt: "a", caption: "c" };
  assert.throws(
    () => plot.reportPage({ title: "t", sections: [{ heading: "h", blocks: [image] }] }),
    /wanted the bytes of a PNG, got 2 other bytes/,
  );
});

Deno.test("a figure for a notebook has Plotly JSON and HTML that carries Plotly itself", () => {
  const figure = sampleFigures().curve;
  const bundle = plot.figureBundle(figure, "figure-1");
  const json = bundle["application/vnd.plotly.v1+json"] as unknown as plot.Figure;
  assert.deepEqual(json.data, figure.data);
  assert.ok(json.layout.template !== undefined);
  const html = bundle["text/html"] as string;
  const packed = /atob\("([A-Za-z0-9+/=]+)"\)/.exec(html)?.[1] ?? "";
  assert.equal(gunzipSync(Uint8Array.fromBase64(packed)).toString(), plot.plotlySource());
  assert.match(bundle["text/plain"] as string, /figure of 8 traces/);
});

Deno.test("a table for a notebook has HTML with its own style and aligned text", () => {
  const bundle = plot.tableBundle(samplesTable());
  assert.match(bundle["text/html"] as string, /^<style>\.novae-table\.novae-table \{/);
  assert.equal(bundle["text/plain"], plot.tableText(samplesTable()));
});
