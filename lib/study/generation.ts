/**
 * Diffusion in one latent space: training with checkpoints, and samples scored over the course of it.
 *
 * @module
 */
import type { HostTensor } from "novae/tensor/mod.ts";
import type { CompiledAutoencoder, LatentStats } from "novae/autoencoder/mod.ts";
import type { DeviceName } from "novae/engine/mod.ts";
import {
  countParameters,
  type DitConfig,
  ditConfig,
  type DitParams,
  type DitSize,
  type LatentSampler,
  openLatentSampler,
  saveDiffusion,
  trainDiffusion,
} from "novae/diffusion/mod.ts";
import { pathExists, readJson, writeFileAtomic, writeJson } from "novae/io/mod.ts";
import { CheckpointStore, type RunFolder, type StageContext } from "novae/experiment/mod.ts";
import type { LossGuardState } from "novae/nn/mod.ts";
import type { StudyConfig } from "./config.ts";
import { newestState } from "./diffusion_run/checkpoints.ts";
import { drawImages, labelsInTurn, picture } from "./diffusion_run/samples.ts";
import type { DiffusionRecord, LossPoint, SampleScore } from "./results.ts";
import { agreement } from "./feature_extractor.ts";
import type { Scorer, ScoreReference } from "./scorer.ts";

/** Updates between points of the loss curve and lines of the log. */
const LOG_EVERY = 20;
/** Images between checkpoints. */
const CHECKPOINT_IMAGES = 4000;
/** Samples on a picture. */
const SHOWN = 20;
/** Costs beside one forward pass for one image, for the progress bar: a training image, decoding and scoring one. */
const COST = { train: 4, decode: 6 };

/** Settings of a training and of its samples, and where they go. */
export interface GenerationContext {
  /** Settings of training and sampling. */
  readonly config: Pick<StudyConfig, "diffusion" | "seed"> & {
    readonly sampling: StudyConfig["sampling"] & {
      /** Numbers of steps that are scored with guidance after the last image; those without, unless given. */
      readonly guidedSteps?: readonly number[];
    };
  };
  /** Where results go. */
  readonly run: RunFolder;
  /** Where compiled work runs. */
  readonly device: DeviceName;
}

/** What the samples of a space are made of and compared with. */
export interface GenerationTools {
  /** Name of the training in its run, for files and metrics: lower-case letters, digits and dashes. */
  readonly name: string;
  /** Decodes samples. */
  readonly autoencoder: CompiledAutoencoder;
  /** Normalised latents of the training images [count, N, Z]. */
  readonly latents: HostTensor;
  /** What they were normalised with; samples are brought back with it. */
  readonly stats: LatentStats;
  /** Their labels. */
  readonly labels: Int32Array;
  /** Class names. */
  readonly classes: readonly string[];
  /** Extracts and compares features. */
  readonly scorer: Scorer;
  /** Features of the training images, to compare samples with. */
  readonly reference: ScoreReference;
}

/** One way to sample. */
interface Setting {
  readonly steps: number;
  readonly cfgScale: number;
}

/** Trains the transformer of a space and scores its samples; a killed run goes on from the last checkpoint. */
export async function generate(
  context: GenerationContext,
  tools: GenerationTools,
  stage: StageContext,
): Promise<DiffusionRecord> {
  const { config, run, device } = context,
    { diffusion, sampling } = config,
    { autoencoder, name, stats } = tools;
  const dit = ditConfig(diffusion.size as DitSize, {
    channels: autoencoder.channels,
    grid: autoencoder.grid,
    classes: tools.classes.length,
  });
  const { size: _, ...training } = diffusion;
  const settings = { ...training, seed: config.seed };
  const store = new CheckpointStore(run.file("checkpoints", name), { config: { dit, settings } });
  const kept = await newestState(store, dit, settings);
  const losses = (kept?.meta.losses ?? []) as LossPoint[];
  // What a killed run logged after its last checkpoint is logged again.
  const imagesBefore = (kept?.step ?? 0) * diffusion.batchSize;
  await run.metrics.retain((row) => row.space !== name || Number(row.imagesSeen) <= imagesBefore);
  let trainSec = (kept?.meta.trainSec ?? 0) as number;

  const progress = new Progress(context, stage, imagesBefore);
  const cores = navigator.hardwareConcurrency;
  const sampler = await openLatentSampler(dit, {
    device,
    workers: device === "cpu" ? cores : 1,
    batchSize: 32,
  });
  const scores: SampleScore[] = [];
  try {
    const trained = await trainDiffusion({
      config: dit,
      data: { latents: tools.latents, labels: tools.labels },
      settings,
      device,
      resume: kept?.state,
      guard: { state: kept?.meta.guard as LossGuardState | undefined },
      logEverySteps: LOG_EVERY,
      onProgress: ({ imagesSeen, imagesPerSec, metrics }) => {
        losses.push({ imagesSeen, loss: metrics.loss });
        trainSec += LOG_EVERY * diffusion.batchSize / imagesPerSec;
        run.metrics.append({ space: name, imagesSeen, imagesPerSec, ...metrics });
        progress.trained(imagesSeen, `loss ${metrics.loss.toFixed(3)}`);
      },
      checkpointEveryImages: CHECKPOINT_IMAGES,
      onCheckpoint: async (state, step, { guard }) =>
        await store.save(step, { weights: state.ema, state, meta: { losses, trainSec, guard } }),
      evaluate: {
        at: sampling.checkpoints.map((share) => share * diffusion.images),
        run: async (params, { imagesSeen }) => {
          const last = imagesSeen >= diffusion.images;
          for (const setting of settingsAt(context, last)) {
            const score = await scoreOnce(context, tools, {
              sampler,
              params,
              dit,
              setting,
              imagesSeen,
              progress,
            });
            if (!scores.some((s) => sameScore(s, score))) scores.push(score);
          }
        },
      },
    });
    await saveDiffusion(stage.file("dit.safetensors"), {
      config: dit,
      params: trained.ema,
      space: autoencoder.name,
      latents: stats,
    });
  } finally {
    await sampler.dispose();
  }
  const imagesSeen = losses.at(-1)?.imagesSeen ?? 0;
  return {
    space: autoencoder.name,
    parameters: countParameters(dit).learned,
    imagesSeen,
    imagesPerSec: imagesSeen / trainSec,
    losses,
    scores: await allScores(context, name, scores),
  };
}

/** The ways to sample at a checkpoint: all of them after the last image, a part of them before. */
function settingsAt({ config: { sampling } }: GenerationContext, last: boolean): Setting[] {
  const steps = last ? sampling.steps : sampling.curveSteps;
  const guided = last ? sampling.guidedSteps ?? steps : sampling.curveGuided ? steps : [];
  return [
    ...steps.map((count) => ({ steps: count, cfgScale: 1 })),
    ...guided.map((count) => ({ steps: count, cfgScale: sampling.cfgScale })),
  ];
}

interface ScoreRequest {
  readonly sampler: LatentSampler;
  readonly params: DitParams<HostTensor>;
  readonly dit: DitConfig;
  readonly setting: Setting;
  readonly imagesSeen: number;
  readonly progress: Progress;
}

/** Scores one set of samples, or takes the score from the run folder if it is there. */
async function scoreOnce(
  context: GenerationContext,
  tools: GenerationTools,
  request: ScoreRequest,
): Promise<SampleScore> {
  const { setting: { steps, cfgScale }, imagesSeen, progress } = request, { config, run } = context;
  const { samples, timestepShift } = config.sampling, { autoencoder, scorer, classes } = tools;
  const name = `${tools.name}-${imagesSeen}-steps${steps}-cfg${cfgScale}`,
    path = run.file("eval", `${name}.json`);
  if (await pathExists(path)) return await readJson(path) as SampleScore;
  const started = performance.now();
  const labels = labelsInTurn(samples, classes.length);
  const drawing = { sampler: request.sampler, decoder: autoencoder, stats: tools.stats };
  const images = await drawImages(drawing, {
    params: request.params,
    labels,
    seed: config.seed,
    steps,
    shift: timestepShift,
    cfgScale,
  });
  const wallSec = (performance.now() - started) / 1000;
  await writeFileAtomic(run.file("samples", `${name}.png`), await picture(images, SHOWN, 10));
  const features = await scorer.features(images);
  const score: SampleScore = {
    imagesSeen,
    steps,
    cfgScale,
    frechet: scorer.frechet(features, tools.reference),
    accuracy: agreement(features.predictions, labels),
    wallSec,
  };
  await writeJson(path, score);
  progress.sampled(request.setting);
  return score;
}

/** The scores of this start of the run and of those before, in order. */
async function allScores(
  context: GenerationContext,
  training: string,
  fresh: SampleScore[],
): Promise<SampleScore[]> {
  const { config, run } = context, scores = [...fresh];
  for await (const entry of Deno.readDir(run.file("eval", ".").replace(/\/\.$/, ""))) {
    if (!new RegExp(`^${training}-\\d+-steps\\d+-cfg[\\d.]+\\.json$`).test(entry.name)) continue;
    const score = await readJson(run.file("eval", entry.name)) as SampleScore;
    if (!scores.some((s) => sameScore(s, score))) scores.push(score);
  }
  const known = scores.filter((s) => s.imagesSeen <= config.diffusion.images + config.diffusion.batchSize);
  return known.sort((a, b) => a.imagesSeen - b.imagesSeen || a.cfgScale - b.cfgScale || a.steps - b.steps);
}

function sameScore(a: SampleScore, b: SampleScore): boolean {
  return a.imagesSeen === b.imagesSeen && a.steps === b.steps && a.cfgScale === b.cfgScale;
}

/** Adds up training and sampling in units of one forward pass, for one bar over both. */
class Progress {
  readonly #stage: StageContext;
  readonly #context: GenerationContext;
  readonly #total: number;
  #trained = 0;
  #sampled = 0;
  #note = "";

  constructor(context: GenerationContext, stage: StageContext, imagesBefore: number) {
    const { diffusion, sampling } = context.config;
    this.#context = context;
    this.#stage = stage;
    const settings = sampling.checkpoints.flatMap((share) => settingsAt(context, share === 1));
    this.#total = COST.train * diffusion.images + settings.reduce((sum, s) => sum + this.#cost(s), 0);
    this.#trained = COST.train * imagesBefore;
    this.#show();
  }

  trained(imagesSeen: number, note: string): void {
    this.#trained = COST.train * imagesSeen;
    this.#note = note;
    this.#show();
  }

  sampled(setting: Setting): void {
    this.#sampled += this.#cost(setting);
    this.#show();
  }

  #cost({ steps, cfgScale }: Setting): number {
    return this.#context.config.sampling.samples * (steps * (cfgScale === 1 ? 1 : 2) + COST.decode);
  }

  #show(): void {
    this.#stage.update(this.#trained + this.#sampled, this.#total, this.#note);
  }
}
