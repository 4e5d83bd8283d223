/**
 * Tables for the terminal and for Markdown files.
 *
 * @module
 */

/** A column of a {@link TextTable}. */
export interface TableColumn {
  /** Heading. */
  readonly title: string;
  /** Where cells stand; "right" if omitted and all cells are numbers or empty, else "left". */
  readonly align?: "left" | "right";
  /** Digits after the point of numbers; as many as the number needs, at most 4 significant ones, if omitted. */
  readonly digits?: number;
}

/** What a cell may hold; null and undefined print as "–". */
export type TableCell = string | number | boolean | null | undefined;

/** "box" has lines around cells, "plain" only spaces, "markdown" is a GitHub table. */
export type TableStyle = "box" | "plain" | "markdown";

/**
 * A table with aligned columns.
 *
 * @example
 * ```ts
 * import { TextTable } from "novae/experiment/mod.ts";
 * const table = new TextTable([{ title: "space" }, { title: "FD", digits: 1 }]);
 * table.add("vae", 31.25).add("svg", 9.5);
 * if (table.toString("plain") !== "space    FD\nvae    31.3\nsvg     9.5") throw new Error(table.toString("plain"));
 * ```
 */
export class TextTable {
  readonly #columns: readonly TableColumn[];
  readonly #rows: (TableCell[] | null)[] = [];

  /**
   * A table without rows.
   *
   * @param columns headings, or headings with their alignment and digits.
   */
  constructor(columns: readonly (TableColumn | string)[]) {
    this.#columns = columns.map((column) => typeof column === "string" ? { title: column } : column);
  }

  /**
   * Adds a row.
   *
   * @throws TypeError if there are not as many cells as columns.
   */
  add(...cells: TableCell[]): this {
    if (cells.length !== this.#columns.length) {
      throw new TypeError(`Cannot add row: ${this.#columns.length} cells are needed, got ${cells.length}`);
    }
    this.#rows.push(cells);
    return this;
  }

  /** Adds a line between rows; Markdown has none and leaves it out. */
  addLine(): this {
    this.#rows.push(null);
    return this;
  }

  /** The table's text, without a final newline. */
  toString(style: TableStyle = "box"): string {
    const columns = this.#columns.map((column, i) => this.#layOut(column, i));
    const count = this.#rows.length;
    const row = (r: number): string[] => columns.map(({ cells, pad }) => pad(cells[r]));
    const heading = columns.map(({ title, pad }) => pad(title));
    const widths = columns.map(({ width }) => width);
    if (style === "markdown") {
      const rule = columns.map(({ width, right }) =>
        "-".repeat(width - (right ? 1 : 0)) + (right ? ":" : "")
      );
      const body = this.#rows.flatMap((cells, r) => cells === null ? [] : [row(r)]);
      return [heading, rule, ...body].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
    }
    if (style === "plain") {
      const line = (cells: string[]): string => cells.join("  ").trimEnd();
      const body = Array.from({ length: count }, (_, r) => this.#rows[r] === null ? "" : line(row(r)));
      return [line(heading), ...body].join("\n");
    }
    const rule = (left: string, middle: string, right: string): string =>
      left + widths.map((width) => "─".repeat(width + 2)).join(middle) + right;
    const line = (cells: string[]): string => `│ ${cells.join(" │ ")} │`;
    const body = Array.from(
      { length: count },
      (_, r) => this.#rows[r] === null ? rule("├", "┼", "┤") : line(row(r)),
    );
    return [rule("┌", "┬", "┐"), line(heading), rule("├", "┼", "┤"), ...body, rule("└", "┴", "┘")].join("\n");
  }

  #layOut(column: TableColumn, index: number) {
    const values = this.#rows.map((cells) => cells === null ? null : cells[index]);
    const cells = values.map((value) => formatCell(value, column.digits));
    const numeric = values.some((value) => typeof value === "number") &&
      values.every((value) => value === null || value === undefined || typeof value === "number");
    const right = column.align === undefined ? numeric : column.align === "right";
    const width = Math.max(3, widthOf(column.title), ...cells.map(widthOf));
    const pad = (text: string): string => {
      const space = " ".repeat(width - widthOf(text));
      return right ? space + text : text + space;
    };
    return { title: column.title, cells, right, width, pad };
  }
}

function formatCell(value: TableCell, digits: number | undefined): string {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value > 0 ? "∞" : "−∞";
  const text = digits !== undefined
    ? value.toFixed(digits)
    : Number.isInteger(value)
    ? String(value)
    : String(Number(value.toPrecision(4)));
  return text.replace(/^-/, "−");
}

/** Terminal columns of a text: one a character, none for colour codes and combining marks. */
function widthOf(text: string): number {
  // deno-lint-ignore no-control-regex -- colour codes begin with the escape character
  return [...text.replace(/\x1b\[[0-9;]*m/g, "").replace(/\p{Mn}/gu, "")].length;
}
