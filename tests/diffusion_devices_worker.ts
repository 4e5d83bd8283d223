/**
 * Trains and samples a tiny transformer on the CPU and on another device, and prints as JSON how they differ and what
 * was read from the device; started by diffusion_devices_test.ts, where a Vulkan driver is chosen for devices that need
 * one.
 */
import * as tf from "@tensorflow/tfjs";
import {
  type DiffusionBatch,
  diffusionBatches,
  type DiffusionState,
  diffusionTrainStep,
  ditConfig,
  initDiffusionState,
  parseTrainingSettings,
  sampleLatents,
  trainDiffusion,
} from "novae/diffusion/mod.ts";
import { type DeviceName, DeviceTensor, disposeTree, jit } from "novae/engine/mod.ts";
import { trainLoop } from "novae/nn/mod.ts";
import {
  flattenTree,
  float32,
  type HostTensor,
  isHostTensor,
  mapTree,
  Rng,
  sizeOf,
} from "novae/tensor/mod.ts";

/** What the worker found. */
export interface DeviceReport {
  readonly device: string;
  /** Losses of the updates, on the CPU and on the device. */
  readonly losses: readonly [number[], number[]];
  /** `‖w − w_cpu‖ / ‖w_cpu − w_before‖` over all weights, after the updates. */
  readonly weights: number;
  /** `‖z − z_cpu‖ / ‖z_cpu‖` of samples. */
  readonly samples: number;
  /** Numbers in each tensor that was read within the loop, by update. */
  readonly reads: readonly (readonly [step: number, size: number])[];
  /** Tensors that tfjs holds more of after the loop than before. */
  readonly leaked: number;
}

const CONFIG = ditConfig("tiny", { channels: 3, grid: 2, classes: 2 }), UPDATES = 5, BATCH = 4;
const SETTINGS = {
  images: UPDATES * BATCH,
  batchSize: BATCH,
  warmupImages: 0,
  emaHalflifeImages: 20,
  seed: 3,
};
const DATA = {
  latents: float32(new Rng(1).normal(8 * 4 * 3), [8, 4, 3]),
  labels: Int32Array.from({ length: 8 }, (_, i) => i % 2),
};

/** Initial weights of which none is zero: gates that are closed would hide most of the network. */
function initial(): DiffusionState {
  const rng = new Rng(7), state = initDiffusionState(CONFIG, SETTINGS.seed);
  const params = mapTree<DiffusionState["params"]>(state.params, isHostTensor, (leaf, path) => {
    const { data, shape } = leaf as HostTensor, extra = rng.split(path).normal(data.length);
    return float32(Float32Array.from(data, (v, i) => v + 0.1 * extra[i]), shape);
  });
  return { ...state, params, ema: params };
}

async function train(device: DeviceName): Promise<{ losses: number[]; state: DiffusionState }> {
  const losses: number[] = [];
  const { state } = await trainDiffusion({
    ...{ config: CONFIG, data: DATA, settings: SETTINGS, device, resume: initial(), logEverySteps: 1 },
    onProgress: ({ metrics }) => void losses.push(metrics.loss),
  });
  return { losses, state };
}

/** What the loop reads while it trains, if it looks at the metrics every third update. */
async function countReads(device: DeviceName): Promise<Pick<DeviceReport, "reads" | "leaked">> {
  const settings = parseTrainingSettings(SETTINGS), before = tf.memory().numTensors;
  const compiled = jit(
    (s: DiffusionState<tf.Tensor>, b: DiffusionBatch<tf.Tensor>) =>
      diffusionTrainStep(s, b, CONFIG, settings),
    { device, donate: [0], name: "update" },
  );
  const reads: [number, number][] = [], { read } = DeviceTensor.prototype;
  let at = 0;
  DeviceTensor.prototype.read = function () {
    reads.push([at, sizeOf(this.shape)]);
    return read.call(this);
  };
  try {
    const { state } = await trainLoop<DiffusionState<HostTensor | DeviceTensor>, DiffusionBatch>({
      ...{ state: initial(), steps: 7, batchSize: BATCH, readEverySteps: 3, logEverySteps: 100 },
      batch: diffusionBatches(CONFIG, DATA, settings),
      async step(s, b) {
        const [next, metrics] = await compiled(s, b);
        at++;
        return [next, { ...metrics }];
      },
    });
    for (const { path, value } of flattenTree(state, (v) => v instanceof DeviceTensor || isHostTensor(v))) {
      if (!(value instanceof DeviceTensor)) throw new Error(`${path} left the device`);
    }
    disposeTree(state);
  } finally {
    DeviceTensor.prototype.read = read;
    await compiled.dispose();
  }
  return { reads, leaked: tf.memory().numTensors - before };
}

function distance(a: Iterable<number>, b: ArrayLike<number>): number {
  return Math.hypot(...Array.from(a, (value, i) => value - b[i]));
}

/** All weights in one row, but for those whose gradient is zero: softmax takes no notice of what all keys share. */
function rowOf({ params }: DiffusionState): number[] {
  return flattenTree<HostTensor>(params, isHostTensor)
    .filter(({ path }) => !path.endsWith("kNorm.bias"))
    .flatMap(({ value }) => Array.from(value.data));
}

async function report(device: DeviceName): Promise<DeviceReport> {
  const [own, other] = [await train("cpu"), await train(device)];
  const [start, wanted, got] = [initial(), own.state, other.state].map(rowOf);
  const draw = async (where: DeviceName) => {
    const request = {
      config: CONFIG,
      params: initial().params,
      labels: [0, 1, 0],
      seed: 2,
      steps: 3,
      cfgScale: 2,
    };
    return (await sampleLatents({ ...request, sampler: "heun", batchSize: 2, device: where })).data;
  };
  const samples = await draw("cpu");
  return {
    device,
    losses: [own.losses, other.losses],
    weights: distance(got, wanted) / distance(wanted, start),
    samples: distance(await draw(device), samples) / Math.hypot(...samples),
    ...await countReads(device),
  };
}

await tf.setBackend("cpu");
console.log(JSON.stringify(await report(Deno.args[0] as DeviceName)));
