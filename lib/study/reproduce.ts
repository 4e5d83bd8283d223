/**
 * The paper's comparison of latent spaces, from images to a report, as a run of stages that can be killed and
 * resumed.
 *
 * @module
 */
import { ConfigError, type HostTensor, NovaeError } from "novae/tensor/mod.ts";
import type { DatasetSplits } from "novae/data/mod.ts";
import { DinoEncoder } from "novae/dino/mod.ts";
import type { CompiledAutoencoder, SpaceName } from "novae/autoencoder/mod.ts";
import { knnClassify } from "novae/analysis/mod.ts";
import type { FeatureClassifier } from "novae/evaluation/mod.ts";
import { RunFolder, type StageContext, StageRunner, superviseRun } from "novae/experiment/mod.ts";
import { writeFileAtomic } from "novae/io/mod.ts";
import type { Scale, StudyConfig } from "./config.ts";
import { stagePlan } from "./estimates.ts";
import { EncodedImages } from "./encoded_images.ts";
import { generate } from "./generation.ts";
import { allLabels, encodeDataset, measureSpace } from "./latent_space.ts";
import {
  loadStudyData,
  modelPath,
  openAutoencoder,
  openClassifier,
  provideAutoencoder,
  provideClassifier,
  provideEncoder,
  requireModels,
  type StudyContext,
  studyDevice,
} from "./materials.ts";
import { studyReport } from "./report.ts";
import type {
  DataRecord,
  DiffusionRecord,
  JudgesRecord,
  ModelRecord,
  SpaceRecord,
  StudyResult,
} from "./results.ts";
import { agreement } from "./feature_extractor.ts";
import { Scorer, type ScoreReference } from "./scorer.ts";
import { studyTable } from "./tables.ts";

/** How a study is run. */
export interface ReproduceOptions {
  /** Folder of the run folders. */
  readonly root: string;
  /** The scale, for the name of the run. */
  readonly scale: Scale;
  /** Goes on with the latest run of this name (true) or with a given run folder. */
  readonly resume: boolean | string;
  /** Arguments of the command, for the record. */
  readonly argv: readonly string[];
  /** What the person gave, for the record. */
  readonly input: unknown;
}

/** Models and references that are open while a study runs. */
interface Bench {
  readonly data: DatasetSplits;
  readonly encoder: DinoEncoder;
  readonly classifier: FeatureClassifier;
  readonly scorer: Scorer;
  readonly encoded: { readonly train: EncodedImages; readonly test: EncodedImages };
  /** Features of the training and of the held-out images, extracted when first needed. */
  readonly references: () => Promise<{ train: ScoreReference; test: ScoreReference; judges: JudgesRecord }>;
}

/**
 * Runs the comparison and writes tables, figures and the report.
 *
 * @returns the path of the run folder.
 * @throws NovaeError for anything that a person can mend.
 */
export async function reproduce(config: StudyConfig, options: ReproduceOptions): Promise<string> {
  await requireModels(config);
  const device = await studyDevice(config);
  const run = await openRun(config, options, device);
  const runner = new StageRunner(run, { plan: stagePlan(config) });
  console.error(`run folder ${run.path}, on ${device.device} (${device.reason})`);
  await superviseRun(run, async () => {
    const result = await runStages({ config, run, device: device.device }, runner);
    const records = await runner.records();
    await run.finish(result);
    await writeFileAtomic(
      run.file("report.html"),
      await studyReport({ config, run, result, records, device }),
    );
    console.log(studyTable(result, config));
    console.log(`\nreport: ${run.path}/report.html`);
  }, () => runner.clear());
  return run.path;
}

async function openRun(
  config: StudyConfig,
  { root, scale, resume, argv, input }: ReproduceOptions,
  device: { device: string; reason: string },
): Promise<RunFolder> {
  const name = `reproduce-${config.data.name}-${scale}`, { seed } = config;
  if (resume === false) {
    return await RunFolder.create({ root, name, config, configInput: input, argv, seed, device });
  }
  const path = resume === true ? await RunFolder.latest(root, name) : resume;
  if (path === null) {
    throw new ConfigError(
      `Cannot resume: ${root} must hold a run named ${name}, found none; leave --resume away`,
    );
  }
  return await RunFolder.open(path, { config, argv, seed, device });
}

async function runStages(context: StudyContext, runner: StageRunner): Promise<StudyResult> {
  const { config } = context;
  let data: DatasetSplits | undefined;
  const dataRecord = await runner.stage("data", "Images", async (stage) => {
    data = await loadStudyData(config.data, config.seed, ({ task, done, total, note }) => {
      stage.update(done, Math.max(total, 1), note ?? task);
    });
    return describeData(data);
  });
  data ??= await loadStudyData(config.data, config.seed);
  requireSameData(dataRecord, data);
  const images = data;
  const classifier = await runner.stage(
    "classifier",
    "Classifier that scores",
    (stage) => provideClassifier(context, images, stage),
  );
  const encoder = await runner.stage(
    "encoder",
    "DINO encoder",
    (stage) => provideEncoder(context, images, stage),
  );
  const bench = await openBench(context, images, encoder, classifier);
  try {
    const judges = await runner.stage("references", "Features of real images", async () => {
      return (await bench.references()).judges;
    });
    const spaces: SpaceRecord[] = [], diffusion: DiffusionRecord[] = [];
    for (const space of config.spaces) {
      const [measured, generated] = await runSpace(context, runner, bench, space);
      spaces.push(measured);
      diffusion.push(generated);
    }
    return { data: dataRecord, encoder, classifier, judges, spaces, diffusion };
  } finally {
    await bench.encoder.dispose();
    await bench.classifier.dispose();
  }
}

/** The three stages of one space. Its latents are computed when first needed and kept until its last stage. */
async function runSpace(
  context: StudyContext,
  runner: StageRunner,
  bench: Bench,
  space: SpaceName,
): Promise<[SpaceRecord, DiffusionRecord]> {
  const { config } = context, { data, encoder, encoded, scorer } = bench;
  const record = await runner.stage(
    `autoencoder-${space}`,
    `${space}: autoencoder`,
    (stage) => provideAutoencoder(context, space, data, encoder, stage),
  );
  let open: { autoencoder: CompiledAutoencoder; latents: HostTensor } | undefined;
  const prepare = async (stage: StageContext) => {
    if (open) return open;
    const autoencoder = await openAutoencoder(context, record, encoder);
    const latents = await encodeDataset(
      autoencoder,
      encoded.train,
      (done) => stage.update(0.1 * done / data.train.size, 10, "training latents"),
    );
    return open = { autoencoder, latents };
  };
  try {
    const measured = await runner.stage(`latents-${space}`, `${space}: latents`, async (stage) => {
      const { autoencoder, latents } = await prepare(stage), { test } = await bench.references();
      const tools = { config, data, scorer, test: encoded.test, heldOut: test };
      return await measureSpace(tools, autoencoder, record, latents, stage);
    });
    const generated = await runner.stage(`diffusion-${space}`, `${space}: diffusion`, async (stage) => {
      const { autoencoder, latents } = await prepare(stage), { train } = await bench.references();
      return await generate(context, {
        autoencoder,
        latents,
        labels: allLabels(data.train),
        classes: data.train.classes,
        scorer,
        reference: train,
      }, stage);
    });
    return [measured, generated];
  } finally {
    await open?.autoencoder.dispose();
  }
}

async function openBench(
  context: StudyContext,
  data: DatasetSplits,
  encoderRecord: ModelRecord,
  classifierRecord: ModelRecord,
): Promise<Bench> {
  const encoder = await DinoEncoder.load(modelPath(context.run, encoderRecord), { device: context.device });
  const classifier = await openClassifier(context, classifierRecord);
  const scorer = new Scorer(classifier, encoder);
  const encoded = {
    train: new EncodedImages(encoder, data.train),
    test: new EncodedImages(encoder, data.test),
  };
  let cached: ReturnType<Bench["references"]> | undefined;
  const references = () => cached ??= measureReferences(context.config, scorer, encoded);
  return { data, encoder, classifier, scorer, encoded, references };
}

async function measureReferences(
  config: StudyConfig,
  scorer: Scorer,
  encoded: Bench["encoded"],
): Promise<{ train: ScoreReference; test: ScoreReference; judges: JudgesRecord }> {
  const train = await scorer.datasetFeatures(encoded.train),
    test = await scorer.datasetFeatures(encoded.test);
  const data = { train: encoded.train.dataset, test: encoded.test.dataset };
  const reference = scorer.reference(train, data.train.hash), labels = allLabels(data.test);
  const knn = await knnClassify(
    { features: train.dino, labels: allLabels(data.train) },
    { features: test.dino, labels },
    { k: config.analysis.neighbours },
  );
  const judges: JudgesRecord = {
    classifierAccuracy: agreement(test.predictions, labels),
    encoderKnn: knn.accuracy,
    floor: scorer.frechet(test, reference),
  };
  return { train: reference, test: scorer.reference(test, data.test.hash), judges };
}

function describeData({ train, test }: DatasetSplits): DataRecord {
  return {
    name: train.name,
    hash: train.hash,
    testHash: test.hash,
    classes: [...train.classes],
    imageSize: train.imageSize,
    train: train.size,
    test: test.size,
  };
}

/** A run that is resumed must see the images it began with. */
function requireSameData(record: DataRecord, { train, test }: DatasetSplits): void {
  if (record.hash === train.hash && record.testHash === test.hash) return;
  throw new NovaeError(
    `Cannot resume: the images must be those the run began with (${record.hash.slice(0, 12)}), got ${
      train.hash.slice(0, 12)
    }; start a new run`,
  );
}
