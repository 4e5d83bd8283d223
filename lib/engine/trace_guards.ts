/**
 * What a traced function must not do, noticed while it runs: draw random numbers, branch on a tensor, keep one. Each
 * error says which call in the caller's code it was.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";

/** Runs `body` with JavaScript's implicit ways out of a trace closed, and opens them again. */
export function guarded<R>(body: () => R): R {
  const random = Math.random, limit = Error.stackTraceLimit;
  // tfjs alone takes more than the usual ten frames.
  Error.stackTraceLimit = 100;
  const prototype = tf.Tensor.prototype as { [Symbol.toPrimitive]?: unknown };
  Math.random = () => {
    throw new TypeError(
      "Cannot compile: the function draws random numbers, which would be the same on every call; " +
        "pass them in as an argument",
    );
  };
  prototype[Symbol.toPrimitive] = () => {
    throw new TypeError(
      "Cannot compile: the function computes or branches with a tensor as if it were a number; " +
        "a traced tensor has no value yet, use tf.where, tf.add and the like",
    );
  };
  try {
    return body();
  } finally {
    Math.random = random;
    Error.stackTraceLimit = limit;
    delete prototype[Symbol.toPrimitive];
  }
}

/** Files of the engine and of packages; what calls them is the caller's code. */
const INNER = /\/node_modules\/|\/lib\/engine\/|^node:|^ext:/;

/**
 * The place in the caller's code where an error came from, as ` (at name, file:line:column)`; empty if there is none.
 * Paths are relative to the working folder.
 */
export function callSite(error: Error): string {
  for (const line of (error.stack ?? "").split("\n")) {
    const found = /^\s+at (?:async )?(?:(.*?) \()?((?:file|https?):\/\/[^)]+?:\d+:\d+)\)?$/.exec(line);
    if (!found || INNER.test(found[2])) continue;
    const name = found[1] && !/^<anonymous>|^Object\.|^eval/.test(found[1]) ? `${found[1]}, ` : "";
    return ` (at ${name}${relativePlace(found[2])})`;
  }
  return "";
}

function relativePlace(place: string): string {
  const here = `file://${Deno.cwd()}/`;
  return place.startsWith(here) ? place.slice(here.length) : place;
}

/** Adds the call site to the message of an error of a trace, once. */
export function located(error: unknown): unknown {
  if (!(error instanceof Error) || / \(at .*:\d+:\d+\)$/.test(error.message)) return error;
  const place = callSite(error);
  if (place !== "") error.message += place;
  return error;
}
