/**
 * The header of a safetensors file and its checks.
 *
 * @module
 */
import { sizeOf, WeightsError } from "novae/tensor/mod.ts";
import { STORED_WIDTHS, type StoredDType } from "./stored_elements.ts";

/** Where and how one tensor is stored. */
export interface SafetensorsEntry {
  /** Unique in the file. */
  readonly name: string;
  /** Storage type. */
  readonly dtype: StoredDType;
  /** Extents, outermost first; empty for a scalar. */
  readonly shape: readonly number[];
  /** First byte, counted from the start of the data. */
  readonly begin: number;
  /** One past the last byte. */
  readonly end: number;
}

/** A checked header. */
export interface SafetensorsHeader {
  /** Tensors in the order of their data. */
  readonly entries: readonly SafetensorsEntry[];
  /** Free text by key; empty if the file has none. */
  readonly metadata: Record<string, string>;
  /** Where the data begin in the file, in bytes. */
  readonly dataStart: number;
}

/**
 * Parses a header and checks that its tensors fill the file without gap, overlap or rest.
 *
 * @param bytes the JSON text.
 * @param fileSize size of the whole file in bytes.
 * @param path named in errors.
 * @throws WeightsError if anything does not fit.
 */
export function parseSafetensorsHeader(bytes: Uint8Array, fileSize: number, path: string): SafetensorsHeader {
  const { __metadata__: metadata = {}, ...described } = parseObject(bytes, path);
  const isText = typeof metadata === "object" && metadata !== null && !Array.isArray(metadata) &&
    Object.values(metadata).every((value) => typeof value === "string");
  if (!isText) throw broken(path, "the metadata must be text by key, got something else");
  const entries = Object.entries(described).map(([name, value]) => parseEntry(name, value, path));
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let offset = 0;
  for (const { name, begin, end } of entries) {
    if (begin !== offset) {
      throw broken(path, `"${name}" must begin at byte ${offset} of the data, got ${begin}`);
    }
    offset = end;
  }
  const dataStart = 8 + bytes.length, present = fileSize - dataStart;
  if (present < offset) {
    const missing = entries.filter((entry) => entry.end > present);
    const more = missing.length > 1 ? ` and ${missing.length - 1} more` : "";
    throw broken(
      path,
      `the data need ${offset} bytes, got ${present}: the file is truncated, "${
        missing[0].name
      }"${more} missing`,
    );
  }
  if (present > offset) throw broken(path, `the data must end after ${offset} bytes, got ${present}`);
  return { entries, metadata: metadata as Record<string, string>, dataStart };
}

function parseObject(bytes: Uint8Array, path: string): Record<string, unknown> {
  try {
    const value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  } catch { /* told below */ }
  throw broken(path, "the header must be a JSON object: this is no safetensors file, or it is damaged");
}

function parseEntry(name: string, value: unknown, path: string): SafetensorsEntry {
  const { dtype, shape, data_offsets: offsets } = (value ?? {}) as Record<string, unknown>;
  if (typeof dtype !== "string" || !Object.hasOwn(STORED_WIDTHS, dtype)) {
    throw broken(
      path,
      `"${name}" must be of type ${Object.keys(STORED_WIDTHS).join(", ")}, got ${String(dtype)}`,
    );
  }
  if (!isSizes(shape)) {
    throw broken(path, `the shape of "${name}" must be whole numbers, got ${String(shape)}`);
  }
  if (!isSizes(offsets) || offsets.length !== 2) {
    throw broken(path, `the place of "${name}" must be two offsets, got ${String(offsets)}`);
  }
  const [begin, end] = offsets, needed = sizeOf(shape) * STORED_WIDTHS[dtype as StoredDType];
  if (end - begin !== needed) {
    throw broken(
      path,
      `"${name}" of type ${dtype} and shape [${shape.join(", ")}] needs ${needed} bytes, got ${end - begin}`,
    );
  }
  return { name, dtype: dtype as StoredDType, shape, begin, end };
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((v) => Number.isSafeInteger(v) && v >= 0);
}

function broken(path: string, what: string): WeightsError {
  return new WeightsError(`Cannot read weights ${path}: ${what}`);
}
