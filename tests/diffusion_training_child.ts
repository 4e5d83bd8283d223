/**
 * Run by diffusion_training_kill_test.ts: trains a small transformer with checkpoints in a folder, from the newest one
 * on, and says what it is about to do, line by line.
 */
import {
  type DiffusionTrainingInput,
  type DitConfig,
  initDiffusionState,
  type LatentData,
  trainDiffusion,
} from "novae/diffusion/mod.ts";
import { CheckpointStore } from "novae/experiment/mod.ts";
import type { LossGuardState } from "novae/nn/mod.ts";
import { float32, NovaeError, Rng } from "novae/tensor/mod.ts";

const config: DitConfig = {
  channels: 3,
  grid: 2,
  classes: 2,
  width: 8,
  depth: 1,
  heads: 2,
  mlpRatio: 2,
  qkNorm: true,
  learnSigma: false,
};
const [folder, steps, keepLast = "2"] = Deno.args;
const settings = {
  images: 8 * Number(steps),
  batchSize: 8,
  accumulation: 2,
  moreEmaHalflivesImages: [40],
  learningRate: 3e-3,
  divergence: { window: 80 },
} satisfies DiffusionTrainingInput;

function someData(seed: number, count: number): LatentData {
  return {
    latents: float32(new Rng(seed).normal(count * 12), [count, 4, 3]),
    labels: Int32Array.from({ length: count }, (_, i) => i % 2),
  };
}

function say(line: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
}

async function train(): Promise<void> {
  const store = new CheckpointStore(folder, { config: { config, settings }, keepLast: Number(keepLast) });
  const like = initDiffusionState(config, 0, settings), latest = await store.latest();
  const kept = latest === null ? null : await store.load(latest, { weights: like.ema, state: like });
  say(`from ${latest ?? 0}`);
  await trainDiffusion({
    config,
    data: someData(1, 30),
    settings,
    device: "cpu",
    threads: 1,
    resume: kept?.state,
    guard: { state: kept?.meta.guard as LossGuardState | undefined },
    logEverySteps: 1,
    onProgress: ({ step }) => say(`step ${step}`),
    validation: { data: someData(2, 20), images: 20, everyImages: 24 },
    checkpointEveryImages: 16,
    onCheckpoint: async (state, step, { guard, validation }) => {
      say(`saving ${step}`);
      await store.save(step, { weights: state.ema, state, meta: { guard }, score: validation?.loss });
      say(`saved ${step}`);
    },
  });
}

try {
  await train();
} catch (error) {
  if (!(error instanceof NovaeError)) throw error;
  console.error(error.message);
  Deno.exit(2);
}
