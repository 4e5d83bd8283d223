import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { crc32, deflateRawSync } from "node:zlib";
import { DataError } from "novae/tensor/mod.ts";
import { encodeNpy, readNpz } from "novae/io/mod.ts";

/** An archive of deflated files, whose list may tell other things than what is in it. */
function deflated(
  files: {
    name: string;
    content: Uint8Array;
    packed?: Uint8Array;
    bytes?: number;
    method?: number;
    start?: number;
  }[],
  count = files.length,
): Uint8Array<ArrayBuffer> {
  const pieces: Uint8Array[] = [], list: Uint8Array[] = [];
  let offset = 0;
  for (
    const { name, content, packed = deflateRawSync(content), bytes = content.length, method = 8, start }
      of files
  ) {
    const title = new TextEncoder().encode(name), local = new DataView(new ArrayBuffer(30));
    const central = new DataView(new ArrayBuffer(46));
    local.setUint32(0, 0x04034b50, true);
    central.setUint32(0, 0x02014b50, true);
    for (const [view, at] of [[local, 4], [central, 6]] as const) {
      view.setUint16(at + 4, at === 4 ? 8 : method, true);
      view.setUint32(at + 10, crc32(content), true);
      view.setUint32(at + 14, packed.length, true);
      view.setUint32(at + 18, bytes, true);
      view.setUint16(at + 22, title.length, true);
    }
    central.setUint32(42, start ?? offset, true);
    list.push(new Uint8Array(central.buffer), title);
    if (start !== undefined) continue; // another name for the same bytes
    pieces.push(new Uint8Array(local.buffer), title, packed);
    offset += 30 + title.length + packed.length;
  }
  const end = new DataView(new ArrayBuffer(22)), listed = Buffer.concat(list);
  end.setUint32(0, 0x06054b50, true);
  end.setUint16(8, count, true);
  end.setUint16(10, count, true);
  end.setUint32(12, listed.length, true);
  end.setUint32(16, offset, true);
  return new Uint8Array(Buffer.concat([...pieces, listed, new Uint8Array(end.buffer)]));
}

Deno.test("zip bombs and lists of files that lie are refused before they take memory", async () => {
  const path = await Deno.makeTempFile();
  const zeros = encodeNpy({ dtype: "float32", shape: [4 << 20], data: new Float32Array(4 << 20) });
  const small = encodeNpy({ dtype: "float32", shape: [2], data: Float32Array.of(1, 2) });
  const bomb = deflateRawSync(zeros), name = "a.npy"; // 16 MiB in 16 KiB
  const cases: [string, Uint8Array, RegExp][] = [
    [
      "a bomb",
      deflated([{ name, content: zeros }]),
      /must unpack to at most 1048576 bytes, got 16777344 of \d+$/,
    ],
    [
      "a bomb in disguise",
      deflated([{ name, content: zeros, packed: bomb, bytes: 200 }]),
      /unpack to 200 bytes, got more$/,
    ],
    ["less than said", deflated([{ name, content: small, bytes: 500 }]), /unpack to 500 bytes, got 136$/],
    [
      "more than can be",
      deflated([{ name, content: small, bytes: 900_000 }]),
      /bytes cannot unpack to 900000$/,
    ],
    [
      "a bomb of many",
      deflated(Array.from({ length: 9 }, (_, i) => ({ name: `${i}`, content: zeros.subarray(0, 130_000) }))),
      /must unpack to at most 1048576 bytes, got 1170000/,
    ],
    [
      "files that are one another",
      deflated([{ name, content: small }, { name: "b.npy", content: small, start: 0 }]),
      /its files a\.npy and b\.npy overlap$/,
    ],
    ["a count of more", deflated([{ name, content: small }], 3), /its list of files is broken$/],
    [
      "another method",
      deflated([{ name, content: small, method: 0 }]),
      /cannot unpack to 136|tells another compression/,
    ],
    [
      "an unknown method",
      deflated([{ name, content: small, method: 12 }]),
      /must be none or deflate, got method 12$/,
    ],
    [
      "a place elsewhere",
      deflated([{ name, content: small }, { name: "b", content: small, start: 3 }]),
      /overlap$/,
    ],
    [
      "broken data",
      deflated([{ name, content: small, packed: new Uint8Array(60).fill(255) }]),
      /data are broken$/,
    ],
    [
      "a name of lines",
      deflated([{ name: "a\nb", content: new Uint8Array(9) }]),
      /:a\\u000ab: it is no npy array$/,
    ],
  ];
  for (const [what, bytes, message] of cases) {
    await Deno.writeFile(path, bytes);
    await assert.rejects(readNpz(path), (error: Error) => {
      assert.ok(error instanceof DataError, `${what}: ${error.stack}`);
      assert.match(error.message, message, what);
      return !error.message.includes("\n");
    });
  }
  await Deno.writeFile(path, cases[0][1]);
  assert.equal((await readNpz(path, 1 << 25)).get("a")?.data.length, 4 << 20, "on request it is read");
  await Deno.remove(path);
});
