/**
 * Shows figures, pictures, tables and progress in a Jupyter notebook on the Deno kernel.
 *
 * Each output carries every form a viewer may want: VS Code draws the Plotly JSON itself, JupyterLab and exported
 * pages take the HTML, which holds all it needs, terminals the text. Figures stand on a light card, because a
 * notebook's theme cannot be asked for.
 *
 * @module
 */
import { gzipSync } from "node:zlib";
import {
  CountedWork,
  describeProgress,
  type ProgressDisplay,
  type ProgressView,
} from "novae/experiment/mod.ts";
import { escapeHtml, inlineHtml, scriptJson } from "./_markup.ts";
import { NOTEBOOK_TABLE_STYLE } from "./_page_style.ts";
import { type MimeBundle, RedrawnOutput, type ShowOutput } from "./_redrawn_output.ts";
import { tableHtml } from "./_table.ts";
import type { Figure, JsonObject } from "./figure.ts";
import { plotlySource } from "./html.ts";
import { encodeRaster, type Raster } from "./raster.ts";
import type { TableBlock } from "./report.ts";
import { tableText } from "./table_text.ts";
import { PAGE_COLOURS, SANS_FONT, SPACE_STYLES, withTheme } from "./theme.ts";

export type { MimeBundle, ShowOutput } from "./_redrawn_output.ts";

/** Whether this code runs in a notebook. */
export function inNotebook(): boolean {
  try {
    return Deno.jupyter !== undefined;
  } catch {
    return false; // told by an error outside
  }
}

/** Shows a figure under the running cell. */
export async function displayFigure(figure: Figure): Promise<void> {
  await Deno.jupyter.display(figureBundle(figure, `figure-${crypto.randomUUID()}`), { raw: true });
}

/**
 * Shows a picture under the running cell.
 *
 * @param picture a raster, or the bytes of a PNG.
 */
export async function displayImage(picture: Raster | Uint8Array): Promise<void> {
  const png = picture instanceof Uint8Array ? picture : await encodeRaster(picture);
  await Deno.jupyter.display({ "image/png": png.toBase64(), "text/plain": "picture" }, { raw: true });
}

/** Shows a table under the running cell. */
export async function displayTable(table: TableBlock): Promise<void> {
  await Deno.jupyter.display(tableBundle(table), { raw: true });
}

const notebook: ShowOutput = (bundle, options) => Deno.jupyter.display(bundle, options);

/** Whom to show what is redrawn, and how often. */
export interface RedrawOptions {
  /** Takes the outputs; the notebook if omitted. */
  readonly show?: ShowOutput;
  /** Least time between drawings. */
  readonly everyMs?: number;
}

/**
 * A figure under the running cell that is redrawn in place, such as the curve of a training. What is drawn faster than
 * the notebook takes it is left out, but for the last. Await {@linkcode NotebookFigure.settled} at the end of the cell:
 * later drawings may be lost.
 *
 * @example
 * ```ts
 * import { lineChart, NotebookFigure } from "novae/plot/mod.ts";
 * const shown: unknown[] = [], show = (bundle: unknown) => Promise.resolve(void shown.push(bundle));
 * const figure = new NotebookFigure({ show });
 * figure.draw(lineChart([{ name: "loss", x: [1, 2], y: [3, 2] }], { xTitle: "Update", yTitle: "Loss" }));
 * await figure.settled();
 * if (shown.length !== 1) throw new Error("the figure was not shown");
 * ```
 */
export class NotebookFigure {
  readonly #output: RedrawnOutput;

  /**
   * Nothing is shown before the first drawing.
   *
   * @param options drawings are half a second apart by default: each carries all it needs, a megabyte and more.
   */
  constructor({ show = notebook, everyMs = 500 }: RedrawOptions = {}) {
    this.#output = new RedrawnOutput(`figure-${crypto.randomUUID()}`, show, everyMs);
  }

  /** Draws the figure in the place of the one before. */
  draw(figure: Figure): void {
    this.#output.draw(figureBundle(figure, `figure-${crypto.randomUUID()}`));
  }

  /** Waits until the notebook has taken the last figure. */
  async settled(): Promise<void> {
    await this.#output.settled();
  }
}

/**
 * A bar under the running cell that is redrawn in place, at most every 0.2 s and never while the notebook has not taken
 * the last drawing. Await {@linkcode NotebookProgress.settled} at the end of the cell: later drawings may be lost.
 *
 * @example
 * ```ts
 * import { NotebookProgress } from "novae/plot/mod.ts";
 * const shown: unknown[] = [], show = (bundle: unknown) => Promise.resolve(void shown.push(bundle));
 * const progress = new NotebookProgress({ show });
 * const report = progress.counter("solids", "images");
 * report({ done: 20, total: 20 });
 * await progress.settled();
 * if (shown.length === 0) throw new Error("nothing was shown");
 * ```
 */
export class NotebookProgress implements ProgressDisplay {
  readonly #output: RedrawnOutput;

  /**
   * Nothing is shown before work begins.
   *
   * @param options drawings are 0.2 s apart by default.
   */
  constructor({ show = notebook, everyMs = 200 }: RedrawOptions = {}) {
    this.#output = new RedrawnOutput(`progress-${crypto.randomUUID()}`, show, everyMs);
  }

  /** Begins counted work and returns what is to be told of it, e.g. as `onProgress`. */
  counter(label: string, unit: string): CountedWork["report"] {
    const work = new CountedWork(label, unit, this);
    return (count) => work.report(count);
  }

  /** Draws the bar. */
  start(view: ProgressView): void {
    this.#output.draw(progressBundle(view));
  }

  /** Redraws the bar. */
  update(view: ProgressView): void {
    this.#output.draw(progressBundle(view));
  }

  /** Draws a full bar with a line. */
  finish(line: string): void {
    this.#output.draw(finishedBundle(line));
  }

  /** Nothing stands in the way of other outputs. */
  clear(): void {}

  /** Waits until the notebook has taken the last drawing. */
  async settled(): Promise<void> {
    await this.#output.settled();
  }
}

/** The forms of work that goes on: HTML with a bar, and a line of text. */
export function progressBundle(view: ProgressView): MimeBundle {
  const { label, times, note } = describeProgress(view);
  const percent = Math.floor(100 * Math.min(Math.max(view.fraction, 0), 1));
  const words = `${percent} % · ${times}${note}`;
  return { "text/html": barHtml(label, percent, words), "text/plain": `${label}: ${words}` };
}

/** The forms of work that has ended: HTML with a full bar, and a line of text. */
export function finishedBundle(line: string): MimeBundle {
  return { "text/html": barHtml(line, 100, ""), "text/plain": line };
}

/**
 * The forms of a figure: Plotly JSON, HTML that draws itself without network, and a line of text.
 *
 * @param id of the HTML element, unique within the notebook.
 */
export function figureBundle(figure: Figure, id: string): MimeBundle {
  const layout: JsonObject = {
    ...withTheme(figure.layout, "light"),
    "paper_bgcolor": PAGE_COLOURS.light.page,
    autosize: true,
  };
  const content: JsonObject = {
    data: figure.data,
    layout,
    config: { responsive: true, displayModeBar: false },
    ...figure.frames && { frames: figure.frames },
  };
  return {
    "application/vnd.plotly.v1+json": content,
    "text/html": figureHtml(content, id, Number(layout.height ?? 340)),
    "text/plain": `figure of ${figure.data.length} ${figure.data.length === 1 ? "trace" : "traces"}`,
  };
}

/** The forms of a table: HTML and aligned text. */
export function tableBundle(table: TableBlock): MimeBundle {
  const count = table.n === undefined ? "" : ` <i>n</i> = ${inlineHtml(table.n)}.`;
  const html = tableHtml(table, inlineHtml(table.caption) + count);
  return {
    "text/html": `<style>${NOTEBOOK_TABLE_STYLE}</style><div class="novae-table">${html}</div>`,
    "text/plain": tableText(table),
  };
}

let packedPlotly: string | undefined;

/** Plotly's source, compressed to a third, since every output has to carry it: viewers may isolate outputs. */
function packed(): string {
  packedPlotly ??= new Uint8Array(gzipSync(plotlySource(), { level: 9 })).toBase64();
  return packedPlotly;
}

function figureHtml(content: JsonObject, id: string, height: number): string {
  // `module` is hidden from the bundle: under a module loader it would not set window.Plotly.
  return `<div id="${escapeHtml(id)}" style="min-height:${height}px">This figure is drawn by a script.</div>
<script>
(async () => {
  if (window.Plotly === undefined) {
    window.novaePlotly ??= (async () => {
      const bytes = Uint8Array.from(atob("${packed()}"), (c) => c.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      new Function("module", await new Response(stream).text())(undefined);
    })();
    await window.novaePlotly;
  }
  const element = document.getElementById(${scriptJson(id)});
  const figure = ${scriptJson(content)};
  element.replaceChildren();
  await window.Plotly.newPlot(element, figure);
})();
</script>`;
}

/** A bar with words above it, whose text has the colours of the notebook. */
function barHtml(label: string, percent: number, words: string): string {
  const track = "height:6px;border-radius:3px;overflow:hidden;background:rgba(128,128,128,0.25)";
  const bar = `height:100%;width:${percent}%;background:${SPACE_STYLES.svg.colour}`;
  return `<div style="max-width:44rem;margin:0.5rem 0;font:0.875rem/1.5 ${escapeHtml(SANS_FONT)}">
<div style="display:flex;flex-wrap:wrap;justify-content:space-between;column-gap:1.5rem;margin-bottom:0.25rem">
<span>${escapeHtml(label)}</span><span style="opacity:0.7;font-variant-numeric:tabular-nums">${
    escapeHtml(words)
  }</span>
</div>
<div role="progressbar" aria-valuenow="${percent}" style="${track}"><div style="${bar}"></div></div></div>`;
}
