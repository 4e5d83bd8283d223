/**
 * Zip archives: written uncompressed, read uncompressed or deflated.
 *
 * *Source*: PKWARE APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.16 (end).
 * *Differs*: no encryption or spanning; what is written stays under 4 GiB.
 *
 * @module
 */
import { crc32 } from "node:zlib";
import { DataError, oneLine } from "novae/tensor/mod.ts";
import { type ByteRanges, memoryRanges } from "./byte_ranges.ts";
import { memoryLimit } from "./memory_limit.ts";
import { CENTRAL, END, LOCAL, readZipDirectory, zipContentStart, type ZipEntry } from "./zip_directory.ts";

/** Deflate packs at most 258 bytes into 2 bits. */
const DEFLATE_RATIO = 1032;
const UTF8_NAMES = 0x0800;
const DATE_1980 = 0x0021; // 1 January 1980: the same content gives the same archive

/**
 * Lays out an archive of uncompressed files, in the order given.
 *
 * @param files contents by name.
 * @returns pieces to be written one after another.
 * @throws RangeError if the archive would reach 4 GiB.
 */
export function encodeZip(files: ReadonlyMap<string, Uint8Array>): Uint8Array[] {
  const pieces: Uint8Array[] = [], directory: Uint8Array[] = [];
  let offset = 0;
  for (const [name, content] of files) {
    const nameBytes = new TextEncoder().encode(name), crc = crc32(content);
    const local = header(30, LOCAL, nameBytes), central = header(46, CENTRAL, nameBytes);
    describe(local, 4, crc, content.length, nameBytes.length);
    central.setUint16(4, 20, true); // made by version 2.0
    describe(central, 6, crc, content.length, nameBytes.length);
    central.setUint32(42, offset, true);
    pieces.push(bytesOf(local), content);
    directory.push(bytesOf(central));
    offset += local.byteLength + content.length;
  }
  const directorySize = directory.reduce((sum, entry) => sum + entry.length, 0);
  if (offset + directorySize + 22 > 0xffffffff) {
    throw new RangeError(`Cannot write zip: it must stay under 4 GiB, got ${offset + directorySize} bytes`);
  }
  const end = new DataView(new ArrayBuffer(22));
  end.setUint32(0, END, true);
  end.setUint16(8, files.size, true);
  end.setUint16(10, files.size, true);
  end.setUint32(12, directorySize, true);
  end.setUint32(16, offset, true);
  return [...pieces, ...directory, bytesOf(end)];
}

/** A file of an archive. */
export interface UnpackedFile {
  /** Path in the archive. */
  readonly name: string;
  /** Its content, in memory of its own. */
  readonly content: Uint8Array<ArrayBuffer>;
}

/**
 * Unpacks the files of an archive one after another and checks their checksums.
 *
 * @param path named in errors.
 * @param maxBytes the most that all files together may unpack to; eight times the archive, at least 1 MiB, if omitted.
 * @throws DataError if it is no zip archive, is damaged, uses what is not supported or unpacks to more.
 */
export async function* unpackZip(
  bytes: Uint8Array<ArrayBuffer>,
  path: string,
  maxBytes = memoryLimit(bytes.length),
): AsyncGenerator<UnpackedFile> {
  const source = memoryRanges(bytes);
  const entries = [...(await readZipDirectory(source, (why) => damaged(path, why))).values()];
  const unpacked = entries.reduce((sum, entry) => sum + entry.bytes, 0);
  if (unpacked > maxBytes) {
    throw damaged(
      path,
      `its files must unpack to at most ${maxBytes} bytes, got ${unpacked} of ${bytes.length}`,
    );
  }
  for (const entry of entries) {
    yield { name: entry.name, content: await extract(source, entry, `${path}:${oneLine(entry.name)}`) };
  }
}

/**
 * Reads all files of an archive, as {@link unpackZip} does.
 *
 * @throws DataError as {@link unpackZip} does.
 */
export async function decodeZip(
  bytes: Uint8Array<ArrayBuffer>,
  path: string,
  maxBytes?: number,
): Promise<Map<string, Uint8Array<ArrayBuffer>>> {
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  for await (const { name, content } of unpackZip(bytes, path, maxBytes)) files.set(name, content);
  return files;
}

async function extract(source: ByteRanges, entry: ZipEntry, what: string): Promise<Uint8Array<ArrayBuffer>> {
  if (entry.method !== 0 && entry.method !== 8) {
    throw damaged(what, `its compression must be none or deflate, got method ${entry.method}`);
  }
  if (
    entry.method === 0 ? entry.bytes !== entry.packedBytes : entry.bytes > DEFLATE_RATIO * entry.packedBytes
  ) {
    throw damaged(what, `${entry.packedBytes} bytes cannot unpack to ${entry.bytes}`);
  }
  const start = await zipContentStart(source, entry, (why) => damaged(what, why));
  const stored = await source.read(start, entry.packedBytes);
  const content = entry.method === 0 ? stored : await inflate(stored, entry.bytes, what);
  if (crc32(content) !== entry.crc) throw damaged(what, "its checksum does not match");
  return content;
}

/** Inflates to exactly as many bytes as the archive tells; no more than that is ever in memory. */
async function inflate(
  packed: Uint8Array<ArrayBuffer>,
  length: number,
  what: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const content = new Uint8Array(length);
  let done = 0;
  try {
    for await (
      const piece of ReadableStream.from([packed]).pipeThrough(new DecompressionStream("deflate-raw"))
    ) {
      if (done + piece.length > length) throw damaged(what, `it must unpack to ${length} bytes, got more`);
      content.set(piece, done);
      done += piece.length;
    }
  } catch (error) {
    throw error instanceof DataError ? error : damaged(what, "its compressed data are broken");
  }
  if (done < length) throw damaged(what, `it must unpack to ${length} bytes, got ${done}`);
  return content;
}

function header(size: number, signature: number, name: Uint8Array): DataView {
  const bytes = new Uint8Array(size + name.length);
  bytes.set(name, size);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, signature, true);
  return view;
}

/** The fields that the local header and the directory share, from `at` on. */
function describe(view: DataView, at: number, crc: number, size: number, nameLength: number): void {
  view.setUint16(at, 20, true); // needs version 2.0
  view.setUint16(at + 2, UTF8_NAMES, true);
  view.setUint16(at + 8, DATE_1980, true);
  view.setUint32(at + 10, crc, true);
  view.setUint32(at + 14, size, true);
  view.setUint32(at + 18, size, true);
  view.setUint16(at + 22, nameLength, true);
}

function bytesOf(view: DataView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

function damaged(what: string, why: string): DataError {
  return new DataError(`Cannot read ${what}: ${why}`);
}
