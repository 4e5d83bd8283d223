/** The command `encode`, and what is made of its latents, in processes of their own. */
import assert from "node:assert/strict";
import { main } from "novae/cli/mod.ts";
import { LATENTS, openLatents } from "novae/autoencoder/mod.ts";
import { openShards } from "novae/data/mod.ts";
import { loadDiffusion } from "novae/diffusion/mod.ts";
import { decodeImage } from "novae/io/mod.ts";
import { hashes, inFolder, writeImages } from "./extraction_fixture.ts";
import { withAutoencoder, writeTinyAutoencoder } from "./latents_fixture.ts";

const IMAGES = 200;
const SMALL = ["--rows-per-shard", "8", "--batch-size", "1", "--workers", "1"];

/** The command's arguments for the images and the autoencoder of a place. */
const args = (root: string, out: string, ...more: string[]): string[] => {
  const given = {
    data: `${root}/images`,
    autoencoder: `${root}/ae-svg.safetensors`,
    encoder: `${root}/encoder.safetensors`,
    out: `${root}/${out}`,
    device: "cpu",
  };
  return ["encode", ...Object.entries(given).flatMap(([key, value]) => [`--${key}`, value]), ...more];
};

function command(given: readonly string[]): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", "lib/cli/main.ts", ...given],
    env: { NO_COLOR: "1" },
    stdout: "piped",
    stderr: "piped",
  });
}

async function novae(given: readonly string[]): Promise<{ code: number; out: string; err: string }> {
  const { code, stdout, stderr } = await command(given).output(), decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

/** The command in this process, with the lines that it prints. */
async function inProcess(given: readonly string[]): Promise<{ code: number; out: string[]; err: string[] }> {
  const { log, error } = console, out: string[] = [], err: string[] = [];
  console.log = (line: string) => out.push(line);
  console.error = (line: string) => err.push(line);
  try {
    return { code: await main(given), out, err };
  } finally {
    Object.assign(console, { log, error });
  }
}

/** One line on standard error, exit status 2, nothing on standard output. */
async function refused(given: readonly string[], message: RegExp): Promise<void> {
  const { code, out, err } = await inProcess(given);
  const told = err.filter((line) => line.startsWith("novae: "));
  assert.deepEqual([code, out.length, told.length], [2, 0, 1], err.join("\n"));
  assert.match(told[0], message);
  assert.ok(!told[0].includes("\n"));
}

async function withImages(count: number, use: (root: string) => Promise<void>): Promise<void> {
  await inFolder(async (root) => {
    await writeTinyAutoencoder(root, "svg");
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

Deno.test("encode says what it wrote, in words and as JSON, and how far it is", () =>
  withImages(20, async (root) => {
    const first = await novae(args(root, "out", "--dtype", "fp32"));
    assert.equal(first.code, 0, first.err);
    assert.match(
      first.out,
      /^20 images in .*\/out: svg latents \[16, 18\], also mirrored, in fp32, 0\.0 MB\n20 of them encoded now on cpu \(asked for\) in [\d.]+ s\n$/,
    );
    assert.match(
      first.err,
      /^Encode folder\/images …\n(Encode .* · \d+ of 20.*\n)*Encode folder\/images: 20 images encoded in [\d.]+ s\n$/,
    );
    const again = await inProcess(args(root, "out", "--dtype", "fp32", "--json"));
    const { folder, space, count, made, shape, autoencoderHash } = JSON.parse(again.out[0]);
    assert.deepEqual([folder, space, count, made, shape], [`${root}/out`, "svg", 20, 0, [16, 18]]);
    assert.equal((await openLatents(`${root}/out`)).config.autoencoder.hash, autoencoderHash);
    assert.equal((await inProcess(args(root, "plain", "--no-flip"))).code, 0);
    assert.deepEqual(Object.keys((await openShards(`${root}/plain`)).tensors), [LATENTS]);
  }));

Deno.test("killed again and again and gone on with, encode leaves the bytes of an undisturbed run", () =>
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
      assert.ok(had < IMAGES / 8, "it was killed in the middle");
      await assert.rejects(openLatents(`${root}/killed`), /not all shards are made yet/);
    }
    const last = await novae(args(root, "killed", ...SMALL, "--json"));
    assert.equal(last.code, 0, last.err);
    const { count, made } = JSON.parse(last.out);
    assert.ok(count === IMAGES && made > 0 && made <= IMAGES - 8 * 2 * kills, `${made} of ${count}`);
    assert.deepEqual(await hashes(`${root}/killed`), await hashes(`${root}/whole`));
  }));

Deno.test("two processes share the images: none is encoded twice, and the bytes are those of one", () =>
  withImages(IMAGES, async (root) => {
    const [one, ...both] = await Promise.all([
      novae(args(root, "one", ...SMALL)),
      ...[1, 2].map(() => novae(args(root, "both", ...SMALL, "--json"))),
    ]);
    assert.deepEqual([one.code, ...both.map(({ code }) => code)], [0, 0, 0], both[0].err);
    const made = both.map(({ out }) => JSON.parse(out).made);
    assert.equal(made[0] + made[1], IMAGES);
    assert.deepEqual(await hashes(`${root}/both`), await hashes(`${root}/one`));
  }));

Deno.test("a transformer is trained on a folder of latents, goes on, and samples with their autoencoder alone", () =>
  withImages(24, async (root) => {
    assert.equal((await inProcess(args(root, "latents"))).code, 0);
    const train = (out: string, ...more: string[]) => [
      ...["train", "diffusion", "--latents", `${root}/latents`, "--size", "tiny", "--images", "40"],
      ...["--batch-size", "8", "--device", "cpu", "--out", `${root}/${out}.safetensors`, ...more],
      ...["--runs", `${root}/runs`, "--samples", "4", "--set", "evaluation.steps=2"],
    ];
    const trained = await inProcess(train("dit", "--autoencoder", `${root}/ae-svg.safetensors`));
    assert.equal(trained.code, 0, trained.err.join("\n"));
    const model = await loadDiffusion(`${root}/dit.safetensors`, { space: "svg" });
    const set = await openLatents(`${root}/latents`);
    assert.deepEqual(model.latents, set.stats);
    assert.deepEqual([model.config.channels, model.config.grid, model.config.classes], [18, 4, 3]);
    assert.equal(model.metadata.autoencoder, set.config.autoencoder.hash);
    assert.equal((await inProcess(train("again", "--resume"))).code, 0);
    assert.deepEqual((await loadDiffusion(`${root}/again.safetensors`)).params, model.params);

    const sample = (autoencoder: string) => [
      ...["sample", "--model", `${root}/dit.safetensors`, "--autoencoder", autoencoder, "--device", "cpu"],
      ...["--encoder", `${root}/encoder.safetensors`, "--steps", "2", "--count", "3"],
      ...["--out", `${root}/samples.png`],
    ];
    const sampled = await inProcess(sample(`${root}/ae-svg.safetensors`));
    assert.equal(sampled.code, 0, sampled.err.join("\n"));
    assert.equal((await decodeImage(`${root}/samples.png`)).height, 16);

    await Deno.mkdir(`${root}/other`);
    const other = await writeTinyAutoencoder(`${root}/other`, "svg", 9);
    await refused(sample(other), /trained on latents of autoencoder \w{12}…, got \w{12}…$/);
    await refused(train("x", "--autoencoder", other), /Cannot open latents .* must be of autoencoder/);
    // Latents of other images have other statistics.
    await writeImages(`${root}/more`, 12);
    await Deno.remove(`${root}/latents`, { recursive: true });
    assert.equal((await inProcess(args(root, "latents", "--data", `${root}/more`))).code, 0);
    await refused(train("x", "--resume"), /must be the same, "latents\.\w+(\.\w+)?" is/);
    await set.close();
  }));

Deno.test("what cannot be encoded or trained on is told in one line with exit status 2", () =>
  withImages(6, async (root) => {
    await Deno.mkdir(`${root}/empty`);
    await writeTinyAutoencoder(`${root}/empty`, "vae").then((path) =>
      Deno.rename(path, `${root}/vae.safetensors`)
    );
    await Deno.remove(`${root}/empty/encoder.safetensors`);
    const cases: [string[], RegExp][] = [
      [["--autoencoder", `${root}/none.safetensors`], /none\.safetensors/],
      [["--autoencoder", `${root}/encoder.safetensors`], /format must be novae-autoencoder-1/],
      [["--encoder", "nowhere.pth"], /Cannot load encoder nowhere\.pth: no such file or folder/],
      [["--data", `${root}/empty`], /Cannot read images from .*empty: at least one/],
      [["--data", "cifar10"], /Cannot load cifar10: path must name its file or folder, got none$/],
      [["--count", "3"], /Cannot encode latents: --count is for solids and cifar10/],
      [["--device", "abacus"], /Cannot use device: wanted one of auto, .*, got "abacus"$/],
      [["--dtype", "fp8"], /Allowed choices are fp16, fp32/],
      [["--batch-size", "0"], /must be a positive whole number/],
    ];
    for (const [more, message] of cases) await refused(args(root, "out", ...more), message);
    const without = args(root, "out").filter((arg) =>
      arg !== "--encoder" && !arg.endsWith("/encoder.safetensors")
    );
    await refused(without, /--encoder must name the frozen encoder of .*ae-svg\.safetensors, got none$/);
    await assert.rejects(Deno.stat(`${root}/out`), Deno.errors.NotFound);
    const vae = await inProcess([...without, "--autoencoder", `${root}/vae.safetensors`]);
    assert.equal(vae.code, 0, vae.err.join("\n"));
    await refused(
      args(root, "out"),
      /Cannot write shards to .*out: it holds others, "config\.autoencoder\.hash"/,
    );

    const train = (latents: string) => ["train", "diffusion", "--latents", latents, "--size", "tiny"];
    await refused(train(`${root}/nothing`), /must be a folder of them, or a file whose name ends in \.npz/);
    await refused(
      train(`${root}/images`),
      /Cannot open shards .*images: .*index\.json is missing: it is no folder/,
    );
    await Deno.remove(`${root}/out/index.json`);
    await refused(train(`${root}/out`), /not all shards are made yet, go on with writing them$/);
  }));

Deno.test("latents of the space vae need no encoder, and its hash does not depend on one that is given", () =>
  inFolder(async (root) => {
    const path = await writeTinyAutoencoder(root, "vae");
    await withAutoencoder(root, path, async (given) => {
      const { autoencoderHash } = await import("novae/cli/_autoencoder_file.ts");
      assert.equal(given.hash, await autoencoderHash(path));
    });
  }));
