/**
 * The training of an autoencoder as a stage of a run, which a killed run goes on with.
 *
 * @module
 */
import { type HostTensor, Rng } from "novae/tensor/mod.ts";
import type { DeviceName } from "novae/engine/mod.ts";
import type { DatasetSplits } from "novae/data/mod.ts";
import {
  type AutoencoderConfig,
  type FrozenEncoder,
  initAutoencoderState,
  type ResolvedSchedule,
  saveAutoencoder,
  scheduleSteps,
  trainAutoencoder,
  trainsWithFeatures,
} from "novae/autoencoder/mod.ts";
import { CheckpointStore, type StageContext } from "novae/experiment/mod.ts";

/** Updates between log lines and between checkpoints. */
const LOG_EVERY = 10, CHECKPOINT_EVERY = 100;

/** What is trained, on what, and where it goes. */
export interface AutoencoderTraining {
  /** Settings. */
  readonly model: AutoencoderConfig;
  /** How it is trained. */
  readonly schedule: ResolvedSchedule;
  /** The images. */
  readonly data: DatasetSplits;
  /** The frozen encoder; not used by spaces without its features. */
  readonly encoder?: FrozenEncoder;
  /** Its features of the training images, if they are there already. */
  readonly features?: HostTensor;
  /** Where compiled work runs. */
  readonly device: DeviceName;
  /** Folder of the checkpoints. */
  readonly checkpoints: string;
  /** File of the result. */
  readonly file: string;
}

/** Trains an autoencoder, from its newest checkpoint if there is one, and writes it. */
export async function trainAutoencoderStage(
  { model, schedule, data, device, checkpoints, file, ...given }: AutoencoderTraining,
  stage: StageContext,
): Promise<void> {
  const used = trainsWithFeatures(model.space) ? given : {},
    { encoder } = used,
    steps = scheduleSteps(schedule);
  const store = new CheckpointStore(checkpoints, {
    config: { model, schedule, encoder: encoder?.hash ?? null },
  });
  const like = initAutoencoderState(new Rng(0), model, schedule.alignmentMomentum),
    latest = await store.latest();
  const resume = latest === null
    ? undefined
    : (await store.load(latest, { weights: like.ema, state: like })).state;
  stage.update(latest ?? 0, steps);
  const trained = await trainAutoencoder({
    config: model,
    schedule,
    train: data.train,
    heldOut: data.test,
    ...used,
    device,
    resume,
    evaluations: 1,
    logEverySteps: LOG_EVERY,
    onLog: ({ step, metrics }) => stage.update(step, steps, `loss ${metrics.loss.toPrecision(3)}`),
    checkpointEverySteps: CHECKPOINT_EVERY,
    onCheckpoint: async (reached, step) => await store.save(step, { weights: reached.ema, state: reached }),
  });
  await saveAutoencoder(file, {
    config: model,
    params: trained.params,
    stats: trained.stats,
    alignment: trained.alignment,
    encoderHash: encoder?.hash,
    metadata: {
      dataset: data.train.name,
      datasetHash: data.train.hash,
      imagesSeen: String(steps * schedule.batchSize),
    },
  });
}
