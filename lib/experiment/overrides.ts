/**
 * Changes to a configuration from the command line: `key.path=value`, typed by the value that is there.
 *
 * @module
 */
import { ConfigError, flattenTree, isBranch } from "novae/tensor/mod.ts";
import { nearestName } from "./_nearest.ts";

type Group = Record<string, unknown>;

/**
 * Applies overrides of the form `key.path=value` to a copy of a configuration.
 *
 * The value is read as the type of the one it replaces: number, boolean, text, or a list (`1,2,3` or JSON) of what
 * the list holds now. `null` stands for null everywhere; where null is now, JSON is tried before text. A group that
 * has a key `name` can be set by it: `data=cifar10` means `data.name=cifar10`. Items of a list are keys: `rates.0=3`.
 *
 * @example
 * ```ts
 * import { applyOverrides } from "novae/experiment/mod.ts";
 * const config = applyOverrides({ data: { name: "solids", train: 4000 } }, ["data=cifar10", "data.train=1e4"]);
 * if (config.data.name !== "cifar10" || config.data.train !== 10000) throw new Error("not applied");
 * ```
 *
 * @param config a complete configuration: every key that may be set is present, null where it has no value.
 * @param what the configuration's name in errors.
 * @returns a changed deep copy; validate it with its schema, ranges are not checked here.
 * @throws ConfigError if an override has no `=`, names an unknown key or does not fit the type.
 */
export function applyOverrides<T extends object>(
  config: T,
  overrides: readonly string[],
  what = "configuration",
): T {
  const copy = structuredClone(config);
  for (const override of overrides) applyOne(copy as Group, override, what);
  return copy;
}

function applyOne(config: Group, override: string, what: string): void {
  const split = override.indexOf("=");
  if (split <= 0) {
    throw new ConfigError(`Cannot change ${what}: a change must be key.path=value, got "${override}"`);
  }
  const path = override.slice(0, split).trim(), text = override.slice(split + 1).trim();
  const keys = path.split(".");
  let group: Group = config;
  for (const key of keys.slice(0, -1)) {
    const child = Object.hasOwn(group, key) ? group[key] : undefined;
    if (!isBranch(child)) throw unknownKey(config, path, what);
    group = child as Group;
  }
  let last = keys[keys.length - 1];
  if (!Object.hasOwn(group, last) || (Array.isArray(group) && last === "length")) {
    throw unknownKey(config, path, what);
  }
  const existing = group[last];
  if (isBranch(existing) && !Array.isArray(existing) && text !== "null") {
    if (typeof existing.name !== "string") {
      const inside = Object.keys(existing).map((key) => `${path}.${key}`).join(", ");
      throw new ConfigError(`Cannot change ${what}: "${path}" is a group; set one of ${inside}`);
    }
    group = existing;
    last = "name";
  }
  group[last] = parseValue(text, group[last], path, what);
}

function parseValue(text: string, existing: unknown, path: string, what: string): unknown {
  if (text === "null") return null;
  const wrong = (wanted: string): ConfigError =>
    new ConfigError(`Cannot change ${what}: "${path}" must be ${wanted}, got "${text}"`);
  if (typeof existing === "number") {
    const value = Number(text);
    if (text === "" || !Number.isFinite(value)) throw wrong("a number");
    return value;
  }
  if (typeof existing === "boolean") {
    if (text !== "true" && text !== "false") throw wrong("true or false");
    return text === "true";
  }
  if (typeof existing === "string") return text;
  if (Array.isArray(existing)) return parseList(text, existing, path, what, wrong);
  return parseJson(text) ?? text;
}

function parseList(
  text: string,
  existing: unknown[],
  path: string,
  what: string,
  wrong: (wanted: string) => ConfigError,
): unknown[] {
  if (text.startsWith("[")) {
    const value = parseJson(text);
    if (!Array.isArray(value)) throw wrong("a list such as [1,2] or 1,2");
    const kind = typeof existing[0];
    if (existing.length > 0 && value.some((item) => typeof item !== kind)) {
      throw wrong(`a list whose items are each a ${kind}`);
    }
    return value;
  }
  if (text === "") return [];
  return text.split(",").map((item) => parseValue(item.trim(), existing[0] ?? null, path, what));
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function unknownKey(config: Group, path: string, what: string): ConfigError {
  const known = flattenTree(config, (value) => Array.isArray(value)).map((leaf) => leaf.path);
  const nearest = nearestName(path, known);
  const hint = nearest === null ? "" : `; the nearest key is "${nearest}"`;
  return new ConfigError(`Cannot change ${what}: there is no key "${path}"${hint}`);
}
