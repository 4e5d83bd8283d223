/**
 * One update of the diffusion transformer: as a pure function, and in parts where a batch is taken in smaller ones.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { type HostTensor, isHostTensor, mapTree, rows, scalar, zeros } from "novae/tensor/mod.ts";
import { type DeviceName, DeviceTensor, disposeTree, jit } from "novae/engine/mod.ts";
import { adamW, clipByGlobalNorm, emaUpdate, isTensor, valueAndGrads } from "novae/nn/mod.ts";
import type { DitConfig } from "./config.ts";
import { dit, type DitParams } from "./dit.ts";
import { alignmentLoss, project, type ProjectorParams, velocityCosineLoss } from "./losses.ts";
import { pathPoint, sampleVelocityLosses, velocityLoss } from "./path.ts";
import { meansByTime, TIME_BINS } from "./time_bins.ts";
import type { DiffusionBatch } from "./training_data.ts";
import type { DiffusionTrainingSettings } from "./training_settings.ts";
import type { DiffusionState } from "./training_state.ts";

/** What an update reports. */
export interface DiffusionMetrics<T = tf.Tensor> {
  /** Mean squared error of the velocity. */
  loss: T;
  /** Norm of the joint gradient before clipping. */
  gradNorm: T;
  /** {@linkcode meansByTime} of the velocity's errors [2, 10]. */
  timeBins: T;
  /** {@linkcode velocityCosineLoss} before its weight, if it has one. */
  cosineLoss?: T;
  /** {@linkcode alignmentLoss} before its weight, if tokens are aligned. */
  alignmentLoss?: T;
}

/** The settings that one update depends on. */
export type UpdateSettings =
  & Pick<DiffusionTrainingSettings, "betas" | "weightDecay" | "clipNorm">
  & Partial<Pick<DiffusionTrainingSettings, "cosineLossWeight" | "repa">>;

/** What is learned. */
interface Learned<T = tf.Tensor> {
  transformer: DitParams<T>;
  projector?: ProjectorParams<T>;
}

/** Gradients and losses of a batch, or their sums over several. */
interface BatchGradients<T = tf.Tensor> {
  grads: Learned<T>;
  losses: Omit<DiffusionMetrics<T>, "gradNorm">;
}

/** The part of a batch that differs from sample to sample. */
type Samples<T> = Pick<DiffusionBatch<T>, "dataBNZ" | "noiseBNZ" | "tB" | "labelsB" | "featuresBND">;

/** The part of a batch that steers the update. */
type Rates<T> = Pick<DiffusionBatch<T>, "learningRate" | "emaDecay" | "moreEmaDecays">;

/**
 * One update: loss and gradient on a batch, clipping, AdamW, moving averages.
 *
 * *Source*: SVG (arXiv 2510.15301) and SiT for path, target and loss; LightningDiT for the loss of the direction; REPA
 * for the alignment. *Differs*: gradients are clipped, learning rate and decay of the averages come with the batch.
 *
 * @returns the next state and metrics.
 */
export function diffusionTrainStep(
  state: DiffusionState<tf.Tensor>,
  batch: DiffusionBatch<tf.Tensor>,
  config: DitConfig,
  settings: UpdateSettings,
): [DiffusionState<tf.Tensor>, DiffusionMetrics] {
  return applyGradients(state, batchGradients(learned(state), batch, config, settings), batch, settings);
}

/** Loss and gradient on a batch. */
function batchGradients(
  params: Learned,
  { dataBNZ, noiseBNZ, tB, labelsB, featuresBND }: Samples<tf.Tensor>,
  config: DitConfig,
  { cosineLossWeight = 0, repa = null }: UpdateSettings,
): BatchGradients {
  const zBNZ = pathPoint(dataBNZ, noiseBNZ, tB);
  const aligned = repa && `block${String(repa.block).padStart(2, "0")}`;
  const { aux, grads } = valueAndGrads(({ transformer, projector }: Learned) => {
    const { velocityBNZ, taps } = dit(zBNZ, tB, labelsB, transformer, config, {
      taps: aligned ? [aligned] : [],
    });
    const losses: BatchGradients["losses"] = {
      loss: velocityLoss(velocityBNZ, dataBNZ, noiseBNZ),
      timeBins: meansByTime(sampleVelocityLosses(velocityBNZ, dataBNZ, noiseBNZ), tB),
    };
    let loss = losses.loss;
    if (cosineLossWeight > 0) {
      losses.cosineLoss = velocityCosineLoss(velocityBNZ, dataBNZ, noiseBNZ);
      loss = tf.add(loss, tf.mul(losses.cosineLoss, cosineLossWeight));
    }
    if (repa) {
      losses.alignmentLoss = alignmentLoss(project(taps[aligned!], projector!), featuresBND!);
      loss = tf.add(loss, tf.mul(losses.alignmentLoss, repa.weight));
    }
    return { loss: loss as tf.Scalar, aux: losses };
  }, params);
  return { grads, losses: aux };
}

/** The next state from the gradients of a batch. */
function applyGradients(
  state: DiffusionState<tf.Tensor>,
  { grads, losses }: BatchGradients,
  { learningRate, emaDecay, moreEmaDecays }: Rates<tf.Tensor>,
  { betas: [beta1, beta2], weightDecay, clipNorm }: UpdateSettings,
): [DiffusionState<tf.Tensor>, DiffusionMetrics] {
  const clipped = clipByGlobalNorm(grads, clipNorm ?? 1);
  const step = tf.add(state.step, 1) as tf.Scalar, { projector } = state;
  const means = {
    first: withProjector(state.adam.first, projector?.adam.first),
    second: withProjector(state.adam.second, projector?.adam.second),
  };
  const { params, state: adam } = adamW(
    learned(state),
    clipNorm === null ? grads : clipped.grads,
    means,
    step,
    { learningRate: learningRate as tf.Scalar, weightDecay, beta1, beta2 },
  );
  const { transformer } = params;
  const next: DiffusionState<tf.Tensor> = {
    step,
    params: transformer,
    ema: emaUpdate(state.ema, transformer, emaDecay as tf.Scalar),
    adam: { first: adam.first.transformer, second: adam.second.transformer },
    ...(state.moreEmas && {
      moreEmas: state.moreEmas.map((ema, i) => emaUpdate(ema, transformer, moreEmaDecays![i] as tf.Scalar)),
    }),
    ...(params.projector && {
      projector: {
        params: params.projector,
        adam: { first: adam.first.projector!, second: adam.second.projector! },
      },
    }),
  };
  return [next, { ...losses, gradNorm: clipped.norm }];
}

function learned<T>({ params, projector }: Pick<DiffusionState<T>, "params" | "projector">): Learned<T> {
  return withProjector(params, projector?.params);
}

function withProjector<T>(transformer: DitParams<T>, projector?: ProjectorParams<T>): Learned<T> {
  return { transformer, ...(projector && { projector }) };
}

/**
 * Adds the gradients of a part of a batch to a sum.
 *
 * @param keep 1, or 0 where the sum is of the update before.
 */
function addGradients(
  sum: BatchGradients,
  params: Learned,
  samples: Samples<tf.Tensor>,
  keep: tf.Tensor,
  config: DitConfig,
  settings: UpdateSettings,
): BatchGradients {
  const added = batchGradients(params, samples, config, settings), byPath = new Map<string, tf.Tensor>();
  mapTree(added, isTensor, (leaf, path) => byPath.set(path, leaf as tf.Tensor));
  return mapTree(
    sum,
    isTensor,
    (leaf, path) => tf.add(tf.mul(leaf as tf.Tensor, keep), byPath.get(path)!),
  );
}

type OnDevice = HostTensor | DeviceTensor;

const isOnDevice = (value: unknown): value is OnDevice =>
  isHostTensor(value) || value instanceof DeviceTensor;

/** A training's state between updates. */
export type LoopState = DiffusionState<OnDevice>;

/** Where and with what updates run. */
export interface UpdateOptions {
  readonly config: DitConfig;
  readonly settings: UpdateSettings & Pick<DiffusionTrainingSettings, "accumulation" | "batchSize">;
  readonly device: DeviceName;
  readonly threads?: number;
}

/**
 * Updates on a device: in one compiled step, or, with `accumulation`, in one that adds the gradients of a part of the
 * batch to a sum, called for each part, and one that applies their mean.
 */
export class DiffusionUpdate {
  readonly #settings: UpdateSettings;
  readonly #parts: number;
  readonly #partSize: number;
  readonly #whole;
  readonly #add;
  readonly #apply;
  /** Gradients of the last update, whose memory the next one takes. */
  #sum: BatchGradients<OnDevice> | null = null;

  /** Nothing is compiled yet. */
  constructor({ config, settings, device, threads }: UpdateOptions) {
    this.#settings = settings;
    this.#parts = settings.accumulation;
    this.#partSize = settings.batchSize / settings.accumulation;
    const options = { device, threads, donate: [0] }, share = 1 / settings.accumulation;
    this.#whole = jit(
      (state: DiffusionState<tf.Tensor>, batch: DiffusionBatch<tf.Tensor>) =>
        diffusionTrainStep(state, batch, config, settings),
      { ...options, name: "diffusion training step" },
    );
    this.#add = jit(
      (sum: BatchGradients, params: Learned, samples: Samples<tf.Tensor>, keep: tf.Tensor) =>
        addGradients(sum, params, samples, keep, config, settings),
      { ...options, name: "diffusion gradients" },
    );
    this.#apply = jit(
      (state: DiffusionState<tf.Tensor>, sum: BatchGradients, rates: Rates<tf.Tensor>) => {
        const mean = mapTree<BatchGradients>(sum, isTensor, (leaf) => tf.mul(leaf as tf.Tensor, share));
        return applyGradients(state, mean, rates, settings);
      },
      { ...options, name: "diffusion update" },
    );
  }

  /** One update. The state is given away. */
  async run(state: LoopState, batch: DiffusionBatch): Promise<[LoopState, DiffusionMetrics<DeviceTensor>]> {
    if (this.#parts === 1) return await this.#whole(state, batch);
    const { learningRate, emaDecay, moreEmaDecays, ...samples } = batch, params = learned(state);
    let sum = this.#sum ?? noGradients(params, this.#settings);
    for (let part = 0; part < this.#parts; part++) {
      const start = part * this.#partSize, end = start + this.#partSize;
      const taken = mapTree<Samples<HostTensor>>(
        samples,
        isHostTensor,
        (leaf) => rows(leaf as HostTensor, start, end),
      );
      sum = await this.#add(sum, params, taken, scalar(part === 0 ? 0 : 1));
    }
    this.#sum = sum;
    const rates = { learningRate, emaDecay, ...(moreEmaDecays && { moreEmaDecays }) };
    return await this.#apply(state, sum, rates);
  }

  /** Releases the memory between updates: 0 times a gradient that is not finite would not be 0. */
  forget(): void {
    disposeTree(this.#sum);
    this.#sum = null;
  }

  /** Releases what was compiled and the memory between updates. */
  async dispose(): Promise<void> {
    this.forget();
    for (const compiled of [this.#whole, this.#add, this.#apply]) await compiled.dispose();
  }
}

/** A sum of no gradients yet. */
function noGradients(
  params: Learned<OnDevice>,
  { cosineLossWeight = 0, repa }: UpdateSettings,
): BatchGradients<HostTensor> {
  return {
    grads: mapTree(params, isOnDevice, (leaf) => zeros((leaf as OnDevice).shape)),
    losses: {
      loss: scalar(0),
      timeBins: zeros([2, TIME_BINS]),
      ...(cosineLossWeight > 0 && { cosineLoss: scalar(0) }),
      ...(repa && { alignmentLoss: scalar(0) }),
    },
  };
}
