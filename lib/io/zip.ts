/**
 * Zip archives: written uncompressed, read uncompressed or deflated.
 *
 * *Source*: PKWARE APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.16 (end).
 * *Differs*: no encryption or spanning; what is written stays under 4 GiB.
 *
 * @module
 */
import { crc32 } from "node:zlib";
import { DataError } from "novae/tensor/mod.ts";
import { type ByteRanges, memoryRanges } from "./byte_ranges.ts";
import { CENTRAL, END, LOCAL, readZipDirectory, zipContentStart, type ZipEntry } from "./zip_directory.ts";

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

/**
 * Reads all files of an archive and checks their checksums.
 *
 * @param path named in errors.
 * @throws DataError if it is no zip archive, is damaged or uses what is not supported.
 */
export async function decodeZip(
  bytes: Uint8Array<ArrayBuffer>,
  path: string,
): Promise<Map<string, Uint8Array<ArrayBuffer>>> {
  const source = memoryRanges(bytes), files = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const entry of (await readZipDirectory(source, (why) => damaged(path, why))).values()) {
    files.set(entry.name, await extract(source, entry, `${path}:${entry.name}`));
  }
  return files;
}

async function extract(source: ByteRanges, entry: ZipEntry, what: string): Promise<Uint8Array<ArrayBuffer>> {
  const start = await zipContentStart(source, entry, (why) => damaged(what, why));
  const stored = await source.read(start, entry.packedBytes);
  if (entry.method !== 0 && entry.method !== 8) {
    throw damaged(what, `its compression must be none or deflate, got method ${entry.method}`);
  }
  const content = entry.method === 0 ? stored : await inflate(stored, what);
  if (content.length !== entry.bytes || crc32(content) !== entry.crc) {
    throw damaged(what, "its checksum does not match");
  }
  return content;
}

async function inflate(bytes: Uint8Array<ArrayBuffer>, what: string): Promise<Uint8Array<ArrayBuffer>> {
  try {
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    throw damaged(what, "its compressed data are broken");
  }
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
