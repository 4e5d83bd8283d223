/**
 * The compiled updates of a training: one without a discriminator and, where there is one, another with it.
 *
 * @module
 */
import type { HostTensor } from "novae/tensor/mod.ts";
import { type DeviceName, type DeviceTensor, jit, type Jitted } from "novae/engine/mod.ts";
import type { AdversarialSettings } from "./adversarial/mod.ts";
import {
  type AutoencoderBatch,
  type AutoencoderMetrics,
  type AutoencoderState,
  type AutoencoderStep,
  autoencoderStep,
  type AutoencoderStepOptions,
} from "./train_step.ts";

/** A state between two updates: in host memory before the first, on the device after it. */
export type StateOnDevice = AutoencoderState<HostTensor | DeviceTensor>;

/** What the updates of a training are made of, and where they run. */
export interface TrainingUpdateOptions extends AutoencoderStepOptions {
  /** Images an update. */
  readonly batchSize: number;
  /** Where it trains; default `auto`. */
  readonly device?: DeviceName;
  /** Threads on the CPU; default: the number of cores. */
  readonly threads?: number;
  /** Name of the graphs, for messages. */
  readonly name: string;
}

/** Updates before the discriminator takes part; Infinity without one. */
export function discriminatorStart(
  adversarial: AdversarialSettings | null | undefined,
  batchSize: number,
): number {
  return adversarial ? Math.ceil(adversarial.startImages / batchSize) : Infinity;
}

/**
 * The updates of a training. Before the discriminator starts they are those of a training without one: its state is
 * carried along as it is, and nothing of it is computed.
 */
export class TrainingUpdate {
  readonly #start: number;
  readonly #before: Jitted<AutoencoderStep>;
  readonly #after: Jitted<AutoencoderStep>;

  /** Compiles nothing before it is first used. */
  constructor({ batchSize, device = "auto", threads, name, ...options }: TrainingUpdateOptions) {
    const { adversarial } = options, place = { device, threads, donate: [0] };
    this.#start = discriminatorStart(adversarial, batchSize);
    this.#before = jit(autoencoderStep({ ...options, adversarial: null }), { ...place, name });
    this.#after = jit(autoencoderStep(options), { ...place, name: `${name}-adversarial` });
  }

  /**
   * One update. The tensors of the state are given away.
   *
   * @param index its number, counted from 0.
   */
  async run(
    state: StateOnDevice,
    batch: AutoencoderBatch<HostTensor>,
    index: number,
  ): Promise<[AutoencoderState<DeviceTensor> | StateOnDevice, AutoencoderMetrics<DeviceTensor>]> {
    if (index >= this.#start) return await this.#after(state, batch);
    const { discriminator, ...generator } = state, { discriminatorRate: _, ...shown } = batch;
    const [next, metrics] = await this.#before(generator, shown);
    return [discriminator ? { ...next, discriminator } : next, metrics];
  }

  /** Releases the compiled graphs. */
  async dispose(): Promise<void> {
    await this.#before.dispose();
    await this.#after.dispose();
  }
}
