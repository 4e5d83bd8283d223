/** The commands that train, resume and measure autoencoders. */
import assert from "node:assert/strict";
import { linearProbe } from "novae/analysis/mod.ts";
import { loadAutoencoder, readAutoencoder, SPACE_NAMES, trainsWithFeatures } from "novae/autoencoder/mod.ts";
import { loadDataset } from "novae/data/mod.ts";
import { DinoEncoder } from "novae/dino/mod.ts";
import { psnr, ssim } from "novae/evaluation/mod.ts";
import { decodeImage, hashFile, readJson, readSafetensors, writeSafetensors } from "novae/io/mod.ts";
import type { HostTensor } from "novae/tensor/mod.ts";
import { upTo } from "./autoencoder_fixture.ts";
import { isRefused, killedAt, succeeds, writeSplits } from "./commands_fixture.ts";
import { inFolder, writeEncoder } from "./extraction_fixture.ts";
import { writeTinyEncoder } from "./latents_fixture.ts";

/** Arguments of a training of seconds on image files. */
const train = (root: string, out: string, ...more: string[]): string[] => [
  ...["train", "autoencoder", "--space", "svg", "--data", "files", "--path", `${root}/images`],
  ...["--encoder", `${root}/encoder.safetensors`, "--image-size", "16", "--size", "tiny", "--device", "cpu"],
  ...[
    "--workers",
    "1",
    "--run",
    `${root}/runs/${out}`,
    "--out",
    `${root}/${out}`,
    "--images",
    "800",
    ...more,
  ],
];

/** The encoder of the tests and two parts of images, larger than the crop. */
async function withImages(use: (root: string) => Promise<void>): Promise<void> {
  await inFolder(async (root) => {
    await writeTinyEncoder(root);
    await writeSplits(`${root}/images`, { train: 30, test: 12 });
    await use(root);
  });
}

const CROPPED = [
  "--resize",
  "20",
  "--crop",
  "random",
  "--flip",
  "--evaluations",
  "4",
  "--checkpoint-every",
  "30",
];

Deno.test("a training on image files that is killed goes on and ends with the bits of an undisturbed one", () =>
  withImages(async (root) => {
    const printed = await succeeds(...train(root, "whole", ...CROPPED));
    assert.match(printed, /30 images to learn from, 12 held out/);
    assert.match(printed, /update 25: PSNR [\d.]+ dB, ssim [-\d.]+ on 12 held-out images/);
    const checkpoint = `${root}/runs/killed/checkpoints/step-000060/state.json`;
    await killedAt(checkpoint, train(root, "killed", ...CROPPED));
    await isRefused(train(root, "killed", ...CROPPED), /it has checkpoints up to step \d+; give --resume/);
    await isRefused(train(root, "killed", "--resume"), /another configuration/);
    assert.match(
      await succeeds(...train(root, "killed", ...CROPPED, "--resume")),
      /^going on from update \d+ of 100$/m,
    );
    assert.equal(await hashFile(`${root}/killed.safetensors`), await hashFile(`${root}/whole.safetensors`));
    const records = async (out: string) => {
      const lines = (await Deno.readTextFile(`${root}/runs/${out}/metrics.jsonl`)).trimEnd().split("\n");
      return lines.map((line) => JSON.parse(line)).map(({ time: _, ...record }) => record);
    };
    const whole = await records("whole");
    assert.deepEqual(await records("killed"), whole);
    const evaluations = whole.filter(({ kind }) => kind === "evaluation");
    assert.deepEqual(evaluations.map(({ step }) => step), [25, 50, 75, 100]);
    for (const { psnr, ssim, count } of evaluations) {
      assert.ok(psnr > 0 && Math.abs(ssim) <= 1 && count === 12);
    }
    for (const step of ["025", "050", "075", "100"]) {
      const name = `samples/step-000${step}.png`;
      const [a, b] = await Promise.all(
        ["whole", "killed"].map((out) => hashFile(`${root}/runs/${out}/${name}`)),
      );
      assert.equal(b, a);
    }
    const grid = await decodeImage(await Deno.readFile(`${root}/runs/whole/samples/step-000100.png`));
    assert.ok(
      grid.width > 8 * 64 && grid.height > 3 * 64,
      "eight images in three rows, each enlarged to 64 pixels",
    );
    const { curve, sha256, schedule } = await readJson(`${root}/killed.json`) as {
      curve: unknown[];
      sha256: string;
      schedule: Record<string, unknown>;
    };
    assert.equal(sha256, await hashFile(`${root}/killed.safetensors`));
    assert.deepEqual([schedule.crop, schedule.flip, schedule.resize], ["random", true, 20]);
    assert.equal(curve.length, 4);
  }));

Deno.test("every space is trained by the one command, from features in memory and online alike", () =>
  withImages(async (root) => {
    const held = (await loadDataset({ name: "folder", path: `${root}/images`, imageSize: 16 })).test;
    for (const space of SPACE_NAMES) {
      const given = ["--space", space, "--data", "folder", "--images", "40", "--evaluations", "1"];
      await succeeds(...train(root, space, ...given));
      const { config, encoderHash } = await readAutoencoder(`${root}/${space}.safetensors`);
      assert.equal(config.space, space);
      assert.equal(encoderHash !== undefined, trainsWithFeatures(space), space);
      const { curve, data } = await readJson(`${root}/${space}.json`) as {
        curve: { psnr: number; count: number }[];
        data: { test: number };
      };
      assert.deepEqual([curve.length, curve[0].count, data.test], [1, held.size, held.size]);
    }
    const results: Record<string, number> = {};
    for (const features of ["memory", "online"]) {
      const given = [
        "--data",
        "folder",
        "--images",
        "160",
        "--evaluations",
        "1",
        "--flip",
        "--features",
        features,
      ];
      await succeeds(...train(root, features, ...given));
      const { curve } = await readJson(`${root}/${features}.json`) as { curve: { psnr: number }[] };
      results[features] = curve[0].psnr;
    }
    // Batches of another size round features differently.
    assert.ok(Math.abs(results.memory - results.online) < 0.01, JSON.stringify(results));
  }));

Deno.test("features that were extracted once serve the training, and others are refused", () =>
  withImages(async (root) => {
    const extract = (out: string, ...more: string[]) =>
      succeeds(
        ...["extract", "--data", `${root}/images/train`, "--encoder", `${root}/encoder.safetensors`],
        ...[
          "--out",
          `${root}/${out}`,
          "--size",
          "16",
          "--dtype",
          "fp32",
          "--device",
          "cpu",
          "--workers",
          "1",
          ...more,
        ],
      );
    await extract("flipped", "--flip");
    await extract("plain");
    const given = ["--images", "160", "--evaluations", "1", "--flip"];
    const trained: Record<string, number> = {};
    for (const features of ["memory", `${root}/flipped`]) {
      const out = features === "memory" ? "memory" : "shards";
      await succeeds(...train(root, out, ...given, "--features", features));
      const { curve } = await readJson(`${root}/${out}.json`) as { curve: { psnr: number }[] };
      trained[out] = curve[0].psnr;
    }
    assert.ok(Math.abs(trained.memory - trained.shards) < 0.01, JSON.stringify(trained));
    const refused = (message: RegExp, ...more: string[]) =>
      isRefused(train(root, "x", ...given, ...more), message);
    await refused(
      /"mirrored\.patches" must be of shape \[16, 16\], got none; extract with --flip$/,
      "--features",
      `${root}/plain`,
    );
    await refused(
      /crops drawn at random need features computed online/,
      "--features",
      `${root}/flipped`,
      "--crop",
      "random",
    );
    await refused(/cut as in the training$/, "--features", `${root}/flipped`, "--resize", "20");
    await writeEncoder(`${root}/other.safetensors`, 9);
    await refused(
      /they must be of encoder [0-9a-f]{12}…, got [0-9a-f]{12}…$/,
      "--features",
      `${root}/flipped`,
      "--encoder",
      `${root}/other.safetensors`,
    );
  }));

/** Writes an autoencoder that was trained for two updates. */
async function writeAutoencoder(root: string, out: string): Promise<string> {
  await succeeds(...train(root, out, "--data", "folder", "--images", "16", "--evaluations", "1"));
  return `${root}/${out}.safetensors`;
}

const reconstruct = (root: string, file: string, ...more: string[]): string[] => [
  ...[
    "reconstruct",
    file,
    "--data",
    "folder",
    "--path",
    `${root}/images`,
    "--neighbours",
    "3",
    "--device",
    "cpu",
  ],
  ...["--encoder", `${root}/encoder.safetensors`, ...more],
];

Deno.test("reconstruct measures what can be worked out by hand from the images and the model", () =>
  withImages(async (root) => {
    const file = await writeAutoencoder(root, "ae"), grid = `${root}/grids/svg.png`;
    const out = await succeeds(...reconstruct(root, file, "--grid", grid, "--json"));
    const { autoencoders: [{ reconstruction, probe, count, hash }], features } = JSON.parse(out);
    const encoder = await DinoEncoder.load(`${root}/encoder.safetensors`, { device: "cpu" });
    const autoencoder = await loadAutoencoder(file, { encoder, device: "cpu" });
    try {
      const { train: learned, test } = await loadDataset({
        name: "folder",
        path: `${root}/images`,
        imageSize: 16,
      });
      const images = test.images(upTo(test.size)),
        decoded = await autoencoder.decode(await autoencoder.encode(images));
      const near = (got: number, wanted: number) =>
        assert.ok(Math.abs(got - wanted) < 1e-6, `${got} ${wanted}`);
      near(reconstruction.psnr, psnr(images, decoded).mean);
      near(reconstruction.ssim, ssim(images, decoded).mean);
      assert.deepEqual([count, hash], [test.size, autoencoder.hash]);
      const tokens = async (encode: (images: HostTensor) => Promise<HostTensor>) => {
        const [a, b] = [await encode(learned.images(upTo(learned.size))), await encode(images)];
        const { mean, std } = momentsByHand(a);
        return [meansByHand(a, mean, std), meansByHand(b, mean, std)];
      };
      const labels = [learned.labels(upTo(learned.size)), test.labels(upTo(test.size))];
      const probed = async (encode: (images: HostTensor) => Promise<HostTensor>) => {
        const [fit, held] = await tokens(encode);
        return (await linearProbe(
          { features: fit, labels: labels[0] },
          { features: held, labels: labels[1] },
          {
            seed: 0,
          },
        )).accuracy;
      };
      assert.equal(probe.linear, await probed((x) => autoencoder.encode(x)));
      assert.equal(features.linear, await probed(async (x) => (await encoder.features(x)).patchesBND));
    } finally {
      await autoencoder.dispose();
      await encoder.dispose();
    }
    const { width, height } = await decodeImage(await Deno.readFile(grid));
    assert.ok(width > 8 * 64 && height > 3 * 64);
    const table = await succeeds(...reconstruct(root, file, "--out", `${root}/deep/result.json`));
    assert.match(table, /│ autoencoder .*PSNR \(dB\) .*SSIM .*linear % .*k-NN %/);
    assert.match(table, /12 held-out images of folder/);
    assert.equal(
      (await readJson(`${root}/deep/result.json`) as { encoder: string }).encoder,
      JSON.parse(out).encoder,
    );
  }));

function momentsByHand({ shape: [, , channels], data }: HostTensor): { mean: number[]; std: number[] } {
  const rows = data.length / channels, mean = Array(channels).fill(0), square = Array(channels).fill(0);
  data.forEach((v, i) => mean[i % channels] += v / rows);
  data.forEach((v, i) => square[i % channels] += (v - mean[i % channels]) ** 2 / rows);
  return { mean, std: square.map(Math.sqrt) };
}

function meansByHand({ shape: [count, tokens, cols], data }: HostTensor, mean: number[], std: number[]) {
  const out = new Float32Array(count * cols);
  for (let i = 0; i < data.length; i++) {
    out[Math.floor(i / (tokens * cols)) * cols + i % cols] += data[i] / tokens;
  }
  return { data: out.map((v, i) => (v - mean[i % cols]) / std[i % cols]), rows: count, cols };
}

Deno.test("an autoencoder that is damaged or of another encoder is refused with what was found and wanted", () =>
  withImages(async (root) => {
    const good = await writeAutoencoder(root, "ae"), bad = `${root}/bad.safetensors`;
    const { tensors, metadata } = await readSafetensors(good);
    const refused = async (
      message: RegExp,
      change: (tensors: Map<string, HostTensor>, metadata: Record<string, string>) => void,
    ) => {
      const changed = new Map(tensors), text = { ...metadata };
      change(changed, text);
      await writeSafetensors(bad, changed, text);
      await isRefused(reconstruct(root, bad), message);
    };
    const half = { mean: Array(16).fill(0), std: Array(16).fill(1), count: 9 };
    await refused(
      /bad\.safetensors: metadata "stats" must be valid: 18 channels are needed, got 16 means and 16 deviations$/,
      (_, text) => text.stats = JSON.stringify(half),
    );
    await refused(
      /bad\.safetensors: weights must fit the settings: missing residual\.patch\.weight/,
      (found) => {
        for (const name of [...found.keys()]) if (name.startsWith("residual.")) found.delete(name);
      },
    );
    await refused(/imageSize must be a multiple of patchSize 4, got 18$/, (_, text) => {
      text.config = JSON.stringify({ ...JSON.parse(text.config), imageSize: 18 });
    });
    await writeEncoder(`${root}/other.safetensors`, 9);
    await isRefused(
      reconstruct(root, good, "--encoder", `${root}/other.safetensors`),
      /ae\.safetensors: it was trained with encoder [0-9a-f]{12}…, got [0-9a-f]{12}…$/,
    );
    const without = reconstruct(root, good).filter((arg) =>
      arg !== "--encoder" && !arg.endsWith("/encoder.safetensors")
    );
    await isRefused(without, /--encoder must name the frozen encoder of .*ae\.safetensors, got none$/);
    await isRefused(
      reconstruct(root, good, "--neighbours", "31"),
      /as many training images as neighbours \(31\)/,
    );
    await isRefused(
      train(root, "x", "--image-size", "18"),
      /imageSize must be a multiple of patchSize 4, got 18$/,
    );
    await assert.rejects(Deno.stat(`${root}/x.safetensors`), Deno.errors.NotFound);
  }));
