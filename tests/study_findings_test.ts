import assert from "node:assert/strict";
import type { SpaceName } from "novae/autoencoder/mod.ts";
import { findings, resolveStudyConfig, type StudyResult } from "novae/study/mod.ts";

const config = resolveStudyConfig({ scale: "quick" });

Deno.test("a claim is shown, refuted or within the noise by the sign and the size of the difference", () => {
  const claims = (svg: Scores, vae: Scores, noalign: Scores = svg) =>
    findings(result({ vae, dino: svg, "svg-noalign": noalign, svg }), config).shown;
  const find = (sentences: string[], text: string) => sentences.find((s) => s.includes(text))!;

  const better = claims({ at5: 12, at25: 10 }, { at5: 60, at25: 20 });
  assert.match(find(better, "fewer images"), /shown in this run\. .*10\.00, .*20\.00/);
  assert.match(
    find(better, "fewer steps"),
    /shown in this run\. From 25 to 5 steps it grows by 1\.20 .*3\.00/,
  );
  assert.match(find(better, "Alignment"), /not shown, the difference is within the noise/);

  const worse = claims({ at5: 90, at25: 30 }, { at5: 24, at25: 20 }, { at5: 90, at25: 20 });
  assert.match(find(worse, "fewer images"), /refuted in this run/);
  assert.match(find(worse, "fewer steps"), /refuted in this run/);
  assert.match(find(worse, "Alignment"), /refuted in this run/);

  // Each score has a standard error of 1: a difference of 2.8 is the largest within twice the error of both.
  assert.match(
    find(claims({ at5: 30, at25: 20 }, { at5: 33, at25: 22.7 }), "fewer images"),
    /within the noise/,
  );
  assert.match(
    find(claims({ at5: 30, at25: 20 }, { at5: 33, at25: 22.9 }), "fewer images"),
    /shown in this run/,
  );
});

Deno.test("the abstract names the best space by reconstruction and by samples, with the floor of real images", () => {
  const low = { at5: 30, at25: 20 };
  const told = findings(
    result({ vae: { at5: 9, at25: 5 }, dino: low, "svg-noalign": low, svg: low }, { "svg-noalign": 26 }),
    config,
  );
  assert.match(told.abstract, /Best reconstruction: \*\*SVG, unaligned\*\* with 26\.00 dB/);
  assert.match(told.abstract, /\*\*VAE\*\* with a Fréchet distance of 5\.00 \(real held-out images: 0\.50\)/);
  assert.match(told.caution, /k-NN 40\.0 %/);
});

Deno.test("samples that show their class no better than chance are called so", () => {
  const scores = { vae: { at5: 9, at25: 5 } };
  assert.match(findings(result(scores, {}, 0.12), config).caution, /more than 12\.0 % .* 10\.0 % are chance/);
  assert.doesNotMatch(findings(result(scores, {}, 0.4), config).caution, /chance/);
});

Deno.test("a claim about a space that was not compared is not made", () => {
  const { shown } = findings(result({ vae: { at5: 9, at25: 5 } }), config);
  assert.deepEqual(shown, []);
});

interface Scores {
  readonly at5: number;
  readonly at25: number;
}

function result(
  scores: Partial<Record<SpaceName, Scores>>,
  psnr: Partial<Record<SpaceName, number>> = {},
  accuracy = 0.5,
): StudyResult {
  const distance = (value: number, standardError = 1) => ({ value, standardError });
  const pair = (value: number) => ({ classifier: distance(value), dino: distance(value) });
  const spaces = Object.keys(scores) as SpaceName[];
  return {
    data: { classes: Array.from({ length: 10 }, (_, i) => `class ${i}`) },
    judges: { classifierAccuracy: 0.9, encoderKnn: 0.4, floor: pair(0.5) },
    spaces: spaces.map((space) => ({ space, reconstruction: { psnr: psnr[space] ?? 20 } })),
    diffusion: spaces.map((space) => ({
      space,
      scores: [[5, scores[space]!.at5], [25, scores[space]!.at25]].map(([steps, value]) => ({
        imagesSeen: 4000,
        steps,
        cfgScale: 1,
        accuracy,
        frechet: pair(value),
      })),
    })),
  } as unknown as StudyResult;
}
