/** The comparison of diffusion in latent spaces: its arithmetic, its verdicts, and the command that runs it. */
import assert from "node:assert/strict";
import { ditConfig } from "novae/diffusion/mod.ts";
import { readJson } from "novae/io/mod.ts";
import {
  type ComparedDiffusion,
  type DiffusionComparisonResult,
  diffusionComparisonTable,
  diffusionVerdicts,
  equalQuality,
  imagesToReach,
  parseLatents,
  scoreOf,
  summarizeDiffusion,
} from "novae/study/mod.ts";
import { isRefused, killedAt, succeeds } from "./commands_fixture.ts";
import { inFolder } from "./extraction_fixture.ts";

/** Trainings whose distance is `level[seed] · (1000 / images)` at 25 steps, and `few` times that at 5. */
function trained(label: string, level: number[], few = 1.5): ComparedDiffusion[] {
  return level.map((value, seed) => {
    const score = (imagesSeen: number, steps: number, cfgScale: number, frechet: number) => ({
      ...{ imagesSeen, steps, cfgScale, frechet, dinoFrechet: 2 * frechet },
      ...{ standardError: 0.1, accuracy: 0.25 },
    });
    return {
      ...{ label, space: "svg", statistics: "svg", seed, parameters: 10, imagesSeen: 4000, imagesPerSec: 1 },
      transformer: ditConfig("tiny", { channels: 4, grid: 2, classes: 2 }),
      losses: [{ imagesSeen: 4000, loss: 1 }],
      scores: [
        score(1000, 25, 1, value),
        score(2000, 25, 1, value / 2),
        score(4000, 5, 1, few * value / 4),
        score(4000, 25, 1, value / 4),
        score(4000, 25, 1.5, value / 8),
      ],
    };
  });
}

const SAMPLES = { curveSteps: 25, steps: [5, 25], guidedSteps: [25], cfgScale: 1.5 };

Deno.test("images to equal quality are read off a power law exactly, and only where the curve reaches it", () => {
  const curve = [1000, 2000, 8000].map((imagesSeen) => ({
    imagesSeen,
    frechet: 3 * (imagesSeen / 1000) ** -0.7,
  }));
  const goal = 3 * 3.5 ** -0.7;
  assert.ok(Math.abs(imagesToReach(curve, goal)! - 3500) < 1e-6);
  assert.equal(imagesToReach(curve, 4), 1000);
  assert.equal(imagesToReach(curve, 0.1), null);
  const [{ label, steps, images }] = equalQuality(
    [...trained("vae", [8, 8]), ...trained("svg", [4, 32])],
    25,
  );
  assert.equal(label, "svg");
  // The VAE ends at 2. A level of 4 starts at 4 and is there at 2,000 images; with 5 steps it ends at 1.5.
  assert.deepEqual(steps, [5, null]);
  assert.ok(Math.abs(images[0]! - 2000) < 1e-9 && images[1] === null);
});

Deno.test("spreads are over seeds, way by way", () => {
  const [{ label, scores }] = summarizeDiffusion(trained("svg", [4, 6, 8]));
  assert.equal(label, "svg");
  assert.deepEqual(scores.map(({ frechet }) => frechet.mean), [6, 3, 2.25, 1.5, 0.75]);
  assert.deepEqual(scores[0].dinoFrechet, { mean: 12, std: 4, n: 3 });
  assert.throws(
    () => scoreOf(trained("svg", [1])[0], { imagesSeen: 4000, steps: 7, cfgScale: 1 }),
    /Cannot find samples of svg, seed 0: 4000 images, 7 steps and cfg 1 must have been scored/,
  );
});

Deno.test("claims on generation are judged seed by seed, and only of what was trained", () => {
  const outcomes = (...trainings: ComparedDiffusion[][]) =>
    diffusionVerdicts(trainings.flat(), SAMPLES).map(({ outcome }) => outcome);
  const svg = trained("svg", [4, 4.1, 4.2]);
  // Better after 1,000, 2,000 and 4,000 images and with guidance; with 5 steps better than with 25; grows less.
  assert.deepEqual(outcomes(svg, trained("vae", [8, 8.1, 8.2], 2)), [
    ...["shown", "shown", "shown", "shown", "shown"],
    "shown",
  ]);
  assert.deepEqual(outcomes(svg, trained("vae", [2, 2.1, 2.2], 1.2)), [
    ...["refuted", "refuted", "refuted", "refuted", "refuted"],
    "refuted",
  ]);
  assert.deepEqual(outcomes(svg, trained("svg-noalign", [2, 8, 4])), ["within noise"]);
  assert.deepEqual(outcomes(svg, trained("svg-noalign@svg", [8, 8, 8])), ["shown"]);
  assert.deepEqual(outcomes(svg), []);
  const claims = diffusionVerdicts([...svg, ...trained("dino", [4, 4, 4])], SAMPLES).map(({ claim }) =>
    claim
  );
  assert.deepEqual(claims, ["The residual does no harm to generation (svg against dino)"]);
});

Deno.test("the tables have every way of sampling, what equal quality takes and the verdicts", () => {
  const trainings = [...trained("vae", [8, 8.4]), ...trained("svg", [4, 4.4])];
  const frechet = (value: number) => ({
    ...{ value, standardError: 0.1, biasCorrected: value, samples: 10, references: 20, dims: 3 },
    ...{ extractor: "e", reference: "r" },
  });
  const model = { file: "f", trained: false, hash: "h", parameters: 1 };
  const result: DiffusionComparisonResult = {
    kind: "diffusion-comparison",
    data: {
      name: "solids/train",
      hash: "a",
      testHash: "b",
      classes: ["x", "y"],
      imageSize: 64,
      train: 900,
      test: 50,
    },
    ...{ encoder: model, classifier: model, autoencoders: { svg: "c" } },
    judges: {
      ...{ classifierAccuracy: 0.9, encoderKnn: 0.8 },
      floor: { classifier: frechet(0.02), dino: frechet(0.03) },
    },
    trainings,
    summary: summarizeDiffusion(trainings),
    equalQuality: equalQuality(trainings, 25),
    verdicts: diffusionVerdicts(trainings, SAMPLES),
  };
  const text = diffusionComparisonTable(result, 40, "markdown");
  assert.ok(
    text.includes(
      `## By steps, after 4,000 images, classifier's features

| latents |     5 steps |    25 steps | 25, cfg 1.5 |
| ------- | ----------: | ----------: | ----------: |
| vae     | 3.08 ± 0.11 | 2.05 ± 0.07 | 1.02 ± 0.04 |
| svg     | 1.58 ± 0.11 | 1.05 ± 0.07 | 0.53 ± 0.04 |`,
    ),
    text,
  );
  assert.match(text, /\| svg +\| 5; 5 +\| 2,000; 2,095 +\|/);
  assert.match(
    text,
    /- svg with 5 steps has better samples than vae with 25: shown \(0\.47 ± 0\.04; 95 %/,
  );
  assert.match(text, /900 training images; mean ± sample standard deviation over 2 seeds/);
});

Deno.test("latents are read with the statistics that normalise them, and unknown ones refused", () => {
  assert.deepEqual(parseLatents("vae, svg-noalign@svg"), [
    { label: "vae", space: "vae", statistics: "vae" },
    { label: "svg-noalign@svg", space: "svg-noalign", statistics: "svg" },
  ]);
  for (const text of ["gan", "svg@gan", "svg@vae@svg", ""]) {
    assert.throws(() => parseLatents(text), /spaces must be among vae, .*, got ".*"$/);
  }
});

const compare = (runs: string, ...more: string[]): string[] => [
  ...[
    "compare",
    "diffusion",
    "--train",
    "200",
    "--test",
    "120",
    "--seeds",
    "3",
    "--spaces",
    "svg-noalign@svg,svg",
  ],
  ...["--images", "64", "--samples", "110", "--runs", runs, "--out", `${runs}.json`],
  ...[
    "--set",
    "diffusion.size=tiny",
    "sampling.steps=1,2",
    "sampling.guidedSteps=2",
    "sampling.curveSteps=2",
  ],
  ...["sampling.checkpoints=0.5,1", ...more],
];

Deno.test("a comparison that is killed between two trainings ends with the numbers of an undisturbed one", () =>
  inFolder(async (root) => {
    const printed = await succeeds(...compare(`${root}/whole`));
    assert.match(printed, /│ svg-noalign@svg │/);
    assert.match(printed, /Statistics of|Alignment helps beside the published ablation/);
    const run = `${root}/killed/00000-compare-diffusion-solids`;
    await killedAt(`${run}/stages/svg-noalign-by-svg-seed3.json`, compare(`${root}/killed`));
    await succeeds(...compare(`${root}/killed`), "--resume");
    const [whole, killed] = await Promise.all(["whole", "killed"].map(async (runs) => {
      const { trainings, verdicts } = await readJson(`${root}/${runs}.json`) as DiffusionComparisonResult;
      // Speed is what two runs differ in.
      return { verdicts, trainings: trainings.map(({ imagesPerSec: _, ...training }) => training) };
    }));
    assert.deepEqual(killed, whole);
    assert.deepEqual(whole.trainings.map(({ label, seed }) => [label, seed]), [["svg-noalign@svg", 3], [
      "svg",
      3,
    ]]);
    assert.deepEqual(
      whole.trainings[0].scores.map(({ imagesSeen, steps, cfgScale }) => [imagesSeen, steps, cfgScale]),
      [[32, 2, 1], [64, 1, 1], [64, 2, 1], [64, 2, 1.5]],
    );
    assert.match(
      await Deno.readTextFile(`${root}/killed.md`),
      /^# Diffusion on solids\/train\n\nFréchet distances of 110/,
    );
    assert.match(
      await Deno.readTextFile(`${run}/report.html`),
      /<h1>Diffusion in several latent spaces<.h1>/,
    );
  }));

Deno.test("what a comparison of diffusion cannot use is told in one line before a run is begun", () =>
  inFolder(async (root) => {
    const cases: [string[], RegExp][] = [
      [["--seeds", "x"], /seeds must be whole numbers separated by commas, got "x"$/],
      [["--spaces", "svg,svg"], /spaces and seeds must be given once, got svg twice$/],
      [["--set", "sampling.curveSteps=7"], /sampling\.curveSteps must be among sampling\.steps, got 7$/],
      [["--set", "sampling.checkpoints=0.5"], /the last of sampling\.checkpoints must be 1, got 0\.5$/],
      [["--set", "diffusion.learningRate=-1"], /learningRate/],
      [["--set", "diffusion.size=huge"], /size/],
      [["--autoencoders", `${root}/none`], /none\/ae-vae-solids\.safetensors must exist, found nothing$/],
      [["--out", `${root}/table.txt`], /--out must end in \.json, got .*table\.txt$/],
      [["--data", root], /--encoder must name a file for these images, got none$/],
    ];
    for (const [more, message] of cases) {
      await isRefused(["compare", "diffusion", "--runs", `${root}/runs`, ...more], message);
    }
    await assert.rejects(Deno.stat(`${root}/runs`), Deno.errors.NotFound);
    const others = [
      "compare",
      "diffusion",
      "--train",
      "200",
      "--test",
      "120",
      "--spaces",
      "vae@svg",
      "--seeds",
      "0",
    ];
    await isRefused(
      [...others, "--runs", `${root}/runs`],
      /statistics of vae@svg must be of 16 channels, got 72$/,
    );
  }));
