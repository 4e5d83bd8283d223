/**
 * Matrix products.
 *
 * @module
 */
import type { DType } from "novae/tensor/mod.ts";
import { CONTRIB_DOMAIN, type Value } from "../graph.ts";
import { cannotCompile, type Kernel, type Recorder, type Traced, whole } from "../recorder.ts";
import { broadcastShapes, elementwise } from "./broadcasting.ts";
import { activation } from "./elementwise.ts";

/** The product of the last two axes, with batch axes broadcast. */
export function matMul(
  recorder: Recorder,
  a: Traced,
  b: Traced,
  transposeA = false,
  transposeB = false,
): Traced {
  const [rows, inner] = lastTwo(a.shape, transposeA);
  const [terms, cols] = lastTwo(b.shape, transposeB);
  if (inner !== terms) {
    const of = `[${a.shape.join(", ")}] and [${b.shape.join(", ")}]`;
    throw cannotCompile("BatchMatMul", `inner extents of ${of} must be equal, got ${inner} and ${terms}`);
  }
  const shape = [...broadcastShapes(a.shape.slice(0, -2), b.shape.slice(0, -2)), rows, cols];
  // Empty sums; the WebGPU provider of ONNX Runtime 1.30 ends the process there.
  if (inner === 0) return recorder.fill(0, shape, a.dtype);
  const left = matrices(recorder, a), right = matrices(recorder, b);
  const valueBatch = broadcastShapes(left.shape.slice(0, -2), right.shape.slice(0, -2));
  const spec = { shape: [...valueBatch, rows, cols], dtype: a.dtype };
  if (inner === 1) {
    const column = transposeA ? swapLastTwo(recorder, left) : left;
    const row = transposeB ? swapLastTwo(recorder, right) : right;
    return { value: recorder.graph.node("Mul", [column, row], spec), shape, dtype: a.dtype };
  }
  const value = product(recorder, left, right, spec, transposeA, transposeB);
  return { value, shape, dtype: a.dtype };
}

function product(
  recorder: Recorder,
  left: Value,
  right: Value,
  spec: { shape: number[]; dtype: DType },
  transposeA: boolean,
  transposeB: boolean,
): Value {
  if (!transposeA && !transposeB) return recorder.graph.node("MatMul", [left, right], spec);
  // The fused operator multiplies float32 only.
  if (!recorder.target.cpuOperators || spec.dtype !== "float32") {
    const plainLeft = transposeA ? swapLastTwo(recorder, left) : left;
    const plainRight = transposeB ? swapLastTwo(recorder, right) : right;
    return recorder.graph.node("MatMul", [plainLeft, plainRight], spec);
  }
  if (transposeA && !transposeB && left.shape.length === 2 && right.shape.length === 2) {
    return tallProduct(recorder, left, right, spec);
  }
  const flags = { transA: Number(transposeA), transB: Number(transposeB), alpha: { float: 1 } };
  return recorder.graph.node("FusedMatMul", [left, right], spec, flags, CONTRIB_DOMAIN);
}

/**
 * aᵀ · b for tall matrices, the gradient of a weight. Transposing the narrower one first is up to a fifth faster than
 * the fused operator, which reads its transposed operand in strides.
 */
function tallProduct(
  recorder: Recorder,
  left: Value,
  right: Value,
  spec: { shape: number[]; dtype: DType },
): Value {
  const flat = swapLastTwo(recorder, left.shape[1] <= right.shape[1] ? left : right);
  if (left.shape[1] <= right.shape[1]) return recorder.graph.node("MatMul", [flat, right], spec);
  const transposed = recorder.graph.node("MatMul", [flat, left], {
    ...spec,
    shape: [...spec.shape].reverse(),
  });
  return swapLastTwo(recorder, transposed);
}

/** The value with its two matrix axes at full extent; batch axes may stay broadcast. */
function matrices(recorder: Recorder, x: Traced): Value {
  const aligned = recorder.aligned(x);
  const shape = [...aligned.shape.slice(0, -2), ...x.shape.slice(-2)];
  return recorder.full({ value: aligned, shape, dtype: x.dtype });
}

function swapLastTwo(recorder: Recorder, value: Value): Value {
  const rank = value.shape.length;
  const axes = value.shape.map((_, axis) => axis);
  return recorder.transpose(value, [...axes.slice(0, -2), rank - 1, rank - 2]);
}

function lastTwo(shape: readonly number[], transposed: boolean): [number, number] {
  const [rows, cols] = shape.slice(-2);
  return transposed ? [cols, rows] : [rows, cols];
}

const fusedMatMul: Kernel = (recorder, { a, b, bias, preluActivationWeights }, attrs) => {
  const plain = matMul(recorder, a, b, attrs.transposeA, attrs.transposeB);
  return fusedTail(recorder, "_FusedMatMul", plain, bias, preluActivationWeights, attrs);
};

/** Bias and activation of tfjs's fused kernels. */
export function fusedTail(
  recorder: Recorder,
  kernel: string,
  x: Traced,
  bias: Traced | undefined,
  prelu: Traced | undefined,
  attrs: { activation?: string; leakyreluAlpha?: number },
): Traced {
  const biased = bias ? elementwise(recorder, "Add", [x, bias]) : x;
  if (attrs.activation === "prelu" && prelu) {
    const positive = elementwise(
      recorder,
      "GreaterOrEqual",
      [biased, recorder.fill(0, [], "float32")],
      "bool",
    );
    const below = elementwise(recorder, "Mul", [prelu, biased]);
    return elementwise(recorder, "Where", [positive, biased, below], "float32");
  }
  return activation(recorder, kernel, biased, attrs.activation ?? "linear", attrs.leakyreluAlpha);
}

const einsum: Kernel = (recorder, inputs, { equation }) => {
  const operands = Object.values(inputs);
  const [terms, result] = (equation as string).replaceAll(" ", "").split("->");
  const extents = new Map<string, number>();
  terms.split(",").forEach((term, i) => {
    const { shape } = operands[i];
    if (
      term.length !== shape.length ||
      [...term].some((axis, j) => (extents.get(axis) ?? shape[j]) !== shape[j])
    ) {
      throw cannotCompile("Einsum", `operand ${i} must fit "${equation}", got shape [${shape.join(", ")}]`);
    }
    [...term].forEach((axis, j) => extents.set(axis, shape[j]));
  });
  const shape = [...result].map((axis) => extents.get(axis)!);
  const values = operands.map((operand) => recorder.full(operand));
  return whole(recorder.graph.node("Einsum", values, { shape, dtype: operands[0].dtype }, { equation }));
};

export const MATMUL_KERNELS: Readonly<Record<string, Kernel>> = {
  BatchMatMul: (recorder, { a, b }, { transposeA, transposeB }) =>
    matMul(recorder, a, b, transposeA, transposeB),
  Einsum: einsum,
  _FusedMatMul: fusedMatMul,
};
