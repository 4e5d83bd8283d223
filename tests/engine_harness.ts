/** Compares functions run eagerly on tfjs's CPU backend with the same functions compiled. */
import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import { type DeviceName, jit, read } from "novae/engine/mod.ts";
import { float32, type HostTensor, int32, Rng, sizeOf } from "novae/tensor/mod.ts";

/** A function of tensors and what it is tried on. */
export interface Case {
  readonly name: string;
  readonly inputs: readonly HostTensor[];
  // deno-lint-ignore no-explicit-any -- cases take tensors of any rank
  readonly fn: (...tensors: any[]) => tf.Tensor | tf.Tensor[];
  /** What is right, from the definition, where tfjs's own eager result is not. */
  readonly reference?: Case["fn"];
  /** float32 through another order of operations; wider where a function is steep. */
  readonly tolerance?: number;
}

const rng = new Rng(2025).split("engine tests");
let streams = 0;

/** Standard normal values. */
export function normal(...shape: number[]): HostTensor {
  return float32(rng.split(streams++).normal(sizeOf(shape)), shape);
}

/** Values in [low, high). */
export function uniform(low: number, high: number, ...shape: number[]): HostTensor {
  const stream = rng.split(streams++);
  return float32(Float32Array.from({ length: sizeOf(shape) }, () => stream.range(low, high)), shape);
}

/** Integers in [low, high). */
export function integers(low: number, high: number, ...shape: number[]): HostTensor {
  const stream = rng.split(streams++);
  return int32(Int32Array.from({ length: sizeOf(shape) }, () => low + stream.int(high - low)), shape);
}

/** Truth values. */
export function truths(...shape: number[]): HostTensor {
  const stream = rng.split(streams++);
  return { dtype: "bool", shape, data: Uint8Array.from({ length: sizeOf(shape) }, () => stream.int(2)) };
}

/** Given numbers as float32. */
export function numbers(values: number[], ...shape: number[]): HostTensor {
  return float32(values, shape.length > 0 ? shape : [values.length]);
}

/** Given numbers as int32. */
export function wholeNumbers(values: number[], ...shape: number[]): HostTensor {
  return int32(Int32Array.from(values), shape.length > 0 ? shape : [values.length]);
}

/** A host tensor as a tfjs tensor. */
export function toTf(tensor: HostTensor): tf.Tensor {
  return tf.tensor(tensor.data.slice(), [...tensor.shape], tensor.dtype);
}

/** Runs a case on tfjs's CPU backend, or what it is to equal. */
export async function eager({ inputs, fn, reference = fn }: Case): Promise<HostTensor[]> {
  await tf.setBackend("cpu");
  return tf.tidy(() => {
    const result = reference(...inputs.map(toTf));
    return (Array.isArray(result) ? result : [result]).map((t): HostTensor => ({
      dtype: t.dtype as HostTensor["dtype"],
      shape: t.shape,
      data: t.dataSync().slice() as Float32Array,
    })) as never;
  });
}

/** Runs cases in one compiled graph. */
export async function compiled(cases: readonly Case[], device: DeviceName = "cpu"): Promise<HostTensor[][]> {
  const all = jit((inputs: tf.Tensor[][]) =>
    inputs.map((tensors, i) => {
      const result = cases[i].fn(...tensors);
      return Array.isArray(result) ? result : [result];
    }), { device });
  try {
    return await read(await all(cases.map((test) => [...test.inputs])));
  } finally {
    await all.dispose();
  }
}

/** Checks that compiled results are the eager ones: element type, shape and values. */
export async function assertCompiles(cases: readonly Case[], device: DeviceName = "cpu"): Promise<void> {
  const actual = await compiled(cases, device);
  for (const [i, test] of cases.entries()) {
    const expected = await eager(test);
    assert.equal(actual[i].length, expected.length, `${test.name}: number of results`);
    expected.forEach((tensor, j) => assertClose(actual[i][j], tensor, test.name, test.tolerance));
  }
}

/** |actual − expected| ≤ tolerance · (|expected| + 0.1); NaN equals NaN only, an infinity only itself. */
export function assertClose(actual: HostTensor, expected: HostTensor, name: string, tolerance = 1e-4): void {
  assert.deepEqual([...actual.shape], [...expected.shape], `${name}: shape`);
  assert.equal(actual.dtype, expected.dtype, `${name}: element type`);
  for (let i = 0; i < expected.data.length; i++) {
    const a = actual.data[i], e = expected.data[i];
    if (Object.is(a, e) || a === e) continue;
    if (Number.isFinite(a) && Number.isFinite(e) && Math.abs(a - e) <= tolerance * (Math.abs(e) + 0.1)) {
      continue;
    }
    assert.fail(`${name}: value ${i} must be ${e}, got ${a}`);
  }
}

/** Gradients of Σ f ∘ (1, 2, 3, …)/n, so that no two outputs weigh the same. */
export function gradients(
  name: string,
  inputs: HostTensor[],
  fn: Case["fn"],
  fixed: HostTensor[] = [],
  reference?: Case["fn"],
): Case {
  const of = (f: Case["fn"]) => (...all: tf.Tensor[]) => {
    const rest = all.slice(inputs.length);
    const loss = (...xs: tf.Tensor[]) => {
      const result = f(...xs, ...rest);
      const terms = (Array.isArray(result) ? result : [result]).map((y) =>
        tf.sum(tf.mul(y, tf.reshape(tf.linspace(0.5, 1.5, y.size), y.shape)))
      );
      return tf.addN(terms);
    };
    return tf.grads(loss)(all.slice(0, inputs.length));
  };
  const all = [...inputs, ...fixed];
  return { name: `gradient of ${name}`, inputs: all, fn: of(fn), reference: reference && of(reference) };
}

/** What must be the same before and after a trace. */
export function engineState(): Record<string, unknown> {
  const { numTensors, numDataBuffers, numBytes } = tf.memory();
  const { state } = tf.engine() as unknown as {
    state: { gradientDepth: number; kernelDepth: number; scopeStack: unknown[]; activeScope: unknown };
  };
  const { gradientDepth, kernelDepth, scopeStack, activeScope } = state;
  return {
    backend: tf.getBackend(),
    numTensors,
    numDataBuffers,
    numBytes,
    gradientDepth,
    kernelDepth,
    scopes: scopeStack.length,
    activeScope,
  };
}
