/**
 * Samples of the averaged weights in the course of a training: pictures with fixed seeds, and their score.
 *
 * @module
 */
import { dirname, join } from "node:path";
import type { HostTensor } from "novae/tensor/mod.ts";
import type { LatentStats } from "novae/autoencoder/mod.ts";
import { type DitParams, type LatentSampler, openLatentSampler } from "novae/diffusion/mod.ts";
import type { DeviceName } from "novae/engine/mod.ts";
import type { RunFolder } from "novae/experiment/mod.ts";
import { pathExists, readJson, writeFileAtomic, writeJson } from "novae/io/mod.ts";
import type { DiffusionRunConfig } from "./config.ts";
import type { ScorePoint, TrainingPlace } from "./curves.ts";
import { FEWEST_SCORED, type SampleJudge } from "./judge.ts";
import { drawImages, labelsInTurn, picture, type SampleDecoder } from "./samples.ts";

/** From how many samples on several workers draw them: each takes a second to start. */
const WORTH_WORKERS = 128;

/** What samples are made with. */
export interface SamplingTools {
  /** Where pictures and scores go. */
  readonly run: RunFolder;
  /** All settings. */
  readonly config: DiffusionRunConfig;
  /** Statistics of the latents. */
  readonly stats: LatentStats;
  /** Decodes samples. */
  readonly decoder: SampleDecoder;
  /** Scores them; they are only pictured if it is left out. */
  readonly judge?: SampleJudge;
  /** Where they are drawn, `auto` resolved. */
  readonly device: DeviceName;
}

/** What an evaluation came to. */
export interface EvaluatedSamples {
  /** PNG of the first samples. */
  readonly picture: Uint8Array;
  /** Their score; null without a judge. */
  readonly score: ScorePoint | null;
}

/** Names a step as all files of a run do: `step-000500`. */
export function stepName(step: number): string {
  return `step-${String(step).padStart(6, "0")}`;
}

/** Draws, pictures and scores samples; what a run has already is taken from its folder. */
export class SampleEvaluation {
  readonly #tools: SamplingTools;
  #sampler: LatentSampler | undefined;

  /** Compiles nothing before it is first used. */
  constructor(tools: SamplingTools) {
    this.#tools = tools;
  }

  /** Evaluates weights. The picture is written last, so that an evaluation with one is whole. */
  async run(params: DitParams<HostTensor>, place: TrainingPlace): Promise<EvaluatedSamples> {
    const { run } = this.#tools, name = stepName(place.step);
    const paths = { picture: run.file("samples", `${name}.png`), score: run.file("eval", `${name}.json`) };
    if (await pathExists(paths.picture)) {
      const score = await pathExists(paths.score) ? await readJson(paths.score) as ScorePoint : null;
      return { picture: await Deno.readFile(paths.picture), score: score && pointOf(score) };
    }
    const started = performance.now();
    const { images, labels } = await this.#draw(params), { config, judge } = this.#tools;
    const drawSec = (performance.now() - started) / 1000;
    const score = judge && labels.length >= FEWEST_SCORED
      ? await this.#score(images, labels, place, judge)
      : null;
    if (score && judge) {
      await writeJson(paths.score, { ...score, judge: judge.record, ...this.#about(drawSec) });
    }
    const { shown } = config.evaluation, png = await picture(images, shown, columnsOf(config));
    await writeJson(run.file("samples", `${name}.json`), {
      ...place,
      labels: [...labels.slice(0, shown)],
      classes: config.latents.classNames,
      columns: columnsOf(config),
      ...this.#about(drawSec),
    });
    await writeFileAtomic(paths.picture, png);
    return { picture: png, score };
  }

  /** Removes what was made after a step, since the training goes back to it. */
  async discardAfter(step: number): Promise<void> {
    const { run } = this.#tools;
    for (const folder of ["samples", "eval"]) {
      const path = dirname(run.file(folder, "step"));
      for (const name of Array.from(Deno.readDirSync(path), (entry) => entry.name)) {
        if (Number(/^step-(\d+)\./.exec(name)?.[1] ?? 0) > step) await Deno.remove(join(path, name));
      }
    }
  }

  /** Releases what was compiled. */
  async dispose(): Promise<void> {
    await this.#sampler?.dispose();
  }

  async #draw(params: DitParams<HostTensor>): Promise<{ images: HostTensor; labels: Int32Array }> {
    const { config, device } = this.#tools, { samples, sampler, steps, cfgScale, seed } = config.evaluation;
    this.#sampler ??= await openLatentSampler(config.model, {
      device,
      workers: device === "cpu" && samples >= WORTH_WORKERS ? navigator.hardwareConcurrency : 1,
      batchSize: Math.min(samples, 32),
    });
    const labels = labelsInTurn(samples, config.latents.classes), shift = config.evaluation.timestepShift;
    const request = { params, labels, seed, steps, shift, sampler, cfgScale };
    return { images: await drawImages({ ...this.#tools, sampler: this.#sampler }, request), labels };
  }

  async #score(
    images: HostTensor,
    labels: Int32Array,
    place: TrainingPlace,
    judge: SampleJudge,
  ): Promise<ScorePoint> {
    const judged = await judge.score(images, labels, this.#tools.config.latents.classNames);
    return { ...place, ...judged };
  }

  #about(drawSec: number): Record<string, unknown> {
    const { everyImages: _, shown: __, references: ___, ...sampling } = this.#tools.config.evaluation;
    return { weights: "moving average", sampling, drawSec };
  }
}

/** A column for each class, as far as they fit on a page. */
export function columnsOf({ latents: { classes }, evaluation: { shown } }: DiffusionRunConfig): number {
  return classes > 1 && classes <= 12 ? classes : Math.min(10, Math.ceil(Math.sqrt(shown)));
}

function pointOf({ step, imagesSeen, frechet, accuracy }: ScorePoint): ScorePoint {
  return { step, imagesSeen, frechet, accuracy };
}
