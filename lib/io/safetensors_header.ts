/**
 * The header of a safetensors file and its checks.
 *
 * @module
 */
import { oneLine, sizeOf, told, WeightsError } from "novae/tensor/mod.ts";
import { JsonCursor } from "./json_cursor.ts";
import { MemoryBudget, memoryLimit } from "./memory_limit.ts";
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

/** Most axes of a tensor, which is numpy's limit too; hostile files have as many as fit. */
export const AXES_LIMIT = 64;

/**
 * Parses a header and checks that its tensors fill the file without gap, overlap or rest.
 *
 * *Differs*: Rust's reader keeps the last of two tensors of one name and lets unknown keys pass; both are refused here.
 *
 * @param bytes the JSON text, which begins with `{` and may end with white space.
 * @param fileSize size of the whole file in bytes.
 * @param path named in errors.
 * @throws WeightsError if anything does not fit.
 */
export function parseSafetensorsHeader(bytes: Uint8Array, fileSize: number, path: string): SafetensorsHeader {
  const { entries, metadata } = parseContent(bytes, fileSize, path);
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let offset = 0;
  for (const { name, begin, end } of entries) {
    if (begin !== offset) {
      throw broken(path, `"${oneLine(name)}" must begin at byte ${offset} of the data, got ${begin}`);
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
        oneLine(missing[0].name)
      }"${more} missing`,
    );
  }
  if (present > offset) throw broken(path, `the data must end after ${offset} bytes, got ${present}`);
  return { entries, metadata, dataStart };
}

interface HeaderContent {
  readonly entries: SafetensorsEntry[];
  readonly metadata: Record<string, string>;
}

/** What a tensor needs in memory beside its elements and its name. */
const TENSOR_BYTES = 600, ENTRY_BYTES = 160;

function parseContent(bytes: Uint8Array, fileSize: number, path: string): HeaderContent {
  const noObject = "the header must be a JSON object: this is no safetensors file, or it is damaged";
  const cursor = new JsonCursor(bytes, () => broken(path, noObject));
  if (bytes[0] !== 0x7b) throw broken(path, noObject); // neither white space nor a byte order mark before it
  const names = new Set<string>(), entries: SafetensorsEntry[] = [];
  const memory = new MemoryBudget(
    memoryLimit(fileSize),
    (limit) =>
      broken(
        path,
        `its names must need at most ${limit} bytes in memory, got ${entries.length} tensors and more`,
      ),
  );
  let metadata: Record<string, string> = {};
  for (const name of cursor.members()) {
    if (names.has(name)) throw broken(path, `names must be unique, got "${oneLine(name)}" twice`);
    names.add(name);
    memory.take(TENSOR_BYTES + 2 * name.length);
    if (name === "__metadata__") metadata = parseMetadata(cursor, memory, path);
    else entries.push(parseEntry(name, cursor, path));
  }
  cursor.end();
  return { entries, metadata };
}

function parseMetadata(cursor: JsonCursor, memory: MemoryBudget, path: string): Record<string, string> {
  const metadata = new Map<string, string>();
  const fail = (got: string): WeightsError => broken(path, `the metadata must be text by key, got ${got}`);
  if (!cursor.isNext("{")) throw fail(cursor.raw());
  for (const key of cursor.members()) {
    const text = cursor.text();
    memory.take(ENTRY_BYTES + 2 * (key.length + (text?.length ?? 0)));
    if (text === null) throw fail(`"${oneLine(key)}" ${cursor.raw()}`);
    if (metadata.has(key)) throw fail(`"${oneLine(key)}" twice`);
    metadata.set(key, text);
  }
  return Object.fromEntries(metadata);
}

function parseEntry(name: string, cursor: JsonCursor, path: string): SafetensorsEntry {
  const quoted = `"${oneLine(name)}"`, fail = (why: string): WeightsError => broken(path, why);
  let dtype: string | null = null, shape: number[] | null = null, offsets: number[] | null = null;
  if (!cursor.isNext("{")) throw fail(`${quoted} must be described by an object, got ${cursor.raw()}`);
  for (const key of cursor.members()) {
    if (key === "dtype" && dtype === null) dtype = parseType(quoted, cursor, fail);
    else if (key === "shape" && shape === null) shape = parseShape(quoted, cursor, fail);
    else if (key === "data_offsets" && offsets === null) offsets = parseOffsets(quoted, cursor, fail);
    else throw fail(`${quoted} must have one dtype, shape and data_offsets, got "${oneLine(key)}" besides`);
  }
  if (dtype === null) throw fail(`${quoted} must be of type ${TYPE_NAMES}, got none`);
  if (shape === null) throw fail(`the shape of ${quoted} must be whole numbers, got none`);
  if (offsets === null) throw fail(`the place of ${quoted} must be two offsets, got none`);
  const [begin, end] = offsets, needed = sizeOf(shape) * STORED_WIDTHS[dtype as StoredDType];
  if (end - begin !== needed) {
    const size = `type ${dtype} and shape [${shape.join(", ")}]`;
    throw fail(`${quoted} of ${size} needs ${needed} bytes, got ${end - begin}`);
  }
  return { name, dtype: dtype as StoredDType, shape, begin, end };
}

type Fail = (why: string) => WeightsError;
const TYPE_NAMES = Object.keys(STORED_WIDTHS).join(", ");

function parseType(quoted: string, cursor: JsonCursor, fail: Fail): StoredDType {
  const type = cursor.text();
  if (type !== null && Object.hasOwn(STORED_WIDTHS, type)) return type as StoredDType;
  throw fail(`${quoted} must be of type ${TYPE_NAMES}, got ${type === null ? cursor.raw() : oneLine(type)}`);
}

function parseShape(quoted: string, cursor: JsonCursor, fail: Fail): number[] {
  const shape = cursor.sizes();
  if (shape === null) throw fail(`the shape of ${quoted} must be whole numbers, got ${cursor.raw()}`);
  if (shape.length > AXES_LIMIT) {
    throw fail(`the shape of ${quoted} must have at most ${AXES_LIMIT} axes, got ${shape.length}`);
  }
  let elements = 1;
  for (const extent of shape) elements *= Math.max(1, extent); // an extent of 0 must not hide what overflows
  if (elements * 8 <= Number.MAX_SAFE_INTEGER) return shape;
  throw fail(`${quoted} must have fewer than 2⁵⁰ elements, got shape [${shape.join(", ")}]`);
}

function parseOffsets(quoted: string, cursor: JsonCursor, fail: Fail): number[] {
  const offsets = cursor.sizes();
  if (offsets?.length === 2) return offsets;
  throw fail(`the place of ${quoted} must be two offsets, got ${offsets ? told(offsets) : cursor.raw()}`);
}

function broken(path: string, what: string): WeightsError {
  return new WeightsError(`Cannot read weights ${path}: ${what}`);
}
