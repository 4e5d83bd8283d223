/**
 * Writes pages: a report becomes one HTML file that needs nothing else, neither network nor other files.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { escapeHtml, inlineHtml, scriptJson } from "./_markup.ts";
import { PAGE_SCRIPT } from "./_page_script.ts";
import { pageStyle } from "./_page_style.ts";
import { spaceHtml, tableHtml } from "./_table.ts";
import type { Figure } from "./figure.ts";
import type { Block, Captioned, FigureBlock, ImageBlock, ImageRowsBlock, Report, Section } from "./report.ts";
import { plotlyTemplate, seriesLabel } from "./theme.ts";

/** Counters and collected figures of the page being written. */
interface PageState {
  tables: number;
  figures: number;
  readonly plots: Figure[];
}

/**
 * Writes a report as a self-contained page: Plotly once and only if there is a figure, pictures as data URIs, light or
 * dark after the reader's setting, for wide, narrow and printed pages. A content security policy in the page keeps
 * it from loading anything.
 *
 * @returns the HTML text.
 */
export function reportPage(report: Report): string {
  const state: PageState = { tables: 0, figures: 0, plots: [] };
  const sections = report.sections.map((section, i) => sectionHtml(section, i + 1, state)).join("\n");
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:">
<title>${escapeHtml(report.title)}</title>
<link rel="icon" href="data:,">
<style>
${pageStyle()}
</style>
</head>
<body>
<header>
<h1>${inlineHtml(report.title)}</h1>
${report.subtitle === undefined ? "" : `<p class="subtitle">${inlineHtml(report.subtitle)}</p>`}
${report.abstract === undefined ? "" : `<p class="abstract">${inlineHtml(report.abstract)}</p>`}
</header>
${contentsHtml(report.sections)}
<main>
${sections}
</main>
${report.footer === undefined ? "" : `<footer><p>${inlineHtml(report.footer)}</p></footer>`}
${state.plots.length === 0 ? "" : plotScripts(state.plots)}
</body>
</html>
`;
}

/**
 * The source text of Plotly's basic bundle (MIT licence), which sets `window.Plotly`.
 *
 * @throws Deno.errors.NotFound if the package is not installed.
 */
export function plotlySource(): string {
  return Deno.readTextFileSync(fileURLToPath(import.meta.resolve("plotly.js-basic-dist-min")));
}

function plotScripts(plots: readonly Figure[]): string {
  const content = {
    figures: plots,
    templates: { light: plotlyTemplate("light"), dark: plotlyTemplate("dark") },
  };
  return `<script type="application/json" id="figures">${scriptJson(content)}</script>
<script>${plotlySource()}</script>
<script>${PAGE_SCRIPT}</script>`;
}

function contentsHtml(sections: readonly Section[]): string {
  if (sections.length < 2) return "";
  const items = sections.map(({ heading }, i) =>
    `<li><a href="#section-${i + 1}">${inlineHtml(heading)}</a></li>`
  );
  return `<nav aria-label="Contents"><h2>Contents</h2><ol>${items.join("")}</ol></nav>`;
}

function sectionHtml(section: Section, number: number, state: PageState): string {
  const blocks = section.blocks.map((block) => blockHtml(block, state)).join("\n");
  return `<section id="section-${number}">
<h2><span class="section-number">${number}</span> ${inlineHtml(section.heading)}</h2>
${blocks}
</section>`;
}

function blockHtml(block: Block, state: PageState): string {
  switch (block.kind) {
    case "paragraph":
      return `<p>${inlineHtml(block.text)}</p>`;
    case "list":
      return `<ul>${block.items.map((item) => `<li>${inlineHtml(item)}</li>`).join("")}</ul>`;
    case "table":
      return tableHtml(block, captionHtml(`Table ${++state.tables}`, block));
    case "figure":
      return figureHtml(block, state);
    case "image":
      return imageHtml(block, state);
    case "imageRows":
      return imageRowsHtml(block, state);
    case "definitions": {
      const items = block.items.map(([term, text]) =>
        `<div><dt>${spaceHtml(term)}</dt><dd>${inlineHtml(text)}</dd></div>`
      );
      return `<dl>${items.join("")}</dl>`;
    }
    case "note": {
      const heading = block.heading === undefined ? "" : `<h3>${inlineHtml(block.heading)}</h3>`;
      return `<aside class="note ${block.tone ?? "info"}">${heading}<p>${inlineHtml(block.text)}</p></aside>`;
    }
  }
}

function captionHtml(label: string, { caption, n }: Captioned): string {
  const count = n === undefined ? "" : ` <span class="n"><i>n</i>&nbsp;=&nbsp;${inlineHtml(n)}.</span>`;
  return `<b class="label">${label}.</b> ${inlineHtml(caption)}${count}`;
}

function figcaption(state: PageState, block: Captioned): string {
  return `<figcaption>${captionHtml(`Figure ${++state.figures}`, block)}</figcaption>`;
}

function figureHtml(block: FigureBlock, state: PageState): string {
  const index = state.plots.push(block.figure) - 1;
  const height = typeof block.figure.layout.height === "number" ? block.figure.layout.height : 340;
  const label = escapeHtml(block.alt ?? block.caption);
  return `<figure class="plot-figure">
<div class="plot" data-figure="${index}" role="img" aria-label="${label}" style="min-height:${height}px"></div>
<noscript><p class="none">This figure is drawn by a script, and scripts are off.</p></noscript>
${figcaption(state, block)}
</figure>`;
}

function imageHtml(block: ImageBlock, state: PageState): string {
  const width = block.width ?? pngWidth(block.png);
  const crisp = block.pixelated ? ' class="pixelated"' : "";
  return `<figure class="image">
<img${crisp} src="${dataUri(block.png)}" alt="${escapeHtml(block.alt)}" style="width:${width}px">
${figcaption(state, block)}
</figure>`;
}

function imageRowsHtml(block: ImageRowsBlock, state: PageState): string {
  const crisp = block.pixelated ? ' class="pixelated"' : "";
  const rows = block.rows.map((row) => {
    const note = row.note === undefined ? "" : `<small>${inlineHtml(row.note)}</small>`;
    return `<div class="image-row"><div class="row-label">${spaceHtml(row.label)}${note}</div>
<img${crisp} src="${dataUri(row.png)}" alt="${escapeHtml(`${seriesLabel(row.label)}: ${row.alt}`)}"></div>`;
  });
  return `<figure class="image-rows">
${rows.join("\n")}
${figcaption(state, block)}
</figure>`;
}

function dataUri(png: Uint8Array): string {
  return `data:image/png;base64,${png.toBase64()}`;
}

/** Width in pixels from a PNG's header. */
function pngWidth(png: Uint8Array): number {
  const signature = [137, 80, 78, 71, 13, 10, 26, 10];
  if (png.length < 24 || signature.some((byte, i) => png[i] !== byte)) {
    throw new TypeError(
      `Cannot put a picture on the page: wanted the bytes of a PNG, got ${png.length} other bytes`,
    );
  }
  return new DataView(png.buffer, png.byteOffset).getUint32(16);
}
