/**
 * Shows figures, pictures and tables in a Jupyter notebook on the Deno kernel.
 *
 * Each output carries every form a viewer may want: VS Code draws the Plotly JSON itself, JupyterLab and exported
 * pages take the HTML, which holds all it needs, terminals the text. Figures stand on a light card, because a
 * notebook's theme cannot be asked for.
 *
 * @module
 */
import { gzipSync } from "node:zlib";
import { escapeHtml, inlineHtml, scriptJson } from "./_markup.ts";
import { NOTEBOOK_TABLE_STYLE } from "./_page_style.ts";
import { tableHtml } from "./_table.ts";
import type { Figure, JsonObject } from "./figure.ts";
import { plotlySource } from "./html.ts";
import { encodeRaster, type Raster } from "./raster.ts";
import type { TableBlock } from "./report.ts";
import { tableText } from "./table_text.ts";
import { PAGE_COLOURS, withTheme } from "./theme.ts";

/** Forms of one output by MIME type. */
export interface MimeBundle {
  /** Text, base64 or JSON, as the type demands. */
  readonly [mimeType: string]: string | JsonObject;
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
  const { data, layout, config } = ${scriptJson(content)};
  element.replaceChildren();
  await window.Plotly.newPlot(element, data, layout, config);
})();
</script>`;
}
