import assert from "node:assert/strict";
import { type HostTensor, Rng, WeightsError } from "novae/tensor/mod.ts";
import {
  hashBytes,
  type LazyTensor,
  openWeights,
  PickleGlobal,
  type PickleObject,
  type PickleValue,
  readPytorchCheckpoint,
  readTensors,
  stateDict,
} from "novae/io/mod.ts";
import { decodeZip, encodeZip } from "novae/io/zip.ts";

const GOLDEN = "tests/golden/pytorch_checkpoints"; // written by pytorch_checkpoints.py beside it
type Expected = Record<string, Record<string, [string, number[], (number | string)[]]>>;
const expected: Expected = JSON.parse(await Deno.readTextFile(`${GOLDEN}/expected.json`));
const NOT_FINITE: Record<string, number> = { nan: NaN, inf: Infinity, "-inf": -Infinity };

/** These hold classes that are no part of tensors. */
const HOLD_MORE = /^(lightning.*|module\.pt|parameters\.pth)$/;

function plain({ dtype, shape, data }: HostTensor): [string, readonly number[], number[]] {
  return [dtype, shape, [...data]];
}

async function readAll(tensors: ReadonlyMap<string, LazyTensor>): Promise<Record<string, unknown>> {
  return Object.fromEntries([...await readTensors(tensors)].map(([name, tensor]) => [name, plain(tensor)]));
}

function wanted(file: string): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(expected[file]).map(([name, [dtype, shape, values]]) => [
      name,
      [dtype, shape, values.map((value) => typeof value === "string" ? NOT_FINITE[value] : value)],
    ]),
  );
}

for (const file of Object.keys(expected).filter((name) => !/too_wide|complex/.test(name))) {
  Deno.test(`${file} gives bit for bit what PyTorch reads`, async () => {
    const options = HOLD_MORE.test(file) ? { foreign: "record" } as const : {};
    const tensors = stateDict(await readPytorchCheckpoint(`${GOLDEN}/${file}`, options));
    assert.deepEqual(await readAll(tensors), wanted(file));
    for (const tensor of tensors.values()) {
      const { dtype, shape } = await tensor.read();
      assert.deepEqual([dtype, shape], [tensor.dtype, tensor.shape], "known before it is read");
    }
  });
}

Deno.test("a trainer's checkpoint keeps its settings and callbacks as records that do not run", async () => {
  for (const protocol of [2, 4, 5]) {
    const { tree } = await readPytorchCheckpoint(`${GOLDEN}/lightning_protocol${protocol}.ckpt`, {
      foreign: "record",
    });
    const at = (...keys: string[]): PickleValue =>
      keys.reduce<PickleValue>((node, key) => (node as Map<PickleValue, PickleValue>).get(key)!, tree);
    assert.equal(at("epoch"), 3);
    assert.equal(at("global_step"), 2 ** 40 + 1);
    assert.deepEqual(at("callbacks", "ModelCheckpoint{'monitor': 'loss'}", "best"), 0.25);
    assert.deepEqual(
      at("callbacks", "ModelCheckpoint{'monitor': 'loss'}", "mode"),
      new Set(["min", "max"]),
    );
    const settings = at("hyper_parameters", "settings") as PickleObject;
    assert.equal(settings.type, "some_trainer.Settings");
    const schedule = settings.attributes.get("schedule") as PickleObject;
    assert.equal(schedule.attributes.get("owner"), schedule, "objects that know themselves");
    assert.equal((settings.attributes.get("paths") as PickleObject[])[0].type, "pathlib.PurePosixPath");
    const given = at("hyper_parameters", "arguments") as PickleObject;
    assert.equal(given.type, "argparse.Namespace");
    assert.deepEqual(
      Object.fromEntries(given.attributes),
      { size: [1, 2], big: 2n ** 70n, negative: -(2 ** 33), raw: Uint8Array.of(0, 255), none: null },
    );
    assert.equal(String(at("hyper_parameters", "act")), "torch.nn.modules.activation.GELU");
    assert.ok(at("hyper_parameters", "dtype") instanceof PickleGlobal);
    assert.equal(at("hyper_parameters", "device"), "cuda:1");
    assert.deepEqual(at("hyper_parameters", "shape"), [2, 3]);
    assert.deepEqual(at("hyper_parameters", "frozen"), new Set([1]));
    assert.deepEqual(at("hyper_parameters", "default"), new Map([["a", 1]]));
    const ratio = at("hyper_parameters", "ratio") as PickleObject;
    assert.match(ratio.type, /^(builtins|__builtin__)\.complex$/);
    assert.deepEqual(ratio.args, [1, 2]);
    const items = at("hyper_parameters", "items") as PickleObject;
    assert.deepEqual([items.type, items.items.get("first")], ["some_trainer.MyDict", 1]);
  }
});

Deno.test("weights are chosen by the beginning of their names", async () => {
  const path = `${GOLDEN}/lightning_protocol2.ckpt`,
    checkpoint = await readPytorchCheckpoint(path, { foreign: "record" });
  assert.deepEqual([...stateDict(checkpoint, "state_dict").keys()], ["model.weight", "model.bias"]);
  assert.deepEqual([...stateDict(checkpoint, "state_dict.model").keys()], ["weight", "bias"]);
  const { tensors, files } = await openWeights(path, { prefix: "ema", foreign: "record" });
  assert.deepEqual(
    plain(await tensors.get("weight")!.read()),
    wanted("lightning_protocol2.ckpt")["ema.weight"],
  );
  assert.deepEqual(files, [path]);
  assert.throws(() => stateDict(checkpoint, "teacher"), {
    name: "WeightsError",
    message:
      `Cannot read weights ${path}: names must begin with "teacher.", got state_dict, ema, optimizer_states, hyper_parameters, statistics`,
  });
});

Deno.test("what cannot be read is named", async () => {
  const open = async (name: string, prefix?: string): Promise<Map<string, LazyTensor>> =>
    stateDict(await readPytorchCheckpoint(`${GOLDEN}/${name}`), prefix);
  await assert.rejects(open("complex.pth"), {
    name: "WeightsError",
    message: /complex\.pth: "phase" must be a plain tensor, but its type is torch\.ComplexFloatStorage$/,
  });
  await assert.rejects(
    open("unsigned.pth"),
    /"unsigned" must be a plain tensor, but its type is torch\.uint16$/,
  );
  await assert.rejects(
    open("sparse.pth"),
    /"w" must be a plain tensor, but it is made by .*_rebuild_sparse_tensor$/,
  );
  await assert.rejects((await open("too_wide.pth")).get("count")!.read(), {
    name: "WeightsError",
    message:
      `Cannot read weights ${GOLDEN}/too_wide.pth: "count" must fit into 32-bit integers, got 1099511627776`,
  });
  await assert.rejects(open("script.pt"), /it is a TorchScript program: save its state_dict\(\)/);
  await assert.rejects(
    open("legacy_complex.pth"),
    /legacy_complex\.pth: "phase\.w" must be a plain tensor, but its type is torch\.ComplexFloatStorage$/,
  );
  assert.deepEqual(await readAll(await open("legacy_complex.pth", "good")), {
    w: wanted("legacy_complex.pth")["good.w"],
  });
});

/** The files of a golden checkpoint, changed and packed anew. */
async function repacked(
  name: string,
  change: (files: Map<string, Uint8Array>) => void,
): Promise<string> {
  const files: Map<string, Uint8Array> = await decodeZip(await Deno.readFile(`${GOLDEN}/${name}`), name);
  change(files);
  const path = await Deno.makeTempFile({ suffix: ".pth" });
  await Deno.writeFile(path, new Uint8Array(await new Blob(encodeZip(files) as BlobPart[]).arrayBuffer()));
  return path;
}

Deno.test("a checkpoint of a big-endian machine reads as the same numbers", async () => {
  const widths: Record<string, number> = { float64: 8, int64: 8, float32: 4, int32: 4, scalar: 4 };
  const order = Object.keys(expected["types.pth"]); // torch numbers storages in this order
  const path = await repacked("types.pth", (files) => {
    files.set("types/byteorder", new TextEncoder().encode("big"));
    order.forEach((name, key) => {
      const width = widths[name] ?? (/16/.test(name) ? 2 : 1), bytes = files.get(`types/data/${key}`)!;
      for (let i = 0; i < bytes.length; i += width) bytes.subarray(i, i + width).reverse();
    });
  });
  assert.deepEqual(await readAll((await openWeights(path)).tensors), wanted("types.pth"));
  await Deno.remove(path);
});

Deno.test("every truncation of a checkpoint is refused", async () => {
  const whole = await Deno.readFile(`${GOLDEN}/plain_protocol2.pth`), path = await Deno.makeTempFile();
  for (let length = 0; length < whole.length; length += 7) {
    await Deno.writeFile(path, whole.subarray(0, length));
    await assert.rejects(readPytorchCheckpoint(path), (error: Error) => {
      assert.ok(error instanceof WeightsError && error.message.includes(path), String(error));
      return /truncated|another format/.test(error.message);
    });
  }
  await Deno.remove(path);
  await assert.rejects(readPytorchCheckpoint(path), {
    name: "WeightsError",
    message: /no such file or folder$/,
  });
  await assert.rejects(readPytorchCheckpoint(GOLDEN), {
    name: "WeightsError",
    message: /it must be a file$/,
  });
});

Deno.test("a checkpoint with damaged bytes reads or is refused as weights, whatever the damage", async () => {
  const path = await Deno.makeTempFile(), rng = new Rng(11), outcomes = { read: 0, refused: 0 };
  for (const name of ["plain_protocol2.pth", "views.pth", "lightning_protocol4.ckpt", "module.pt"]) {
    const whole = await Deno.readFile(`${GOLDEN}/${name}`);
    for (let i = 0; i < 200; i++) {
      const bytes = whole.slice();
      for (let flips = 1 + rng.int(3); flips > 0; flips--) bytes[rng.int(bytes.length)] = rng.int(256);
      await Deno.writeFile(path, bytes);
      try {
        await readTensors(stateDict(await readPytorchCheckpoint(path, { foreign: "record" })));
        outcomes.read++;
      } catch (error) {
        assert.ok(error instanceof WeightsError, `${name} ${i}: ${(error as Error).stack}`);
        outcomes.refused++;
      }
    }
  }
  assert.ok(outcomes.read > 50 && outcomes.refused > 50, JSON.stringify(outcomes));
  await Deno.remove(path);
});

Deno.test("a file that changes after it was opened is not read", async () => {
  const path = await Deno.makeTempFile();
  await Deno.copyFile(`${GOLDEN}/plain_protocol2.pth`, path);
  const { tensors } = await openWeights(path);
  await Deno.writeFile(path, new Uint8Array(100));
  await assert.rejects(tensors.get("layer.weight")!.read(), /the file was changed since it was opened$/);
  await Deno.remove(path);
});

Deno.test("damaged archives are refused", async () => {
  const cases: [(files: Map<string, Uint8Array>) => void, RegExp][] = [
    [(files) => files.delete("plain_protocol2/data.pkl"), /got a zip archive without data\.pkl$/],
    [(files) => files.delete("plain_protocol2/data/1"), /storage 1 is missing from the archive$/],
    [
      (files) => files.set("plain_protocol2/data/1", new Uint8Array(4)),
      /storage 1 of 3 elements needs 12 bytes, got 4$/,
    ],
    [
      (files) => files.set("plain_protocol2/byteorder", Uint8Array.of(0x58)),
      /byte order must be little or big, got X$/,
    ],
    [
      (files) => files.set("plain_protocol2/data.pkl", new Uint8Array(0)),
      /its pickle is damaged: it is truncated/,
    ],
  ];
  for (const [change, message] of cases) {
    const path = await repacked("plain_protocol2.pth", change);
    await assert.rejects(readPytorchCheckpoint(path), (error: Error) => {
      assert.ok(error instanceof WeightsError, String(error));
      assert.match(error.message, message);
      return true;
    });
    await Deno.remove(path);
  }
});

const TAEF2 = "../shared/data/taef2";
const present = await Deno.stat(TAEF2).then(() => true, () => false);
if (!present) console.warn(`Skipped: a real pretrained model is read only where ${TAEF2} is present.`);

/**
 * torch 2.13.0: for v in torch.load(path).values(): sha256.update(v.float().contiguous().numpy().tobytes()), which is
 * {@link hashBytes} of all tensors in the order of the file.
 */
const REAL: [string, string][] = [
  ["taef2_encoder.pth", "f488758d94d698cb2ae99f8f8023b91697fdd1642fa1dd1ac2bab692e559a9ae"],
  ["taef2_decoder.pth", "2228fd255ef85e2a82167198e5077374fc59998e4ecb6aa628245cdd5d1927b0"],
];

for (const [file, hash] of REAL) {
  Deno.test({
    name: `the real pretrained model ${file} gives bit for bit what PyTorch reads`,
    ignore: !present,
    fn: async () => {
      const { tensors } = await openWeights(`${TAEF2}/${file}`);
      assert.ok([...tensors.values()].every(({ stored }) => stored === "F16"));
      const read = await readTensors(tensors);
      assert.equal(hashBytes(...[...read.values()].map(({ data }) => data)), hash);
    },
  });
}
