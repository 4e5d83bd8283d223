/** What hostile and honest files cost in memory, each in a process of its own. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { gzipSync } from "node:zlib";
import { encodeNpy } from "novae/io/mod.ts";
import { encodeZip } from "novae/io/zip.ts";

const BYTES = 8 << 20;
/** Code that is compiled meanwhile, stacks of threads, and what the collector has not yet given back. */
const SLACK_BYTES = 32 << 20;

const linux = Deno.build.os === "linux";
if (!linux) console.warn("Skipped: the memory of readers is measured only where /proc is.");

type Bytes = Uint8Array<ArrayBuffer>;
const text = (value: string): Bytes => new TextEncoder().encode(value);
const joined = (...parts: Uint8Array[]): Bytes => new Uint8Array(Buffer.concat(parts));
const zip = (files: [string, Uint8Array][]): Bytes =>
  new Uint8Array(Buffer.concat(encodeZip(new Map(files))));

/** A piece over and over, between a beginning and an end. */
function filled(start: string | number[], piece: number[] | string, end: string | number[] = []): Bytes {
  const bytes = (part: string | number[]): Uint8Array =>
    typeof part === "string" ? text(part) : Uint8Array.from(part);
  const unit = Buffer.from(bytes(piece));
  return joined(bytes(start), Buffer.alloc(BYTES - (BYTES % unit.length), unit), bytes(end));
}

function safetensors(header: Uint8Array, data = 0): Bytes {
  const length = new DataView(new ArrayBuffer(8));
  length.setBigUint64(0, BigInt(header.length), true);
  return joined(new Uint8Array(length.buffer), header, new Uint8Array(data));
}

/** As many tensors of one byte as there is room for. */
function manyTensors(prefix: string): Bytes {
  const entries: string[] = [];
  for (let bytes = 0; bytes < BYTES; bytes += entries.at(-1)!.length + 1) {
    const i = entries.length;
    entries.push(`"${prefix}${i.toString(36)}":{"dtype":"U8","shape":[],"data_offsets":[${i},${i + 1}]}`);
  }
  return safetensors(text(`{${entries.join()}}`), entries.length);
}

/** A checkpoint of this pickle. */
const pickled = (pickle: Bytes): Bytes => zip([["a/data.pkl", joined(Uint8Array.of(0x80, 4), pickle)]]);

/** A checkpoint with one storage of 4 MiB that a thousand tensors show. */
function manyViews(): Bytes {
  const count = 1 << 20, name = (value: string) => `X${String.fromCharCode(value.length)}\0\0\0${value}`;
  const elements = "J\0\0\x10\0";
  const view =
    `ctorch._utils\n_rebuild_tensor_v2\n((${name("storage")}ctorch\nFloatStorage\n${name("0")}${
      name("cpu")
    }` +
    `${elements}tQJ\0\0\0\0(${elements}t(J\x01\0\0\0t\x89NtR\x940`;
  let pickle = `${view}}`;
  for (let i = 0; i < 1000; i++) pickle += `${name(`w${i}`)}h\0s`;
  const bytes = Uint8Array.from(`\x80\x04${pickle}.`, (letter) => letter.charCodeAt(0));
  return zip([["a/data.pkl", bytes], ["a/data/0", new Uint8Array(count * 4)]]);
}

/** A dictionary of a hundred thousand entries that OrderedDict is called with until the file is full. */
function copiedDictionary(): Bytes {
  const entries = Uint8Array.from(
    { length: 100_000 * 6 },
    (_, i) => [0x4a, i / 6, i / 1536, i / 393_216, 0, 0x4e][i % 6],
  );
  const start = [...text("ccollections\nOrderedDict\n"), 0x94, 0x7d, 0x94, 0x28];
  return pickled(joined(
    Uint8Array.from(start),
    entries,
    Uint8Array.of(0x75),
    filled([], [0x68, 0, 0x68, 1, 0x85, 0x52, 0x30]),
  ));
}

/** A list of as many empty files as there is room for. */
const manyFiles = (): Bytes =>
  zip(
    Array.from({ length: BYTES / 90 }, (_, i): [string, Uint8Array] => [i.toString(36), new Uint8Array(0)]),
  );

function halves(shape: string): Bytes {
  const header = `{'descr': '<f2', 'fortran_order': True, 'shape': ${shape}, }`.padEnd(117) + "\n";
  return joined(
    Uint8Array.of(0x93),
    text("NUMPY"),
    Uint8Array.of(1, 0, 118, 0),
    text(header),
    new Uint8Array(BYTES),
  );
}

/** Weights of a few large tensors, as models have them. */
function model(dtype: string, width: number): Bytes {
  const count = 8, bytes = BYTES, header: Record<string, unknown> = {};
  for (let i = 0; i < count; i++) {
    header[`block${i}`] = { dtype, shape: [bytes / width], "data_offsets": [i * bytes, (i + 1) * bytes] };
  }
  return safetensors(text(JSON.stringify(header)), count * bytes);
}

const small: Record<string, Bytes> = {
  safetensors: safetensors(text("{}")),
  npz: zip([["a.npy", encodeNpy({ dtype: "uint8", shape: [1], data: new Uint8Array(1) })]]),
  npy: encodeNpy({ dtype: "uint8", shape: [1], data: new Uint8Array(1) }),
  json: text("{}"),
  cifar10: new Uint8Array(gzipSync(new Uint8Array(2000))),
};

const cases: [what: string, kind: string, file: () => Bytes, said: RegExp][] = [
  [
    "safetensors of nothing but tensors",
    "safetensors",
    () => manyTensors(""),
    /its names must need at most \d+ bytes/,
  ],
  ["safetensors of small tensors", "safetensors", () => manyTensors("model.layers.weight."), /^read$/],
  ["safetensors of one large tensor", "safetensors", () => {
    const shape = `[${BYTES / 2}]`,
      header = `{"a":{"dtype":"BF16","shape":${shape},"data_offsets":[0,${BYTES}]}}`;
    return safetensors(text(header), BYTES);
  }, /^read$/],
  [
    "a header of lists in lists",
    "safetensors",
    () => safetensors(filled('{"a":', "[")),
    /must be described by an object/,
  ],
  [
    "a header of one shape",
    "safetensors",
    () => safetensors(filled('{"a":{"shape":[', "1,")),
    /must be whole numbers/,
  ],
  [
    "a header of metadata",
    "safetensors",
    () => safetensors(filled('{"__metadata__":{"a":"', "é", '"}}')),
    /^read$/,
  ],
  [
    "a pickle of empty dictionaries",
    "weights",
    () => pickled(filled([], [0x7d])),
    /must need at most \d+ bytes in mem/,
  ],
  [
    "a pickle of remembered nothing",
    "weights",
    () => pickled(filled([0x4e], [0x94])),
    /at most \d+ (bytes|instructions)/,
  ],
  [
    "a pickle of nested tuples",
    "weights",
    () => pickled(filled([0x4e], [0x85])),
    /at most \d+ (bytes|instructions)/,
  ],
  ["a pickle of marks", "weights", () => pickled(filled([], [0x28])), /at most \d+ (bytes|instructions)/],
  [
    "a pickle of small integers",
    "weights",
    () => pickled(filled([0x5d, 0x28], [0x4b, 7], [0x65, 0x2e])),
    /no tensors in it$|at most \d+ instructions/,
  ],
  [
    "a pickle of long integers",
    "weights",
    () => pickled(filled([], [0x8a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0x30])),
    /at most \d+ (bytes|instructions)|truncated/,
  ],
  [
    "a pickle that copies a dictionary again and again",
    "weights",
    copiedDictionary,
    /at most \d+ bytes in memory/,
  ],
  [
    "a pickle of objects",
    "records",
    () => pickled(filled([...text("cx\ny\n"), 0x94], [0x68, 0, 0x29, 0x52])),
    /at most \d+ bytes in memory/,
  ],
  [
    "a thousand views of one storage",
    "weights",
    manyViews,
    /its tensors must need at most \d+ bytes in memory/,
  ],
  ["an archive of a hundred thousand files", "npz", manyFiles, /it is no npy array$/],
  ["float16 in column-major order", "npy", () => halves(`(2, ${BYTES / 4})`), /^read$/],
  ["an archive of float16", "npz", () => zip([["a.npy", halves(`(2, ${BYTES / 4})`)]]), /^read$/],
  [
    "JSON of empty lists",
    "json",
    () => filled("[", "[],", "0]"),
    /its lists and objects must need less memory/,
  ],
  ["JSON of lists in lists", "json", () => filled("", "["), /its lists and objects must need less memory/],
  [
    "JSON of small entries",
    "json",
    () => filled('{"a":0', ',"ab":0', "}"),
    /its lists and objects must need less memory/,
  ],
  ["JSON of numbers", "json", () => filled("[", "1.5,", "0]"), /^read$/],
  ["JSON of a long text", "json", () => filled('["', "é", '"]'), /^read$/],
  ["pictures that unpack to eight times as much", "cifar10", () => {
    const noise = crypto.getRandomValues(new Uint8Array(1 << 16)), body = new Uint8Array(BYTES * 8);
    for (let at = 0; at < BYTES; at += noise.length) {
      crypto.getRandomValues(body.subarray(at, at + noise.length));
    }
    return new Uint8Array(gzipSync(body));
  }, /pictures unpack to at most \d+ bytes/],
];

/** What the child tells. */
interface ChildReport {
  readonly said: string;
  readonly grewBytes: number;
  readonly ms: number;
}

async function readInChild(kind: string, file: string, sound: string): Promise<ChildReport> {
  const flags = "--v8-flags=--max-semi-space-size=1"; // what is dropped at once is not kept for long
  const args = ["run", "-A", "--no-check", flags, "tests/io_memory_child.ts", kind, file, sound];
  const { stdout, stderr, code } = await new Deno.Command(Deno.execPath(), { args }).output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  return JSON.parse(new TextDecoder().decode(stdout));
}

async function withFiles(
  bytes: Bytes,
  sound: Bytes,
  ending: string,
  use: (file: string, sound: string) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir(),
    paths = ["file", "sound"].map((name) => `${folder}/${name}${ending}`);
  try {
    await Deno.writeFile(paths[0], bytes);
    await Deno.writeFile(paths[1], sound);
    await use(paths[0], paths[1]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

for (const [what, kind, file, said] of cases) {
  Deno.test({
    name: `${what} take less than ten times the file's size`,
    ignore: !linux,
    fn: () => {
      const bytes = file(), sound = small[kind] ?? pickled(Uint8Array.of(0x7d, 0x2e));
      return withFiles(bytes, sound, kind === "cifar10" ? ".tar.gz" : "", async (path, soundPath) => {
        const outcome = await readInChild(kind, path, soundPath);
        assert.match(outcome.said, said);
        assert.ok(!outcome.said.includes("\n"));
        const most = 10 * bytes.length + SLACK_BYTES;
        assert.ok(outcome.grewBytes <= most, `${outcome.grewBytes} for ${bytes.length} bytes`);
        assert.ok(outcome.ms < 20_000, `${outcome.ms} ms`);
      });
    },
  });
}

for (const [dtype, width, factor] of [["F32", 4, 1], ["BF16", 2, 2], ["F16", 2, 2], ["U8", 1, 4]] as const) {
  Deno.test({
    name: `weights of ${dtype} are read without a second copy of them`,
    ignore: !linux,
    fn: () =>
      withFiles(model(dtype, width), safetensors(text("{}")), "", async (file, sound) => {
        const { said, grewBytes } = await readInChild("safetensors", file, sound);
        assert.equal(said, "read");
        // What is in memory at the end, one tensor of eight that is read ahead, and a little.
        const most = (8 * BYTES + BYTES) * factor + (16 << 20);
        assert.ok(
          grewBytes >= 8 * BYTES * factor && grewBytes <= most,
          `${grewBytes} of at most ${most} bytes`,
        );
      }),
  });
}
