/** The command `extract` in processes of their own. */
import assert from "node:assert/strict";
import { main } from "novae/cli/mod.ts";
import { openShards } from "novae/data/mod.ts";
import { DinoEncoder, loadEncoder } from "novae/dino/mod.ts";
import { Rng } from "novae/tensor/mod.ts";
import { hashes, inFolder, writeEncoder, writeImages } from "./extraction_fixture.ts";
import { withHub } from "./hub_fixture.ts";

const IMAGES = 300;

/** The command's arguments for the images and the encoder of a place. */
const args = (root: string, out: string, ...more: string[]): string[] => {
  const given = {
    data: `${root}/images`,
    encoder: `${root}/encoder.safetensors`,
    out: `${root}/${out}`,
    device: "cpu",
  };
  return [...Object.entries(given).flatMap(([key, value]) => [`--${key}`, value]), ...more];
};
const SMALL = ["--rows-per-shard", "16", "--batch-size", "1", "--workers", "2"];

function command(given: readonly string[], env: Record<string, string> = {}): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", "lib/cli/main.ts", "extract", ...given],
    env: { NO_COLOR: "1", ...env },
    stdout: "piped",
    stderr: "piped",
  });
}

async function novae(
  given: readonly string[],
  env: Record<string, string> = {},
): Promise<{ code: number; out: string; err: string }> {
  const { code, stdout, stderr } = await command(given, env).output(), decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

/** The command in this process, with the lines that it prints. */
async function inProcess(given: readonly string[]): Promise<{ code: number; out: string[]; err: string[] }> {
  const { log, error } = console, out: string[] = [], err: string[] = [];
  console.log = (line: string) => out.push(line);
  console.error = (line: string) => err.push(line);
  try {
    return { code: await main(["extract", ...given]), out, err };
  } finally {
    Object.assign(console, { log, error });
  }
}

/** A place with an encoder and images. */
async function withImages(count: number, use: (root: string) => Promise<void>): Promise<void> {
  await inFolder(async (root) => {
    await writeEncoder(`${root}/encoder.safetensors`);
    await writeImages(`${root}/images`, count);
    await use(root);
  });
}

function shardsIn(folder: string): number {
  try {
    return [...Deno.readDirSync(folder)].filter(({ name }) => /^shard-\d+\.safetensors$/.test(name)).length;
  } catch {
    return 0; // not made yet
  }
}

Deno.test("extract says what it wrote, in words and as JSON, and how far it is", () =>
  withImages(20, async (root) => {
    const first = await novae(args(root, "out", "--dtype", "fp32", "--tokens", "both"));
    assert.equal(first.code, 0, first.err);
    assert.match(
      first.out,
      /^20 images in .*\/out: cls \[16\], patches \[16, 16\] in fp32, 0\.0 MB\n20 of them encoded now on cpu \(asked for\) in [\d.]+ s\n$/,
    );
    assert.match(
      first.err,
      /^Extract folder\/images …\n(Extract .* · \d+ of 20.*\n)*Extract folder\/images: 20 images encoded in [\d.]+ s\n$/,
    );
    const again = await novae(args(root, "out", "--dtype", "fp32", "--json"));
    const { folder, device, count, made, tensors, encoderHash } = JSON.parse(again.out);
    assert.deepEqual([folder, device, count, made], [`${root}/out`, "cpu", 20, 0]);
    assert.deepEqual(tensors, { cls: [16], patches: [16, 16] });
    assert.equal(encoderHash, (await DinoEncoder.load(`${root}/encoder.safetensors`)).hash);
  }));

Deno.test("extract takes solids and CIFAR-10, part and number given", () =>
  inFolder(async (root) => {
    await writeEncoder(`${root}/encoder.safetensors`);
    const rng = new Rng(1),
      record = (label: number) => [label, ...Array.from({ length: 3072 }, () => rng.int(256))];
    await Deno.mkdir(`${root}/cifar`);
    for (const part of ["train", "test"]) {
      const records = Array.from({ length: 12 }, (_, i) => record(i % 10)).flat();
      await Deno.writeFile(`${root}/cifar/a_${part}.bin`, Uint8Array.from(records));
    }
    const env = { NOVAE_CACHE: `${root}/cache` };
    const cases = [
      ["solids", ["--data", "solids", "--split", "test", "--count", "11"], 11],
      ["cifar10", ["--data", "cifar10", "--path", `${root}/cifar`], 12],
    ] as const;
    for (const [name, chosen, count] of cases) {
      const { code, err } = await novae([...args(root, name, "--tokens", "cls"), ...chosen], env);
      assert.equal(code, 0, err);
      const store = await openShards(`${root}/${name}`), config = store.config as { data: { name: string } };
      assert.deepEqual([store.count, Object.keys(store.tensors)], [count, ["cls"]]);
      assert.equal(config.data.name, name === "solids" ? "solids/test" : "cifar10/train");
      assert.deepEqual([...store.labels], Array.from({ length: count }, (_, i) => i % 10));
      await store.close();
    }
  }));

Deno.test("extract takes an encoder from the hub and records its commit", () =>
  withHub(async ({ hub, cacheDir }) => {
    await withImages(5, async (root) => {
      const path = `${root}/encoder.safetensors`;
      hub.files = { "model.safetensors": { content: await Deno.readFile(path), lfs: true } };
      const env = { HF_ENDPOINT: hub.url, HF_HUB_CACHE: cacheDir, HF_TOKEN: "hf_x" };
      const { code, err } = await novae(args(root, "out", "--encoder", hub.repo), env);
      assert.equal(code, 0, err);
      const { source, hash } = JSON.parse(await Deno.readTextFile(`${root}/out/encoder.json`));
      assert.deepEqual([source.repository, source.commit], [hub.repo, hub.commit]);
      const { params, config } = await loadEncoder(path);
      assert.equal(hash, new DinoEncoder(config, params).hash);
    });
  }));

Deno.test("killed again and again and gone on with, extract leaves the bytes of an undisturbed run", () =>
  withImages(IMAGES, async (root) => {
    const whole = await novae(args(root, "whole", ...SMALL));
    assert.equal(whole.code, 0, whole.err);
    let kills = 0;
    for (let had = 0; kills < 3; kills++) {
      const child = command(args(root, "killed", ...SMALL)).spawn(), end = child.output();
      const target = had + 2 + kills;
      while (shardsIn(`${root}/killed`) < target) await new Promise((resolve) => setTimeout(resolve, 1));
      child.kill("SIGKILL");
      await end;
      had = shardsIn(`${root}/killed`);
      assert.ok(had < Math.ceil(IMAGES / 16), "it was killed in the middle");
      await assert.rejects(openShards(`${root}/killed`), /not all shards are made yet/);
    }
    const last = await novae(args(root, "killed", ...SMALL, "--json"));
    assert.equal(last.code, 0, last.err);
    const { count, made } = JSON.parse(last.out);
    assert.ok(count === IMAGES && made > 0 && made <= IMAGES - 16 * 2 * kills, `${made} of ${count}`);
    assert.doesNotMatch(last.err, /made again/);
    assert.deepEqual(await hashes(`${root}/killed`), await hashes(`${root}/whole`));
  }));

Deno.test("two processes share the images: none is encoded twice, and the bytes are those of one", () =>
  withImages(IMAGES, async (root) => {
    const [one, ...both] = await Promise.all([
      novae(args(root, "one", ...SMALL)),
      ...[1, 2].map(() => novae(args(root, "both", ...SMALL, "--json"))),
    ]);
    assert.deepEqual([one.code, ...both.map(({ code }) => code)], [0, 0, 0]);
    const made = both.map(({ out }) => JSON.parse(out).made);
    assert.equal(made[0] + made[1], IMAGES);
    assert.deepEqual(await hashes(`${root}/both`), await hashes(`${root}/one`));
  }));

Deno.test("what extract cannot use is told in one line with exit status 2, and nothing is written", () =>
  withImages(6, async (root) => {
    await Deno.mkdir(`${root}/empty`);
    const cases: [string[], RegExp][] = [
      [
        ["--encoder", "nowhere.pth"],
        /Cannot load encoder nowhere\.pth: no such file or folder; a repository/,
      ],
      [["--size", "30"], /size must be a multiple of the encoder's patch, 4, got 30 × 30$/],
      [["--size", "large"], /size must be a positive whole number, got NaN$/],
      [["--data", `${root}/empty`], /Cannot read images from .*empty: at least one/],
      [["--data", `${root}/none`], /Cannot list .*none: no such file or folder$/],
      [["--data", "cifar10"], /Cannot load cifar10: path must name its file or folder, got none$/],
      [["--count", "3"], /--count is for solids and cifar10/],
      [["--device", "abacus"], /Cannot use device: wanted one of auto, .*, got "abacus"$/],
      [["--device", "cuda"], /Cannot compile for device cuda: /],
      [["--tokens", "some"], /Allowed choices are cls, patches, both/],
      [["--batch-size", "0"], /must be a positive whole number/],
    ];
    for (const [more, message] of cases) {
      const { code, out, err } = await inProcess(args(root, "out", ...more));
      assert.deepEqual([code, out.length, err.length], [2, 0, 1], err.join("\n"));
      assert.match(err[0], /^novae: /);
      assert.match(err[0], message);
    }
    await assert.rejects(Deno.stat(`${root}/out`), Deno.errors.NotFound);
    assert.equal((await inProcess(args(root, "out"))).code, 0);
    const other = await inProcess(args(root, "out", "--size", "32"));
    assert.equal(other.code, 2);
    assert.match(
      other.err.at(-1)!,
      /^novae: Cannot write shards to .*out: it holds others, "config\.preprocessing\.resize/,
    );
    await Deno.writeTextFile(`${root}/images/bee/00003.png`, "no image");
    const damaged = await novae(args(root, "again"));
    assert.deepEqual([damaged.code, damaged.out], [2, ""]);
    assert.match(damaged.err, /^novae: Cannot decode .*bee\/00003\.png: .*$/m);
    assert.doesNotMatch(damaged.err, /\n +at /, "no stack trace");
  }));
