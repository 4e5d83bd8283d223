/** Tar archives for tests. */
import { Buffer } from "node:buffer";

/** A ustar archive with a pax header in front, as some tools write it. */
export function tarArchive(files: [string, Uint8Array][]): Uint8Array<ArrayBuffer> {
  const block = (name: string, size: number, type: string) => {
    const header = new Uint8Array(512),
      put = (text: string, at: number) => header.set(new TextEncoder().encode(text), at);
    put(name, 0);
    put("0000644\0", 100);
    put(size.toString(8).padStart(11, "0") + "\0", 124);
    put("        ", 148);
    put(type, 156);
    put("ustar\x0000", 257);
    put(header.reduce((sum, byte) => sum + byte).toString(8).padStart(6, "0") + "\0 ", 148);
    return header;
  };
  const parts: Uint8Array[] = [block("pax", 20, "x"), new Uint8Array(512).fill(65), block("folder/", 0, "5")];
  for (const [name, bytes] of files) {
    parts.push(block(name, bytes.length, "0"), bytes, new Uint8Array(-bytes.length & 511));
  }
  parts.push(new Uint8Array(1024));
  return new Uint8Array(Buffer.concat(parts));
}
