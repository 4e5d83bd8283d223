import { PAGE_COLOURS, type PageColours, SANS_FONT } from "./theme.ts";

/** The style sheet of a report. */
export function pageStyle(): string {
  return `:root { color-scheme: light dark; ${
    variables(PAGE_COLOURS.light)
  } --wash: #f4f4ef; --caution: #a65b00; --link: #1f5f9e; }
@media (prefers-color-scheme: dark) {
  :root { ${variables(PAGE_COLOURS.dark)} --wash: #1d2024; --caution: #e0a458; --link: #82b6ea; }
}
${STATIC_STYLE}`;
}

function variables(colours: PageColours): string {
  return `--page: ${colours.page}; --text: ${colours.text}; --muted: ${colours.muted}; --rule: ${colours.rule};`;
}

const SERIF_FONT =
  'Charter, "Bitstream Charter", "Iowan Old Style", "Palatino Linotype", Palatino, "Source Serif 4", ' +
  'Cambria, Georgia, "Noto Serif", "DejaVu Serif", serif';

const TABLE_STYLE = `.table .scroll {
  overflow-x: auto;
  background: linear-gradient(to left, var(--page) 40%, transparent) right / 3rem 100% no-repeat local,
    linear-gradient(to left, var(--rule), transparent) right / 1rem 100% no-repeat scroll;
}
.table .scroll:focus-visible { outline: 2px solid var(--link); outline-offset: 4px; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font: 0.875rem/1.4 ${SANS_FONT}; }
.table figcaption { margin: 0 0 0.8rem; }
thead tr:first-child > * { border-top: 1.5px solid var(--text); padding-top: 0.6rem; }
thead tr:last-child > * { border-bottom: 1px solid var(--text); padding-bottom: 0.55rem; }
th, td { padding: 0.42rem 0.55rem; text-align: left; vertical-align: baseline; }
th:first-child, td:first-child { padding-left: 0; }
th:last-child, td:last-child { padding-right: 0.35rem; }
thead th { font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 400; white-space: nowrap; }
tbody tr:first-child > * { padding-top: 0.6rem; }
tbody tr:last-child > * { padding-bottom: 0.6rem; border-bottom: 1.5px solid var(--text); }
.number { text-align: right; font-variant-numeric: tabular-nums lining-nums; white-space: nowrap; }
thead .number { white-space: normal; }
.group { padding-bottom: 0.15rem; white-space: nowrap; text-align: center; font-weight: 600; }
.group span { display: block; padding-bottom: 0.25rem; border-bottom: 1px solid var(--rule); }
.arrow { color: var(--muted); font-weight: 400; }
.error { color: var(--muted); font-size: 0.8em; }
.none, .reference > * { color: var(--muted); }
.reference > * { font-style: italic; }
sup { font-size: 0.72em; line-height: 0; font-style: normal; }
.number sup { display: inline-block; width: 0; }
.footnotes { margin-top: 0.7rem; font: 0.8125rem/1.5 ${SANS_FONT}; color: var(--muted); }
.footnotes p { margin: 0 0 0.2rem; }
.dot { display: inline-block; width: 0.62em; height: 0.62em; margin-right: 0.5em; border-radius: 50%; background: var(--dot); print-color-adjust: exact; }`;

const STATIC_STYLE = `
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; background: var(--page); }
body {
  margin: 0 auto; padding: 4.5rem 1.5rem 5rem; max-width: 49rem;
  color: var(--text); background: var(--page);
  font: 1.0625rem/1.62 ${SERIF_FONT}; font-kerning: normal; hanging-punctuation: first; overflow-wrap: break-word;
}
header { margin-bottom: 2.75rem; }
h1, h2, h3 { line-height: 1.22; text-wrap: balance; font-weight: 600; letter-spacing: -0.011em; }
h1 { font-size: clamp(1.75rem, 1.25rem + 2.4vw, 2.5rem); margin: 0 0 0.75rem; }
h2 { font-size: 1.45rem; margin: 0 0 1rem; }
h3 { font-size: 1rem; margin: 0 0 0.35rem; }
p { margin: 0 0 1.05rem; text-wrap: pretty; }
ul { margin: 0 0 1.05rem; padding-left: 1.25rem; }
li { margin-bottom: 0.35rem; }
a { color: var(--link); text-decoration-thickness: 1px; text-underline-offset: 0.16em; }
code { font: 0.86em/1.4 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
strong { font-weight: 650; }
section { margin-top: 3.75rem; scroll-margin-top: 1.5rem; }
.section-number { color: var(--muted); font-weight: 400; margin-right: 0.35em; }
.subtitle { margin: 0; color: var(--muted); font: 0.9375rem/1.55 ${SANS_FONT}; }
.abstract { margin: 1.75rem 0 0; font-size: 1.125rem; }

nav { padding: 1.1rem 0; border-block: 1px solid var(--rule); font: 0.9375rem/1.5 ${SANS_FONT}; }
nav h2 { margin: 0 0 0.5rem; font: 600 0.75rem/1.4 ${SANS_FONT}; letter-spacing: 0.06em; text-transform: uppercase; color: var(--muted); }
nav ol { margin: 0; padding: 0; columns: 17rem 2; column-gap: 2rem; list-style: none; counter-reset: entry; }
nav li { margin: 0 0 0.3rem; padding-left: 1.5rem; text-indent: -1.5rem; break-inside: avoid; counter-increment: entry; }
nav li::before { content: counter(entry); display: inline-block; width: 1.5rem; text-indent: 0; color: var(--muted); font-variant-numeric: tabular-nums; }
nav a { color: inherit; text-decoration: none; }
nav a:hover { color: var(--link); text-decoration: underline; }

figure { margin: 2.25rem 0 2.5rem; }
figcaption { font: 0.875rem/1.55 ${SANS_FONT}; color: var(--muted); text-align: left; text-wrap: pretty; }
figcaption { margin-top: 0.9rem; }
h2 + figure { margin-top: 1.5rem; }
.label { color: var(--text); font-weight: 600; }
.n { white-space: normal; }
.plot { width: 100%; }
.plot .main-svg { overflow: visible; }

${TABLE_STYLE}
img { max-width: 100%; height: auto; vertical-align: middle; }
.pixelated { image-rendering: pixelated; }
.image-row { display: grid; grid-template-columns: 8.75rem minmax(0, 1fr); gap: 1rem; align-items: center; margin-bottom: 0.5rem; }
.image-row img { width: 100%; }
.row-label { font: 0.875rem/1.35 ${SANS_FONT}; }
.row-label small { display: block; margin-top: 0.1rem; font-size: 0.8125rem; color: var(--muted); font-variant-numeric: tabular-nums; }

dl { margin: 0 0 1.5rem; font: 0.9375rem/1.55 ${SANS_FONT}; }
dl > div { display: grid; grid-template-columns: 12rem minmax(0, 1fr); gap: 0 1.25rem; padding: 0.45rem 0; border-bottom: 1px solid var(--rule); }
dl > div:first-child { border-top: 1px solid var(--rule); }
dt { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; }
.note { margin: 1.75rem 0; padding: 0.95rem 1.2rem; border-left: 3px solid var(--rule); background: var(--wash); font-size: 1rem; }
.note p { margin: 0; }
.caution { border-left-color: var(--caution); }
.caution h3 { color: var(--caution); }
footer { margin-top: 4.5rem; padding-top: 1rem; border-top: 1px solid var(--rule); font: 0.8125rem/1.6 ${SANS_FONT}; color: var(--muted); overflow-wrap: anywhere; }

@media (min-width: 78rem) {
  body { display: grid; grid-template-columns: 12rem minmax(0, 46rem); column-gap: 4.5rem; justify-content: center; max-width: none; }
  body > * { grid-column: 2; }
  header { margin-bottom: 0; }
  body > nav { grid-column: 1; grid-row: 1 / span 3; align-self: start; position: sticky; top: 4.75rem; border: 0; padding: 0.4rem 0 0; font-size: 0.875rem; }
  nav ol { columns: auto; }
  nav li { margin-bottom: 0.5rem; }
}
@media (max-width: 34rem) {
  body { padding: 2.25rem 1.125rem 3.5rem; font-size: 1rem; line-height: 1.58; }
  h1 { font-size: 1.6rem; }
  .abstract { font-size: 1.0625rem; }
  section { margin-top: 3rem; }
  .image-row { grid-template-columns: minmax(0, 1fr); gap: 0.3rem; margin-bottom: 0.9rem; }
  .row-label small { display: inline; margin-left: 0.6em; }
  dl > div { grid-template-columns: minmax(0, 1fr); }
  th, td { padding-inline: 0.45rem; }
  th:first-child { position: sticky; left: 0; max-width: 8.5rem; background: var(--page); }
  tbody th:first-child { white-space: normal; padding-left: 1.1rem; text-indent: -1.1rem; }
  tbody th:first-child:not(:has(.dot)) { padding-left: 0; text-indent: 0; }
}
@media print {
  :root { color-scheme: light; --page: #fff; --text: #000; --muted: #444; --rule: #bbb; --wash: #f6f6f6; }
  body { display: block; padding: 0; max-width: none; font-size: 10.5pt; }
  nav { display: none; }
  figure, .note, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .table .scroll { overflow: visible; }
}`;

/** The style of tables in a notebook: kept to the element around them, and stronger than the notebook's own. */
export const NOTEBOOK_TABLE_STYLE = `.novae-table.novae-table {
--text: currentColor; --muted: color-mix(in srgb, currentColor 65%, transparent); --rule: color-mix(in srgb, currentColor 25%, transparent); --link: #2e86d1;
figure { margin: 0.5rem 0; }
figcaption { font: 0.875rem/1.5 ${SANS_FONT}; color: var(--muted); text-align: left; }
${TABLE_STYLE}
tr:nth-child(n) { background: none; }
table { width: auto; max-width: 100%; color: inherit; border: none; }
th, td { padding-inline: 0.9rem; max-width: none; }
th:not(.number), td:not(.number) { text-align: left; }
th.group { text-align: center; }
.number { text-align: right; }
}`;
