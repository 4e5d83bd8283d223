/**
 * Diffusion in several latent spaces, each trained with several seeds, as a run of stages that can be killed and resumed.
 *
 * @module
 */
import { ConfigError, type HostTensor, NovaeError } from "novae/tensor/mod.ts";
import { type DeviceName, resolveDevice } from "novae/engine/mod.ts";
import type { DatasetSplits } from "novae/data/mod.ts";
import { DinoEncoder } from "novae/dino/mod.ts";
import {
  type CompiledAutoencoder,
  type LatentStats,
  loadAutoencoder,
  type SpaceName,
} from "novae/autoencoder/mod.ts";
import { ditConfig, type DitSize } from "novae/diffusion/mod.ts";
import { FeatureClassifier } from "novae/evaluation/mod.ts";
import { RunFolder, StageRunner, superviseRun } from "novae/experiment/mod.ts";
import { hashFile, pathExists, writeFileAtomic } from "novae/io/mod.ts";
import type { CompareOptions } from "./autoencoder_comparison.ts";
import type { ComparedLatents, DiffusionComparisonConfig } from "./diffusion_comparison_config.ts";
import { diffusionComparisonReport } from "./diffusion_comparison_report.ts";
import {
  type ComparedDiffusion,
  type DiffusionComparisonResult,
  equalQuality,
  summarizeDiffusion,
} from "./diffusion_comparison_results.ts";
import { diffusionVerdicts } from "./diffusion_comparison_verdicts.ts";
import { EncodedImages } from "./encoded_images.ts";
import { generate } from "./generation.ts";
import { allLabels, encodeDataset } from "./latent_space.ts";
import { autoencoderFile, classifierRecord, encoderRecord, loadStudyData } from "./materials.ts";
import { describeData, measureReferences } from "./references.ts";
import type { DiffusionRecord } from "./results.ts";
import { Scorer, type ScoreReference } from "./scorer.ts";

/** Models, images and references that are open while a comparison runs. */
interface Bench {
  readonly config: DiffusionComparisonConfig;
  readonly run: RunFolder;
  readonly device: DeviceName;
  readonly data: DatasetSplits;
  readonly encoder: DinoEncoder;
  readonly scorer: Scorer;
  readonly encoded: EncodedImages;
  readonly reference: ScoreReference;
}

/**
 * Trains transformers in all latent spaces with all seeds, scores their samples over the course of training and by steps
 * and guidance, and sums up mean and spread over the seeds.
 *
 * @returns the result, which is also in `summary.json` of the run folder, and the path of that folder.
 * @throws NovaeError for anything that a person can mend.
 */
export async function compareDiffusion(
  config: DiffusionComparisonConfig,
  options: CompareOptions,
): Promise<{ readonly result: DiffusionComparisonResult; readonly path: string }> {
  await expectModels(config);
  const choice = await resolveDevice(config.device as DeviceName);
  const run = await RunFolder.start({
    ...options,
    name: `compare-diffusion-${config.data.name}`,
    config,
    configInput: config,
    seed: config.seeds[0],
    device: choice,
  });
  const names = config.spaces.flatMap((latents) => config.seeds.map((seed) => trainingName(latents, seed)));
  const plan = ["data", "references", ...names].map((name) => ({ name }));
  const runner = new StageRunner(run, { plan });
  console.error(`run folder ${run.path}, on ${choice.device} (${choice.reason})`);
  return await superviseRun(run, async () => {
    const result = await runStages(config, run, runner, choice.device);
    await run.finish(result);
    await writeFileAtomic(run.file("report.html"), diffusionComparisonReport(result, config, run.name));
    return { result, path: run.path };
  }, () => runner.clear());
}

/** @throws ConfigError naming the first file that is absent. */
async function expectModels({ encoder, classifier, ...config }: DiffusionComparisonConfig): Promise<void> {
  const spaces = new Set(config.spaces.flatMap(({ space, statistics }) => [space, statistics]));
  const files = [...spaces].map((space) => autoencoderFile(config.autoencoders, space, config.data.name));
  for (const path of [encoder, classifier, ...files]) {
    if (await pathExists(path)) continue;
    throw new ConfigError(`Cannot compare diffusion: ${path} must exist, found nothing`);
  }
}

async function runStages(
  config: DiffusionComparisonConfig,
  run: RunFolder,
  runner: StageRunner,
  device: DeviceName,
): Promise<DiffusionComparisonResult> {
  const { data: wanted, dataSeed, sampling } = config;
  let data: DatasetSplits | undefined;
  const record = await runner.stage("data", "Images", async (stage) => {
    data = await loadStudyData(wanted, dataSeed, ({ task, done, total, note }) => {
      stage.update(done, Math.max(total, 1), note ?? task);
    });
    return describeData(data);
  });
  data ??= await loadStudyData(wanted, dataSeed);
  if (record.hash !== data.train.hash || record.testHash !== data.test.hash) {
    throw new NovaeError(
      `Cannot resume: the images must be those the run began with, got others; start a new run`,
    );
  }
  const classifierModel = await classifierRecord(config.classifier, data.train),
    encoderModel = await encoderRecord(config.encoder, config.encoder, false);
  const encoder = await DinoEncoder.load(config.encoder, { device });
  const classifier = await FeatureClassifier.load(config.classifier, { device });
  try {
    const scorer = new Scorer(classifier, encoder);
    const encoded = {
      train: new EncodedImages(encoder, data.train),
      test: new EncodedImages(encoder, data.test),
    };
    console.error("features of the real images …");
    const { train: reference, judges } = await measureReferences(NEIGHBOURS, scorer, encoded);
    await runner.stage("references", "Features of real images", () => Promise.resolve(judges));
    const bench: Bench = { config, run, device, data, encoder, scorer, encoded: encoded.train, reference };
    const trainings: ComparedDiffusion[] = [];
    for (const latents of config.spaces) trainings.push(...await trainIn(bench, runner, latents));
    const [curveSteps] = sampling.curveSteps.toSorted((a, b) => b - a);
    const { steps, guidedSteps = steps, cfgScale } = sampling;
    return {
      kind: "diffusion-comparison",
      data: record,
      encoder: encoderModel,
      classifier: classifierModel,
      autoencoders: await autoencoderHashes(config),
      judges,
      trainings,
      summary: summarizeDiffusion(trainings),
      equalQuality: equalQuality(trainings, curveSteps),
      verdicts: diffusionVerdicts(trainings, { curveSteps, steps, guidedSteps, cfgScale }),
    };
  } finally {
    await encoder.dispose();
    await classifier.dispose();
  }
}

/** Neighbours that vote in the probe of the encoder which the record has. */
const NEIGHBOURS = 20;

/** All trainings in one kind of latents, which are computed once and when they are first needed. */
async function trainIn(
  bench: Bench,
  runner: StageRunner,
  latents: ComparedLatents,
): Promise<ComparedDiffusion[]> {
  const { config } = bench, trainings: ComparedDiffusion[] = [];
  let open: OpenLatents | undefined;
  try {
    for (const seed of config.seeds) {
      const name = trainingName(latents, seed);
      const record = await runner.stage(name, `${latents.label}, seed ${seed}`, async (stage) => {
        open ??= await openLatents(bench, latents, (done, total) => {
          stage.update(0.05 * done / total, 1, "latents");
        });
        const { autoencoder, stats, zBNZ } = open, { diffusion, sampling } = config;
        const context = { config: { diffusion, sampling, seed }, run: bench.run, device: bench.device };
        const { train } = bench.data;
        const labels = allLabels(train), { classes } = train, { scorer, reference } = bench;
        const tools = { name, autoencoder, latents: zBNZ, stats, labels, classes, scorer, reference };
        const generated = await generate(context, tools, stage);
        const { channels, grid } = autoencoder;
        return { ...generated, channels, grid };
      });
      trainings.push(compared(bench, latents, seed, record));
    }
  } finally {
    await open?.autoencoder.dispose();
  }
  return trainings;
}

interface OpenLatents {
  readonly autoencoder: CompiledAutoencoder;
  readonly stats: LatentStats;
  readonly zBNZ: HostTensor;
}

async function openLatents(
  { config, device, encoder, encoded }: Bench,
  { label, space, statistics }: ComparedLatents,
  onProgress: (done: number, total: number) => void,
): Promise<OpenLatents> {
  const load = (name: SpaceName) =>
    loadAutoencoder(autoencoderFile(config.autoencoders, name, config.data.name), { encoder, device });
  const autoencoder = await load(space);
  const stats = statistics === space ? autoencoder.stats : await statisticsOf(load(statistics));
  if (stats.mean.length !== autoencoder.channels) {
    await autoencoder.dispose();
    throw new ConfigError(
      `Cannot compare diffusion: statistics of ${label} must be of ${autoencoder.channels} channels, ` +
        `got ${stats.mean.length}`,
    );
  }
  const { size } = encoded.dataset;
  const zBNZ = await encodeDataset(autoencoder, encoded, (done) => onProgress(done, size), stats);
  return { autoencoder, stats, zBNZ };
}

async function statisticsOf(loading: Promise<CompiledAutoencoder>): Promise<LatentStats> {
  const autoencoder = await loading;
  await autoencoder.dispose();
  return autoencoder.stats;
}

function compared(
  { config, data }: Bench,
  { label, space, statistics }: ComparedLatents,
  seed: number,
  record: DiffusionRecord & { readonly channels: number; readonly grid: number },
): ComparedDiffusion {
  const { parameters, imagesSeen, imagesPerSec, losses, channels, grid } = record;
  const transformer = ditConfig(config.diffusion.size as DitSize, {
    channels,
    grid,
    classes: data.train.classes.length,
  });
  const scores = record.scores.map(({ imagesSeen, steps, cfgScale, accuracy, frechet }) => ({
    imagesSeen,
    steps,
    cfgScale,
    accuracy,
    frechet: frechet.classifier.value,
    standardError: frechet.classifier.standardError,
    dinoFrechet: frechet.dino.value,
  }));
  const about = { label, space, statistics, seed, transformer };
  return { ...about, parameters, imagesSeen, imagesPerSec, losses, scores };
}

async function autoencoderHashes(
  { autoencoders, spaces, data }: DiffusionComparisonConfig,
): Promise<Record<string, string>> {
  const names = [...new Set(spaces.flatMap(({ space, statistics }) => [space, statistics]))];
  const hashes = names.map(async (space) =>
    [space, await hashFile(autoencoderFile(autoencoders, space, data.name))] as const
  );
  return Object.fromEntries(await Promise.all(hashes));
}

/** Name of a stage, and of the files of its training. */
function trainingName({ label }: ComparedLatents, seed: number): string {
  return `${label.replaceAll("@", "-by-")}-seed${seed}`;
}
