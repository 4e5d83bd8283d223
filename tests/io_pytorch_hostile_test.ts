import assert from "node:assert/strict";
import { type HostTensor, WeightsError } from "novae/tensor/mod.ts";
import { openWeights, readPytorchCheckpoint, stateDict } from "novae/io/mod.ts";
import { encodeZip } from "novae/io/zip.ts";

function plain({ dtype, shape, data }: HostTensor): [string, readonly number[], number[]] {
  return [dtype, shape, [...data]];
}

// Pickles by hand: the instructions of CPython's pickletools.
const MARK = 0x28, STOP = 0x2e, REDUCE = 0x52, TUPLE = 0x74, SETITEM = 0x73, PERSID = 0x51;
const ascii = (text: string): number[] => [...new TextEncoder().encode(text)];
const global = (name: string): number[] => ascii(`c${name.replace(/\.(?=\w+$)/, "\n")}\n`);
const text = (value: string): number[] => [0x58, value.length, 0, 0, 0, ...ascii(value)];
const int = (value: number): number[] => [0x4a, ...new Uint8Array(Int32Array.of(value).buffer)];
const tuple = (...items: number[][]): number[] => [MARK, ...items.flat(), TUPLE];
const storage = (type: string, key: string, elements: number): number[] => [
  ...tuple(text("storage"), global(type), text(key), text("cpu"), int(elements)),
  PERSID,
];
const tensor = (from: number[], offset: number, shape: number[], stride: number[]): number[] => [
  ...global("torch._utils._rebuild_tensor_v2"),
  ...tuple(from, int(offset), tuple(...shape.map(int)), tuple(...stride.map(int)), [0x89], [0x4e]),
  REDUCE,
];

/** A checkpoint with this pickle and four float32 elements in storage 0. */
async function byHand(pickle: number[]): Promise<string> {
  const pieces = encodeZip(
    new Map([
      ["a/data.pkl", Uint8Array.from([0x80, 2, ...pickle, STOP])],
      ["a/data/0", new Uint8Array(Float32Array.of(1, 2, 3, 4).buffer)],
    ]),
  );
  const path = await Deno.makeTempFile({ suffix: ".pth" });
  await Deno.writeFile(path, new Uint8Array(await new Blob(pieces as BlobPart[]).arrayBuffer()));
  return path;
}

const good = storage("torch.FloatStorage", "0", 4);

Deno.test("a checkpoint by hand gives the elements that its view names", async () => {
  const path = await byHand([0x7d, ...text("w"), ...tensor(good, 3, [2], [0]), SETITEM]);
  assert.deepEqual(plain(await stateDict(await readPytorchCheckpoint(path)).get("w")!.read()), ["float32", [
    2,
  ], [4, 4]]);
  await Deno.remove(path);
});

Deno.test("a tensor in the newer form, whose storage has no type, is read by the type that it names", async () => {
  const bytes = storage("torch.storage.UntypedStorage", "0", 16), [no, none] = [[0x89], [0x4e]];
  const args = [bytes, int(1), tuple(int(2)), tuple(int(2)), no, none, global("torch.float32"), none];
  const path = await byHand([
    0x7d,
    ...text("w"),
    ...global("torch._utils._rebuild_tensor_v3"),
    ...tuple(...args),
    REDUCE,
    SETITEM,
  ]);
  assert.deepEqual(plain(await stateDict(await readPytorchCheckpoint(path)).get("w")!.read()), ["float32", [
    2,
  ], [2, 4]]);
  await Deno.remove(path);
});

for (
  const [what, pickle, message] of [
    [
      "a call of the shell",
      [...global("os.system"), ...tuple(text("true")), REDUCE],
      /asks for os\.system, which no/,
    ],
    ["posix", global("posix.system"), /asks for posix\.system/],
    ["eval", global("builtins.eval"), /asks for builtins\.eval/],
    ["Python 2's execfile", global("__builtin__.execfile"), /asks for __builtin__\.execfile/],
    ["a module within", global("importlib.util.find_spec"), /asks for importlib\.util\.find_spec/],
    ["a name from the stack", [...text("subprocess"), ...text("Popen"), 0x93], /asks for subprocess\.Popen/],
    ["the extension registry", [0x82, 1], /protocols 2 to 5, got instruction 0x82 at byte 2$/],
    ["protocol 0", [0x49, 0x31, 0x0a], /protocols 2 to 5, got instruction 0x49/],
    ["a later protocol", [0x80, 6], /protocols 2 to 5, got 6$/],
    ["an empty stack", [0x30], /its pickle is damaged: a value is missing/],
    ["a mark that is not there", [TUPLE], /a mark is missing/],
    ["a value that is not there", [0x68, 9], /value 9 is missing/],
    ["a text beyond the end", [0x58, 255, 255, 255, 255], /it is truncated/],
    ["a text of 2⁶⁴ bytes", [0x8d, ...new Array(8).fill(255)], /it is truncated/],
    ["an integer of 64 KiB", [0x8b, 0, 0, 1, 0], /an integer must be of at most 4096 bytes/],
    ["text that is no UTF-8", [0x58, 1, 0, 0, 0, 255], /a text must be UTF-8/],
    ["a call of a number", [...int(1), ...tuple(), REDUCE], /only classes and functions can be called/],
    [
      "something that is no storage",
      [...text("elsewhere"), PERSID],
      /refers to something that is no storage$/,
    ],
    [
      "a storage that is missing",
      storage("torch.FloatStorage", "7", 4),
      /storage 7 is missing from the archive$/,
    ],
    [
      "a storage of another size",
      storage("torch.FloatStorage", "0", 5),
      /0 of 5 elements needs 20 bytes, got 16$/,
    ],
    ["a negative size", storage("torch.FloatStorage", "0", -4), /of -4 elements needs -16 bytes, got 16$/],
    [
      "a view beyond its storage",
      tensor(good, 1, [4], [1]),
      /\[4\] and strides \[1\] needs 5 elements .* got 4$/,
    ],
    ["a stride beyond", tensor(good, 0, [2], [9]), /needs 10 elements of storage 0, got 4$/],
    ["a negative stride", tensor(good, 3, [2], [-1]), /must have whole offset, shape and strides$/],
    ["strides of another rank", tensor(good, 0, [2, 2], [1]), /must have whole offset, shape and strides$/],
    [
      "a view of a terabyte",
      tensor(good, 0, [1 << 20, 1 << 20], [0, 0]),
      /must need at most \d+ bytes in memory, got more$/,
    ],
    ["a tensor of nothing", tensor([0x4e], 0, [1], [1]), /"" must be a plain tensor, but it is made by/],
    [
      "two tensors of one name",
      [
        ...[0x7d, ...text("a.b"), ...tensor(good, 0, [1], [1]), SETITEM],
        ...[...text("a"), 0x7d, ...text("b"), ...tensor(good, 0, [1], [1]), SETITEM, SETITEM],
      ],
      /there are two tensors "a\.b"$/,
    ],
    ["no tensor", int(1), /there are no tensors in it$/],
  ] as [string, number[], RegExp][]
) {
  Deno.test(`a checkpoint with ${what} is refused`, async () => {
    const path = await byHand(pickle);
    await assert.rejects(async () => stateDict(await readPytorchCheckpoint(path)), (error: Error) => {
      assert.ok(error instanceof WeightsError, String(error.stack));
      assert.match(error.message, message);
      return error.message.startsWith(`Cannot read weights ${path}: `) && !error.message.includes("\n");
    });
    await Deno.remove(path);
  });
}

for (
  const [what, pickle, name] of [
    ["a trainer's settings", [...global("argparse.Namespace"), ...tuple(), REDUCE], "argparse.Namespace"],
    ["a function of torch", global("torch.hub.load"), "torch.hub.load"],
    ["a loader of torch", global("torch.load"), "torch.load"],
    ["a class of torch", global("torch.nn.modules.linear.Linear"), "torch.nn.modules.linear.Linear"],
    ["a name that only looks like a storage", global("evil.FloatStorage"), "evil.FloatStorage"],
    ["getattr", global("builtins.getattr"), "builtins.getattr"],
    ["a function of numpy", global("numpy.load"), "numpy.load"],
    [
      "a name below a known one",
      global("torch._utils._rebuild_tensor_v2.x"),
      "torch._utils._rebuild_tensor_v2.x",
    ],
    ["a name from the stack", [...text("functools"), ...text("partial"), 0x93], "functools.partial"],
  ] as [string, number[], string][]
) {
  Deno.test(`a checkpoint that names ${what} is refused unless records are asked for`, async () => {
    const path = await byHand([0x7d, ...text("w"), ...tensor(good, 0, [1], [1]), SETITEM, ...pickle, 0x30]);
    await assert.rejects(openWeights(path), {
      name: "WeightsError",
      message:
        `Cannot read weights ${path}: its pickle names ${name}, which is no part of a tensor: if the file is to ` +
        'hold more than weights, read it with foreign "record", which runs none of it',
    });
    const { tensors } = await openWeights(path, { foreign: "record" });
    assert.deepEqual([...tensors.keys()], ["w"]);
    await Deno.remove(path);
  });
}

Deno.test("keys and names that are lists of lists are not followed", async () => {
  const KEEP = [0x71, 5, 0x30], nested = [0x68, 5], pair = [0x71, 0, 0x68, 0, 0x86];
  const deep = [0x5d, ...new Array(12_000).fill(0x85), ...KEEP]; // deeper than the stack of JavaScript
  const shared = [0x5d, ...new Array(40).fill(pair).flat(), ...KEEP]; // 2⁴⁰ lists, if they were written out
  for (const made of [deep, shared]) {
    const device = [...global("torch.device"), ...nested, 0x85, REDUCE, 0x30];
    const type = [...global("numpy.dtype"), ...text("f4"), 0x85, REDUCE, 0x71, 1, 0x30];
    const array = [
      ...global("numpy.core.numeric._frombuffer"),
      ...tuple([0x4e], [0x68, 1], nested, text("C")),
    ];
    const key = [0x7d, ...nested, ...tensor(good, 0, [1], [1]), SETITEM];
    const file = await byHand([...made, ...device, ...type, ...array, REDUCE, 0x30, ...key]);
    assert.deepEqual([...(await openWeights(file)).tensors.keys()], [made === deep ? "(…)" : "(…, …)"]);
    await Deno.remove(file);
  }
  const oddType = [...storage("torch.storage.UntypedStorage", "0", 16)];
  const v3 = [
    ...global("torch._utils._rebuild_tensor_v3"),
    ...tuple(oddType, int(0), tuple(int(1)), tuple(int(1)), [0x89], [0x4e], nested, [0x4e]),
    REDUCE,
  ];
  const path3 = await byHand([...shared, 0x7d, ...text("w"), ...v3, SETITEM]);
  await assert.rejects(openWeights(path3), /"w" must be a plain tensor, but its type is torch\.storage\.Unt/);
  await Deno.remove(path3);
});

Deno.test("values that are numbered out of turn are found under their last number", async () => {
  const keep = (index: number): number[] => [0x72, index, 0, 0, 0];
  const early = [...text("one"), ...keep(2), 0x30, ...text("two"), ...keep(0), 0x30, 0x4e, ...keep(1), 0x30];
  const late = [...text("three"), ...keep(2), 0x30, ...text("four"), ...keep(0), 0x30];
  const file = await byHand([...early, ...late, 0x68, 0, 0x68, 1, 0x68, 2, 0x87]);
  assert.deepEqual((await readPytorchCheckpoint(file)).tree, ["four", null, "three"]);
  await Deno.remove(file);
});

Deno.test("many views of one storage are refused for the memory that they would need", async () => {
  const views = Array.from({ length: 200 }, (_, i) => [...text(`w${i}`), 0x68, 7, SETITEM]).flat();
  const wide = [...tensor(good, 0, [3_000], [0]), 0x71, 7, 0x30];
  const path = await byHand([...wide, 0x7d, ...views]);
  await assert.rejects(openWeights(path), /its tensors must need at most \d+ bytes in memory, got more$/);
  await Deno.remove(path);
});

Deno.test("a hostile pickle costs neither time nor memory without bound", async () => {
  const cases: [number[], RegExp][] = [
    [new Array(5_000_000).fill(0x7d), /must need at most 40001832 bytes in memory, got more/], // {} {} {} …
    [new Array(2_500_000).fill([0x4e, 0x30]).flat(), /at most 4194304 instructions, got more$/], // None, away with it
    [[0x5d, ...new Array(3_000).fill(0x85)], /nested too deeply$/], // ((((…))))
    [[0x5d, ...new Array(100).fill([0x71, 0, 0x68, 0, 0x86]).flat()], /nested too deeply$/], // 2¹⁰⁰ lists, shared
  ];
  for (const [pickle, message] of cases) {
    const path = await byHand(pickle), start = performance.now();
    await assert.rejects(async () => stateDict(await readPytorchCheckpoint(path)), message);
    assert.ok(performance.now() - start < 20_000);
    await Deno.remove(path);
  }
});

Deno.test("a tensor beyond 4 GiB is read alone", async () => {
  // A storage of 4.5 GiB of zeros, which is a hole in the file, and one behind it: sizes and places need zip64.
  const path = await Deno.makeTempFile({ suffix: ".pth" }), bigElements = 1.125 * 2 ** 30, parts: Part[] = [];
  const pickle = [
    ...[
      0x7d,
      ...text("big"),
      ...tensor(storage("torch.FloatStorage", "0", bigElements), bigElements - 2, [2], [1]),
    ],
    ...[SETITEM, ...text("after"), ...tensor(storage("torch.FloatStorage", "1", 2), 0, [2], [1]), SETITEM],
  ];
  using file = await Deno.open(path, { write: true });
  await addPart(file, parts, "a/data.pkl", Uint8Array.from([0x80, 2, ...pickle, STOP]));
  await addPart(file, parts, "a/data/0", null, bigElements * 4);
  await addPart(file, parts, "a/data/1", new Uint8Array(Float32Array.of(5, 6).buffer));
  await addDirectory(file, parts);
  const before = Deno.memoryUsage().rss, { tensors } = await openWeights(path);
  assert.deepEqual(plain(await tensors.get("after")!.read()), ["float32", [2], [5, 6]]);
  assert.deepEqual(plain(await tensors.get("big")!.read()), ["float32", [2], [0, 0]]);
  assert.ok(Deno.memoryUsage().rss - before < 2 ** 28, "the storage of 4.5 GiB was not read");
  await Deno.remove(path);
});

interface Part {
  name: string;
  bytes: number;
  start: number;
}

/** Appends a stored file with zip64 sizes in its local header; `content` null leaves a hole. */
async function addPart(
  file: Deno.FsFile,
  parts: Part[],
  name: string,
  content: Uint8Array | null,
  bytes = content!.length,
): Promise<void> {
  const start = await file.seek(0, Deno.SeekMode.End), local = new DataView(new ArrayBuffer(30));
  local.setUint32(0, 0x04034b50, true);
  local.setUint16(26, name.length, true);
  await file.write(new Uint8Array(local.buffer));
  await file.write(Uint8Array.from(ascii(name)));
  if (content !== null) await file.write(content);
  else await file.truncate(start + 30 + name.length + bytes);
  parts.push({ name, bytes, start });
}

/** Appends the directory with every size and place in zip64 fields, its zip64 record, locator and end. */
async function addDirectory(file: Deno.FsFile, parts: Part[]): Promise<void> {
  const start = await file.seek(0, Deno.SeekMode.End);
  for (const { name, bytes, start } of parts) {
    const central = new DataView(new ArrayBuffer(46)), extra = new DataView(new ArrayBuffer(28));
    central.setUint32(0, 0x02014b50, true);
    for (const field of [20, 24, 42]) central.setUint32(field, 0xffffffff, true);
    central.setUint16(28, name.length, true);
    central.setUint16(30, 28, true);
    extra.setUint16(0, 1, true);
    extra.setUint16(2, 24, true);
    [bytes, bytes, start].forEach((value, i) => extra.setBigUint64(4 + i * 8, BigInt(value), true));
    for (const piece of [central.buffer, Uint8Array.from(ascii(name)).buffer, extra.buffer]) {
      await file.write(new Uint8Array(piece));
    }
  }
  const end = await file.seek(0, Deno.SeekMode.End), record = new DataView(new ArrayBuffer(56 + 20 + 22));
  record.setUint32(0, 0x06064b50, true);
  [parts.length, parts.length, end - start, start].forEach((value, i) => {
    record.setBigUint64(24 + i * 8, BigInt(value), true);
  });
  record.setUint32(56, 0x07064b50, true);
  record.setBigUint64(64, BigInt(end), true);
  record.setUint32(76, 0x06054b50, true);
  record.setUint16(76 + 10, 0xffff, true);
  record.setUint32(76 + 12, 0xffffffff, true);
  record.setUint32(76 + 16, 0xffffffff, true);
  await file.write(new Uint8Array(record.buffer));
}
