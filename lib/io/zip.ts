/**
 * Zip archives: written uncompressed, read uncompressed or deflated.
 *
 * *Source*: PKWARE APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.16 (end).
 * *Differs*: no zip64, encryption or spanning; an archive stays under 4 GiB.
 *
 * @module
 */
import { crc32 } from "node:zlib";
import { DataError } from "novae/tensor/mod.ts";

const LOCAL = 0x04034b50, CENTRAL = 0x02014b50, END = 0x06054b50;
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
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  try {
    const end = findEnd(view, path);
    let place = view.getUint32(end + 16, true);
    for (let i = view.getUint16(end + 10, true); i > 0; i--) {
      if (view.getUint32(place, true) !== CENTRAL) throw damaged(path, "its list of files is broken");
      const nameEnd = place + 46 + view.getUint16(place + 28, true);
      const name = new TextDecoder().decode(bytes.subarray(place + 46, nameEnd));
      files.set(name, await extract(bytes, view, place, `${path}:${name}`));
      place = nameEnd + view.getUint16(place + 30, true) + view.getUint16(place + 32, true);
    }
  } catch (error) {
    if (error instanceof RangeError) throw damaged(path, "it is truncated"); // DataView read past the end
    throw error;
  }
  return files;
}

async function extract(
  bytes: Uint8Array<ArrayBuffer>,
  view: DataView,
  central: number,
  what: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const method = view.getUint16(central + 10, true), crc = view.getUint32(central + 16, true);
  const packed = view.getUint32(central + 20, true), size = view.getUint32(central + 24, true);
  const local = view.getUint32(central + 42, true);
  if (view.getUint32(local, true) !== LOCAL) throw damaged(what, "its entry is broken");
  const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
  const stored = bytes.slice(start, start + packed);
  if (stored.length !== packed) throw damaged(what, `${packed} bytes are needed, got ${stored.length}`);
  if (method !== 0 && method !== 8) {
    throw damaged(what, `its compression must be none or deflate, got method ${method}`);
  }
  const content = method === 0 ? stored : await inflate(stored, what);
  if (content.length !== size || crc32(content) !== crc) throw damaged(what, "its checksum does not match");
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

function findEnd(view: DataView, path: string): number {
  const lowest = Math.max(0, view.byteLength - 22 - 0xffff); // a comment of up to 65,535 bytes may follow
  for (let at = view.byteLength - 22; at >= lowest; at--) {
    if (view.getUint32(at, true) === END) return at;
  }
  throw damaged(path, "it is no zip archive, or it is truncated");
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
