/**
 * What a traced function must not do, noticed while it runs: draw random numbers, branch on a tensor, keep one. Each
 * error says which call in the caller's code it was.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";

/** The parts of tfjs's engine in which it keeps tensors; `keep` is its own method unless replaced here. */
interface Keeping {
  keep: (tensor: tf.Tensor) => tf.Tensor;
  state: { kernelDepth: number };
}

/**
 * Runs `body` with JavaScript's implicit ways out of a trace closed, and opens them again.
 *
 * @returns the error for the first tensor that `body` kept (tf.keep) and did not dispose of.
 */
export function guarded(body: () => void): TypeError | undefined {
  const random = Math.random, limit = Error.stackTraceLimit;
  // tfjs alone takes more than the usual ten frames.
  Error.stackTraceLimit = 100;
  const prototype = tf.Tensor.prototype as { [Symbol.toPrimitive]?: unknown };
  const engine = tf.engine() as unknown as Keeping, { keep } = engine;
  const kept: [tf.Tensor, TypeError][] = [];
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
  engine.keep = (tensor) => {
    // Inside of kernels tfjs keeps what their gradients need, and disposes of it.
    if (engine.state.kernelDepth === 0) kept.push([tensor, keepRefused()]);
    return keep.call(engine, tensor);
  };
  try {
    body();
    return kept.find(([tensor]) => !tensor.isDisposed)?.[1];
  } finally {
    Math.random = random;
    Error.stackTraceLimit = limit;
    delete prototype[Symbol.toPrimitive];
    delete (engine as Partial<Keeping>).keep;
  }
}

/** The error for a tensor that would outlive the trace. */
export function keepRefused(): TypeError {
  return new TypeError("Cannot compile: the function keeps a tensor (tf.keep); return it instead");
}

/** Files of the engine and of packages; what calls them is the caller's code. */
const INNER = /\/node_modules\/|\/lib\/(engine|tensor)\/|^node:|^ext:/;

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
