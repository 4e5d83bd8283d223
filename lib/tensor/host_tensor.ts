/**
 * Tensors in host memory: plain data, no framework. They are what goes into and comes out of compiled functions,
 * files and analyses.
 *
 * @module
 */

/** Element types shared by TensorFlow.js, ONNX Runtime and the files read here. */
export type DType = "float32" | "int32" | "bool";

/** Storage of each element type. */
export type TypedArray = Float32Array | Int32Array | Uint8Array;

/** A dense row-major tensor in host memory. */
export interface HostTensor {
  /** Type of the elements. */
  readonly dtype: DType;
  /** Extents, outermost first; empty for a scalar. */
  readonly shape: readonly number[];
  /** The elements, the last axis contiguous. */
  readonly data: TypedArray;
}

/** A dense row-major matrix of real numbers: `rows` observations of `cols` features. */
export interface Matrix {
  /** The elements, row after row. */
  readonly data: Float32Array | Float64Array;
  /** Number of observations. */
  readonly rows: number;
  /** Number of features. */
  readonly cols: number;
}

/** The number of elements of a shape; 1 for a scalar. */
export function sizeOf(shape: readonly number[]): number {
  let size = 1;
  for (const extent of shape) size *= extent;
  return size;
}

/**
 * Wraps float32 data as a tensor without copying.
 *
 * @throws TypeError if the number of values does not fit the shape.
 */
export function float32(data: Float32Array | readonly number[], shape: readonly number[]): HostTensor {
  return checked("float32", data instanceof Float32Array ? data : Float32Array.from(data), shape);
}

/**
 * Wraps int32 data as a tensor without copying.
 *
 * @throws TypeError if the number of values does not fit the shape.
 */
export function int32(data: Int32Array | readonly number[], shape: readonly number[]): HostTensor {
  return checked("int32", data instanceof Int32Array ? data : Int32Array.from(data), shape);
}

/** A float32 scalar. */
export function scalar(value: number): HostTensor {
  return { dtype: "float32", shape: [], data: Float32Array.of(value) };
}

/** A float32 tensor of zeros. */
export function zeros(shape: readonly number[]): HostTensor {
  return { dtype: "float32", shape, data: new Float32Array(sizeOf(shape)) };
}

/** A float32 tensor filled with one value. */
export function full(shape: readonly number[], value: number): HostTensor {
  return { dtype: "float32", shape, data: new Float32Array(sizeOf(shape)).fill(value) };
}

/** Whether a value is a tensor in host memory. */
export function isHostTensor(value: unknown): value is HostTensor {
  return typeof value === "object" && value !== null && "dtype" in value && "shape" in value &&
    "data" in value &&
    ArrayBuffer.isView((value as { data: unknown }).data);
}

/**
 * Checks a shape against a pattern; `null` stands for any extent.
 *
 * @param what the subject of the message, e.g. "Cannot decode latents".
 * @throws TypeError with the message "what: shape must be [.., 392], got [.., 384]".
 */
export function expectShape(
  what: string,
  shape: readonly number[],
  pattern: readonly (number | null)[],
): void {
  const fits = shape.length === pattern.length && pattern.every((p, i) => p === null || p === shape[i]);
  if (fits) return;
  const wanted = pattern.map((p) => p ?? "any").join(", ");
  throw new TypeError(`${what}: shape must be [${wanted}], got [${shape.join(", ")}]`);
}

/** Rows `start` (inclusive) to `end` (exclusive) along the first axis, as a view of the same memory. */
export function rows(tensor: HostTensor, start: number, end: number): HostTensor {
  const stride = sizeOf(tensor.shape.slice(1));
  return {
    dtype: tensor.dtype,
    shape: [end - start, ...tensor.shape.slice(1)],
    data: tensor.data.subarray(start * stride, end * stride),
  };
}

/** Copies the rows with the given indices along the first axis into a new tensor. */
export function gatherRows(tensor: HostTensor, indices: ArrayLike<number>): HostTensor {
  const stride = sizeOf(tensor.shape.slice(1));
  const data = new (tensor.data.constructor as { new (n: number): TypedArray })(indices.length * stride);
  for (let i = 0; i < indices.length; i++) {
    data.set(tensor.data.subarray(indices[i] * stride, (indices[i] + 1) * stride), i * stride);
  }
  return { dtype: tensor.dtype, shape: [indices.length, ...tensor.shape.slice(1)], data };
}

/** Joins tensors of equal trailing shape along the first axis. */
export function concatRows(tensors: readonly HostTensor[]): HostTensor {
  if (tensors.length === 0) throw new RangeError("Cannot join rows: at least one tensor is needed, got none");
  const [first] = tensors;
  const count = tensors.reduce((sum, t) => sum + t.shape[0], 0);
  const shape = [count, ...first.shape.slice(1)];
  const data = new (first.data.constructor as { new (n: number): TypedArray })(sizeOf(shape));
  let offset = 0;
  for (const t of tensors) {
    expectShape("Cannot join rows", t.shape, [null, ...first.shape.slice(1)]);
    data.set(t.data, offset);
    offset += t.data.length;
  }
  return { dtype: first.dtype, shape, data };
}

/** Views a float32 tensor of rank 2 or more as a matrix whose rows run along all axes but the last `tail`. */
export function asMatrix(tensor: HostTensor, tail = 1): Matrix {
  if (!(tensor.data instanceof Float32Array)) {
    throw new TypeError(`Cannot view tensor as a matrix: dtype must be float32, got ${tensor.dtype}`);
  }
  const cols = sizeOf(tensor.shape.slice(tensor.shape.length - tail));
  return { data: tensor.data, rows: tensor.data.length / Math.max(cols, 1), cols };
}

function checked(dtype: DType, data: TypedArray, shape: readonly number[]): HostTensor {
  if (data.length !== sizeOf(shape)) {
    throw new TypeError(
      `Cannot make a tensor: shape [${shape.join(", ")}] needs ${sizeOf(shape)} values, got ${data.length}`,
    );
  }
  return { dtype, shape, data };
}
