/** What is tried on damaged inputs: every reader of files that others have written. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { ConfigError, float32, int32, WeightsError } from "novae/tensor/mod.ts";
import { encodeNpy, readTensors, stateDict, writeSafetensors } from "novae/io/mod.ts";
import { memoryRanges } from "novae/io/byte_ranges.ts";
import { decodeOwnNpy } from "novae/io/npy.ts";
import { decodeNpz } from "novae/io/npz.ts";
import { parseWeightMap } from "novae/io/open_weights.ts";
import { readCheckpoint } from "novae/io/pytorch_checkpoint.ts";
import { parseJson } from "novae/io/read_file.ts";
import { lazySafetensors } from "novae/io/safetensors.ts";
import { parseSafetensorsHeader } from "novae/io/safetensors_header.ts";
import { decodeZip, encodeZip } from "novae/io/zip.ts";
import { decodeCifar10 } from "novae/data/cifar10.ts";
import { cifar10Archive } from "novae/data/cifar10_files.ts";
import { parsePreprocessorConfig } from "novae/dino/preprocessor_config.ts";
import { vitConfigFromTransformers } from "novae/dino/transformers_config.ts";
import type { FuzzTarget } from "./fuzz.ts";
import { tarArchive } from "./tar_fixture.ts";

type Bytes = Uint8Array<ArrayBuffer>;
const GOLDEN = "tests/golden", PYTORCH = `${GOLDEN}/pytorch_checkpoints`;
const text = (value: string): Bytes => new TextEncoder().encode(value);
const json = (value: unknown): Bytes => text(JSON.stringify(value));
const packed = (files: [string, Uint8Array][]): Bytes =>
  new Uint8Array(Buffer.concat(encodeZip(new Map(files))));

/** Places and sizes that are wrong in ways of their own, as they stand in JSON. */
const JSON_TOKENS = [
  ...[
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    '"',
    "\\",
    "null",
    "-1",
    "1e9",
    "1.5",
    "9007199254740993",
    '"\\u0000"',
    "\ufeff",
  ],
  ...[
    '"__proto__"',
    '"shape"',
    '"data_offsets"',
    '{"toString":1}',
    "[[[[[[]]]]]]",
    '"__metadata__":{',
    "true",
    " ",
  ],
];

async function safetensorsSeeds(): Promise<Bytes[]> {
  const path = await Deno.makeTempFile();
  await writeSafetensors(path, { a: float32([1, 2], [2]), b: int32([3], []) }, { note: "x" }, {
    dtype: "float16",
  });
  const seeds = [await Deno.readFile(path), await Deno.readFile(`${GOLDEN}/safetensors.safetensors`)];
  await Deno.remove(path);
  return seeds;
}

async function headerTarget(): Promise<FuzzTarget> {
  const whole = await safetensorsSeeds();
  const headerBytes = whole.map((bytes) => new DataView(bytes.buffer).getUint32(0, true));
  const seeds = whole.map((bytes, i) => bytes.slice(8, 8 + headerBytes[i]));
  return {
    name: "safetensors header",
    count: 25_000,
    seeds,
    tokens: JSON_TOKENS,
    read(bytes) {
      const seed = bytes.length < (headerBytes[0] + headerBytes[1]) / 2 ? 0 : 1; // likely the one that it was
      const data = whole[seed].length - 8 - headerBytes[seed];
      const { entries } = parseSafetensorsHeader(bytes, bytes.length + 8 + data, "x");
      assert.ok(entries.every(({ begin, end }) => begin <= end && end <= data));
    },
  };
}

async function safetensorsTarget(): Promise<FuzzTarget> {
  return {
    name: "safetensors",
    count: 15_000,
    seeds: await safetensorsSeeds(),
    tokens: JSON_TOKENS,
    read: async (bytes) => await readTensors((await lazySafetensors(memoryRanges(bytes), "x")).tensors),
  };
}

const PICKLE_TOKENS: readonly (string | number[])[] = [
  ...[
    [0x28],
    [0x29],
    [0x5d],
    [0x7d],
    [0x30],
    [0x32],
    [0x52],
    [0x62],
    [0x74],
    [0x75],
    [0x81],
    [0x85],
    [0x86],
    [0x94],
  ],
  ...[[0x68, 0], [0x68, 3], [0x71, 1], [0x4b, 255], [0x51], [0x65], [0x73], [0x8f], [0x90], [0x91], [
    0x95,
    255,
  ]],
  ...[
    "cos\nsystem\n",
    "ctorch._utils\n_rebuild_tensor_v2\n",
    "ccollections\nOrderedDict\n",
    "cnumpy\ndtype\n",
  ],
  ...[
    "ctorch\nFloatStorage\n",
    "c_codecs\nencode\n",
    "ctorch._tensor\n_rebuild_from_type_v2\n",
    "ctorch\ndevice\n",
  ],
];

/** Pickles of real checkpoints, damaged by themselves, in an archive that is sound: every damage reaches the machine. */
async function pickleTarget(): Promise<FuzzTarget> {
  const names = [
    "plain_protocol2.pth",
    "types.pth",
    "views.pth",
    "lightning_protocol2.ckpt",
    "lightning_protocol4.ckpt",
  ];
  const archives = await Promise.all(
    names.map(async (name) => await decodeZip(await Deno.readFile(`${PYTORCH}/${name}`), name)),
  );
  const storages = [...archives[2]].filter(([name]) => /\/data\/\d+$/.test(name)).map(
    ([name, bytes]): [string, Uint8Array] => [`a/data/${name.split("/").at(-1)}`, bytes],
  );
  return {
    name: "pickle",
    count: 20_000,
    seeds: archives.map((files) => [...files].find(([name]) => name.endsWith("/data.pkl"))![1]),
    tokens: PICKLE_TOKENS,
    async read(bytes, index) {
      const foreign = index % 2 === 0 ? "refuse" : "record";
      const ranges = memoryRanges(packed([["a/data.pkl", bytes], ...storages]));
      await readTensors(stateDict(await readCheckpoint(ranges, "x", { foreign })));
    },
  };
}

/** Whole checkpoints: archive, pickle and storages, or all of it in a row as before PyTorch 1.6. */
async function checkpointTarget(): Promise<FuzzTarget> {
  const names = [
    ...["plain_protocol2.pth", "parameters.pth", "tensor.pt", "sparse.pth"],
    ...["legacy.pth", "legacy_views.pth", "lightning_legacy.ckpt"],
  ];
  return {
    name: "checkpoint",
    count: 8_000,
    seeds: await Promise.all(names.map((name) => Deno.readFile(`${PYTORCH}/${name}`))),
    read: async (bytes) =>
      await readTensors(stateDict(await readCheckpoint(memoryRanges(bytes), "x", { foreign: "record" }))),
  };
}

const array = (shape: number[]): Bytes =>
  encodeNpy({ dtype: "float32", shape, data: new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(1.5) });

async function npzTarget(): Promise<FuzzTarget> {
  return {
    name: "npz",
    count: 15_000,
    seeds: [
      await Deno.readFile(`${GOLDEN}/deflated.npz`),
      packed([["a.npy", array([2, 3])], ["b.npy", array([])]]),
    ],
    tokens: [[0x50, 0x4b, 1, 2], [0x50, 0x4b, 3, 4], [0x50, 0x4b, 5, 6], [0x50, 0x4b, 6, 6], [
      0x50,
      0x4b,
      6,
      7,
    ], [8, 0]],
    read: async (bytes) => await decodeNpz(bytes, "x"),
  };
}

/** Arrays in archives that are sound, deflated ones among them: every damage reaches the array's header. */
function npyTarget(): FuzzTarget {
  const half = Uint8Array.from(
    text(
      `\u0093NUMPY\u0001\u0000v\u0000{'descr': '<f2', 'fortran_order': True, 'shape': (2, 2), }`.padEnd(128) +
        "12345678",
    ),
  );
  return {
    name: "npy",
    count: 15_000,
    seeds: [
      array([2, 3]),
      array([0, 4]),
      encodeNpy({ dtype: "int64", shape: [1], data: BigInt64Array.of(7n) }),
      half,
    ],
    tokens: [
      "'descr': '",
      "'shape': (",
      "(1, 1)",
      "99999999999,",
      "0,",
      "<f2",
      "<i8",
      "|b1",
      "True",
      ")",
      "1 2",
    ],
    read: (bytes) => decodeOwnNpy(bytes, "x"),
  };
}

function jsonTarget(): FuzzTarget {
  const seeds = [
    { "weight_map": { a: "m-1.safetensors", b: "m-2.safetensors" } },
    {
      "image_processor_type": "BitImageProcessor",
      size: { "shortest_edge": 256 },
      resample: 3,
      "do_center_crop": true,
      "crop_size": { height: 224, width: 224 },
      "image_mean": [0.485, 0.456, 0.406],
      "image_std": [0.229, 0.224, 0.225],
    },
    {
      "model_type": "dinov2",
      "patch_size": 14,
      "hidden_size": 384,
      "num_hidden_layers": 12,
      "num_attention_heads": 6,
    },
    {
      "model_type": "dinov3_vit",
      "patch_size": 16,
      "hidden_size": 384,
      "num_hidden_layers": 2,
      "num_attention_heads": 6,
      "intermediate_size": 1536,
      "num_register_tokens": 4,
    },
  ];
  return {
    name: "JSON settings",
    count: 20_000,
    seeds: seeds.map(json),
    tokens: JSON_TOKENS,
    read(bytes, index) {
      const value = parseJson(bytes, "x", WeightsError), kinds = [parseWeightMap, parsePreprocessorConfig];
      const refusals: unknown[] = [];
      for (const parse of [...kinds, vitConfigFromTransformers]) {
        try {
          return parse(value, "x");
        } catch (error) {
          if (!(error instanceof ConfigError || error instanceof WeightsError)) throw error;
          refusals.push(error);
        }
      }
      throw refusals[index % refusals.length];
    },
  };
}

/** Tar headers carry a checksum; every second damaged archive has it right again. */
function cifarTarget(): FuzzTarget {
  const record = (label: number): Bytes => new Uint8Array(3073).fill(label * 20).fill(label, 0, 1);
  const names = [...[1, 2, 3, 4, 5].map((i) => `data_batch_${i}.bin`), "test_batch.bin"];
  const all = new Uint8Array(Buffer.concat(Array.from({ length: 10 }, (_, label) => record(label))));
  const files = names.map((name, i): [string, Bytes] => [name, i === 0 ? all : record(i)]);
  return {
    name: "CIFAR-10",
    count: 4_000,
    seeds: [
      tarArchive(files),
      tarArchive([...files, ["batches.meta.txt", text("a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n")]]),
    ],
    tokens: ["-0001000\0", "77777777777", "ustar"],
    read(bytes, index) {
      if (index % 2 === 0) repairTar(bytes);
      return decodeCifar10(cifar10Archive("x", bytes), { path: "x" });
    },
  };
}

function repairTar(bytes: Uint8Array): void {
  for (let at = 0; at + 512 <= bytes.length; at += 512) {
    const header = bytes.subarray(at, at + 512);
    if (!new TextDecoder().decode(header.subarray(0, 100)).includes(".bin")) continue;
    header.fill(0x20, 148, 156);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.set(text(sum.toString(8).padStart(6, "0") + "\0 "), 148);
  }
}

/** Readers of foreign files, with sound files to damage. */
export const FUZZ_TARGETS: readonly FuzzTarget[] = [
  await headerTarget(),
  await safetensorsTarget(),
  await pickleTarget(),
  await checkpointTarget(),
  await npzTarget(),
  npyTarget(),
  jsonTarget(),
  cifarTarget(),
];
