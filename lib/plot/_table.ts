import { escapeHtml, formatNumber, inlineHtml } from "./_markup.ts";
import type { Cell, MeasuredCell, TableBlock, TableColumn, TableRow } from "./report.ts";
import { seriesLabel, SPACE_STYLES } from "./theme.ts";

/** The table element with its footnotes; `captionHtml` is its finished caption. */
export function tableHtml(table: TableBlock, captionHtml: string): string {
  const best = new Map(table.columns.map((column) => [column.key, bestText(column, table.rows)]));
  const body = table.rows.map((row) => rowHtml(row, table.columns, best)).join("\n");
  const marks = [...best.values()].some((text) => text !== undefined);
  const notes = (table.footnotes ?? []).map((note, i) => `<p><sup>${i + 1}</sup> ${inlineHtml(note)}</p>`);
  if (marks) notes.push("<p>Bold: the best of its column.</p>");
  return `<figure class="table">
<figcaption>${captionHtml}</figcaption>
<div class="scroll" tabindex="0" role="region" aria-label="${escapeHtml(table.caption)}">
<table>
<thead>
${headHtml(table.columns)}
</thead>
<tbody>
${body}
</tbody>
</table>
</div>
${notes.length === 0 ? "" : `<div class="footnotes">${notes.join("")}</div>`}
</figure>`;
}

/** The name of a latent space with a dot of its colour; other text as it is. */
export function spaceHtml(name: string): string {
  const style = Object.hasOwn(SPACE_STYLES, name) ? SPACE_STYLES[name] : undefined;
  const dot = style === undefined ? "" : `<span class="dot" style="--dot:${style.colour}"></span>`;
  return dot + inlineHtml(seriesLabel(name));
}

function headHtml(columns: readonly TableColumn[]): string {
  const labels = columns.map((column) => {
    const arrow = column.best === undefined
      ? ""
      : `&nbsp;<span class="arrow" title="${
        column.best === "min" ? "lower is better" : "higher is better"
      }">${column.best === "min" ? "↓" : "↑"}</span>`;
    return `<th scope="col"${alignment(column)}>${inlineHtml(column.label)}${arrow}</th>`;
  });
  const labelRow = `<tr>${labels.join("")}</tr>`;
  if (columns.every((column) => column.group === undefined)) return labelRow;
  const groups: { name: string | undefined; span: number }[] = [];
  for (const { group } of columns) {
    const last = groups.at(-1);
    if (last !== undefined && last.name === group) last.span++;
    else groups.push({ name: group, span: 1 });
  }
  const cells = groups.map(({ name, span }) =>
    name === undefined
      ? `<td colspan="${span}"></td>`
      : `<th scope="colgroup" class="group" colspan="${span}"><span>${inlineHtml(name)}</span></th>`
  );
  return `<tr class="groups">${cells.join("")}</tr>\n${labelRow}`;
}

function rowHtml(
  row: TableRow,
  columns: readonly TableColumn[],
  best: ReadonlyMap<string, string | undefined>,
): string {
  const cells = columns.map((column, i) => {
    const cell = row.cells[column.key];
    const text = cellHtml(cell, column);
    const isBest = !row.reference && valueOf(cell) !== undefined &&
      best.get(column.key) === shown(cell, column);
    const content = isBest ? `<strong>${text}</strong>` : text;
    return i === 0 ? `<th scope="row">${content}</th>` : `<td${alignment(column)}>${content}</td>`;
  });
  return `<tr${row.reference ? ' class="reference"' : ""}>${cells.join("")}</tr>`;
}

function cellHtml(cell: Cell, column: TableColumn): string {
  if (cell === null || cell === undefined) return '<span class="none">–</span>';
  if (typeof cell === "string") return column.type === "space" ? spaceHtml(cell) : inlineHtml(cell);
  const measured: MeasuredCell = typeof cell === "number" ? { value: cell } : cell;
  const error = measured.error === undefined
    ? ""
    : `<span class="error"> ± ${formatNumber(measured.error, column.digits)}</span>`;
  const note = measured.note === undefined ? "" : `<sup>${measured.note}</sup>`;
  return formatNumber(measured.value, column.digits) + error + note;
}

/** The best number of a column as it is shown, so that values that read the same are marked alike. */
function bestText(column: TableColumn, rows: readonly TableRow[]): string | undefined {
  if (column.best === undefined) return undefined;
  const values = rows.filter((row) => !row.reference).map((row) => valueOf(row.cells[column.key]))
    .filter((value) => value !== undefined);
  if (values.length < 2) return undefined;
  return formatNumber(column.best === "min" ? Math.min(...values) : Math.max(...values), column.digits);
}

function shown(cell: Cell, column: TableColumn): string | undefined {
  const value = valueOf(cell);
  return value === undefined ? undefined : formatNumber(value, column.digits);
}

function valueOf(cell: Cell): number | undefined {
  if (cell === null || cell === undefined || typeof cell === "string") return undefined;
  const value = typeof cell === "number" ? cell : cell.value;
  return Number.isFinite(value) ? value : undefined;
}

/** Whether a column holds numbers and is set to the right. */
export function isNumeric(column: TableColumn): boolean {
  if (column.type !== undefined) return column.type === "number";
  return column.digits !== undefined || column.best !== undefined;
}

function alignment(column: TableColumn): string {
  return isNumeric(column) ? ' class="number"' : "";
}
