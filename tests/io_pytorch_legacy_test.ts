import assert from "node:assert/strict";
import { WeightsError } from "novae/tensor/mod.ts";
import { openWeights, readPytorchCheckpoint } from "novae/io/mod.ts";

// The format before PyTorch 1.6 by hand, in the instructions of CPython's pickletools; texts as Python 2 wrote them.
const MARK = 0x28, STOP = 0x2e, REDUCE = 0x52, TUPLE = 0x74, SETITEM = 0x73, PERSID = 0x51, NONE = 0x4e;
const ascii = (text: string): number[] => [...new TextEncoder().encode(text)];
const text = (value: string): number[] => [0x55, value.length, ...ascii(value)];
const longText = (value: string): number[] => [0x54, value.length, 0, 0, 0, ...ascii(value)];
const int = (value: number): number[] => [0x4a, ...new Uint8Array(Int32Array.of(value).buffer)];
const tuple = (...items: number[][]): number[] => [MARK, ...items.flat(), TUPLE];
const global = (module: string, name: string): number[] => ascii(`c${module}\n${name}\n`);
const pickle = (...body: number[][]): number[] => [0x80, 2, ...body.flat(), STOP];
const list = (...items: number[][]): number[] => [0x5d, MARK, ...items.flat(), 0x65];

const MAGIC = pickle([0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19]);
const machine = (littleEndian: boolean): number[] =>
  pickle([0x7d], longText("little_endian"), [littleEndian ? 0x88 : 0x89, SETITEM]);

function storage(key: string, elements: number, type = "FloatStorage", view: number[] = [NONE]): number[] {
  const id = tuple(text("storage"), global("torch", type), text(key), text("cpu"), int(elements), view);
  return [...id, PERSID];
}
function tensor(name: string, from: number[], shape: number[]): number[] {
  const [sizes, strides] = [tuple(...shape.map(int)), tuple(...shape.map(() => int(1)))];
  const made = [
    ...global("torch._utils", "_rebuild_tensor"),
    ...tuple(from, int(0), sizes, strides),
    REDUCE,
  ];
  return [...text(name), ...made, SETITEM];
}
const elements = (values: number[], count = values.length): number[] => [
  ...new Uint8Array(BigInt64Array.of(BigInt(count)).buffer),
  ...new Uint8Array(Float32Array.from(values).buffer),
];

interface Parts {
  version?: number;
  littleEndian?: boolean;
  content?: number[];
  keys?: number[];
  storages?: number[];
}

const CONTENT = [0x7d, ...tensor("a", storage("7", 3), [3]), ...tensor("b", storage("9", 2), [2])];

async function byHand(parts: Parts = {}): Promise<string> {
  const { version = 1001, littleEndian = true, content = CONTENT } = parts;
  const { keys = list(text("9"), text("7")), storages = [...elements([4, 5]), ...elements([1, 2, 3])] } =
    parts;
  const path = await Deno.makeTempFile({ suffix: ".pth" });
  const bytes = [MAGIC, pickle(int(version)), machine(littleEndian), pickle(content), pickle(keys), storages];
  await Deno.writeFile(path, Uint8Array.from(bytes.flat()));
  return path;
}

Deno.test("a checkpoint as PyTorch 0.3 wrote it under Python 2 gives its tensors, whatever their order", async () => {
  const path = await byHand(), { tensors } = await openWeights(path);
  const read = async (name: string) => [...(await tensors.get(name)!.read()).data];
  assert.deepEqual([await read("a"), await read("b")], [[1, 2, 3], [4, 5]]);
  await Deno.remove(path);
});

Deno.test("a checkpoint of before 1.6 of a big-endian machine reads as the same numbers", async () => {
  const swapped = (values: number[]) => [
    ...elements(values).slice(0, 8).reverse(),
    ...values.flatMap((value) => elements([value]).slice(8).reverse()),
  ];
  const storages = [...swapped([4, 5]), ...swapped([1, 2, 3])];
  const path = await byHand({ littleEndian: false, storages }), { tensors } = await openWeights(path);
  assert.deepEqual([...(await tensors.get("a")!.read()).data], [1, 2, 3]);
  await Deno.remove(path);
});

Deno.test("pickles beyond the part of the file that is looked at first are found", async () => {
  const texts = Array.from({ length: 1_200 }, (_, i) => {
    const name = ascii(`note${i}`), filler = new Uint8Array(15_000).fill(0x61);
    return [
      [0x55, name.length, ...name],
      [0x58, ...new Uint8Array(Int32Array.of(filler.length).buffer)],
      filler,
    ];
  });
  const before = Uint8Array.from([MAGIC, pickle(int(1001)), machine(true), [0x80, 2], [0x7d]].flat());
  const notes = texts.flatMap((
    [key, head, filler],
  ) => [Uint8Array.from([...key, ...head]), filler, [SETITEM]]);
  const after = [...tensor("a", storage("7", 2), [2]), STOP, ...pickle(list(text("7"))), ...elements([1, 2])];
  const path = await Deno.makeTempFile({ suffix: ".pth" });
  const pieces = [before, ...notes.map((piece) => Uint8Array.from(piece)), Uint8Array.from(after)];
  await Deno.writeFile(path, new Uint8Array(await new Blob(pieces).arrayBuffer()));
  assert.ok((await Deno.stat(path)).size > 1 << 24);
  const { tensors } = await openWeights(path);
  assert.deepEqual([...(await tensors.get("a")!.read()).data], [1, 2]);
  await Deno.remove(path);
});

for (
  const [what, parts, message] of [
    ["of another version", { version: 7 }, /its version must be 1001, got 7$/],
    [
      "that is cut in its pickles",
      { keys: [0x5d, 0x58, 255, 0, 0, 0] },
      /its pickle is damaged: it is truncated/,
    ],
    ["without a list of storages", { keys: [NONE] }, /its list of storages is missing$/],
    ["whose list names another storage", { keys: list(text("9"), text("8")) }, /must name each once, got 8$/],
    ["whose list names one twice", { keys: list(text("9"), text("9")) }, /must name each once, got 9$/],
    ["whose list leaves one out", { keys: list(text("9")) }, /storage 7 is missing from the file$/],
    [
      "that is cut in a storage",
      { storages: elements([4, 5]) },
      /storage 7 is not all there: the file is cut short$/,
    ],
    [
      "with a storage of another size",
      { storages: [...elements([4, 5], 3), ...elements([1, 2, 3])] },
      /storage 9 must have 2 elements, got 3$/,
    ],
    [
      "with a storage of no size",
      { content: storage("7", -1) },
      /known type and size, got -1 of torch\.FloatS/,
    ],
    [
      "with a storage of an unknown type",
      { content: storage("7", 1, "OddStorage") },
      /got 1 of torch\.OddStorage$/,
    ],
    [
      "with a storage of two types",
      { content: tuple(storage("7", 1), storage("7", 1, "IntStorage")) },
      /storage 7 must be of one type and size, got two$/,
    ],
    [
      "with a part of a storage",
      { content: storage("7", 1, "FloatStorage", tuple(text("v"), int(0), int(1))) },
      /storage 7 must be named as a whole, got a part of it/,
    ],
    [
      "with a call of the shell",
      { content: [...global("os", "system"), ...tuple(text("true")), REDUCE] },
      /os\.system/,
    ],
    ["with a tensor beyond its storage", { content: [0x7d, ...tensor("a", storage("7", 3), [4])] }, /got 3$/],
  ] as [string, Parts, RegExp][]
) {
  Deno.test(`a checkpoint of before 1.6 ${what} is refused`, async () => {
    const path = await byHand(parts);
    await assert.rejects(readPytorchCheckpoint(path), (error: Error) => {
      assert.ok(error instanceof WeightsError, String(error.stack));
      assert.match(error.message, message);
      return error.message.startsWith(`Cannot read weights ${path}: `) && !error.message.includes("\n");
    });
    await Deno.remove(path);
  });
}
