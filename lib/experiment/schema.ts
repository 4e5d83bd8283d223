/**
 * Validating configurations and files with zod, with errors of one line in the project's words.
 *
 * @module
 */
import { z } from "zod";
import { ConfigError, isBranch } from "novae/tensor/mod.ts";
import type { ErrorKind } from "novae/io/mod.ts";
import { nearestName } from "./_nearest.ts";

type Issue = z.core.$ZodIssue;

/** A validator; every zod schema is one. */
export interface Schema<T> {
  /** Validates a value without throwing. */
  safeParse(input: unknown): { success: true; data: T } | { success: false; error: SchemaError };
}

/** What a validator found wrong; every zod error is one. */
export interface SchemaError {
  /** zod's issues. */
  readonly issues: readonly unknown[];
}

const TYPES: Readonly<Record<string, string>> = {
  int: "a whole number",
  number: "a number",
  string: "text",
  boolean: "true or false",
  array: "a list",
  tuple: "a list",
  object: "a group of keys",
  record: "a group of keys",
  null: "null",
};

/**
 * Validates a value with a schema.
 *
 * @param schema a strict zod schema, so that a misspelt key is an error.
 * @param what the first half of the error's message, e.g. "Cannot use configuration".
 * @param kind the class of the error; `ConfigError` if omitted.
 * @returns the value with defaults filled in.
 * @throws ConfigError with one line that names the wrong keys, what was wanted and what came.
 */
export function parseWith<T>(
  schema: Schema<T>,
  input: unknown,
  what: string,
  kind: ErrorKind = ConfigError,
): T {
  const result = schema.safeParse(input);
  if (result.success) return result.data;
  throw new kind(describeZodError(result.error, what, input, keysOf(schema)));
}

/**
 * Describes a zod error in one line: `what: "model.depth" must be a whole number, got 1.5; …`. At most three
 * problems are spelt out.
 *
 * @param what the first half of the message.
 * @param input the value that was refused, to say what came; may be omitted.
 * @param known dotted names of all keys, to suggest the nearest for an unknown one.
 */
export function describeZodError(
  error: SchemaError,
  what: string,
  input?: unknown,
  known: readonly string[] = [],
): string {
  const problems = (error.issues as readonly Issue[]).flatMap((issue) => describeIssue(issue, input, known));
  const rest = problems.length > 3 ? `; and ${problems.length - 3} more` : "";
  return `${what}: ${problems.slice(0, 3).join("; ")}${rest}`;
}

function describeIssue(issue: Issue, input: unknown, known: readonly string[]): string[] {
  const name = issue.path.map(String).join(".");
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => {
      const full = name === "" ? key : `${name}.${key}`, nearest = nearestName(full, known);
      return `there is no key "${full}"` + (nearest === null ? "" : `; the nearest key is "${nearest}"`);
    });
  }
  const subject = name === "" ? "it" : `"${name}"`;
  if (issue.code === "custom") return [name === "" ? issue.message : `${subject}: ${issue.message}`];
  if (input === undefined) return [`${subject} must be ${wanted(issue)}`];
  const got = valueAt(input, issue.path);
  if (got === undefined) return [`${subject} must be ${wanted(issue)}, got nothing`];
  return [`${subject} must be ${wanted(issue)}, got ${brief(got)}`];
}

function wanted(issue: Issue): string {
  switch (issue.code) {
    case "invalid_type":
      return TYPES[issue.expected] ?? issue.expected;
    case "invalid_value":
      return (issue.values.length > 1 ? "one of " : "") +
        issue.values.map((v) => JSON.stringify(v)).join(", ");
    case "too_small":
      return `${issue.inclusive === false ? "more than" : "at least"} ${issue.minimum}${unit(issue.origin)}`;
    case "too_big":
      return `${issue.inclusive === false ? "less than" : "at most"} ${issue.maximum}${unit(issue.origin)}`;
    case "not_multiple_of":
      return `a multiple of ${issue.divisor}`;
    case "invalid_union": {
      const kinds = issue.errors.map((errors) => errors.length > 0 ? wanted(errors[0]) : "something else");
      return kinds.length > 0 ? [...new Set(kinds)].join(" or ") : "another kind";
    }
    default:
      return `valid (${issue.message})`;
  }
}

function unit(origin: string): string {
  if (origin === "string") return " characters";
  return origin === "array" || origin === "set" ? " items" : "";
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  let value = input;
  for (const key of path) value = isBranch(value) ? (value as Record<PropertyKey, unknown>)[key] : undefined;
  return value;
}

function brief(value: unknown): string {
  const text = typeof value === "number" ? String(value) : JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}

/** Dotted names of all keys of a schema; empty where the schema cannot be described. */
function keysOf(schema: unknown): string[] {
  interface Described {
    properties?: Record<string, Described>;
  }
  const walk = (node: Described, prefix: string): string[] =>
    Object.entries(node.properties ?? {}).flatMap(([key, child]) => {
      const inside = walk(child, `${prefix}${key}.`);
      return inside.length > 0 ? inside : [prefix + key];
    });
  if (!(schema instanceof z.ZodType)) return [];
  return walk(z.toJSONSchema(schema, { unrepresentable: "any", io: "input" }) as Described, "");
}
