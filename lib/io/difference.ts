/**
 * Where two configurations differ.
 *
 * @module
 */
import { flattenTree } from "novae/tensor/mod.ts";
import { canonicalJson } from "./hash.ts";

/** One key with different values. */
export interface Difference {
  /** Dotted path. */
  readonly path: string;
  /** The value in the first configuration; undefined if it has no such key. */
  readonly first: unknown;
  /** The value in the second configuration; undefined if it has no such key. */
  readonly second: unknown;
}

/**
 * The first key, in the order of the first configuration, whose values differ; null if there is none. Values are
 * compared as JSON: a key with value undefined counts as absent, and lists are compared item by item.
 */
export function firstDifference(first: unknown, second: unknown): Difference | null {
  const a = leavesOf(first), b = leavesOf(second);
  for (const path of new Set([...a.keys(), ...b.keys()])) {
    const here = a.get(path), there = b.get(path);
    if (canonicalJson(here) !== canonicalJson(there) || a.has(path) !== b.has(path)) {
      return { path, first: here, second: there };
    }
  }
  return null;
}

/** A difference in words: `"train.steps" is 100 there and 200 here`. */
export function describeDifference({ path, first, second }: Difference): string {
  const show = (value: unknown): string => value === undefined ? "absent" : JSON.stringify(value);
  return `"${path}" is ${show(first)} there and ${show(second)} here`;
}

function leavesOf(config: unknown): Map<string, unknown> {
  const plain: unknown = config === undefined ? null : JSON.parse(JSON.stringify(config));
  const isEmpty = (value: unknown): boolean =>
    typeof value === "object" && value !== null && Object.keys(value).length === 0;
  return new Map(flattenTree(plain, isEmpty).map(({ path, value }) => [path, value]));
}
