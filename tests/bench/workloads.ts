/** What the benchmark runs: one training step of a diffusion transformer, one forward pass of an encoder. */
import type * as tf from "@tensorflow/tfjs";
import { type DeviceName, disposeTree, jit, type Jitted, read } from "novae/engine/mod.ts";
import {
  type DiffusionBatch,
  type DiffusionState,
  diffusionTrainStep,
  type DitConfig,
  ditConfig,
  initDiffusionState,
} from "novae/diffusion/mod.ts";
import { initVit, vit, type VitConfig, type VitParams } from "novae/dino/mod.ts";
import { float32, type HostTensor, int32, Rng, scalar, sizeOf } from "novae/tensor/mod.ts";

/** Names of the workloads. */
export type WorkloadName = "dit-step" | "vit-forward";

/** Something to repeat; `run` returns a number that proves that the work was done. */
export interface Workload {
  run(): Promise<number>;
  dispose(): Promise<void>;
}

/** Width 192, 6 blocks, 64 tokens of 72 channels; the same sizes stand in torch_step.py. */
const DIT: DitConfig = ditConfig("nano", { channels: 72, grid: 8, classes: 10 });

/** Width 192, 12 blocks, 64 patches and 5 other tokens; the same sizes stand in torch_step.py. */
const VIT: VitConfig = {
  patchSize: 8,
  width: 192,
  depth: 12,
  heads: 3,
  mlpRatio: 4,
  mlp: "geluErf",
  registers: 4,
  layerScaleInit: 0.1,
  ropeTheta: 100,
  normEps: 1e-5,
  imageSize: 64,
};

/** Prepares a workload on a device. */
export function makeWorkload(name: WorkloadName, batch: number, device: DeviceName): Workload {
  return name === "dit-step" ? ditStep(batch, device) : vitForward(batch, device);
}

function normal(rng: Rng, ...shape: number[]): HostTensor {
  return float32(rng.normal(sizeOf(shape)), shape);
}

function ditStep(batch: number, device: DeviceName): Workload {
  const rng = new Rng(1);
  const data: DiffusionBatch = {
    dataBNZ: normal(rng, batch, DIT.grid ** 2, DIT.channels),
    noiseBNZ: normal(rng, batch, DIT.grid ** 2, DIT.channels),
    tB: float32(rng.uniform(batch), [batch]),
    labelsB: int32(Int32Array.from({ length: batch }, () => rng.int(DIT.classes)), [batch]),
    learningRate: scalar(1e-3),
    emaDecay: scalar(0.999),
  };
  const settings = { betas: [0.9, 0.999], weightDecay: 0.01, clipNorm: 1 } as const;
  const step = jit(
    (state: DiffusionState<tf.Tensor>, input: DiffusionBatch<tf.Tensor>) =>
      diffusionTrainStep(state, input, DIT, settings),
    { device, donate: [0], name: "step" },
  );
  let state: Parameters<typeof step>[0] = initDiffusionState(DIT, 0);
  return {
    async run() {
      const [next, metrics] = await step(state, data);
      state = next;
      const { loss } = await read(metrics);
      disposeTree(metrics);
      return loss.data[0];
    },
    async dispose() {
      disposeTree(state);
      await step.dispose();
    },
  };
}

function vitForward(batch: number, device: DeviceName): Workload {
  const params = initVit(new Rng(0), VIT);
  const images = normal(new Rng(1), batch, VIT.imageSize, VIT.imageSize, 3);
  const forward: Jitted<(x: tf.Tensor, p: VitParams) => tf.Tensor> = jit(
    (x: tf.Tensor, p: VitParams) => vit(x, p, VIT).patchesBND,
    { device, name: "encoder" },
  );
  return {
    async run() {
      const features = await forward(images, params);
      const { data } = await read(features);
      features.dispose();
      return data[0];
    },
    dispose: () => forward.dispose(),
  };
}
