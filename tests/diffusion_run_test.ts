/** `novae train diffusion` as a person uses it: run folders, killing and going on, everything that is refused. */
import assert from "node:assert/strict";
import { denormalizeLatents, openLatents } from "novae/autoencoder/mod.ts";
import { loadDiffusion, readPublishedDit, sampleLatents, writeLatents } from "novae/diffusion/mod.ts";
import { DinoEncoder } from "novae/dino/mod.ts";
import { frechetDistance } from "novae/evaluation/mod.ts";
import { GaussianStats } from "novae/analysis/mod.ts";
import { decodeImage, hashFile, readJson } from "novae/io/mod.ts";
import { openDecoder, toBytes } from "novae/study/mod.ts";
import { asMatrix, float32, type HostTensor, Rng } from "novae/tensor/mod.ts";
import { command, isRefused, killedAt, novae, succeeds } from "./commands_fixture.ts";
import { inFolder, writeImages } from "./extraction_fixture.ts";
import { writeTinyAutoencoder } from "./latents_fixture.ts";

const IMAGES = 30, SAMPLES = 24, RUN = "00000-dit-tiny-svg-images";

/** Arguments of a training of ten updates, in a folder of runs. */
const train = (root: string, runs: string, ...more: string[]): string[] => [
  ...["train", "diffusion", "--latents", `${root}/latents`, "--size", "tiny", "--images", "80"],
  ...["--batch-size", "8", "--device", "cpu", "--runs", `${root}/${runs}`, ...more],
];
const decoded = (root: string): string[] => [
  ...["--autoencoder", `${root}/ae-svg.safetensors`, "--encoder", `${root}/encoder.safetensors`],
  ...["--evaluate-every-images", "40", "--samples", String(SAMPLES), "--validation", "0.2"],
  ...["--set", "evaluation.steps=3", "keeping.checkpointEveryImages=16", "validation.images=16"],
];

/** Latents of a few images, with the autoencoder that made them. */
async function withLatents(use: (root: string) => Promise<void>): Promise<void> {
  await inFolder(async (root) => {
    await writeTinyAutoencoder(root, "svg");
    await writeImages(`${root}/images`, IMAGES);
    await succeeds(
      ...["encode", "--data", `${root}/images`, "--autoencoder", `${root}/ae-svg.safetensors`],
      ...["--encoder", `${root}/encoder.safetensors`, "--out", `${root}/latents`, "--device", "cpu"],
    );
    await use(root);
  });
}

interface Row extends Record<string, unknown> {
  readonly kind: string;
  readonly step: number;
}

async function rowsOf(run: string): Promise<Row[]> {
  const lines = (await Deno.readTextFile(`${run}/metrics.jsonl`)).trimEnd().split("\n");
  return lines.map((line) => JSON.parse(line));
}

/** Rows without what depends on the clock. */
async function timeless(run: string): Promise<unknown[]> {
  return (await rowsOf(run)).map(
    ({ wallSec: _, imagesPerSec: __, flopsPerSec: ___, utilisation: ____, ...row }) => row,
  );
}

async function stateOf(run: string): Promise<{ state: string; error: string | null }> {
  return await readJson(`${run}/status.json`) as { state: string; error: string | null };
}

Deno.test("a training leaves a run folder with everything that it was told, measured and made", () =>
  withLatents(async (root) => {
    const out = `${root}/dit.safetensors`;
    const printed = await succeeds(...train(root, "runs", ...decoded(root), "--out", out));
    const run = `${root}/runs/${RUN}`;
    assert.match(printed, /averaged weights in .*dit\.safetensors\nreport: .*report\.html$/);
    assert.equal((await stateOf(run)).state, "done");
    const config = await readJson(`${run}/config.json`) as Record<string, Record<string, unknown>>;
    const set = await openLatents(`${root}/latents`);
    assert.equal(config.latents.autoencoder, set.config.autoencoder.hash);
    assert.deepEqual([config.latents.count, config.latents.classes], [24, 3]);
    assert.deepEqual(config.latents.heldOut, { count: 6, share: 0.2, hash: set.config.data.hash });
    assert.equal(config.evaluation.steps, 3);

    const rows = await rowsOf(run), of = (kind: string) => rows.filter((row) => row.kind === kind);
    assert.deepEqual(of("train").map(({ step }) => step), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert.deepEqual(of("evaluation").map(({ imagesSeen }) => imagesSeen), [40, 80]);
    for (const { loss, gradNorm, learningRate, imagesPerSec } of of("train")) {
      assert.ok([loss, gradNorm, learningRate, imagesPerSec].every((v) => typeof v === "number" && v > 0));
    }
    const losses = of("validation").map(({ step, loss }) => ({ step, loss: loss as number }));
    assert.deepEqual(losses.map(({ step }) => step), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    for (const row of [...of("train"), ...of("validation")]) {
      assert.equal((row.lossByTime as unknown[]).length, 10);
    }
    for (const { flopsPerSec, utilisation } of of("train")) {
      assert.ok(Number(flopsPerSec) > 0 && Number(utilisation) > 0);
    }
    const checkpoints = Array.from(Deno.readDirSync(`${run}/checkpoints`), ({ name }) => name).sort();
    assert.ok(
      checkpoints.includes("step-000008") && checkpoints.includes("step-000010"),
      String(checkpoints),
    );

    const sheet = await decodeImage(`${run}/samples/step-000010.png`);
    assert.ok(sheet.width > 3 * 64 && sheet.width < 4 * 64, "a column for each of three classes");
    const about = await readJson(`${run}/samples/step-000005.json`) as {
      labels: number[];
      classes: string[];
    };
    assert.deepEqual(about.labels.slice(0, 4), [0, 1, 2, 0]);
    assert.deepEqual(about.classes, ["ant", "bee", "cat"]);

    const summary = await readJson(`${run}/summary.json`) as Record<string, unknown>;
    assert.deepEqual(summary.weights, { file: "dit.safetensors", sha256: await hashFile(out) });
    assert.equal(summary.loss, of("train").at(-1)!.loss);
    const best = losses.reduce((least, point) => point.loss < least.loss ? point : least);
    assert.deepEqual(summary.best, { step: best.step, validationLoss: best.loss });
    assert.equal(summary.validationLoss, losses.at(-1)!.loss);
    const report = await Deno.readTextFile(`${run}/report.html`);
    for (const part of ["SVG latents", "Samples", "Fréchet distance", "Loss"]) {
      assert.ok(report.includes(part), part);
    }
    await set.close();
    await scoreIsRight(root, run);
  }));

/** The last score, from the weights of the run alone. */
async function scoreIsRight(root: string, run: string): Promise<void> {
  const { config, params, latents: stats } = await loadDiffusion(`${run}/dit.safetensors`);
  const encoder = await DinoEncoder.load(`${root}/encoder.safetensors`, { device: "cpu" });
  const decoder = await openDecoder(`${root}/ae-svg.safetensors`, "cpu"),
    set = await openLatents(`${root}/latents`);
  const stored = await readJson(`${run}/config.json`) as { latents: { count: number } };
  const features = async (zBNZ: HostTensor) => {
    const { clsBD } = await encoder.features(toBytes(await decoder.decode(zBNZ)));
    return GaussianStats.of(asMatrix(clsBD));
  };
  try {
    const labels = Array.from({ length: SAMPLES }, (_, i) => i % 3);
    const drawn = await sampleLatents({ config, params, labels, seed: 0, steps: 3, device: "cpu" });
    // Those that are not held out, in their order.
    const order = new Rng(0).split("held-out").permutation(IMAGES).slice(IMAGES - stored.latents.count);
    const references = await set.read(order.sort());
    const wanted = frechetDistance(
      await features(denormalizeLatents(drawn, stats)),
      await features(references),
    );
    const score = await readJson(`${run}/eval/step-000010.json`) as {
      frechet: { value: number; samples: number; references: number; extractor: string };
      judge: { extractor: string; reference: string };
      sampling: { steps: number };
    };
    // float32 on batches of other sizes.
    assert.ok(Math.abs(score.frechet.value - wanted) < 1e-3 * wanted, `${score.frechet.value} and ${wanted}`);
    assert.deepEqual([score.frechet.samples, score.frechet.references], [SAMPLES, stored.latents.count]);
    assert.equal(score.frechet.extractor, encoder.hash);
    assert.equal(score.judge.extractor, "dino");
    assert.match(score.judge.reference, /^decoded latents of images/);
    assert.equal(score.sampling.steps, 3);
  } finally {
    for (const part of [encoder, decoder]) await part.dispose();
    await set.close();
  }
}

Deno.test("a training that is killed or interrupted goes on and ends with the same weights and rows", () =>
  withLatents(async (root) => {
    const long = ["--images", "320", ...decoded(root)];
    await succeeds(...train(root, "whole", ...long));
    const whole = `${root}/whole/${RUN}`,
      killed = `${root}/killed/${RUN}`,
      stopped = `${root}/stopped/${RUN}`;
    await killedAt(`${killed}/checkpoints/step-000006/state.json`, train(root, "killed", ...long));
    assert.equal((await stateOf(killed)).state, "running");
    // Its options are in the folder.
    const resume = (runs: string, ...more: string[]) => [
      ...["train", "diffusion", "--runs", `${root}/${runs}`, "--resume", "--device", "cpu", ...more],
    ];
    const { code, err } = await novae(...resume("killed"));
    assert.equal(code, 0, err);
    assert.match(err, /^going on from update \d+ of 40$/m);

    const child = command(train(root, "stopped", ...long)).spawn(), ended = child.output();
    while (!await Deno.stat(`${stopped}/metrics.jsonl`).then(({ size }) => size > 500, () => false)) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    child.kill("SIGINT");
    const { code: status, stderr } = await ended, told = new TextDecoder().decode(stderr);
    assert.equal(status, 130, told);
    assert.match(told, /Stopped after update \d+; .* can be gone on with \(--resume\)\.$/m);
    assert.equal((await stateOf(stopped)).state, "stopped");
    const at = Number(/Stopped after update (\d+)/.exec(told)![1]);
    await Deno.stat(`${stopped}/checkpoints/step-${String(at).padStart(6, "0")}/state.json`);
    await succeeds(...resume("stopped"));

    const weights = await hashFile(`${whole}/dit.safetensors`), rows = await timeless(whole);
    for (const run of [killed, stopped]) {
      assert.equal(await hashFile(`${run}/dit.safetensors`), weights);
      assert.deepEqual(await timeless(run), rows);
      assert.equal((await stateOf(run)).state, "done");
    }
    // What is done is kept as it is.
    await succeeds(...resume("whole"));
    assert.equal(await hashFile(`${whole}/dit.safetensors`), weights);
    assert.deepEqual(await timeless(whole), rows);

    await isRefused(
      resume("killed", "--images", "400"),
      /same, "training\.images" is 320 there and 400 here$/,
    );
    await isRefused(resume("killed", "--seed", "1"), /"training\.seed" is 0 there and 1 here/);
    await isRefused(
      resume("none"),
      /Cannot resume: .*none must hold a run of a diffusion transformer, found none$/,
    );
    await writeImages(`${root}/more`, 12);
    const other = ["--out", `${root}/others`, "--device", "cpu"];
    await succeeds(
      ...["encode", "--data", `${root}/more`, "--autoencoder", `${root}/ae-svg.safetensors`],
      ...["--encoder", `${root}/encoder.safetensors`, ...other],
    );
    await isRefused(resume("killed", "--latents", `${root}/others`), /the same, "latents\.\w+(\.\w+)?" is/);
    assert.equal((await stateOf(killed)).state, "done", "a refusal changes nothing");
  }));

Deno.test("damaged checkpoints end a run in one line, and its status says why", () =>
  withLatents(async (root) => {
    const plain = train(root, "runs", "--samples", "0");
    await succeeds(...plain);
    const run = `${root}/runs/${RUN}`;
    for (const { name } of Deno.readDirSync(`${run}/checkpoints`)) {
      await Deno.truncate(`${run}/checkpoints/${name}/state.safetensors`, 100);
    }
    await isRefused([...plain, "--resume"], /a whole checkpoint is needed, all are damaged up to step 10$/);
    const { state, error } = await stateOf(run);
    assert.equal(state, "failed");
    assert.match(error!, /^CheckpointError: Cannot go on from .*checkpoints: a whole checkpoint is needed/);
  }));

Deno.test("a training that diverges says so in one line, and its run has failed", () =>
  withLatents(async (root) => {
    const wild = ["--samples", "0", "--learning-rate", "1e30", "--set", "training.clipNorm=null"];
    await isRefused(train(root, "runs", ...wild, "training.warmupImages=0"), /the loss must be finite, got/);
    const { state, error } = await stateOf(`${root}/runs/${RUN}`);
    assert.equal(state, "failed");
    assert.match(error!, /^DivergenceError: /);
  }));

Deno.test("a training that leaps goes back once to its last checkpoint, and what it gave up is made anew", () =>
  withLatents(async (root) => {
    // Steps that grow with the warm-up until the loss leaps above four times its lowest window.
    const leaping = [
      ...["--images", "320", "--learning-rate", "3", "--samples", "4", "--evaluate-every-images", "8"],
      ...[
        "--autoencoder",
        `${root}/ae-svg.safetensors`,
        "--set",
        "training.clipNorm=null",
        "evaluation.steps=1",
      ],
      ...["training.warmupImages=100000", "training.divergence.factor=1.01", "training.divergence.window=16"],
      ...["keeping.checkpointEveryImages=8", "keeping.keepLast=40"],
    ];
    const { code, err } = await novae(...train(root, "runs", ...leaping));
    const told = /update (\d+): .*; going on from update (\d+) with other batches/.exec(err);
    assert.ok(told, err);
    const rows = await rowsOf(`${root}/runs/${RUN}`), steps = rows.filter(({ kind }) => kind === "train");
    assert.ok(Number(told[2]) < Number(told[1]));
    assert.equal(new Set(steps.map(({ step }) => step)).size, steps.length, "no step comes twice");
    // It went on, to its end or to a second leap.
    assert.ok(code === 0 || (code === 2 && /Training stopped at step/.test(err)), err);
    const { state } = await stateOf(`${root}/runs/${RUN}`);
    assert.equal(state, code === 0 ? "done" : "failed");
  }));

Deno.test("latents alone are trained on without pictures, and it is said", () =>
  withLatents(async (root) => {
    const { code, err } = await novae(...train(root, "runs"));
    assert.equal(code, 0, err);
    assert.match(err, /no autoencoder is given: there will be neither pictures nor scores of samples/);
    await assert.rejects(Deno.stat(`${root}/runs/${RUN}/samples/step-000010.png`), Deno.errors.NotFound);
    assert.ok(
      (await Deno.readTextFile(`${root}/runs/${RUN}/report.html`)).includes("No autoencoder was given"),
    );
  }));

Deno.test("a training starts from its own weights and from published ones, and refuses others", () =>
  withLatents(async (root) => {
    const still = ["--samples", "0", "--set", "training.learningRate=1e-20"];
    await succeeds(...train(root, "runs", "--samples", "0", "--learning-rate", "0.01"));
    const file = `${root}/runs/${RUN}/dit.safetensors`, { params } = await loadDiffusion(file);
    await succeeds(
      ...train(root, "again", "--init", file, ...still, "training.moreEmaHalflivesImages=5,500"),
    );
    const more = await loadDiffusion(`${root}/again/${RUN}/dit-halflife-500.safetensors`);
    assert.deepEqual(more.params.tokens, params.tokens, "every average begins with the given weights");
    const again = await loadDiffusion(`${root}/again/${RUN}/dit.safetensors`);
    assert.equal(again.metadata.init, await hashFile(file));
    assert.deepEqual(again.params.tokens, params.tokens, "no update can be seen at this step size");
    await isRefused(train(root, "x", "--init", file, "--set", "model.depth=3"), /depth must be 3, got \d/);

    const published = "tests/golden/published_dit/svg.pt", values = new Rng(4).normal(20 * 9 * 5);
    const latents = {
      latents: float32(values, [20, 9, 5]),
      labels: Array.from({ length: 20 }, (_, i) => i % 3),
    };
    await writeLatents(`${root}/five.npz`, latents);
    const from = (path: string, ...more: string[]) => [
      ...["train", "diffusion", "--latents", `${root}/five.npz`, "--space", "svg", "--init", path],
      ...["--images", "16", "--batch-size", "8", "--device", "cpu", "--runs", `${root}/published`, ...more],
    ];
    await succeeds(...from(published, ...still));
    const tuned = await loadDiffusion(`${root}/published/00000-dit-svg/dit.safetensors`);
    const given = await readPublishedDit(published);
    assert.deepEqual([tuned.config, tuned.params.tokens], [given.config, given.params.tokens]);
    await isRefused(
      from("tests/golden/published_dit/norm.pt"),
      /must be 9, 5, 3 as those of the latents, got 9, 3, 3/,
    );
    await isRefused(
      from(`${root}/five.npz`),
      /Cannot read weights .*five\.npz: it must be a checkpoint of torch\.save/,
    );
  }));

Deno.test("a dry run prints every setting, the parameters and the memory, and writes nothing", () =>
  withLatents(async (root) => {
    const changes = [
      "--set",
      "model.norm=rms",
      "model.head.width=16",
      "model.head.depth=1",
      "model.head.heads=2",
    ];
    const printed = await succeeds(
      ...train(root, "runs", "--dry-run", ...changes, "training.betas=0.9,0.95", "training.divergence=null"),
    );
    const config = JSON.parse(printed.slice(0, printed.lastIndexOf("\n}") + 2));
    assert.deepEqual(config.model.head, { width: 16, depth: 1, heads: 2 });
    assert.deepEqual([config.model.norm, config.training.betas], ["rms", [0.9, 0.95]]);
    assert.equal(config.training.divergence, null);
    assert.match(printed, /[\d,]+ learned parameters \([\d,]+ with fixed tables\), 10 updates$/m);
    assert.match(printed, /about \d+\.\d GB of memory to train with$/);
    await assert.rejects(Deno.stat(`${root}/runs`), Deno.errors.NotFound);
  }));

Deno.test("what cannot be trained is told in one line with exit status 2, before a run folder is made", () =>
  withLatents(async (root) => {
    await Deno.mkdir(`${root}/other`);
    const other = await writeTinyAutoencoder(`${root}/other`, "svg", 9);
    const cases: [string[], RegExp][] = [
      [
        ["--set", "training.clipnorm=2"],
        /there is no key "training\.clipnorm"; the nearest key is "training\.clipNorm"/,
      ],
      [["--set", "model.patchSize=3"], /patchSize must divide the grid 4, got 3/],
      [["--set", "model.head.width=16"], /"head\.depth"/],
      [["--set", "training.betas=0.9"], /"betas/],
      [["--set", "evaluation.sampler=rk4"], /"evaluation\.sampler" must be one of "euler"/],
      [["--set", "nonsense"], /a change must be key\.path=value, got "nonsense"/],
      [["--classes", "2"], /label \d+ must be an integer in \[0, 2\), got 2/],
      [["--set", "training.accumulation=3"], /accumulation must divide the batch size 8, got 3/],
      [["--batch-size", "0"], /must be a positive whole number/],
      [["--learning-rate", "fast"], /learningRate must be a number/],
      [["--size", "huge"], /Allowed choices are .*micro/],
      [["--samples", "-1"], /must be a whole number of at least 0/],
      [["--validation", "1.5"], /the share must leave some of 30 on both sides, got 1\.5/],
      [["--validation", "nowhere"], /nowhere/],
      [["--autoencoder", other], /Cannot open latents .* must be of autoencoder/],
      [["--init", "nothing.pt"], /nothing\.pt/],
      [["--resume", `${root}/images`], /config\.input\.json/],
      [[
        "--classifier",
        "data/models/classifier-solids.safetensors",
        "--autoencoder",
        `${root}/ae-svg.safetensors`,
      ], /the classifier must take images of 16 pixels, got one of 64/],
      [["--device", "abacus"], /Cannot use device/],
    ];
    for (const [more, message] of cases) await isRefused(train(root, "runs", ...more), message);
    await isRefused(
      ["train", "diffusion"],
      /wanted --latents or an --autoencoder to encode images with, got none/,
    );
    await assert.rejects(Deno.stat(`${root}/runs`), Deno.errors.NotFound);
  }));

const canMount = Deno.build.os === "linux" &&
  await new Deno.Command("unshare", { args: ["-rm", "mount", "-t", "tmpfs", "none", "/mnt"], stderr: "null" })
    .output().then(({ success }) => success, () => false);
if (!canMount) console.log("ignored: the full-disk test needs unshare and a tmpfs of its own");

Deno.test({
  name: "a full disk ends a run in one line, and no checkpoint is half-written",
  ignore: !canMount,
  fn: () =>
    withLatents(async (root) => {
      await Deno.mkdir(`${root}/full`);
      const script =
        'mount -t tmpfs -o size=1200k none "$1/full" && shift && "$@"; code=$?; ls -A full/*/checkpoints; exit $code';
      const args = train(
        root,
        "full",
        "--samples",
        "0",
        "--set",
        "keeping.checkpointEveryImages=8",
        "keeping.keepLast=9",
      );
      const child = await new Deno.Command("unshare", {
        args: [
          "-rm",
          "sh",
          "-c",
          `cd "$1"; top="$1"; ${script.replaceAll("full/*", '"$top"/full/*')}`,
          "sh",
          root,
        ]
          .concat("sh", "-c", 'cd "$0" && exec "$@"', Deno.cwd(), Deno.execPath(), "run", "-A", "--no-check")
          .concat("lib/cli/main.ts", args),
        env: { NO_COLOR: "1" },
      }).output();
      const err = new TextDecoder().decode(child.stderr), left = new TextDecoder().decode(child.stdout);
      assert.equal(child.code, 2, err);
      assert.match(err, /^novae: Cannot write .*: no space left on the device; free some and run again$/m);
      assert.ok(!left.includes(".tmp"), left);
    }),
});
