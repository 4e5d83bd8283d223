/** Perceptual and adversarial losses, LPIPS as a measure and the published preset from the command line. */
import assert from "node:assert/strict";
import {
  loadAutoencoder,
  loadLpips,
  lpipsFiles,
  LpipsMetric,
  readAutoencoder,
  svgPreset,
} from "novae/autoencoder/mod.ts";
import { loadDataset } from "novae/data/mod.ts";
import { DinoEncoder } from "novae/dino/mod.ts";
import { classifierConfig, hashClassifier, initClassifier, saveClassifier } from "novae/evaluation/mod.ts";
import { hashFile, readJson, readSafetensors } from "novae/io/mod.ts";
import { Rng } from "novae/tensor/mod.ts";
import { upTo } from "./autoencoder_fixture.ts";
import { isRefused, killedAt, succeeds, writeSplits } from "./commands_fixture.ts";
import { inFolder } from "./extraction_fixture.ts";
import { writeTinyEncoder } from "./latents_fixture.ts";

const LPIPS = "tests/golden/lpips"; // narrow networks, written by perceptual.py beside it

/** The encoder of the tests and two parts of images. */
async function withImages(use: (root: string) => Promise<void>): Promise<void> {
  await inFolder(async (root) => {
    await writeTinyEncoder(root);
    await writeSplits(`${root}/images`, { train: 30, test: 12 });
    await use(root);
  });
}

/** Arguments of a training on image files, without what it trains. */
const trainBare = (root: string, out: string, ...more: string[]): string[] => [
  ...["train", "autoencoder", "--data", "files", "--path", `${root}/images`, "--device", "cpu"],
  ...["--workers", "1", "--run", `${root}/runs/${out}`, "--out", `${root}/${out}`, ...more],
];

/** Arguments of a tiny training in the space `svg`. */
const train = (root: string, out: string, ...more: string[]): string[] =>
  trainBare(
    root,
    out,
    ...["--space", "svg", "--size", "tiny", "--image-size", "16"],
    ...["--encoder", `${root}/encoder.safetensors`, ...more],
  );

const SMALL_DISCRIMINATOR = [
  "schedule.adversarial.discriminator.layers=2",
  "schedule.adversarial.discriminator.channels=4",
];

interface TrainingRecord {
  readonly perceptual: unknown;
  readonly measures: unknown;
  readonly curve: readonly { readonly metrics: Readonly<Record<string, number>> }[];
  readonly model: Readonly<Record<string, unknown>>;
  readonly schedule: Readonly<Record<string, unknown>>;
}

const recordOf = async (root: string, out: string) => await readJson(`${root}/${out}.json`) as TrainingRecord;

Deno.test("a training by LPIPS against a discriminator that is killed ends with the bits of an undisturbed one", () =>
  withImages(async (root) => {
    const { hash } = await loadLpips("vgg16", lpipsFiles(LPIPS, "vgg16"));
    const given = (out: string, ...more: string[]) =>
      train(
        root,
        out,
        ...["--images", "800", "--evaluations", "2", "--checkpoint-every", "30", "--lpips", LPIPS],
        ...[
          "--adversarial",
          "--set",
          "schedule.adversarial.startImages=240",
          ...SMALL_DISCRIMINATOR,
          ...more,
        ],
      );
    const printed = await succeeds(...given("whole"));
    const short = hash.slice(0, 12);
    assert.ok(printed.includes(`\nperceptual loss: lpips-vgg16 ${short}, weight 1\n`), printed);
    assert.ok(printed.includes("\ndiscriminator: from image 240 on, weight 0.5\n"), printed);
    assert.ok(printed.includes(`\nmeasured too: LPIPS (vgg16) ${short}\n`), printed);

    const place = `${root}/runs/killed/checkpoints/step-000060`;
    await killedAt(`${place}/state.json`, given("killed"));
    const { config } = await readJson(`${place}/state.json`) as { config: { perceptual: unknown } };
    assert.deepEqual(config.perceptual, { name: "lpips-vgg16", hash });
    const other = given("killed", "--resume").filter((arg) => arg !== "--lpips" && arg !== LPIPS);
    await isRefused(other, /another configuration.*perceptual/);
    await succeeds(...given("killed", "--resume"));
    assert.equal(await hashFile(`${root}/killed.safetensors`), await hashFile(`${root}/whole.safetensors`));

    const { perceptual, measures, curve, schedule } = await recordOf(root, "killed");
    assert.deepEqual(perceptual, { name: "lpips-vgg16", hash });
    assert.deepEqual(measures, { classifier: null, lpips: { network: "vgg16", hash } });
    assert.deepEqual(curve, (await recordOf(root, "whole")).curve);
    assert.ok(curve.length === 2 && curve.every(({ metrics }) => metrics.lpips > 0));
    const { weight, loss, betas } = schedule.adversarial as Record<string, unknown>;
    assert.deepEqual([weight, loss, betas], [0.5, "hinge", [0.5, 0.9]], "as published");
    const { metadata } = await readSafetensors(`${root}/killed.safetensors`);
    assert.deepEqual([metadata.perceptualLoss, metadata.perceptualHash], ["lpips-vgg16", hash]);
    const lines = (await Deno.readTextFile(`${root}/runs/killed/metrics.jsonl`)).trimEnd().split("\n");
    const updates = lines.map((line) => JSON.parse(line)).filter(({ kind }) => kind === "train");
    assert.deepEqual(
      updates.map(({ discriminatorLoss }) => discriminatorLoss !== undefined),
      updates.map(({ imagesSeen }) => imagesSeen > 240),
      "the discriminator takes part after its start and not before",
    );
  }));

Deno.test("LPIPS trains if the perceptual part has a weight, and else it only measures", () =>
  withImages(async (root) => {
    const weights = async (out: string, ...more: string[]) => {
      await succeeds(...train(root, out, "--images", "40", "--evaluations", "1", ...more));
      const { params } = await readAutoencoder(`${root}/${out}.safetensors`);
      return params.decoder.convOut.weight.data;
    };
    const without = await weights("without"), by = await weights("by", "--lpips", LPIPS);
    const measured = await weights(
      "measured",
      ...["--lpips", `${LPIPS}/whole.ckpt`, "--set", "schedule.reconstruction.perceptual=0"],
    );
    assert.deepEqual(measured, without);
    assert.notDeepEqual(by, without);
    const { perceptual, curve: [{ metrics }] } = await recordOf(root, "measured");
    assert.ok(perceptual === null && metrics.lpips > 0);
    assert.equal((await recordOf(root, "without")).curve[0].metrics.lpips, undefined);
  }));

Deno.test("reconstruct measures LPIPS as by hand, and tells its network and hash", () =>
  withImages(async (root) => {
    await succeeds(...train(root, "ae", "--images", "16", "--evaluations", "1"));
    const file = `${root}/ae.safetensors`, lpips = await loadLpips("vgg16", lpipsFiles(LPIPS, "vgg16"));
    const reconstruct = [
      ...["reconstruct", file, "--data", "folder", "--path", `${root}/images`, "--no-probes"],
      ...["--device", "cpu", "--encoder", `${root}/encoder.safetensors`, "--lpips", LPIPS],
    ];
    const told = JSON.parse(await succeeds(...reconstruct, "--json"));
    assert.deepEqual(told.lpips, { network: "vgg16", hash: lpips.hash });
    const encoder = await DinoEncoder.load(`${root}/encoder.safetensors`, { device: "cpu" });
    const autoencoder = await loadAutoencoder(file, { encoder, device: "cpu" });
    const metric = new LpipsMetric(lpips, { device: "cpu" });
    try {
      const { test } = await loadDataset({ name: "folder", path: `${root}/images`, imageSize: 16 });
      const images = test.images(upTo(test.size));
      const wanted = await metric.mean(images, await autoencoder.decode(await autoencoder.encode(images)));
      const got = told.autoencoders[0].reconstruction.lpips;
      assert.ok(Math.abs(got - wanted) < 1e-6, `${got} ${wanted}`);
    } finally {
      await metric.dispose();
      await autoencoder.dispose();
      await encoder.dispose();
    }
    assert.match(await succeeds(...reconstruct), /SSIM .*LPIPS/);
    await isRefused(
      [...reconstruct, "--lpips-network", "alexnet"],
      /Cannot compare images by LPIPS \(alexnet\): they must have at least 31 × 31 pixels, got 16 × 16$/,
    );
  }));

/** Writes an untrained classifier of images of a size; gives its hash. */
async function writeClassifier(path: string, imageSize: number, seed: number): Promise<string> {
  const config = classifierConfig({ imageSize, classes: ["a", "b"], widths: [8, 16, 16] });
  const params = initClassifier(new Rng(seed), config);
  const record = { accuracy: 0, heldOut: 0, imagesSeen: 0, dataset: "none", datasetHash: "", seed };
  await saveClassifier(path, config, params, record);
  return hashClassifier(config, params);
}

Deno.test("a classifier's perceptual loss is never called LPIPS, and never scores what it trained", () =>
  withImages(async (root) => {
    const [own, judge, large] = ["own", "judge", "large"].map((name) => `${root}/${name}.safetensors`);
    const hash = await writeClassifier(own, 16, 1), scorer = await writeClassifier(judge, 16, 2);
    await writeClassifier(large, 32, 3);
    const given = ["--images", "40", "--evaluations", "1"];
    const printed = await succeeds(
      ...train(root, "ae", ...given, "--perceptual", own, "--classifier", judge, "--lpips", LPIPS),
    );
    assert.ok(printed.includes(`\nperceptual loss: classifier-perceptual ${hash.slice(0, 12)}, weight 1\n`));
    const { perceptual, measures, curve: [{ metrics }] } = await recordOf(root, "ae");
    assert.deepEqual(perceptual, { name: "classifier-perceptual", hash });
    assert.equal((measures as { classifier: string }).classifier, scorer);
    assert.ok(metrics.lpips > 0 && metrics.rfd > 0, "LPIPS is measured beside it");
    const refused = (message: RegExp, ...more: string[]) =>
      isRefused(train(root, "x", ...given, ...more), message);
    await refused(
      /Cannot measure with the classifier of the perceptual loss: another one is needed, got twice/,
      ...["--perceptual", own, "--classifier", own],
    );
    await refused(
      /classifier-perceptual: its classifier must take images of 16 pixels, got one of 32$/,
      ...["--perceptual", large],
    );
    await refused(
      /--perceptual needs a weight schedule\.reconstruction\.perceptual, got 0$/,
      ...["--perceptual", own, "--set", "schedule.reconstruction.perceptual=0"],
    );
    await refused(/nowhere\.safetensors/, "--perceptual", `${root}/nowhere.safetensors`);
  }));

/** Settings that bring the published autoencoder down to the size of tests. */
const SHRUNK = [
  ...["model.imageSize=16", "model.patchSize=4", "model.featureChannels=16", "model.decoder.channels=8,4"],
  ...["model.decoder.outPatch=2", "model.decoder.blocks=1", "model.residual.width=8"],
  ...["model.residual.heads=2", "model.residual.depth=1", "schedule.batchSize=10", "schedule.resize=20"],
  ...["schedule.adversarial.startImages=30", ...SMALL_DISCRIMINATOR],
];

Deno.test("the preset trains as published but for what was set", () =>
  withImages(async (root) => {
    const preset = (out: string, ...more: string[]) =>
      trainBare(
        root,
        out,
        ...["--preset", "svg-vits16plus-256", "--encoder", `${root}/encoder.safetensors`, "--lpips", LPIPS],
        ...["--evaluations", "1", ...more],
      );
    const { encoder, model: published, training } = svgPreset("svg-vits16plus-256");
    const printed = await succeeds(...preset("ae", "--epochs", "2", "--seed", "3", "--set", ...SHRUNK));
    assert.match(printed, /^6 updates of 10 images/m);
    assert.match(printed, /^discriminator: from image 30 on, weight 0\.5$/m);
    const { model, schedule, perceptual } = await recordOf(root, "ae");
    const { learningRate, beta1, beta2 } = training.optimizer;
    assert.deepEqual([schedule.images, schedule.seed, schedule.resize], [60, 3, 20]);
    assert.deepEqual([schedule.learningRate, schedule.betas], [learningRate, [beta1, beta2]]);
    assert.deepEqual([schedule.crop, schedule.flip, schedule.reduction], ["random", false, "sum"]);
    assert.deepEqual([schedule.alignmentMomentum, schedule.maxGradientNorm, schedule.finalRate], [
      0,
      null,
      1,
    ]);
    assert.equal((perceptual as { name: string }).name, "lpips-vgg16");
    assert.deepEqual(model.residual, { ...published.residual, width: 8, heads: 2, depth: 1 });

    await succeeds(
      ...preset(
        "plain",
        "--images",
        "20",
        "--no-adversarial",
        "--set",
        ...SHRUNK.filter((change) => !change.includes("adversarial")),
      ),
    );
    const plain = await recordOf(root, "plain");
    assert.deepEqual([plain.schedule.images, plain.schedule.adversarial], [20, null]);

    await isRefused(
      preset("x"),
      new RegExp(
        `Cannot train svg-vits16plus-256: the width of its frozen encoder \\(${encoder}\\) must be 384, got 16$`,
      ),
    );
    const without = (...left: string[]) =>
      preset("x", "--set", ...SHRUNK).filter((arg) => !left.includes(arg));
    await isRefused(
      without("--lpips", LPIPS),
      /--lpips must name the files of its perceptual loss, or .* got none and 1$/,
    );
    await isRefused(
      without("--encoder", `${root}/encoder.safetensors`),
      new RegExp(`--encoder must name its frozen encoder \\(${encoder}\\), got none$`),
    );
    await isRefused(
      preset("x", "--size", "tiny"),
      /'--preset <name>' cannot be used with option '--size <name>'/,
    );
    await isRefused(
      preset("x", "--epochs", "2", "--images", "9"),
      /'--epochs <n>' cannot be used with option '--images <n>'/,
    );
    await isRefused(trainBare(root, "x"), /--space or --preset must be given, got neither$/);
  }));

Deno.test("losses that cannot be had are refused in one line, and nothing is written", () =>
  withImages(async (root) => {
    const refused = (message: RegExp, ...more: string[]) => isRefused(train(root, "x", ...more), message);
    await refused(
      /Cannot load LPIPS \(vgg16\): its trunk must be torchvision's vgg16-397923af\.pth .*, got no file .*nowhere\/vgg16/,
      ...["--lpips", `${root}/nowhere`],
    );
    await refused(
      /by LPIPS \(alexnet\): they must have at least 31 × 31 pixels, got 16 × 16$/,
      ...["--lpips", LPIPS, "--lpips-network", "alexnet"],
    );
    await refused(
      /--lpips must name the files of LPIPS \(alexnet\), got none$/,
      "--lpips-network",
      "alexnet",
    );
    await refused(
      /discriminator of 3 layers: images must have at least 24 × 24 pixels, got 16 × 16$/,
      "--adversarial",
    );
    await refused(
      /startImages must be less than the 100000 images of the training, got 1280000$/,
      ...["--adversarial", "--set", ...SMALL_DISCRIMINATOR],
    );
    await refused(
      /there is no key "schedule\.adversarial\.weight"/,
      "--set",
      "schedule.adversarial.weight=1",
    );
    await refused(
      /Cannot use adversarial settings: loss: /,
      ...["--adversarial", "--set", "schedule.adversarial.loss=wasserstein"],
    );
    for (const path of ["x.safetensors", "x.json", "x.log", "runs"]) {
      await assert.rejects(Deno.stat(`${root}/${path}`), Deno.errors.NotFound);
    }
  }));
