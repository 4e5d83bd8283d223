/**
 * Foreign values in messages: whatever a file holds, a message stays one short line.
 *
 * @module
 */

const TEXT_LIMIT = 120, LIST_LIMIT = 4;

/**
 * A text as part of a line: control characters are escaped, what is too long is cut.
 *
 * @param limit most characters of the text that are kept; 120 if omitted.
 */
export function oneLine(text: string, limit = TEXT_LIMIT): string {
  const kept = text.length > limit ? `${text.slice(0, limit)}…` : text;
  // deno-lint-ignore no-control-regex -- these are what is looked for
  return kept.replace(/[\x00-\x1f\x7f-\x9f\u2028\u2029]/g, (letter) => {
    return `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}

/** A value of any kind, as part of a line; nothing of an object is called. */
export function told(value: unknown): string {
  if (typeof value === "string") return oneLine(value);
  if (value === undefined) return "nothing";
  if (Array.isArray(value)) {
    const plain = value.length <= LIST_LIMIT &&
      value.every((item) => typeof item !== "object" || item === null);
    return plain ? `[${value.map(told).join(", ")}]` : `a list of ${value.length}`;
  }
  return typeof value === "object" && value !== null ? "an object" : oneLine(String(value));
}
