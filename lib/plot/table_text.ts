/**
 * Tables as text in columns, for terminals and logs.
 *
 * @module
 */
import { formatNumber } from "./_markup.ts";
import { isNumeric } from "./_table.ts";
import type { Cell, TableBlock, TableColumn } from "./report.ts";
import { seriesLabel } from "./theme.ts";

/**
 * A table as lines of text: the caption, column headings (after their group's, where there is one), a rule, the rows;
 * numbers to the right.
 */
export function tableText(table: TableBlock): string {
  const { columns } = table;
  const grid = [
    columns.map(headingText),
    ...table.rows.map((row) => columns.map((column) => cellText(row.cells[column.key], column))),
  ];
  const widths = columns.map((_, c) => Math.max(...grid.map((cells) => cells[c].length)));
  const lines = grid.map((cells) =>
    cells.map((text, c) => isNumeric(columns[c]) ? text.padStart(widths[c]) : text.padEnd(widths[c])).join(
      "  ",
    )
      .trimEnd()
  );
  const rule = widths.map((width) => "─".repeat(width)).join("  ");
  const count = table.n === undefined ? "" : ` n = ${plain(table.n)}.`;
  const notes = (table.footnotes ?? []).map((note, i) => `[${i + 1}] ${plain(note)}`);
  return [plain(table.caption) + count, "", lines[0], rule, ...lines.slice(1), ...notes].join("\n");
}

function headingText(column: TableColumn): string {
  const arrow = column.best === undefined ? "" : column.best === "min" ? " ↓" : " ↑";
  const group = column.group === undefined ? "" : `${plain(column.group)} `;
  return group + plain(column.label) + arrow;
}

function cellText(cell: Cell, column: TableColumn): string {
  if (cell === null || cell === undefined) return "–";
  if (typeof cell === "string") return column.type === "space" ? seriesLabel(cell) : plain(cell);
  if (typeof cell === "number") return formatNumber(cell, column.digits);
  const error = cell.error === undefined ? "" : ` ± ${formatNumber(cell.error, column.digits)}`;
  const note = cell.note === undefined ? "" : ` [${cell.note}]`;
  return formatNumber(cell.value, column.digits) + error + note;
}

/** Running text without its markup. */
function plain(text: string): string {
  return text.replaceAll(/`([^`\n]+)`/g, "$1").replaceAll(/\*\*(\S(?:[^*\n]*\S)?)\*\*/g, "$1");
}
