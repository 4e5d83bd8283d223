/**
 * Arrays and numbers of numpy in pickles.
 *
 * @module
 */
import { type DType, type HostTensor, sizeOf, told } from "novae/tensor/mod.ts";
import type { LazyTensor } from "./lazy_tensor.ts";
import { type PickleValue, UnreadableTensor } from "./pickle_values.ts";
import { AXES_LIMIT } from "./safetensors_header.ts";
import { decodeElements, hostDType, STORED_WIDTHS, type StoredDType, swapBytes } from "./stored_elements.ts";
import { columnMajorStride, toRowMajor } from "./strided.ts";

const TYPES: Readonly<Record<string, StoredDType>> = {
  f8: "F64",
  f4: "F32",
  f2: "F16",
  i8: "I64",
  i4: "I32",
  i2: "I16",
  i1: "I8",
  u1: "U8",
  b1: "BOOL",
};

/** A numpy type: its code and byte order. */
export class NumpyType {
  /** It says nothing by itself. */
  readonly opaque = true;
  /** Kind and bytes an element, e.g. `f4`. */
  readonly code: string;
  /** Whether numbers have their highest byte first. */
  bigEndian = false;

  /** A little-endian type. */
  constructor(code: string) {
    this.code = code;
  }

  /** Takes the byte order from the state (version, order, …). */
  build(state: PickleValue): void {
    this.bigEndian = Array.isArray(state) && state[1] === ">";
  }

  /** Type of the elements; null if it cannot be read. */
  get stored(): StoredDType | null {
    return Object.hasOwn(TYPES, this.code) ? TYPES[this.code] : null;
  }
}

/** A numpy array: made empty and given its content afterwards. */
export class NumpyArray {
  /** Its content is a tensor. */
  readonly opaque = true;
  /** What it holds. */
  content: LazyTensor | UnreadableTensor = new UnreadableTensor("it has no content");

  /** Takes the content from the state (version, shape, type, column-major, bytes). */
  build(state: PickleValue): void {
    if (!Array.isArray(state)) return;
    const [, shape, type, columnMajor, bytes] = state;
    this.content = numpyTensor(bytes, type, shape, columnMajor === true);
  }
}

/** A tensor of the bytes that a pickle holds. */
export function numpyTensor(
  bytes: PickleValue,
  type: PickleValue,
  shape: PickleValue,
  columnMajor: boolean,
): LazyTensor | UnreadableTensor {
  if (!(type instanceof NumpyType) || type.stored === null) {
    return new UnreadableTensor(
      `its type is ${type instanceof NumpyType ? `numpy ${type.code}` : "not known"}`,
    );
  }
  const sound = Array.isArray(shape) && shape.length <= AXES_LIMIT &&
    shape.every((size) => Number.isSafeInteger(size) && size as number >= 0);
  const sizes = sound ? shape as number[] : [NaN], needed = sizeOf(sizes) * STORED_WIDTHS[type.stored];
  if (!(bytes instanceof Uint8Array) || bytes.length !== needed) {
    return new UnreadableTensor(`its bytes do not fit the shape ${told(shape)}`);
  }
  return new NumpyTensor(bytes, type, type.stored, sizes, columnMajor && needed > 0);
}

/** The number that bytes of a type stand for; null if it cannot be read. */
export function numpyScalar(type: PickleValue, bytes: PickleValue): number | bigint | boolean | null {
  const tensor = numpyTensor(bytes, type, [], false);
  if (!(tensor instanceof NumpyTensor)) return null;
  const raw = tensor.littleEndian();
  if (tensor.stored === "I64") {
    const [wide] = new BigInt64Array(raw.buffer);
    return Number.isSafeInteger(Number(wide)) ? Number(wide) : wide;
  }
  if (tensor.stored === "F64") return new Float64Array(raw.buffer)[0];
  const [value] = decodeElements(tensor.stored, raw, "").data;
  return tensor.stored === "BOOL" ? value !== 0 : value;
}

class NumpyTensor implements LazyTensor {
  readonly dtype: DType;
  readonly stored: StoredDType;
  readonly shape: readonly number[];
  readonly #bytes: Uint8Array;
  readonly #type: NumpyType;
  readonly #columnMajor: boolean;

  constructor(
    bytes: Uint8Array,
    type: NumpyType,
    stored: StoredDType,
    shape: readonly number[],
    columnMajor: boolean,
  ) {
    this.dtype = hostDType(stored);
    this.stored = stored;
    this.shape = shape;
    this.#bytes = bytes;
    this.#type = type;
    this.#columnMajor = columnMajor;
  }

  littleEndian(): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.#bytes);
    if (this.#type.bigEndian) swapBytes(bytes, STORED_WIDTHS[this.stored]);
    return bytes;
  }

  // deno-lint-ignore require-await -- what does not fit into 32 bits rejects, as with any tensor of a file
  async read(): Promise<HostTensor> {
    const { shape } = this, what = "Cannot read weights: an array of numpy";
    const { dtype, data } = decodeElements(this.stored, this.littleEndian(), what);
    if (!this.#columnMajor) return { dtype, shape, data };
    const columns = data as Float32Array; // the same code for every element type
    return { dtype, shape, data: toRowMajor(columns, shape, columnMajorStride(shape)) };
  }
}
