/** Text as HTML that shows exactly this text, in content and in attributes. */
export function escapeHtml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;").replaceAll("'", "&#39;");
}

/** Running text: escaped, with `` `code` `` and `**strong**` marked up. */
export function inlineHtml(text: string): string {
  return escapeHtml(text)
    .replaceAll(/`([^`\n]+)`/g, "<code>$1</code>")
    .replaceAll(/\*\*(\S(?:[^*\n]*\S)?)\*\*/g, "<strong>$1</strong>");
}

/** JSON that cannot end the script element around it. */
export function scriptJson(value: unknown): string {
  return JSON.stringify(value).replaceAll("<", "\\u003c").replaceAll("\u2028", "\\u2028")
    .replaceAll("\u2029", "\\u2029");
}

/** A number for reading: fixed digits, grouped thousands, a true minus sign; a dash where it is not finite. */
export function formatNumber(value: number, digits?: number): string {
  if (Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const options = digits === undefined
    ? { maximumFractionDigits: 4 }
    : { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return value.toLocaleString("en", options).replace(/^-(?=.*[1-9])/, "−").replace(/^-/, "");
}
