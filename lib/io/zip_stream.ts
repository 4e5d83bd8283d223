/**
 * Zip archives of any size, written uncompressed and piece by piece into a file.
 *
 * *Source*: PKWARE APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.14 to 4.3.16 (ends),
 * 4.5.3 (zip64 extra field). Fields of 64 bits stand only where 32 bits are too few, as Python's `zipfile` does it.
 *
 * @module
 */
import { crc32 } from "node:zlib";
import { writeAll } from "./atomic_file.ts";
import { CENTRAL, END, END64, LOCAL, LOCATOR64 } from "./zip_directory.ts";

/** A file to be written. */
export interface ZipStreamEntry {
  /** Path in the archive. */
  readonly name: string;
  /** Bytes of its content. */
  readonly bytes: number;
  /** The content in pieces. */
  readonly content: AsyncIterable<Uint8Array>;
}

/** What the directory says of a file that is written. */
interface Written {
  readonly name: Uint8Array;
  readonly bytes: number;
  readonly crc: number;
  readonly start: number;
}

const FULL16 = 0xffff, FULL32 = 0xffffffff, UTF8_NAMES = 0x0800;
const DATE_1980 = 0x0021; // 1 January 1980: the same content gives the same archive
const CRC_PLACE = 14;

/**
 * Writes an archive from the place where the file stands, which must be its beginning.
 *
 * @param limit sizes and places from here on are written with 64 bits; tests set it low.
 * @throws RangeError if a content is not as long as it was said to be.
 */
export async function writeZipStream(
  file: Deno.FsFile,
  entries: readonly ZipStreamEntry[],
  limit = FULL32,
): Promise<void> {
  const written: Written[] = [];
  let place = 0;
  for (const { name: text, bytes, content } of entries) {
    const name = new TextEncoder().encode(text), start = place;
    const local = localHeader({ name, bytes, crc: 0, start }, bytes >= limit);
    await writeAll(file, local);
    let crc = 0, done = 0;
    for await (const piece of content) {
      crc = crc32(piece, crc);
      done += piece.length;
      if (done > bytes) break;
      await writeAll(file, piece);
    }
    if (done !== bytes) {
      throw new RangeError(`Cannot write zip: ${text} must have ${bytes} bytes, got ${done}`);
    }
    await file.seek(start + CRC_PLACE, Deno.SeekMode.Start);
    const field = new DataView(new ArrayBuffer(4));
    field.setUint32(0, crc, true);
    await writeAll(file, joined(field));
    place = await file.seek(0, Deno.SeekMode.End);
    written.push({ name, bytes, crc, start });
  }
  const directory = written.map((entry) => centralHeader(entry, limit));
  for (const part of directory) await writeAll(file, part);
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  await writeAll(file, endOf(written.length, size, place, limit));
}

function localHeader({ name, bytes }: Written, wide: boolean): Uint8Array {
  const extra = wide ? zip64([bytes, bytes]) : new Uint8Array();
  const view = new DataView(new ArrayBuffer(30));
  view.setUint32(0, LOCAL, true);
  describe(view, 4, { bytes: wide ? FULL32 : bytes, crc: 0, name: name.length, extra: extra.length, wide });
  return joined(view, name, extra);
}

function centralHeader({ name, bytes, crc, start }: Written, limit: number): Uint8Array {
  const wideSize = bytes >= limit, wideStart = start >= limit;
  const numbers = [...wideSize ? [bytes, bytes] : [], ...wideStart ? [start] : []];
  const extra = numbers.length > 0 ? zip64(numbers) : new Uint8Array(), wide = numbers.length > 0;
  const view = new DataView(new ArrayBuffer(46));
  view.setUint32(0, CENTRAL, true);
  view.setUint16(4, wide ? 45 : 20, true); // made by version 4.5 or 2.0
  describe(view, 6, { bytes: wideSize ? FULL32 : bytes, crc, name: name.length, extra: extra.length, wide });
  view.setUint32(42, wideStart ? FULL32 : start, true);
  return joined(view, name, extra);
}

/** The fields that both headers have. */
function describe(
  view: DataView,
  at: number,
  fields: { bytes: number; crc: number; name: number; extra: number; wide: boolean },
): void {
  view.setUint16(at, fields.wide ? 45 : 20, true);
  view.setUint16(at + 2, UTF8_NAMES, true);
  view.setUint16(at + 8, DATE_1980, true);
  view.setUint32(at + 10, fields.crc, true);
  view.setUint32(at + 14, fields.bytes, true);
  view.setUint32(at + 18, fields.bytes, true);
  view.setUint16(at + 22, fields.name, true);
  view.setUint16(at + 24, fields.extra, true);
}

/** The extra field with numbers of 64 bits. */
function zip64(numbers: readonly number[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(4 + 8 * numbers.length));
  view.setUint16(0, 1, true);
  view.setUint16(2, 8 * numbers.length, true);
  numbers.forEach((number, i) => view.setBigUint64(4 + 8 * i, BigInt(number), true));
  return new Uint8Array(view.buffer);
}

function endOf(count: number, size: number, start: number, limit: number): Uint8Array {
  const wide = count >= FULL16 || size >= limit || start >= limit;
  const end = new DataView(new ArrayBuffer(22));
  end.setUint32(0, END, true);
  for (const at of [8, 10]) end.setUint16(at, wide ? FULL16 : count, true);
  end.setUint32(12, wide ? FULL32 : size, true);
  end.setUint32(16, wide ? FULL32 : start, true);
  if (!wide) return joined(end);
  const record = new DataView(new ArrayBuffer(56)), locator = new DataView(new ArrayBuffer(20));
  record.setUint32(0, END64, true);
  record.setBigUint64(4, 44n, true); // bytes of the record that follow
  for (const at of [12, 14]) record.setUint16(at, 45, true);
  [count, count, size, start].forEach((n, i) => record.setBigUint64(24 + 8 * i, BigInt(n), true));
  locator.setUint32(0, LOCATOR64, true);
  locator.setBigUint64(8, BigInt(start + size), true);
  locator.setUint32(16, 1, true);
  return joined(record, locator, end);
}

function joined(...parts: readonly (DataView | Uint8Array)[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let place = 0;
  for (const part of parts) {
    bytes.set(new Uint8Array(part.buffer as ArrayBuffer, part.byteOffset, part.byteLength), place);
    place += part.byteLength;
  }
  return bytes;
}
