/** What the benchmark runs: training steps of a diffusion transformer and of a decoder; sampling; forward passes. */
import type * as tf from "@tensorflow/tfjs";
import {
  type AutoencoderBatch,
  type AutoencoderConfig,
  autoencoderStep,
  type DecoderParams,
  decodeTokens,
  imageUnitFromSigned,
  initAutoencoderState,
  parseAutoencoderConfig,
  PUBLISHED_DECODER,
  resolveSchedule,
} from "novae/autoencoder/mod.ts";
import { initVit, vit, type VitConfig, type VitParams } from "novae/dino/mod.ts";
import { constantTree, type DeviceName, jit, type Jitted, read } from "novae/engine/mod.ts";
import { ditSample, ditStep, trainingLoop } from "./diffusion.ts";
import { encode, type EncodingNetworks } from "./encoding.ts";
import { CHANNELS, compileSec, normal, training, type Workload, type WorkloadSpec } from "./workload.ts";
import { float32, type HostTensor, Rng, scalar } from "novae/tensor/mod.ts";

const NANO = { kind: "dit-step", width: 192, depth: 6, heads: 3 } as const;
const SMALL = { kind: "dit-step", width: 384, depth: 12, heads: 6 } as const;
const MICRO = { width: 96, depth: 4, heads: 3, grid: 8 } as const;
const LOOP = { ...MICRO, batch: 32, updates: 50 } as const;

/** What is measured, and the most it may take. */
export interface ComparedWorkload {
  readonly spec: WorkloadSpec;
  /** Most time as a share of the peer's. */
  readonly time: number;
  /** Most memory as a share of the peer's. */
  readonly memory?: number;
  /** The peer, if it is not the same work in PyTorch but other work of this project. */
  readonly peer?: WorkloadSpec;
}

/** The encoding of `svg` beside its frozen encoder alone: it is to have 95 % of its throughput. */
function encoding(networks: EncodingNetworks, grid: number, batch: number): ComparedWorkload {
  const spec = { networks, grid, batch };
  return {
    spec: { kind: "svg-encode", ...spec },
    time: 1 / 0.95,
    peer: { kind: "encoder-alone", ...spec },
  };
}

/** The workloads by name. */
export const WORKLOADS: Readonly<Record<string, ComparedWorkload>> = {
  "DiT 192×6 step, 64 tokens, batch 16": { spec: { ...NANO, grid: 8, batch: 16 }, time: 0.9, memory: 1.3 },
  "DiT 192×6 step, 64 tokens, batch 64": { spec: { ...NANO, grid: 8, batch: 64 }, time: 0.9, memory: 1.3 },
  "DiT 192×6 step, 256 tokens, batch 16": { spec: { ...NANO, grid: 16, batch: 16 }, time: 0.9, memory: 1.3 },
  "DiT-S step, 64 tokens, batch 16": { spec: { ...SMALL, grid: 8, batch: 16 }, time: 0.9, memory: 1.3 },
  "DiT-S step, 256 tokens, batch 8": { spec: { ...SMALL, grid: 16, batch: 8 }, time: 0.9, memory: 1.3 },
  "DiT-S step, 256 tokens, batch 32, 392 channels": {
    spec: { ...SMALL, grid: 16, batch: 32, latents: 392, published: true },
    time: 0.9,
    memory: 1.3,
  },
  "training loop, DiT 96×4, 64 tokens, batch 32, beside its step": {
    spec: { kind: "training-loop", ...LOOP },
    time: 1.05,
    peer: { kind: "dit-step", ...LOOP },
  },
  "sampling, DiT 96×4, 64 tokens, batch 32, 10 steps": {
    spec: { kind: "dit-sample", ...MICRO, batch: 32 },
    time: 0.8,
  },
  "sampling, DiT 96×4, 64 tokens, batch 32, 10 guided steps": {
    spec: { kind: "dit-sample", ...MICRO, batch: 32, cfgScale: 2 },
    time: 0.8,
  },
  "sampling, DiT-S, 256 tokens, batch 2, 5 guided steps": {
    spec: {
      ...SMALL,
      kind: "dit-sample",
      grid: 16,
      batch: 2,
      latents: 392,
      published: true,
      steps: 5,
      cfgScale: 2,
    },
    time: 0.8,
  },
  "ViT 192×12 forward, 64 tokens, batch 16": {
    spec: { kind: "vit-forward", width: 192, depth: 12, heads: 3, patch: 8, grid: 8, batch: 16 },
    time: 0.8,
  },
  "ViT 192×12 forward, 64 tokens, batch 64": {
    spec: { kind: "vit-forward", width: 192, depth: 12, heads: 3, patch: 8, grid: 8, batch: 64 },
    time: 0.8,
  },
  "ViT-S/16 forward at 224, batch 8": {
    spec: { kind: "vit-forward", width: 384, depth: 12, heads: 6, patch: 16, grid: 14, batch: 8 },
    time: 0.8,
  },
  "decoder step, 64 base channels, 64×64, batch 8": {
    spec: { kind: "decoder-step", channels: [256, 128, 128, 64, 64], grid: 4, batch: 8 },
    time: 1.2,
  },
  "published decoder forward, 392 channels, 256×256, batch 1": {
    spec: { kind: "decoder-forward", channels: PUBLISHED_DECODER.channels, latents: 392, grid: 16, batch: 1 },
    time: 1.2,
  },
  "svg encode beside its encoder alone, published, 256×256, batch 4": encoding("published", 16, 4),
  "svg encode beside its encoder alone, shipped, 64×64, batch 64": encoding("shipped", 8, 64),
};

/** Prepares a workload on a device. */
export function makeWorkload(spec: WorkloadSpec, device: DeviceName): Workload {
  switch (spec.kind) {
    case "dit-step":
      return ditStep(spec, device);
    case "dit-sample":
      return ditSample(spec, device);
    case "training-loop":
      return trainingLoop(spec, device);
    case "vit-forward":
      return vitForward(spec, device);
    case "decoder-step":
      return decoderStep(spec, device);
    case "decoder-forward":
      return decoderForward(spec, device);
    default:
      return encode(spec, device);
  }
}

function vitForward({ batch, grid, width, depth, heads, patch }: WorkloadSpec, device: DeviceName): Workload {
  const config: VitConfig = {
    patchSize: patch!,
    width: width!,
    depth: depth!,
    heads: heads!,
    mlpRatio: 4,
    mlp: "geluErf",
    registers: 4,
    layerScaleInit: 0.1,
    ropeTheta: 100,
    normEps: 1e-5,
    imageSize: patch! * grid,
  };
  const params = initVit(new Rng(0), config);
  const images = normal(new Rng(1), batch, config.imageSize, config.imageSize, 3);
  const forward: Jitted<(x: tf.Tensor, p: VitParams) => tf.Tensor> = jit(
    (x: tf.Tensor, p: VitParams) => vit(x, p, config).patchesBND,
    { device, name: "encoder" },
  );
  return {
    async run() {
      const features = await forward(images, params);
      const { data } = await read(features);
      features.dispose();
      return data[0];
    },
    compileSec: () => compileSec(forward),
    dispose: () => forward.dispose(),
  };
}

/** SVG's decoder learns from given latents; three residual blocks a level, attention in the middle and at the first. */
function decoderStep(spec: WorkloadSpec, device: DeviceName): Workload {
  const { batch, grid } = spec, config = decoderConfig(spec), { imageSize } = config;
  const rng = new Rng(1);
  const data: AutoencoderBatch<HostTensor> = {
    imageUnitBHWC: float32(rng.uniform(batch * imageSize ** 2 * 3), [batch, imageSize, imageSize, 3]),
    featuresBND: normal(rng, batch, grid ** 2, CHANNELS),
    learningRate: scalar(1e-3),
    emaDecay: scalar(0.999),
  };
  const { reconstruction } = resolveSchedule({ images: 1, reconstruction: { mse: 0 } });
  const step = jit(autoencoderStep({ config, reconstruction, maxGradientNorm: 1 }), {
    device,
    donate: [0],
    name: "step",
  });
  return training(step, initAutoencoderState(new Rng(0), config), data);
}

function decoderConfig({ grid, channels, latents = CHANNELS }: WorkloadSpec): AutoencoderConfig {
  const levels = channels!, patchSize = 2 ** (levels.length - 1);
  return parseAutoencoderConfig({
    space: "dino",
    imageSize: grid * patchSize,
    patchSize,
    featureChannels: latents,
    decoder: { channels: levels, blocks: 3, midAttention: true, attentionLevels: 1, outPatch: 1 },
  });
}

/** Latents to images, as an autoencoder decodes them. */
function decoderForward(spec: WorkloadSpec, device: DeviceName): Workload {
  const { batch, grid, latents = CHANNELS } = spec,
    { params } = initAutoencoderState(
      new Rng(0),
      decoderConfig(spec),
    );
  const zBNZ = normal(new Rng(1), batch, grid ** 2, latents);
  const decode: Jitted<(z: tf.Tensor) => tf.Tensor> = jit(
    (z: tf.Tensor) => imageUnitFromSigned(decodeTokens(z, constantTree<DecoderParams>(params.decoder))),
    { device, name: "decoder" },
  );
  return {
    async run() {
      const images = await decode(zBNZ), { data } = await read(images);
      images.dispose();
      return data[0];
    },
    compileSec: () => compileSec(decode),
    dispose: () => decode.dispose(),
  };
}
