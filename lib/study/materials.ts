/**
 * What the comparison is made with: images, the frozen encoder, the classifier that scores, the autoencoders. Each
 * model is loaded from a file, or trained in a stage of its own that a killed run resumes.
 *
 * @module
 */
import { join } from "node:path";
import { ConfigError, Rng } from "novae/tensor/mod.ts";
import { type DeviceName, resolveDevice } from "novae/engine/mod.ts";
import { hashFile, pathExists } from "novae/io/mod.ts";
import { type Dataset, type DatasetSplits, loadDataset, type OnDataProgress } from "novae/data/mod.ts";
import {
  countVitParams,
  DinoEncoder,
  type DinoRecipe,
  initDinoState,
  loadEncoder,
  saveEncoder,
  SMALL_RECIPE,
  standardiseFeatures,
  trainDino,
  VIT_SIZES,
  type VitConfig,
} from "novae/dino/mod.ts";
import {
  type AutoencoderConfig,
  type CompiledAutoencoder,
  countParameters,
  loadAutoencoder,
  namedAutoencoder,
  readAutoencoder,
  resolveSchedule,
  type SpaceName,
  trainsWithFeatures,
} from "novae/autoencoder/mod.ts";
import {
  classifierConfig,
  countClassifierParams,
  FeatureClassifier,
  initClassifierState,
  loadClassifier,
  saveClassifier,
  trainFeatureClassifier,
} from "novae/evaluation/mod.ts";
import { CheckpointStore, type RunFolder, type StageContext } from "novae/experiment/mod.ts";
import type { StudyConfig } from "./config.ts";
import type { ModelRecord } from "./results.ts";
import { trainAutoencoderStage } from "./trained_autoencoder.ts";

/** Updates between log lines and between checkpoints of the models trained here. */
const LOG_EVERY = 10;
const CHECKPOINT_EVERY = 100;

/** A run of the study and where it computes. */
export interface StudyContext {
  /** All settings. */
  readonly config: StudyConfig;
  /** Where results go. */
  readonly run: RunFolder;
  /** Where compiled work runs, `auto` resolved. */
  readonly device: DeviceName;
}

/** Loads the images; `solids` are rendered the first time. */
export async function loadStudyData(
  data: StudyConfig["data"],
  seed: number,
  onProgress?: OnDataProgress,
): Promise<DatasetSplits> {
  const { name, path, train, test, imageSize } = data;
  return await loadDataset({
    name,
    path: path === "" ? undefined : path,
    train: name === "folder" ? undefined : train,
    test: name === "folder" ? undefined : test,
    imageSize,
    seed,
    onProgress,
  });
}

/** The device of a run and why it was taken. */
export async function studyDevice(config: StudyConfig): Promise<{ device: DeviceName; reason: string }> {
  return await resolveDevice(config.device as DeviceName);
}

/**
 * Checks that the files a configuration names are there, before any work is done.
 *
 * @throws ConfigError naming the first that is absent.
 */
export async function requireModels(
  { encoder, classifier, autoencoder, data, spaces }: StudyConfig,
): Promise<void> {
  if (encoder.path !== "") await requireFile("encoder", encoder.path, "encoder.path");
  if (classifier.path !== "") await requireFile("classifier", classifier.path, "classifier.path");
  if (autoencoder.folder === "") return;
  for (const space of spaces) {
    const path = autoencoderFile(autoencoder.folder, space, data.name);
    await requireFile(`autoencoder of ${space}`, path, "autoencoder.folder");
  }
}

/** Loads the encoder, or trains it on the training images; its file is all that a resumed run needs. */
export async function provideEncoder(
  context: StudyContext,
  data: DatasetSplits,
  stage: StageContext,
): Promise<ModelRecord> {
  const { config, run, device } = context, { path, images } = config.encoder;
  if (path !== "") {
    return await encoderRecord(path, path, false);
  }
  const vit = ownVit(config), recipe = encoderRecipe(config);
  const store = new CheckpointStore(run.file("checkpoints", "encoder"), { config: { vit, recipe, images } });
  const like = initDinoState(new Rng(0), vit, recipe);
  const latest = await store.latest();
  const state = latest === null
    ? undefined
    : (await store.load(latest, { weights: like.teacher.vit, state: like })).state;
  stage.update(latest ?? 0, recipe.steps);
  const trained = await trainDino({
    dataset: data.train,
    vit,
    recipe,
    seed: config.seed,
    device,
    state,
    logEverySteps: LOG_EVERY,
    onLog: ({ step, metrics }) => stage.update(step, recipe.steps, `loss ${metrics.loss.toFixed(3)}`),
    checkpointEverySteps: CHECKPOINT_EVERY,
    onCheckpoint: async (reached, step) =>
      await store.save(step, { weights: reached.teacher.vit, state: reached }),
  });
  const indices = Array.from({ length: Math.min(data.train.size, STANDARDISED_IMAGES) }, (_, i) => i);
  const encoder = await standardiseFeatures(vit, trained.encoder, [data.train.images(indices)], { device });
  const file = stage.file("encoder.safetensors");
  await saveEncoder(file, vit, encoder, {
    dataset: data.train.name,
    datasetHash: data.train.hash,
    imagesSeen: String(recipe.steps * recipe.batchSize),
  });
  return await encoderRecord(file, `stages/${stage.name}/encoder.safetensors`, true);
}

/** Training images on which a study's own encoder has its features standardised. */
const STANDARDISED_IMAGES = 1000;

/** The encoder that a study trains for its images. */
function ownVit({ data: { imageSize } }: StudyConfig): VitConfig {
  return { ...VIT_SIZES[imageSize <= 32 ? "cifar10" : "solids"], imageSize };
}

/** The recipe of the project's encoders, cut to the images of the study and to the size of its images. */
function encoderRecipe({ data, encoder }: StudyConfig): DinoRecipe {
  const steps = Math.max(Math.ceil(encoder.images / SMALL_RECIPE.batchSize), 2);
  const half = data.imageSize <= 32 ? 2 : 1;
  return {
    ...SMALL_RECIPE,
    steps,
    globalSize: SMALL_RECIPE.globalSize / half,
    localSize: SMALL_RECIPE.localSize / half,
  };
}

/** The record of an encoder's file. */
export async function encoderRecord(file: string, name: string, trained: boolean): Promise<ModelRecord> {
  const encoder = await DinoEncoder.load(file, { device: "cpu" });
  try {
    return { file: name, trained, hash: encoder.hash, parameters: countVitParams(encoder.config) };
  } finally {
    await encoder.dispose();
  }
}

/** Loads the classifier, or trains it on the labelled training images. */
export async function provideClassifier(
  context: StudyContext,
  data: DatasetSplits,
  stage: StageContext,
): Promise<ModelRecord> {
  const { config, run, device } = context, { path, images } = config.classifier;
  if (path !== "") {
    return await classifierRecord(path, data.train);
  }
  const batchSize = 64, steps = Math.ceil(images / batchSize);
  const settings = classifierConfig({ imageSize: data.train.imageSize, classes: data.train.classes });
  const store = new CheckpointStore(run.file("checkpoints", "classifier"), { config: { settings, images } });
  const like = initClassifierState(config.seed, settings);
  const latest = await store.latest();
  const state = latest === null
    ? undefined
    : (await store.load(latest, { weights: like.params, state: like })).state;
  stage.update(latest ?? 0, steps);
  const trained = await trainFeatureClassifier({
    train: data.train,
    test: data.test,
    images,
    batchSize,
    seed: config.seed,
    device,
    state,
    evaluations: 1,
    logEverySteps: LOG_EVERY,
    onLog: ({ step, metrics }) =>
      stage.update(step, steps, `accuracy ${(100 * metrics.accuracy).toFixed(0)} %`),
    checkpointEverySteps: CHECKPOINT_EVERY,
    onCheckpoint: async (reached, step) =>
      await store.save(step, { weights: reached.params, state: reached }),
  });
  const file = stage.file("classifier.safetensors");
  await saveClassifier(file, trained.config, trained.params, trained.record);
  return {
    file: `stages/${stage.name}/classifier.safetensors`,
    trained: true,
    hash: trained.hash,
    parameters: countClassifierParams(trained.params),
  };
}

/**
 * The record of a classifier that was trained before.
 *
 * @throws ConfigError if it was trained on other classes, or images of another size.
 */
export async function classifierRecord(path: string, images: Dataset): Promise<ModelRecord> {
  const { hash, params, config: { imageSize, classes } } = await loadClassifier(path);
  if (imageSize !== images.imageSize || classes.join() !== images.classes.join()) {
    throw new ConfigError(
      `Cannot score with ${path}: it must be trained on the classes and size of ${images.name}`,
    );
  }
  return { file: path, trained: false, hash, parameters: countClassifierParams(params) };
}

/** Loads the autoencoder of a space, or trains it. */
export async function provideAutoencoder(
  context: StudyContext,
  space: SpaceName,
  data: DatasetSplits,
  encoder: DinoEncoder,
  stage: StageContext,
): Promise<ModelRecord> {
  const { config, run, device } = context, { folder, images } = config.autoencoder;
  if (folder !== "") {
    const path = autoencoderFile(folder, space, config.data.name);
    return await autoencoderRecord(path, path, false, encoder);
  }
  const file = stage.file(`ae-${space}.safetensors`);
  await trainAutoencoderStage({
    model: ownAutoencoder(config, space, encoder.config),
    schedule: resolveSchedule({ images, seed: config.seed }),
    data,
    encoder,
    device,
    checkpoints: run.file("checkpoints", `autoencoder-${space}`),
    file,
  }, stage);
  return await autoencoderRecord(file, `stages/${stage.name}/ae-${space}.safetensors`, true, encoder);
}

/** Settings of the autoencoder of a space: those in its file, or those it will be trained with. */
export async function autoencoderConfig(config: StudyConfig, space: SpaceName): Promise<AutoencoderConfig> {
  const { folder } = config.autoencoder, { path } = config.encoder;
  if (folder !== "") return (await readAutoencoder(autoencoderFile(folder, space, config.data.name))).config;
  return ownAutoencoder(config, space, path === "" ? ownVit(config) : (await loadEncoder(path)).config);
}

/** The autoencoder that a study trains for its images. */
function ownAutoencoder({ data }: StudyConfig, space: SpaceName, vit: VitConfig): AutoencoderConfig {
  return namedAutoencoder("micro", {
    space,
    imageSize: data.imageSize,
    patchSize: vit.patchSize,
    featureChannels: trainsWithFeatures(space) ? vit.width : undefined,
  });
}

/** Path of the file of a model record. */
export function modelPath(run: RunFolder, record: ModelRecord): string {
  return record.trained ? `${run.path}/${record.file}` : record.file;
}

/** Opens the classifier of a record. */
export async function openClassifier(context: StudyContext, record: ModelRecord): Promise<FeatureClassifier> {
  return await FeatureClassifier.load(modelPath(context.run, record), { device: context.device });
}

/** Opens the autoencoder of a record. */
export async function openAutoencoder(
  context: StudyContext,
  record: ModelRecord,
  encoder: DinoEncoder,
): Promise<CompiledAutoencoder> {
  return await loadAutoencoder(modelPath(context.run, record), { encoder, device: context.device });
}

async function autoencoderRecord(
  file: string,
  name: string,
  trained: boolean,
  encoder: DinoEncoder,
): Promise<ModelRecord> {
  const autoencoder = await loadAutoencoder(file, { encoder, device: "cpu" });
  try {
    return {
      file: name,
      trained,
      hash: await hashFile(file),
      parameters: countParameters(autoencoder.params),
    };
  } finally {
    await autoencoder.dispose();
  }
}

/** Where the autoencoder of a space and a data set lies in a folder. */
export function autoencoderFile(folder: string, space: SpaceName, data: string): string {
  return join(folder, `ae-${space}-${data}.safetensors`);
}

async function requireFile(what: string, path: string, key: string): Promise<void> {
  if (await pathExists(path)) return;
  throw new ConfigError(
    `Cannot load ${what}: ${key} must name a file that exists, got ${path}; leave ${key} empty to train it`,
  );
}
