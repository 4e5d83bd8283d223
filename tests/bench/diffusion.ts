/** The transformer as the benchmark runs it: a compiled update, the whole training loop, sampling. */
import type * as tf from "@tensorflow/tfjs";
import {
  type DiffusionBatch,
  type DiffusionState,
  diffusionTrainStep,
  type DitConfig,
  ditConfig,
  initDiffusionState,
  initDit,
  openLatentSampler,
  trainDiffusion,
} from "novae/diffusion/mod.ts";
import { type DeviceName, jit } from "novae/engine/mod.ts";
import { CheckpointStore } from "novae/experiment/mod.ts";
import { float32, int32, Rng, scalar } from "novae/tensor/mod.ts";
import { CHANNELS, CLASSES, normal, training, type Workload, type WorkloadSpec } from "./workload.ts";

/** The transformer of a workload. */
function configOf({ grid, width, depth, heads, latents = CHANNELS, published }: WorkloadSpec): DitConfig {
  const classes = published ? 1000 : CLASSES;
  return {
    ...ditConfig("nano", { channels: latents, grid, classes, learnSigma: published }),
    width: width!,
    depth: depth!,
    heads: heads!,
  };
}

const SETTINGS = { betas: [0.9, 0.999], weightDecay: 0.01, clipNorm: 1 } as const;

/** One update, or as many as the workload says, on one batch. */
export function ditStep(spec: WorkloadSpec, device: DeviceName): Workload {
  const config = configOf(spec), { batch, updates = 1 } = spec, { grid, channels, classes } = config;
  const rng = new Rng(1);
  const data: DiffusionBatch = {
    dataBNZ: normal(rng, batch, grid ** 2, channels),
    noiseBNZ: normal(rng, batch, grid ** 2, channels),
    tB: float32(rng.uniform(batch), [batch]),
    labelsB: int32(Int32Array.from({ length: batch }, () => rng.int(classes)), [batch]),
    learningRate: scalar(1e-3),
    emaDecay: scalar(0.999),
  };
  const step = jit(
    (state: DiffusionState<tf.Tensor>, input: DiffusionBatch<tf.Tensor>) =>
      diffusionTrainStep(state, input, config, SETTINGS),
    { device, donate: [0], name: "step" },
  );
  const one = training(step, initDiffusionState(config, 0), data);
  return {
    ...one,
    async run() {
      let loss = NaN;
      for (let i = 0; i < updates; i++) loss = await one.run();
      return loss;
    },
  };
}

/**
 * As many updates of a whole training: batches drawn, metrics logged, one checkpoint kept. Between two runs the training
 * waits, so that compiling is not timed.
 */
export function trainingLoop(spec: WorkloadSpec, device: DeviceName): Workload {
  const config = configOf(spec), { batch, updates = 1 } = spec, count = 1024, rng = new Rng(1);
  const latents = normal(rng, count, config.grid ** 2, config.channels);
  const labels = Int32Array.from({ length: count }, () => rng.int(config.classes));
  const folder = Deno.makeTempDirSync(), stop = new AbortController();
  const store = new CheckpointStore(folder, { config: { config } });
  let resume = () => {}, told: (loss: number) => void = () => {}, loss = NaN;
  const waiting = () => new Promise<void>((resolve) => resume = resolve);
  const opened = waiting();
  const trained = opened.then(() =>
    trainDiffusion({
      config,
      data: { latents, labels },
      settings: { images: 1e9, batchSize: batch, weightDecay: SETTINGS.weightDecay },
      device,
      logEverySteps: updates,
      onProgress: ({ metrics }) => void (loss = metrics.loss),
      checkpointEveryImages: updates * batch,
      async onCheckpoint(state, step) {
        if (stop.signal.aborted) return;
        await store.save(step, { weights: state.ema, state });
        told(loss);
        await waiting();
      },
      signal: stop.signal,
    })
  );
  return {
    run: () =>
      new Promise<number>((resolve, reject) => {
        trained.catch(reject);
        told = resolve;
        resume();
      }),
    async dispose() {
      stop.abort();
      resume();
      await trained;
      await Deno.remove(folder, { recursive: true });
    },
  };
}

/** Samples of a batch from noise by Euler's method, guided, from host memory to host memory. */
export function ditSample(spec: WorkloadSpec, device: DeviceName): Workload {
  const config = configOf(spec), { batch, steps = 10, cfgScale = 1 } = spec;
  const params = initDit(new Rng(0), config);
  const labels = Int32Array.from({ length: batch }, (_, i) => i % config.classes);
  const opened = openLatentSampler(config, { device, batchSize: batch });
  return {
    async run() {
      const { data } = await (await opened).sample({ params, labels, seed: 0, steps, cfgScale });
      return data[0];
    },
    async dispose() {
      await (await opened).dispose();
    },
  };
}
