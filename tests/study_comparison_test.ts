/** The comparison of autoencoders: its arithmetic, its verdicts, and the command that runs it. */
import assert from "node:assert/strict";
import { loadLpips, lpipsFiles } from "novae/autoencoder/mod.ts";
import { hashFile, readJson } from "novae/io/mod.ts";
import {
  type ComparedAutoencoder,
  type ComparisonResult,
  comparisonTable,
  meanInterval,
  parseSpaces,
  spreadOf,
  studentQuantile,
  summarize,
  verdictsOf,
  verdictText,
} from "novae/study/mod.ts";
import { isRefused, killedAt, succeeds, writeSplits } from "./commands_fixture.ts";
import { inFolder } from "./extraction_fixture.ts";
import { writeTinyEncoder } from "./latents_fixture.ts";

Deno.test("spread is the sample standard deviation, its interval Student's", () => {
  assert.deepEqual(spreadOf([3]), { mean: 3, std: null, n: 1 });
  assert.deepEqual(spreadOf([1, 2, 3, 4]), { mean: 2.5, std: Math.sqrt(5 / 3), n: 4 });
  assert.equal(meanInterval(spreadOf([3])), null);
  const [low, high] = meanInterval(spreadOf([10, 11, 12]))!;
  // With 2 degrees of freedom it is (2p − 1) / √(2p·(1 − p)): 4.302653 at p = 0.975.
  assert.ok(Math.abs(low - (11 - 4.302653 / Math.sqrt(3))) < 1e-4);
  assert.ok(Math.abs(high - (11 + 4.302653 / Math.sqrt(3))) < 1e-4);
});

Deno.test("quantiles of Student's t cut off 2.5 % of its density", () => {
  for (const freedom of [1, 2, 3, 5, 9, 10, 11, 12, 15, 30, 100]) {
    const tail = upperTail(studentQuantile(freedom), freedom);
    assert.ok(Math.abs(tail - 0.025) < 1e-5, `${freedom}: ${tail}`);
  }
});

/** Probability above `t`, by Simpson's rule over the angle θ with t = √ν·tan θ, where the density is cos^(ν−1) θ. */
function upperTail(t: number, freedom: number): number {
  const integral = (from: number, to: number, count = 2000) => {
    const h = (to - from) / count, value = (i: number) => Math.cos(from + i * h) ** (freedom - 1);
    let sum = value(0) + value(count);
    for (let i = 1; i < count; i++) sum += (i % 2 === 1 ? 4 : 2) * value(i);
    return sum * h / 3;
  };
  const angle = Math.atan(t / Math.sqrt(freedom));
  return integral(angle, Math.PI / 2) / integral(-Math.PI / 2, Math.PI / 2);
}

/** Autoencoders of one label, with PSNR and accuracy of the linear probe by seed. */
function measured(space: string, label: string, psnr: number[], linear: number[]): ComparedAutoencoder[] {
  return psnr.map((value, seed) => ({
    space,
    label,
    seed,
    file: "",
    imagesSeen: 100,
    parameters: 2,
    decoderParameters: 1,
    reconstruction: { psnr: value, ssim: 0.5 },
    count: 50,
    probe: { linear: linear[seed], knn: 0.25, k: 3, train: 90, test: 50 },
  }));
}

const DATA = { name: "solids/train", hash: "a", testHash: "b", imageSize: 64, train: 90, test: 50 };
const RAW = { linear: 0.6, knn: 0.5, k: 3, train: 90, test: 50 };

Deno.test("a claim is shown, refuted or neither by where the interval over the seeds lies", () => {
  const outcomes = (dino: number[], svg: number[], linear: number[]) => {
    const autoencoders = [
      ...measured("dino", "dino", dino, dino.map(() => 0.6)),
      ...measured("svg", "svg", svg, linear),
    ];
    const verdicts = verdictsOf({ data: DATA, features: RAW, autoencoders });
    return verdicts.map(({ outcome, value }) => [outcome, Number(value.mean.toFixed(6))]);
  };
  // The gain varies little from seed to seed although PSNR varies much: 2, 2.1, 1.9.
  assert.deepEqual(outcomes([20, 25, 30], [22, 27.1, 31.9], [0.601, 0.602, 0.6]), [
    ["shown", 2],
    ["within noise", 27],
    ["shown", 0.1],
  ]);
  assert.deepEqual(outcomes([24, 24, 24], [22, 22.1, 21.9], [0.55, 0.551, 0.549]), [
    ["refuted", -2],
    ["refuted", 22],
    ["refuted", -5],
  ]);
  assert.deepEqual(outcomes([20, 21, 22], [21, 20, 25], [0.59, 0.6, 0.61]), [
    ["within noise", 1],
    ["within noise", 22],
    ["within noise", 0],
  ]);
  assert.deepEqual(outcomes([20], [25], [0.6]), [["one seed", 5], ["one seed", 25], ["one seed", 0]]);
});

Deno.test("claims are judged of what is there, and of every variant", () => {
  const of = (data: string, ...autoencoders: ComparedAutoencoder[][]) =>
    verdictsOf({ data: { ...DATA, name: data }, features: RAW, autoencoders: autoencoders.flat() })
      .map(({ claim }) => claim);
  const svg = measured("svg", "svg", [20, 21], [0.6, 0.6]),
    dino = measured("dino", "dino", [19, 19], [0.6, 0.6]);
  const wide = measured("svg", "svg+residual.channels=16", [22, 22], [0.6, 0.6]);
  assert.deepEqual(of("cifar10/train", measured("vae", "vae", [20, 21], [0.1, 0.1])), []);
  assert.deepEqual(of("cifar10/train", svg), [
    "The linear probe of the aligned latent (svg) is at most 1 point below the raw features'",
  ]);
  const plain = measured("svg-noalign", "svg-noalign", [20, 21], [0.6, 0.6]);
  assert.deepEqual(
    of("solids/train", svg, wide, dino, plain).map((claim) => claim.match(/\((?!dino)(.*?)\)/)?.[1]),
    [
      "svg",
      "svg+residual.channels=16",
      "svg-noalign",
      undefined,
      "svg",
      undefined,
      "svg+residual.channels=16",
    ],
  );
});

Deno.test("the table has mean and spread, the raw features and the verdicts", () => {
  const autoencoders = [
    ...measured("dino", "dino", [20, 21, 22], [0.6, 0.6, 0.6]),
    ...measured("svg", "svg", [23, 24.5, 25], [0.6, 0.61, 0.605]),
  ];
  const inputs = { data: DATA, features: RAW, autoencoders };
  const result: ComparisonResult = {
    kind: "autoencoder-comparison",
    ...inputs,
    encoder: null,
    classifier: null,
    summary: summarize(autoencoders),
    verdicts: verdictsOf(inputs),
  };
  assert.equal(
    comparisonTable(result, "markdown"),
    `| space        |    PSNR (dB) |          SSIM |   linear % |     k-NN % |
| ------------ | -----------: | ------------: | ---------: | ---------: |
| raw features |            – |             – |       60.0 |       50.0 |
| dino         | 21.00 ± 1.00 | 0.500 ± 0.000 | 60.0 ± 0.0 | 25.0 ± 0.0 |
| svg          | 24.17 ± 1.04 | 0.500 ± 0.000 | 60.5 ± 0.5 | 25.0 ± 0.0 |

Mean ± sample standard deviation over 3 seeds; 100 training images each, 50 held-out images of solids; probes on mean tokens of 90 training images.

- Features alone (dino) reconstruct worse than with the residual (svg): shown (3.17 ± 0.29 dB; 95 % interval of the mean 2.45 to 3.88).
- svg reaches 24 dB: within noise (24.17 ± 1.04 dB; 95 % interval of the mean 21.58 to 26.75).
- The linear probe of the aligned latent (svg) is at most 1 point below the raw features': shown (0.50 ± 0.50 points; 95 % interval of the mean −0.74 to 1.74).`,
  );
  const [one] = verdictsOf({ ...inputs, autoencoders: autoencoders.filter(({ seed }) => seed === 0) });
  assert.equal(
    verdictText(one),
    "Features alone (dino) reconstruct worse than with the residual (svg): not judged by one seed (3.00 dB).",
  );
});

Deno.test("spaces are read with their settings, and unknown ones refused", () => {
  assert.deepEqual(parseSpaces("vae, svg+residual.channels=16+noiseTau=0.2"), [
    { label: "vae", space: "vae", changes: [] },
    {
      label: "svg+residual.channels=16+noiseTau=0.2",
      space: "svg",
      changes: ["residual.channels=16", "noiseTau=0.2"],
    },
  ]);
  assert.throws(() => parseSpaces("svg,gan"), /spaces must be among vae, .*, got "gan"$/);
});

/** A comparison of seconds: 150 updates of a tiny network each. */
const TINY = [
  "--size",
  "tiny",
  "--image-size",
  "16",
  "--images",
  "1200",
  "--neighbours",
  "3",
  "--seeds",
  "0,1",
];

const compare = (root: string, runs: string, ...more: string[]): string[] => [
  ...["compare", "autoencoders", "--data", `${root}/images`, "--encoder", `${root}/encoder.safetensors`],
  ...["--runs", `${root}/${runs}`, "--out", `${root}/${runs}.json`, "--spaces", "dino,svg", ...TINY, ...more],
];

Deno.test("a comparison that is killed, in a training and between two, ends with the bits of an undisturbed one", () =>
  inFolder(async (root) => {
    await writeTinyEncoder(root);
    await writeSplits(`${root}/images`, { train: 30, test: 12 });
    const printed = await succeeds(...compare(root, "whole"));
    assert.match(printed, /│ raw features │ +– │/);
    assert.match(printed, /Mean ± sample standard deviation over 2 seeds/);
    const name = "00000-compare-autoencoders-folder", run = `${root}/killed/${name}`;
    await killedAt(`${run}/checkpoints/dino-seed0/step-000100/state.json`, compare(root, "killed"));
    await killedAt(`${run}/stages/train-svg-seed0.json`, compare(root, "killed", "--resume"));
    const dino = await hashFile(`${run}/stages/train-dino-seed0/autoencoder.safetensors`);
    await succeeds(...compare(root, "killed", "--resume"));
    const [whole, killed] = await Promise.all(["whole", "killed"].map(async (runs) => {
      const { command: _, ...result } = await readJson(`${root}/${runs}.json`) as Record<string, unknown>;
      return result;
    }));
    assert.deepEqual(killed, whole);
    assert.equal(await hashFile(`${run}/stages/train-dino-seed0/autoencoder.safetensors`), dino);
    for (const stage of ["dino-seed0", "dino-seed1", "svg-seed0", "svg-seed1"]) {
      const [a, b] = await Promise.all(
        ["whole", "killed"].map((runs) =>
          hashFile(`${root}/${runs}/${name}/stages/train-${stage}/autoencoder.safetensors`)
        ),
      );
      assert.equal(b, a, stage);
    }
    const text = await Deno.readTextFile(`${root}/killed.md`);
    assert.match(text, /^# Autoencoders on folder\/.*\n\n\| space /);
    assert.match(text, /- Features alone \(dino\) reconstruct worse than with the residual \(svg\): /);
    await isRefused(compare(root, "whole", "--resume", "--neighbours", "4"), /neighbours/);
  }));

const LPIPS = "tests/golden/lpips"; // narrow networks, written by perceptual.py beside it

Deno.test("a comparison measures LPIPS where its files are given, the same as reconstruct", () =>
  inFolder(async (root) => {
    await writeTinyEncoder(root);
    await writeSplits(`${root}/images`, { train: 30, test: 12 });
    const { hash } = await loadLpips("vgg16", lpipsFiles(LPIPS, "vgg16"));
    const given = ["--images", "16", "--seeds", "0", "--spaces", "dino", "--lpips", LPIPS];
    assert.match(await succeeds(...compare(root, "runs", ...given)), /│ space .*SSIM .*LPIPS/);
    const { lpips, autoencoders: [{ file, reconstruction }] } = await readJson(
      `${root}/runs.json`,
    ) as ComparisonResult;
    assert.deepEqual(lpips, { path: LPIPS, network: "vgg16", hash });
    const reconstructed = await succeeds(
      ...["reconstruct", `${root}/runs/00000-compare-autoencoders-folder/${file}`, "--data", "folder"],
      ...["--path", `${root}/images`, "--encoder", `${root}/encoder.safetensors`, "--device", "cpu"],
      ...["--no-probes", "--lpips", LPIPS, "--json"],
    );
    const [{ reconstruction: again }] = JSON.parse(reconstructed).autoencoders;
    assert.ok(Math.abs(again.lpips - reconstruction.lpips) < 1e-6 && again.lpips > 0);
  }));

Deno.test("what a comparison cannot use is told in one line before a run is begun", () =>
  inFolder(async (root) => {
    await writeTinyEncoder(root);
    await writeSplits(`${root}/images`, { train: 30, test: 12 });
    const cases: [string[], RegExp][] = [
      [["--seeds", "0,x"], /seeds must be whole numbers separated by commas, got "0,x"$/],
      [["--seeds", "1,1"], /spaces and seeds must be given once, got 1 twice$/],
      [["--spaces", "svg,gan"], /spaces must be among .*, got "gan"$/],
      [["--spaces", "svg+residual.channel=4"], /residual\.channel/],
      [["--image-size", "18"], /imageSize must be a multiple of patchSize 4, got 18$/],
      [["--train", "5"], /--train is for solids and cifar10, got it with .*images$/],
      [["--out", `${root}/table.txt`], /--out must end in \.json, got .*table\.txt$/],
      [["--encoder", `${root}/none.safetensors`], /none\.safetensors/],
      [["--lpips", `${root}/none`], /its trunk must be torchvision's .*, got no file .*none\/vgg16/],
      [["--lpips", LPIPS, "--lpips-network", "alexnet"], /at least 31 × 31 pixels, got 16 × 16$/],
      [["--lpips-network", "alexnet"], /--lpips must name the files of LPIPS \(alexnet\), got none$/],
    ];
    for (const [more, message] of cases) await isRefused(compare(root, "runs", ...more), message);
    const without = compare(root, "runs").filter((arg) =>
      arg !== "--encoder" && !arg.endsWith("encoder.safetensors")
    );
    await isRefused(without, /Cannot compare dino: --encoder must name its frozen encoder, got none$/);
    await assert.rejects(Deno.stat(`${root}/runs`), Deno.errors.NotFound);
    await isRefused(
      compare(root, "runs", "--neighbours", "31"),
      /as many training images as neighbours \(31\)/,
    );
  }));
