import assert from "node:assert/strict";
import { CheckpointError, float32, type HostTensor, int32, zeros } from "novae/tensor/mod.ts";
import { CheckpointStore } from "novae/experiment/mod.ts";

const CONFIG = { model: { width: 96 }, train: { learningRate: 1e-4 } };

interface Weights {
  blocks: { w: HostTensor; b: HostTensor | null }[];
}
interface State {
  step: HostTensor;
  params: Weights;
}

function trees(value: number): { weights: Weights; state: State } {
  const weights = { blocks: [{ w: float32([value, 2, 3, 4], [2, 2]), b: null }] };
  return { weights, state: { step: float32([value], []), params: weights } };
}

const LIKE = trees(0);

async function store(
  options: { keepLast?: number; config?: unknown; former?: Record<string, unknown> } = {},
  folder?: string,
) {
  const warnings: string[] = [];
  const path = folder ?? `${await Deno.makeTempDir()}/checkpoints`;
  const warn = (line: string) => warnings.push(line);
  return { warnings, checkpoints: new CheckpointStore(path, { config: CONFIG, warn, ...options }), path };
}

async function names(folder: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(folder))).map((entry) => entry.name).sort();
}

Deno.test("a checkpoint comes back equal, with empty leaves and plain values", async () => {
  const { checkpoints, path } = await store();
  assert.equal(await checkpoints.latest(), null);
  await checkpoints.save(500, { ...trees(7), meta: { imagesSeen: 32000, place: [1, 2] } });
  assert.deepEqual(await names(`${path}/step-000500`), [
    "state.json",
    "state.safetensors",
    "weights.safetensors",
  ]);
  assert.equal(await checkpoints.latest(), 500);
  const loaded = await checkpoints.load(500, LIKE);
  assert.deepEqual(loaded, { step: 500, ...trees(7), meta: { imagesSeen: 32000, place: [1, 2] } });
});

Deno.test("older checkpoints are removed after a newer one is whole, and none is overwritten", async () => {
  const { checkpoints, path } = await store({ keepLast: 2 });
  for (const step of [1, 2, 3, 1_000_000]) await checkpoints.save(step, trees(step));
  assert.deepEqual(await names(path), ["step-000003", "step-1000000"]);
  assert.deepEqual(await checkpoints.steps(), [3, 1_000_000]);
  await checkpoints.save(3, trees(99));
  assert.equal((await checkpoints.load(3, LIKE)).state.step.data[0], 3);
});

Deno.test("a checkpoint of another configuration is refused, naming the key, and stays untouched", async () => {
  const { checkpoints, path } = await store();
  await checkpoints.save(5, trees(5));
  const other = (await store({ config: { ...CONFIG, train: { learningRate: 0.2 } } }, path)).checkpoints;
  const refusal = {
    name: "CheckpointError",
    message: `Cannot use checkpoint ${path}/step-000005: it belongs to another configuration, ` +
      '"train.learningRate" is 0.0001 there and 0.2 here',
  };
  await assert.rejects(other.latest(), refusal);
  await assert.rejects(other.load(5, LIKE), refusal);
  await assert.rejects(other.save(5, trees(5)), refusal);
  assert.deepEqual((await checkpoints.load(5, LIKE)).state, trees(5).state);
});

Deno.test("a checkpoint from before a setting was added counts as having its former value, and no other", async () => {
  const { checkpoints, path } = await store();
  await checkpoints.save(5, trees(5));
  const config = (betas: number[]) => ({ ...CONFIG, train: { ...CONFIG.train, betas } });
  const former = { train: { betas: [0.9, 0.99], learningRate: 7 } };
  const same = (await store({ config: config([0.9, 0.99]), former }, path)).checkpoints;
  assert.deepEqual((await same.load(5, LIKE)).state, trees(5).state);
  const other = (await store({ config: config([0.5, 0.9]), former }, path)).checkpoints;
  await assert.rejects(other.load(5, LIKE), /"train\.betas\.0" is 0\.9 there and 0\.5 here/);
  const strict = (await store({ config: config([0.9, 0.99]) }, path)).checkpoints;
  await assert.rejects(strict.load(5, LIKE), /"train\.betas\.0" is absent there and 0\.9 here/);
});

Deno.test("a damaged newest checkpoint is reported and the one before it used", async () => {
  const damages: [string, (place: string) => Promise<void>, RegExp][] = [
    ["truncated", async (p) => await Deno.truncate(`${p}/state.safetensors`, 200), /truncated/],
    ["a bit", async (p) => {
      const bytes = await Deno.readFile(`${p}/weights.safetensors`);
      bytes[bytes.length - 1] ^= 1;
      await Deno.writeFile(`${p}/weights.safetensors`, bytes);
    }, /weights\.safetensors is damaged$/],
    ["missing", async (p) => await Deno.remove(`${p}/weights.safetensors`), /no such file or folder$/],
    ["no state", async (p) => await Deno.remove(`${p}/state.json`), /state\.json: no such file or folder$/],
    [
      "bad state",
      async (p) => await Deno.writeTextFile(`${p}/state.json`, '{"format": 2}'),
      /"format" must be 1, got 2/,
    ],
  ];
  for (const [what, damage, message] of damages) {
    const { checkpoints, path, warnings } = await store();
    await checkpoints.save(1, trees(1));
    await checkpoints.save(2, trees(2));
    await damage(`${path}/step-000002`);
    assert.equal(await checkpoints.latest(), 1, what);
    assert.equal(warnings.length, 1);
    assert.ok(warnings[0].startsWith(`Passing over checkpoint ${path}/step-000002: `), warnings[0]);
    assert.match(warnings[0], message);
    await assert.rejects(checkpoints.load(2, LIKE), CheckpointError);
    await checkpoints.save(2, trees(22)); // the damaged one makes way
    assert.equal((await checkpoints.load(2, LIKE)).state.step.data[0], 22);
    assert.deepEqual(await names(path), ["step-000001", "step-000002"]);
  }
});

Deno.test("a file cut off anywhere is noticed, and the checkpoint before it used", async () => {
  const { checkpoints, path, warnings } = await store();
  await checkpoints.save(1, trees(1));
  await checkpoints.save(2, trees(2));
  let cuts = 0;
  for (const file of ["state.json", "weights.safetensors", "state.safetensors"]) {
    const place = `${path}/step-000002/${file}`, bytes = await Deno.readFile(place);
    const whole = file.endsWith("json") ? bytes.length - 1 : bytes.length; // the last newline may be missing
    for (let length = 0; length < whole; length += length < 16 || whole - length < 16 ? 1 : 7) {
      await Deno.writeFile(place, bytes.subarray(0, length));
      assert.equal(await checkpoints.latest(), 1, `${file} cut to ${length} of ${bytes.length} bytes`);
      assert.equal(warnings.length, ++cuts);
      assert.ok(warnings.at(-1)!.startsWith(`Passing over checkpoint ${path}/step-000002: `));
      assert.ok(!warnings.at(-1)!.includes("\n"));
    }
    await Deno.writeFile(place, bytes);
    assert.equal(await checkpoints.latest(), 2);
  }
  assert.ok(cuts > 150, `${cuts} cuts`);
});

Deno.test("the checkpoint of the lowest score is kept beside the newest ones", async () => {
  const { checkpoints, path, warnings } = await store({ keepLast: 2 });
  assert.equal(await checkpoints.best(), null);
  const scores = [undefined, 0.5, 0.3, 0.4, 0.3, 0.9, undefined];
  const kept: number[][] = [];
  for (const [i, score] of scores.entries()) {
    await checkpoints.save(i + 1, { ...trees(i + 1), score });
    kept.push(await checkpoints.steps());
  }
  assert.deepEqual(kept, [[1], [1, 2], [2, 3], [3, 4], [3, 4, 5], [3, 5, 6], [3, 6, 7]]);
  assert.equal(await checkpoints.best(), 3);
  assert.equal((await checkpoints.load(3, LIKE)).state.step.data[0], 3);
  assert.equal(await checkpoints.latest(), 7);
  await Deno.truncate(`${path}/step-000003/weights.safetensors`, 9);
  assert.equal(await checkpoints.best(), 6);
  assert.equal(warnings.length, 1);
  for (const score of [NaN, Infinity]) {
    await assert.rejects(checkpoints.save(8, { ...trees(8), score }), {
      name: "RangeError",
      message: `Cannot write checkpoint: its score must be a finite number, got ${score}`,
    });
  }
  assert.deepEqual(await names(path), ["step-000003", "step-000006", "step-000007"]);
});

Deno.test("a training that went back finds the newest checkpoint up to a step and discards the later ones", async () => {
  const { checkpoints, path } = await store({ keepLast: 9 });
  for (const step of [10, 20, 30, 40]) await checkpoints.save(step, trees(step));
  assert.equal(await checkpoints.latest(9), null);
  assert.equal(await checkpoints.latest(20), 20);
  assert.equal(await checkpoints.latest(39), 30);
  await checkpoints.discardAfter(20);
  assert.deepEqual(await names(path), ["step-000010", "step-000020"]);
  await checkpoints.save(30, trees(33));
  assert.equal((await checkpoints.load(30, LIKE)).state.step.data[0], 33);
});

Deno.test("missing, unexpected and misshapen tensors are all listed", async () => {
  const { checkpoints, path } = await store();
  await checkpoints.save(1, trees(1));
  const like = {
    weights: { blocks: [{ w: zeros([4, 1]), extra: int32([1], [1]) }] },
    state: { step: int32([0], []) },
  };
  await assert.rejects(checkpoints.load(1, like), {
    name: "CheckpointError",
    message: `Cannot use checkpoint ${path}/step-000001: weights has "blocks.0.w" as float32 [2, 2] where ` +
      'float32 [4, 1] is needed; lacks "blocks.0.extra"',
  });
  await assert.rejects(checkpoints.load(1, { weights: LIKE.weights, state: like.state }), {
    message:
      /state has "step" as float32 \[\] where int32 \[\] is needed; has an unexpected "params\.blocks\.0\.w"$/,
  });
  await assert.rejects(checkpoints.load(9, LIKE), {
    name: "CheckpointError",
    message: /no such file or folder$/,
  });
});

Deno.test("what is no tensor is refused and leaves nothing behind", async () => {
  const { checkpoints, path } = await store();
  await checkpoints.save(1, trees(1));
  await assert.rejects(checkpoints.save(2, { weights: { w: 3 }, state: {} }), TypeError);
  assert.deepEqual(await names(path), ["step-000001"]);
  assert.throws(() => new CheckpointStore(path, { config: {}, keepLast: 0 }), RangeError);
});

Deno.test("leftovers of a killed save do not count and are cleared by the next one", async () => {
  const { checkpoints, path } = await store();
  await checkpoints.save(1, trees(1));
  await Deno.mkdir(`${path}/.tmp-step-000002`);
  await Deno.writeTextFile(`${path}/.tmp-step-000002/weights.safetensors`, "half");
  assert.equal(await checkpoints.latest(), 1);
  await checkpoints.save(3, trees(3));
  assert.deepEqual(await names(path), ["step-000001", "step-000003"]);
});

Deno.test("a process killed while it saves over and over leaves a whole newest checkpoint", async () => {
  for (const delay of [0, 3, 11, 20]) {
    const { checkpoints, path, warnings } = await store();
    const args = ["run", "-A", "--no-check", "tests/experiment_checkpoint_child.ts", path];
    const child = new Deno.Command(Deno.execPath(), { args, stdout: "piped", stderr: "null" }).spawn();
    const reader = child.stdout.getReader();
    let reported = 0, text = "";
    while (reported < 5) { // let it save a few, then kill it in the middle of something
      const { value, done } = await reader.read();
      assert.ok(!done, "the child ended by itself");
      text += new TextDecoder().decode(value);
      reported = text.split("\n").length - 1;
    }
    await new Promise((resolve) => setTimeout(resolve, delay));
    child.kill("SIGKILL");
    await child.status;
    await reader.cancel();
    const step = await checkpoints.latest();
    assert.ok(step !== null && step >= reported, `newest is ${step}, ${reported} were reported`);
    assert.deepEqual(warnings, []);
    const { state } = await checkpoints.load(step, { weights: zeros([64]), state: { w: zeros([30_000]) } });
    assert.ok(state.w.data.every((v) => v === step));
  }
});

const canMount = Deno.build.os === "linux" &&
  await new Deno.Command("unshare", { args: ["-rm", "mount", "-t", "tmpfs", "none", "/mnt"], stderr: "null" })
    .output().then(({ success }) => success, () => false);
if (!canMount) console.log("ignored: the full-disk test needs unshare and a tmpfs of its own");

Deno.test({
  name:
    "a file that may not grow any more fails the save in one line and leaves the earlier checkpoint whole",
  ignore: Deno.build.os === "windows",
  fn: async () => {
    const folder = await Deno.makeTempDir();
    // In blocks of 1,024 bytes; the signal that comes with the limit would end the process.
    const script = `trap "" XFSZ; ulimit -f 200; exec "$1" run -A --no-check "$2" "$3" limit`;
    const child = await new Deno.Command("bash", {
      args: ["-c", script, "bash", Deno.execPath(), "tests/experiment_checkpoint_child.ts", folder],
    }).output();
    assert.equal(child.code, 0, new TextDecoder().decode(child.stderr));
    assert.deepEqual(JSON.parse(new TextDecoder().decode(child.stdout)), {
      save: "NovaeError: Cannot write MOUNT/.tmp-step-000002/state.safetensors: " +
        "the file would be larger than this system allows",
      left: ["step-000001"],
      loaded: 1,
    });
  },
});

Deno.test({
  name: "a full disk fails the save in one line and leaves the earlier checkpoint and metrics whole",
  ignore: !canMount,
  fn: async () => {
    const mount = await Deno.makeTempDir();
    const script = `mount -t tmpfs -o size=400k none "$1" && exec "$2" run -A --no-check "$3" "$1" full`;
    const child = await new Deno.Command("unshare", {
      args: ["-rm", "sh", "-c", script, "sh", mount, Deno.execPath(), "tests/experiment_checkpoint_child.ts"],
    }).output();
    const output = new TextDecoder().decode(child.stdout);
    assert.equal(child.code, 0, new TextDecoder().decode(child.stderr));
    assert.deepEqual(JSON.parse(output), {
      save: "NovaeError: Cannot write MOUNT/.tmp-step-000002/state.safetensors: " +
        "no space left on the device; free some and run again",
      left: ["step-000001"],
      loaded: 1,
      metrics:
        "NovaeError: Cannot write MOUNT/metrics.jsonl: no space left on the device; free some and run again",
      whole: true,
      records: [{ step: 1 }],
    });
  },
});
