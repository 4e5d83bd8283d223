/**
 * The directory of a zip archive: where each file lies in it. Archives and files beyond 4 GiB (zip64) included.
 *
 * *Source*: PKWARE APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.14 to 4.3.16 (ends),
 * 4.5.3 (zip64 extra field). *Differs*: no encryption or spanning.
 *
 * @module
 */
import { oneLine } from "novae/tensor/mod.ts";
import type { ByteRanges } from "./byte_ranges.ts";

/** Signatures of the records. */
export const LOCAL = 0x04034b50, CENTRAL = 0x02014b50, END = 0x06054b50;
/** Signatures of those of large archives. */
export const END64 = 0x06064b50, LOCATOR64 = 0x07064b50;
const FULL16 = 0xffff, FULL32 = 0xffffffff; // "see the zip64 record"
const ENCRYPTED = 0x0001;
const DIRECTORY_LIMIT = 1 << 28; // a quarter GiB is millions of files

/** A file of an archive. */
export interface ZipEntry {
  /** Path in the archive. */
  readonly name: string;
  /** 0 stored, 8 deflated. */
  readonly method: number;
  /** CRC-32 of the content. */
  readonly crc: number;
  /** Bytes in the archive. */
  readonly packedBytes: number;
  /** Bytes of the content. */
  readonly bytes: number;
  /** Where its local header begins. */
  readonly localStart: number;
}

/** Bytes of a local header without its name. */
const LOCAL_BYTES = 30;

/** Makes the error for an archive that cannot be read. */
export type ZipFailure = (why: string) => Error;

/**
 * Reads the list of files.
 *
 * @returns entries by name; of several files of one name the last, as unpacking would leave it.
 * @throws what `fail` makes, if it is no zip archive, is truncated or damaged, or files share their bytes, which makes a
 * small archive unpack to a huge one.
 */
export async function readZipDirectory(source: ByteRanges, fail: ZipFailure): Promise<Map<string, ZipEntry>> {
  const { start, bytes, count, end } = await findDirectory(source, fail);
  if (start + bytes > end) throw fail("its list of files is broken: it reaches beyond the archive's end");
  if (bytes > DIRECTORY_LIMIT) {
    throw fail(`its list of files must be under ${DIRECTORY_LIMIT} bytes, got ${bytes}`);
  }
  const raw = await source.read(start, bytes), view = new DataView(raw.buffer);
  const entries: ZipEntry[] = [];
  try {
    for (let place = 0, i = 0; i < count; i++) {
      if (view.getUint32(place, true) !== CENTRAL) throw fail("its list of files is broken");
      const next = place + 46 + view.getUint16(place + 28, true) + view.getUint16(place + 30, true) +
        view.getUint16(place + 32, true);
      const entry = parseEntry(raw, view, place, fail);
      if (entry.localStart + LOCAL_BYTES + entry.packedBytes > start) {
        throw fail(`its file ${oneLine(entry.name)} is broken: it reaches into the list of files`);
      }
      entries.push(entry);
      place = next;
    }
  } catch (error) {
    if (error instanceof RangeError) throw fail("its list of files is broken"); // DataView read past the end
    throw error;
  }
  expectApart(entries, fail);
  return new Map(entries.map((entry) => [entry.name, entry]));
}

/** Refuses files that lie on one another. */
function expectApart(entries: readonly ZipEntry[], fail: ZipFailure): void {
  const placed = entries.toSorted((a, b) => a.localStart - b.localStart);
  for (let i = 1; i < placed.length; i++) {
    const before = placed[i - 1];
    if (before.localStart + LOCAL_BYTES + before.packedBytes > placed[i].localStart) {
      throw fail(`its files ${oneLine(before.name)} and ${oneLine(placed[i].name)} overlap`);
    }
  }
}

/**
 * Where the content of a file begins; its own header, whose length the directory does not tell, lies before it.
 *
 * @throws what `fail` makes, if the header is broken.
 */
export async function zipContentStart(
  source: ByteRanges,
  entry: ZipEntry,
  fail: ZipFailure,
): Promise<number> {
  const view = new DataView((await source.read(entry.localStart, LOCAL_BYTES)).buffer);
  if (view.getUint32(0, true) !== LOCAL) throw fail("its entry is broken");
  if (view.getUint16(8, true) !== entry.method) {
    throw fail("its entry is broken: the list of files tells another compression");
  }
  if (view.getUint16(6, true) & ENCRYPTED) throw fail("it must not be encrypted");
  const start = entry.localStart + LOCAL_BYTES + view.getUint16(26, true) + view.getUint16(28, true);
  if (start + entry.packedBytes > source.size) {
    throw fail(`${entry.packedBytes} bytes are needed, got ${Math.max(0, source.size - start)}`);
  }
  return start;
}

interface DirectoryPlace {
  start: number;
  bytes: number;
  count: number;
  /** Where the record lies that told this. */
  end: number;
}

async function findDirectory(source: ByteRanges, fail: ZipFailure): Promise<DirectoryPlace> {
  const tailStart = Math.max(0, source.size - 22 - 0xffff - 20); // a comment of up to 65,535 bytes may follow
  const tail = new DataView((await source.read(tailStart, source.size - tailStart)).buffer);
  let at = tail.byteLength - 22;
  while (
    at >= 0 &&
    !(tail.getUint32(at, true) === END && at + 22 + tail.getUint16(at + 20, true) <= tail.byteLength)
  ) {
    at--;
  }
  if (at < 0) throw fail("it is no zip archive, or it is truncated");
  const place = {
    count: tail.getUint16(at + 10, true),
    bytes: tail.getUint32(at + 12, true),
    start: tail.getUint32(at + 16, true),
    end: tailStart + at,
  };
  const wide = place.count === FULL16 || place.bytes === FULL32 || place.start === FULL32;
  if (!wide || at < 20 || tail.getUint32(at - 20, true) !== LOCATOR64) return place;
  const end = wideNumber(tail, at - 12, fail);
  if (end + 56 > source.size) throw fail("its list of files is broken: it reaches beyond the archive's end");
  const record = new DataView((await source.read(end, 56)).buffer);
  if (record.getUint32(0, true) !== END64) throw fail("its list of files is broken");
  const [count, bytes, start] = [32, 40, 48].map((field) => wideNumber(record, field, fail));
  return { count, bytes, start, end };
}

function parseEntry(raw: Uint8Array, view: DataView, place: number, fail: ZipFailure): ZipEntry {
  const nameEnd = place + 46 + view.getUint16(place + 28, true);
  const extraEnd = nameEnd + view.getUint16(place + 30, true);
  if (extraEnd > raw.length) throw fail("its list of files is broken");
  const sizes = [24, 20, 42].map((field) => view.getUint32(place + field, true)); // in the order of the extra field
  if (sizes.includes(FULL32)) readZip64(view, nameEnd, extraEnd, sizes, fail);
  return {
    name: new TextDecoder().decode(raw.subarray(place + 46, nameEnd)),
    method: view.getUint16(place + 10, true),
    crc: view.getUint32(place + 16, true),
    bytes: sizes[0],
    packedBytes: sizes[1],
    localStart: sizes[2],
  };
}

/** Replaces those of the numbers that did not fit into 32 bits. */
function readZip64(view: DataView, from: number, to: number, numbers: number[], fail: ZipFailure): void {
  for (let at = from; at + 4 <= to; at += 4 + view.getUint16(at + 2, true)) {
    if (view.getUint16(at, true) !== 0x0001) continue;
    let field = at + 4;
    const end = Math.min(to, field + view.getUint16(at + 2, true));
    numbers.forEach((number, i) => {
      if (number !== FULL32) return;
      if (field + 8 > end) throw fail("its list of files is broken: a size beyond 4 GiB is missing");
      numbers[i] = wideNumber(view, field, fail);
      field += 8;
    });
    return;
  }
}

function wideNumber(view: DataView, at: number, fail: ZipFailure): number {
  const number = Number(view.getBigUint64(at, true));
  if (!Number.isSafeInteger(number)) throw fail("its list of files is broken: a size is impossible");
  return number;
}
