/** `novae sample` on files: what it refuses, published weights, folders of images that processes share. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  type AutoencoderConfig,
  denormalizeLatents,
  initAutoencoder,
  type LatentStats,
  loadAutoencoder,
  namedAutoencoder,
  saveAutoencoder,
} from "novae/autoencoder/mod.ts";
import { imageBytes } from "novae/data/mod.ts";
import {
  ditConfig,
  type DitParams,
  initDit,
  knownPrediction,
  readPublishedDit,
  sampleLatents,
  saveDiffusion,
} from "novae/diffusion/mod.ts";
import { decodeImage, readNpz } from "novae/io/mod.ts";
import { float32, type HostTensor, isHostTensor, mapTree, Rng } from "novae/tensor/mod.ts";
import { command, isRefused, killedAt, succeeds } from "./commands_fixture.ts";

const published = fileURLToPath(new URL("golden/published_dit", import.meta.url));
const golden = (name: string) => join(published, `${name}.pt`);

function statsOf(channels: number, shift = 0): LatentStats {
  const mean = Float32Array.from({ length: channels }, (_, c) => c / 10 + shift);
  return { mean, std: new Float32Array(channels).fill(0.5), count: 100 };
}

/** An autoencoder of [grid², channels] latents and 4 pixels a token, with random weights; its path and hash. */
async function vae(path: string, channels: number, grid: number, seed = 2): Promise<string> {
  const named = namedAutoencoder("tiny", { space: "vae", imageSize: 4 * grid, patchSize: 4 });
  const config: AutoencoderConfig = { ...named, vae: { ...named.vae!, channels } };
  const params = initAutoencoder(new Rng(seed), config);
  await saveAutoencoder(path, { config, params, stats: statsOf(channels) });
  return (await loadAutoencoder(path)).hash;
}

/** A transformer whose velocity depends on everything. */
async function transformer(
  path: string,
  { classes = 3, channels = 4, stats = statsOf(channels), ...metadata }: {
    classes?: number;
    channels?: number;
    stats?: LatentStats;
    autoencoder?: string;
    settings?: string;
  } = {},
): Promise<string> {
  const config = ditConfig("tiny", { channels, grid: 2, classes }), rng = new Rng(5);
  const params = mapTree<DitParams<HostTensor>>(initDit(rng, config), isHostTensor, (leaf, at) => {
    const { data, shape } = leaf as { data: Float32Array; shape: readonly number[] };
    const extra = rng.split("extra", at).normal(data.length);
    return float32(data.map((v, i) => v + 0.1 * extra[i]), shape);
  });
  await saveDiffusion(path, { config, params, space: "vae", latents: stats, metadata });
  return path;
}

interface Files {
  readonly folder: string;
  /** `sample` with a model and its autoencoder. */
  readonly args: readonly string[];
  /** Hash of the autoencoder. */
  readonly hash: string;
}

async function inFolder(body: (files: Files) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir(), autoencoder = `${folder}/vae.safetensors`;
  try {
    const hash = await vae(autoencoder, 4, 2);
    const model = await transformer(`${folder}/model.safetensors`, { autoencoder: hash });
    const files = ["--model", model, "--autoencoder", autoencoder, "--out", `${folder}/samples.png`];
    await body({
      folder,
      hash,
      args: ["sample", ...files, "--count", "6", "--steps", "2", "--device", "cpu"],
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("sampling refuses in one line what fits neither the autoencoder nor the model that is guided", () =>
  inFolder(async ({ folder, args, hash }) => {
    const other = `${folder}/other.safetensors`, otherHash = await vae(other, 4, 2, 3);
    const model = (
      name: string,
      ...options: Parameters<typeof transformer> extends [string, ...infer R] ? R : never
    ) => transformer(`${folder}/${name}.safetensors`, ...options);
    await isRefused(
      [...args, "--autoencoder", other],
      new RegExp(`${hash.slice(0, 12)}…, got ${otherHash.slice(0, 12)}`),
    );
    const strange = await model("strange", { autoencoder: otherHash });
    await isRefused([...args, "--model", strange], /trained on latents of autoencoder/);
    await isRefused([...args, "--weak-model", strange], /strange.*trained on latents of autoencoder/);
    const shifted = await model("shifted", { autoencoder: hash, stats: statsOf(4, 0.01) });
    await isRefused(
      [...args, "--weak-model", shifted],
      /Cannot guide with .*shifted.*: the mean of latent channel 0 must be 0.000 as in the model .*, got 0.01000/,
    );
    const wider = { ...statsOf(4), std: Float32Array.of(0.5, 0.5, 0.6, 0.5) };
    await isRefused(
      [...args, "--weak-model", await model("wider", { stats: wider })],
      /the std of latent channel 2 must be 0.5000 .*, got 0.6000/,
    );
    await isRefused(
      [...args, "--model", await model("thin", { channels: 3 })],
      /must be \[4, 4\] .*got \[4, 3\]/,
    );
    await isRefused(
      [...args, "--weak-model", await model("fewer", { classes: 2 })],
      /its classes must be 3, got 2/,
    );
    const free = await model("free", { classes: 0 });
    await isRefused(
      [...args, "--model", free, "--cfg-scale", "2"],
      /must have classes, got an unconditional one/,
    );
    await isRefused([...args, "--model", free, "--label", "0"], /--label must be left out/);
    await succeeds(...args, "--model", free);
    const always = await model("always", { settings: JSON.stringify({ labelDropout: 0 }) });
    await isRefused([...args, "--model", always, "--cfg-scale", "2"], /trained with all labels, got 2/);
    await isRefused([...args, "--model", `${folder}/vae.safetensors`], /format must be novae\.diffusion\.1/);
    await isRefused([...args, "--model", `${folder}/none.safetensors`], /none\.safetensors: no such file/);
  }));

Deno.test("sampling refuses in one line values that mean nothing, before it draws", () =>
  inFolder(async ({ folder, args }) => {
    const refused = (message: RegExp, ...more: string[]) => isRefused([...args, ...more], message);
    await refused(/'--steps <n>' argument '0' is invalid\. must be a positive whole number/, "--steps", "0");
    await refused(/shift must be a positive number, got 0/, "--timestep-shift", "0");
    await refused(/shift must be a positive number, got -1/, "--timestep-shift", "-1");
    await refused(
      /'--timestep-shift <s>' argument 'much' is invalid. must be a number/,
      "--timestep-shift",
      "much",
    );
    await refused(/--label must be a class in \[0, 3\), or 3 for none, got 4/, "--label", "4");
    await refused(/'--label <n>' argument '' is invalid/, "--label", "");
    await refused(/--seed must be a whole number, got 0.5/, "--seed", "0.5");
    await refused(/cfgMode must be constant, late/, "--cfg-mode", "sometimes");
    await refused(
      /interval must lie in order within \[0, 1\], got \[0.8, 0.2\]/,
      "--cfg-interval",
      "0.8,0.2",
    );
    await refused(/diffusionNorm must be a number of 0 or more/, "--diffusion-norm", "-1");
    await refused(/is a folder, not a file/, "--out", folder);
    await refused(/leave out --npz and --columns/, "--folder", `${folder}/many`, "--npz", `${folder}/x.npz`);
    await refused(/--heads is for published models/, "--heads", "2");
    const cut = `${folder}/cut.safetensors`, whole = await Deno.readFile(`${folder}/model.safetensors`);
    for (const length of [whole.length - 8, 5, 0]) {
      await Deno.writeFile(cut, whole.subarray(0, length));
      await refused(/cut\.safetensors: .*(truncated|got another format)/, "--model", cut);
    }
    const left = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
    assert.deepEqual(left, ["cut.safetensors", "model.safetensors", "vae.safetensors"]);
  }));

Deno.test("the npz of samples is what the evaluator of guided-diffusion reads, with new folders made for it", () =>
  inFolder(async ({ folder, args }) => {
    const npz = `${folder}/new/place/samples.npz`;
    await succeeds(...args, "--npz", npz, "--columns", "100");
    const arrays = await readNpz(npz), images = arrays.get("arr_0")!;
    assert.deepEqual([images.dtype, images.shape], ["uint8", [6, 8, 8, 3]]);
    assert.deepEqual([...arrays.get("arr_1")!.data], [0, 1, 2, 0, 1, 2]);
    // Version 1.0 of the header, which it reads without numpy.load, of a stored array in C order.
    const bytes = await Deno.readFile(npz), header = String.fromCharCode(...bytes.subarray(0, 300));
    const start = header.indexOf("NUMPY") - 1;
    assert.deepEqual([...bytes.subarray(start, start + 8)], [
      0x93,
      ...new TextEncoder().encode("NUMPY"),
      1,
      0,
    ]);
    assert.match(header, /'descr': '\|u1', 'fortran_order': False, 'shape': \(6, 8, 8, 3\)/);
    const { width, height } = await decodeImage(`${folder}/samples.png`);
    assert.deepEqual([width, height], [6 * 10 - 2, 8]);
  }));

Deno.test("every way to step, to guide and to sum draws, and a weak model that is the model itself changes nothing", () =>
  inFolder(async ({ folder, args }) => {
    const draw = async (...more: string[]) => {
      await succeeds(...args, "--npz", `${folder}/x.npz`, ...more);
      return (await readNpz(`${folder}/x.npz`)).get("arr_0")!.data as Uint8Array;
    };
    const plain = await draw();
    const four = await draw("--steps", "4");
    const differs = (a: Uint8Array, b = plain) =>
      a.reduce((most, v, i) => Math.max(most, Math.abs(v - b[i])), 0);
    for (const sampler of ["heun", "midpoint", "dpmpp2m", "dopri5", "eulerMaruyama"]) {
      assert.equal((await draw("--sampler", sampler)).length, plain.length);
    }
    for (const mode of ["constant", "late", "early", "early-0.6", "linear", "cfg_star-1-0.5"]) {
      assert.ok(differs(await draw("--steps", "4", "--cfg-scale", "4", "--cfg-mode", mode), four) > 0, mode);
    }
    assert.ok(differs(await draw("--trajectory", "float64")) <= 1);
    assert.ok(differs(await draw("--workers", "2")) <= 1);
    const itself = ["--weak-model", `${folder}/model.safetensors`, "--cfg-scale", "3"];
    assert.ok(differs(await draw(...itself)) <= 1);
  }));

Deno.test("a folder of samples survives a kill, and two processes that go on at once leave the images of one batch", () =>
  inFolder(async ({ folder, args }) => {
    const many = `${folder}/many`, sampling = [...args, "--count", "24", "--steps", "10"];
    const shared = [...sampling, "--folder", many, "--images-per-part", "2", "--batch-size", "2"];
    await killedAt(`${many}/parts/part-00001.npy`, shared);
    const ends = await Promise.all([0, 1].map(() => command(shared).output()));
    const drawn = ends.map(({ code, stdout, stderr }) => {
      assert.equal(code, 0, new TextDecoder().decode(stderr));
      return Number(/ (\d+) of them drawn now/.exec(new TextDecoder().decode(stdout))![1]);
    });
    assert.ok(drawn[0] + drawn[1] <= 20, `${drawn} drawn after the kill, 4 were there`);
    await succeeds(...sampling, "--npz", `${folder}/whole.npz`);
    const [parts, whole] = await Promise.all(
      [`${many}/samples.npz`, `${folder}/whole.npz`].map((path) => readNpz(path)),
    );
    const [a, b] = [parts, whole].map((arrays) => arrays.get("arr_0")!.data as Uint8Array);
    assert.equal(a.length, b.length);
    assert.ok(a.every((byte, i) => Math.abs(byte - b[i]) <= 1));
    const left = [...Deno.readDirSync(many)].map(({ name }) => name).sort();
    assert.deepEqual(left, ["images", "images.json", "samples.npz"]);
    assert.equal([...Deno.readDirSync(`${many}/images`)].length, 24);
    await isRefused([...shared, "--seed", "9"], /"config.seed" is 0 there and 9 here/);
  }));

Deno.test("SVG's published weights are sampled in the autoencoder's space, with its statistics or given ones", () =>
  inFolder(async ({ folder }) => {
    const file = `${folder}/vae-5.safetensors`, npz = `${folder}/x.npz`;
    await vae(file, 5, 3);
    const args = ["sample", "--model", golden("svg"), "--autoencoder", file, "--device", "cpu"];
    args.push("--out", `${folder}/x.png`, "--steps", "3", "--count", "4", "--cfg-scale", "2");
    await succeeds(...args, "--npz", npz);
    const { config, params } = await readPublishedDit(golden("svg")), labels = [0, 1, 2, 0];
    const request = { config, params, labels, seed: 0, steps: 3, cfgScale: 2, device: "cpu" } as const;
    const autoencoder = await loadAutoencoder(file, { device: "cpu" });
    const z = denormalizeLatents(await sampleLatents(request), statsOf(5));
    const { data } = imageBytes(await autoencoder.decode(z));
    await autoencoder.dispose();
    assert.deepEqual((await readNpz(npz)).get("arr_0")!.data, data);
    await isRefused([...args, "--prediction", "noise"], /it predicts the velocity, got the prediction noise/);
    await isRefused([...args, "--statistics", `${folder}/none.pt`], /none\.pt/);
    await isRefused([...args, "--model", golden("lightning")], /latents must be \[9, 5\] .*, got \[16, 3\]/);
  }));

Deno.test("weights that predict noise, or may, or whose time runs backwards are refused", () =>
  inFolder(async ({ folder }) => {
    const file = `${folder}/vae-3.safetensors`;
    await vae(file, 3, 6);
    const args = ["sample", "--model", golden("dit"), "--autoencoder", file, "--device", "cpu"];
    args.push("--out", `${folder}/x.png`);
    const few = ["--count", "2", "--steps", "1"];
    await isRefused([...args], /without query-key normalisation, "heads" must be given/);
    await isRefused([...args, "--heads", "2"], /of SiT.*and of DiT, which predict noise, look the same/);
    await isRefused(
      [...args, "--heads", "2", "--prediction", "noise"],
      /samplers follow a velocity, got weights that predict noise at 1,000 steps, as DiT's do/,
    );
    await succeeds(...args, "--heads", "2", "--prediction", "velocity", ...few);
    assert.equal((await decodeImage(`${folder}/x.png`)).width, 2 * 26 - 2);
    await isRefused(
      [...args, "--model", golden("rae")],
      /RAE's names, whose time runs the other way/,
    );
    const known = async (name: string) =>
      knownPrediction(await readPublishedDit(golden(name), { heads: 2, foreign: "record" }));
    assert.deepEqual(
      [
        await known("dit"),
        await known("svg_plain"),
        await known("swiglu"),
        await known("norm"),
        await known("rope"),
      ],
      [undefined, "velocity", "velocity", "velocity", "velocity"],
    );
  }));
