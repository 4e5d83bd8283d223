/** What a workload of the benchmark is, and what several share. */
import type * as tf from "@tensorflow/tfjs";
import { disposeTree, type Jitted, read } from "novae/engine/mod.ts";
import { float32, type HostTensor, type Rng, sizeOf } from "novae/tensor/mod.ts";
import type { EncodingNetworks } from "./encoding.ts";

/** Sizes of a workload; torch_step.py reads the same. */
export interface WorkloadSpec {
  readonly kind:
    | "dit-step"
    | "dit-sample"
    | "training-loop"
    | "vit-forward"
    | "decoder-step"
    | "decoder-forward"
    | "svg-encode"
    | "encoder-alone";
  readonly batch: number;
  /** Rows and columns of tokens. */
  readonly grid: number;
  readonly width?: number;
  readonly depth?: number;
  readonly heads?: number;
  /** Rows and columns of pixels of a token, for `vit-forward`. */
  readonly patch?: number;
  /** Channels of the levels, for decoders. */
  readonly channels?: readonly number[];
  /** Channels of the latents or data. Default 72. */
  readonly latents?: number;
  /** Updates of a run, for `training-loop` and `dit-step`. Default 1. */
  readonly updates?: number;
  /** Steps of the sampler, for `dit-sample`. Default 10. */
  readonly steps?: number;
  /** Guidance, for `dit-sample`; 1 is none. Default 1. */
  readonly cfgScale?: number;
  /** Classes and outputs of the published transformers: 1,000, and twice the channels. */
  readonly published?: boolean;
  /** Whose networks, for `svg-encode` and `encoder-alone`: SVG's, or those shipped for `solids`. */
  readonly networks?: EncodingNetworks;
}

/** Something to repeat; `run` returns a number that proves that the work was done. */
export interface Workload {
  run(): Promise<number>;
  /** Seconds from the function to a graph that runs, of the first call; absent if that is not told. */
  compileSec?(): number;
  dispose(): Promise<void>;
}

export const CHANNELS = 72, CLASSES = 10;

export function normal(rng: Rng, ...shape: number[]): HostTensor {
  return float32(rng.normal(sizeOf(shape)), shape);
}

export function compileSec(fn: Pick<Jitted<() => void>, "inspect">): number {
  return fn.inspect().reduce((sum, { traceMs, sessionMs }) => sum + (traceMs + sessionMs) / 1000, 0);
}

/** Repeats a step that takes a state and a batch and gives the next state and metrics with a loss. */
export function training<S, B>(
  step: Jitted<(state: S, batch: B) => readonly [S, Readonly<Record<string, tf.Tensor>>]>,
  initial: unknown,
  batch: unknown,
): Workload {
  let state = initial as Parameters<typeof step>[0];
  return {
    async run() {
      const [next, metrics] = await step(state, batch as Parameters<typeof step>[1]);
      state = next as typeof state;
      const { loss } = await read(metrics) as Record<string, HostTensor>;
      disposeTree(metrics);
      return loss.data[0];
    },
    compileSec: () => compileSec(step),
    async dispose() {
      disposeTree(state);
      await step.dispose();
    },
  };
}
