/**
 * The content of a report as data: sections of paragraphs, tables, figures and pictures.
 *
 * In all running text `` `code` `` and `**strong**` are marked up; everything else is shown as it is.
 *
 * @module
 */
import type { Figure } from "./figure.ts";

/** A report page. */
export interface Report {
  /** Heading and title of the page. */
  readonly title: string;
  /** A line beneath: data, machine, date. */
  readonly subtitle?: string;
  /** The result in a few sentences, set above the contents. */
  readonly abstract?: string;
  /** Sections in order; they number themselves and fill the contents. */
  readonly sections: readonly Section[];
  /** Last lines of the page: what made it, when, from what. */
  readonly footer?: string;
}

/** A numbered section. */
export interface Section {
  /** Heading. */
  readonly heading: string;
  /** Content in order. */
  readonly blocks: readonly Block[];
}

/** Anything a section holds. */
export type Block =
  | ParagraphBlock
  | ListBlock
  | TableBlock
  | FigureBlock
  | ImageBlock
  | ImageRowsBlock
  | DefinitionsBlock
  | NoteBlock;

/** Running text. */
export interface ParagraphBlock {
  /** Tells blocks apart. */
  readonly kind: "paragraph";
  /** The text, with the markup above. */
  readonly text: string;
}

/** A bulleted list. */
export interface ListBlock {
  /** Tells blocks apart. */
  readonly kind: "list";
  /** Entries. */
  readonly items: readonly string[];
}

/** What stands under or over a table, figure or picture; it is numbered by the page. */
export interface Captioned {
  /** What is seen and how it was measured. */
  readonly caption: string;
  /** What the numbers rest on, shown as "n = …", e.g. "1,000 samples and 4,000 training images". */
  readonly n?: string;
}

/** A table after the manner of journals: rules above and below, numbers to the right, the best of a column bold. */
export interface TableBlock extends Captioned {
  /** Tells blocks apart. */
  readonly kind: "table";
  /** Columns from the left; the first one names the rows. */
  readonly columns: readonly TableColumn[];
  /** Rows from the top. */
  readonly rows: readonly TableRow[];
  /** Remarks under the table; a cell refers to one by its position, counted from 1. */
  readonly footnotes?: readonly string[];
}

/** A column. */
export interface TableColumn {
  /** Key of its cells in the rows. */
  readonly key: string;
  /** Heading. */
  readonly label: string;
  /** Heading over neighbouring columns that share it. */
  readonly group?: string;
  /**
   * What the cells are: text, a number, or the name of a latent space, which is shown with its colour and label.
   * Text by default, a number where `digits` or `best` is given.
   */
  readonly type?: "text" | "number" | "space";
  /** Digits after the point. */
  readonly digits?: number;
  /** Which value is the best one; shown as an arrow in the heading and bold in its cell. */
  readonly best?: "min" | "max";
}

/** A row of cells by column key; a missing cell is shown as a dash. */
export interface TableRow {
  /** Cells by the key of their column. */
  readonly cells: { readonly [key: string]: Cell };
  /** A row for comparison, such as published numbers: set apart, and never the best. */
  readonly reference?: boolean;
}

/** The content of a cell. */
export type Cell = string | number | null | undefined | MeasuredCell;

/** A number with its uncertainty or a remark. */
export interface MeasuredCell {
  /** The number. */
  readonly value: number;
  /** Half-width of its interval, shown as ± in small type. */
  readonly error?: number;
  /** Position of its footnote, counted from 1. */
  readonly note?: number;
}

/** A Plotly figure. */
export interface FigureBlock extends Captioned {
  /** Tells blocks apart. */
  readonly kind: "figure";
  /** What Plotly draws. */
  readonly figure: Figure;
  /** What the figure shows, for those who cannot see it; the caption by default. */
  readonly alt?: string;
}

/** A picture. */
export interface ImageBlock extends Captioned {
  /** Tells blocks apart. */
  readonly kind: "image";
  /** Bytes of the file. */
  readonly png: Uint8Array;
  /** What the picture shows, for those who cannot see it. */
  readonly alt: string;
  /** Greatest width in CSS pixels; that of the file by default. */
  readonly width?: number;
  /** Whether to enlarge it in hard squares, as fits masks and maps of tokens. */
  readonly pixelated?: boolean;
}

/** Pictures with a label each, one above the other: what several models make of the same images. */
export interface ImageRowsBlock extends Captioned {
  /** Tells blocks apart. */
  readonly kind: "imageRows";
  /** Pictures from the top. */
  readonly rows: readonly ImageRow[];
  /** Whether to enlarge them in hard squares. */
  readonly pixelated?: boolean;
}

/** A labelled picture. */
export interface ImageRow {
  /** Name of a latent space, or any text. */
  readonly label: string;
  /** A smaller second line, e.g. a score. */
  readonly note?: string;
  /** Bytes of the file. */
  readonly png: Uint8Array;
  /** What the picture shows, for those who cannot see it. */
  readonly alt: string;
}

/** Terms with what they mean or are set to. */
export interface DefinitionsBlock {
  /** Tells blocks apart. */
  readonly kind: "definitions";
  /** Pairs of term and text. */
  readonly items: readonly (readonly [term: string, text: string])[];
}

/** A remark set apart: "info" for what helps reading, "caution" for what a result does not show. */
export interface NoteBlock {
  /** Tells blocks apart. */
  readonly kind: "note";
  /** Kind of remark, "info" by default. */
  readonly tone?: "info" | "caution";
  /** Heading of the remark. */
  readonly heading?: string;
  /** The text, with the markup above. */
  readonly text: string;
}
