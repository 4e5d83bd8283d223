/**
 * What a diffusion training in a run folder is told, and what comes of it.
 *
 * @module
 */
import type { HostTensor } from "novae/tensor/mod.ts";
import type { DitParams } from "novae/diffusion/mod.ts";
import type { DeviceName } from "novae/engine/mod.ts";
import type { DiffusionRunConfig, DiffusionRunInput } from "./config.ts";
import type { DiffusionCurves } from "./curves.ts";
import type { SampleJudge } from "./judge.ts";
import type { TrainingLatents } from "./latents.ts";
import type { SampleDecoder } from "./samples.ts";
import type { TrainingDisplay } from "./shown.ts";
import type { DiffusionSummary } from "./summary.ts";

/** Weights that a training starts from. */
export interface StartingWeights {
  /** The weights. */
  readonly params: DitParams<HostTensor>;
  /** Hash of their file. */
  readonly hash: string;
}

/** What {@linkcode runDiffusionTraining} needs. */
export interface DiffusionRunOptions extends DiffusionRunInput {
  /** What it learns from; it stays open. */
  readonly latents: TrainingLatents;
  /** Decodes samples; without it there are neither pictures nor scores. It is not disposed of. */
  readonly decoder?: SampleDecoder;
  /** Scores samples; without it they are only pictured. */
  readonly judge?: SampleJudge;
  /** Weights to start from. Random ones by default. */
  readonly init?: StartingWeights;
  /** Where to train. Default `auto`. */
  readonly device?: DeviceName;
  /** Folder of all runs. Default `experiments/runs`. */
  readonly root?: string;
  /** What kind of run it is, behind its number. Default `dit-<space>`. */
  readonly name?: string;
  /** Goes on with the newest run of this name (true) or with a run folder; its configuration must be the same. */
  readonly resume?: boolean | string;
  /** Arguments of the command, for the record; those of the process if omitted. */
  readonly argv?: readonly string[];
  /** What a person gave, for the record; the settings if omitted. */
  readonly input?: unknown;
  /** Where it is shown. Default: the notebook where there is one, else a bar or lines on standard error. */
  readonly display?: TrainingDisplay;
  /** When aborted, the training makes a checkpoint after the running update and returns. */
  readonly signal?: AbortSignal;
}

/** Where a run has got to. */
export interface DiffusionRunResult {
  /** The run folder. */
  readonly path: string;
  /** The resolved configuration. */
  readonly config: DiffusionRunConfig;
  /** Updates done. */
  readonly step: number;
  /** Whether it was stopped before the last update; `resume` goes on. */
  readonly stopped: boolean;
  /** Moving average of the weights. */
  readonly params: DitParams<HostTensor>;
  /** Everything that was measured. */
  readonly curves: DiffusionCurves;
  /** What `summary.json` holds; null as long as the run has not ended. */
  readonly summary: DiffusionSummary | null;
}
