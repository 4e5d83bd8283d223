/**
 * Autoencoders side by side, each trained with several seeds, as a run of stages that can be killed and resumed.
 *
 * @module
 */
import { type HostTensor, NovaeError } from "novae/tensor/mod.ts";
import { type DeviceName, resolveDevice } from "novae/engine/mod.ts";
import { type DatasetSplits, openImageViews } from "novae/data/mod.ts";
import { DinoEncoder } from "novae/dino/mod.ts";
import {
  autoencoderFraming,
  countParameters,
  hasFeatures,
  loadAutoencoder,
  loadLpips,
  lpipsFilesAt,
  LpipsMetric,
  middleFeatures,
  readAutoencoder,
  resolveSchedule,
} from "novae/autoencoder/mod.ts";
import { FeatureClassifier } from "novae/evaluation/mod.ts";
import { RunFolder, StageRunner, superviseRun } from "novae/experiment/mod.ts";
import { writePng } from "novae/io/mod.ts";
import { reconstructionGrid } from "novae/plot/mod.ts";
import {
  type AutoencoderQuality,
  expectProbeImages,
  measureQuality,
  type PooledProbe,
  probeFeatures,
} from "./autoencoder_quality.ts";
import { type ComparedSpace, type ComparisonConfig, modelOf } from "./comparison_config.ts";
import { verdictsOf } from "./comparison_verdicts.ts";
import { type ComparedAutoencoder, type ComparisonResult, summarize } from "./comparison_results.ts";
import { LabelledImages } from "./labelled_images.ts";
import { loadStudyData } from "./materials.ts";
import { describeData } from "./references.ts";
import { reconstructionMeasures } from "./reconstruction_measures.ts";
import { trainAutoencoderStage } from "./trained_autoencoder.ts";

/** How a comparison is run. */
export interface CompareOptions {
  /** Folder of the run folders. */
  readonly root: string;
  /** Goes on with the latest run of this name (true) or with a given run folder. */
  readonly resume: boolean | string;
  /** Arguments of the command, for the record. */
  readonly argv: readonly string[];
}

/** Models and images that are open while a comparison runs. */
interface Bench {
  readonly config: ComparisonConfig;
  readonly run: RunFolder;
  readonly device: DeviceName;
  readonly data: DatasetSplits;
  readonly encoder: DinoEncoder | undefined;
  readonly classifier: FeatureClassifier | undefined;
  readonly lpips: LpipsMetric | undefined;
  /** Frozen features of the training images, computed once; undefined without an encoder or if they are too large. */
  readonly features: HostTensor | undefined;
  readonly images: { readonly train: LabelledImages; readonly test: LabelledImages };
}

/**
 * Trains the autoencoders of all spaces with all seeds, measures them on held-out images, and sums up mean and spread
 * over the seeds.
 *
 * @returns the result, which is also in `summary.json` of the run folder, and the path of that folder.
 * @throws NovaeError for anything that a person can mend.
 */
export async function compareAutoencoders(
  config: ComparisonConfig,
  options: CompareOptions,
): Promise<{ readonly result: ComparisonResult; readonly path: string }> {
  const choice = await resolveDevice(config.device as DeviceName);
  await expectModels(config, choice.device);
  const run = await RunFolder.start({
    ...options,
    name: `compare-autoencoders-${config.data.name}`,
    config,
    configInput: config,
    seed: config.seeds[0],
    device: choice,
  });
  const names = config.spaces.flatMap((space) => config.seeds.map((seed) => stageName(space, seed)));
  const plan = ["data", "features", ...names.flatMap((name) => [`train-${name}`, `measure-${name}`])];
  const runner = new StageRunner(run, { plan: plan.map((name) => ({ name })) });
  console.error(`run folder ${run.path}, on ${choice.device} (${choice.reason})`);
  return await superviseRun(run, async () => {
    const result = await runStages(config, run, runner, choice.device);
    await run.finish(result);
    return { result, path: run.path };
  }, () => runner.clear());
}

/** Everything that could be refused after hours is refused first. */
async function expectModels(config: ComparisonConfig, device: DeviceName): Promise<void> {
  const encoder = await openEncoder(config, device);
  try {
    for (const space of config.spaces) modelOf(config, space, encoder);
    const classifier = await openClassifier(config, device), lpips = await openLpips(config, device);
    reconstructionMeasures({ imageSize: config.data.imageSize, classifier, lpips });
    await classifier?.dispose();
    await lpips?.dispose();
  } finally {
    await encoder?.dispose();
  }
}

async function openEncoder(
  { encoder }: ComparisonConfig,
  device: DeviceName,
): Promise<DinoEncoder | undefined> {
  return encoder === "" ? undefined : await DinoEncoder.load(encoder, { device });
}

async function openClassifier(
  { classifier }: ComparisonConfig,
  device: DeviceName,
): Promise<FeatureClassifier | undefined> {
  return classifier === "" ? undefined : await FeatureClassifier.load(classifier, { device });
}

async function openLpips(
  { lpips }: ComparisonConfig,
  device: DeviceName,
): Promise<LpipsMetric | undefined> {
  if (!lpips) return undefined;
  const { path, network } = lpips;
  return new LpipsMetric(await loadLpips(network, await lpipsFilesAt(path, network)), { device });
}

async function runStages(
  config: ComparisonConfig,
  run: RunFolder,
  runner: StageRunner,
  device: DeviceName,
): Promise<ComparisonResult> {
  const { data: wanted, dataSeed } = config;
  let data: DatasetSplits | undefined;
  const record = await runner.stage("data", "Images", async (stage) => {
    data = await loadStudyData(wanted, dataSeed, ({ task, done, total, note }) => {
      stage.update(done, Math.max(total, 1), note ?? task);
    });
    const { classes: _, ...described } = describeData(data);
    return described;
  });
  data ??= await loadStudyData(wanted, dataSeed);
  if (record.hash !== data.train.hash || record.testHash !== data.test.hash) {
    throw new NovaeError(
      `Cannot resume: the images must be those the run began with, got others; start a new run`,
    );
  }
  const encoder = await openEncoder(config, device), classifier = await openClassifier(config, device);
  const lpips = await openLpips(config, device);
  const seen = { imageSize: wanted.imageSize, encoder };
  using test = new LabelledImages(data.test, seen);
  expectProbeImages({ train: new LabelledImages(data.train, seen), test }, { k: config.neighbours });
  const features = encoder && await sharedFeatures(config, data, encoder);
  using train = new LabelledImages(data.train, { ...seen, features });
  const judges = { classifier, lpips };
  const bench: Bench = { config, run, device, data, encoder, ...judges, features, images: { train, test } };
  try {
    const raw = await runner.stage(
      "features",
      "Probes of the raw features",
      async () => await rawProbe(bench),
    );
    const autoencoders: ComparedAutoencoder[] = [];
    for (const space of config.spaces) {
      for (const seed of config.seeds) autoencoders.push(await runOne(bench, runner, space, seed));
    }
    const measured = {
      data: record,
      encoder: encoder ? { file: config.encoder, hash: encoder.hash } : null,
      classifier: classifier ? { file: config.classifier, hash: classifier.hash } : null,
      ...(lpips && { lpips: { ...config.lpips!, hash: lpips.hash } }),
      features: raw,
      autoencoders,
    };
    return {
      kind: "autoencoder-comparison",
      ...measured,
      summary: summarize(autoencoders),
      verdicts: verdictsOf(measured),
    };
  } finally {
    await encoder?.dispose();
    await classifier?.dispose();
    await lpips?.dispose();
  }
}

/** Features of more bytes are computed by each training as it needs them. */
const MAX_FEATURE_BYTES = 2 ** 31;

async function sharedFeatures(
  { data: { imageSize }, schedule: { flip = false } }: ComparisonConfig,
  { train }: DatasetSplits,
  encoder: DinoEncoder,
): Promise<HostTensor | undefined> {
  const count = train.size * (flip ? 2 : 1), tokens = (imageSize / encoder.config.patchSize) ** 2;
  if (4 * count * tokens * encoder.width > MAX_FEATURE_BYTES) return undefined;
  console.error(`frozen features of ${count} training images, once for all …`);
  using views = openImageViews(train, { framing: autoencoderFraming(imageSize) });
  return await middleFeatures(views, encoder, { flip });
}

async function rawProbe({ encoder, images, config }: Bench): Promise<PooledProbe | null> {
  return encoder ? await probeFeatures(images, { k: config.neighbours }) : null;
}

/** The two stages of one space and one seed. */
async function runOne(
  bench: Bench,
  runner: StageRunner,
  space: ComparedSpace,
  seed: number,
): Promise<ComparedAutoencoder> {
  const { config, run, device, data, encoder, features } = bench, name = stageName(space, seed);
  const title = `${space.label}, seed ${seed}`, file = `autoencoder.safetensors`;
  const schedule = resolveSchedule({ ...config.schedule, seed });
  const trained = await runner.stage(`train-${name}`, `${title}: training`, async (stage) => {
    const model = modelOf(config, space, encoder), path = stage.file(file);
    const checkpoints = run.file("checkpoints", name);
    await trainAutoencoderStage(
      { model, schedule, data, encoder, features, device, checkpoints, file: path },
      stage,
    );
    const { params } = await readAutoencoder(path);
    return {
      file: `stages/${stage.name}/${file}`,
      parameters: countParameters(params),
      decoderParameters: countParameters(params.decoder),
    };
  });
  const quality = await runner.stage(`measure-${name}`, `${title}: measures`, async (stage) => {
    return await measureOne(
      bench,
      run.file(trained.file),
      stage.file("reconstructions.png"),
      (done, total) => {
        stage.update(done, total);
      },
    );
  });
  return { label: space.label, seed, imagesSeen: schedule.images, ...trained, ...quality };
}

async function measureOne(
  { config, device, encoder, classifier, lpips, images }: Bench,
  path: string,
  picture: string,
  onProgress: (done: number, total: number) => void,
): Promise<AutoencoderQuality> {
  const { config: model } = await readAutoencoder(path);
  const autoencoder = await loadAutoencoder(path, {
    encoder: hasFeatures(model.space) ? encoder : undefined,
    device,
  });
  try {
    const { quality, shown } = await measureQuality(autoencoder, images, {
      measures: reconstructionMeasures({ imageSize: config.data.imageSize, classifier, lpips }),
      k: config.neighbours,
      onProgress,
    });
    await writePng(picture, reconstructionGrid(shown.images, shown.reconstructions));
    return quality;
  } finally {
    await autoencoder.dispose();
  }
}

/** Name of the stages of a space and a seed, and of the folder of its checkpoints. */
function stageName({ label }: ComparedSpace, seed: number): string {
  return `${label.toLowerCase().replace(/[^a-z0-9.]+/g, "-")}-seed${seed}`;
}
