/** Self-distillation against PyTorch: losses with gradients, schedules and whole training steps. */
import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import { jit, read } from "novae/engine/mod.ts";
import {
  centeredSoftmax,
  DINO_RECIPES,
  type DinoBatch,
  dinoLoss,
  type DinoMetrics,
  type DinoObjective,
  type DinoState,
  dinoStep,
  gramLoss,
  koleoLoss,
  patchLoss,
  resizeFeatures,
  sinkhornKnopp,
  VIT_SIZES,
  type VitConfig,
} from "novae/dino/mod.ts";
import { cosineSchedule } from "novae/nn/mod.ts";
import {
  flattenTree,
  float32,
  type HostTensor,
  int32,
  isHostTensor,
  mapTree,
  scalar,
} from "novae/tensor/mod.ts";

await tf.setBackend("cpu");

interface Golden {
  shape: number[];
  data: number[];
}

const golden = JSON.parse(await Deno.readTextFile(new URL("golden/dino_training.json", import.meta.url)));
const tensor = ({ shape, data }: Golden) => tf.tensor(data, shape, "float32");

/** float32 against float64: sums and products of some hundred terms. */
function assertClose(
  got: ArrayLike<number>,
  wanted: ArrayLike<number>,
  what: string,
  rtol = 1e-4,
  atol = 1e-5,
): void {
  assert.equal(got.length, wanted.length, what);
  for (let i = 0; i < got.length; i++) {
    const gap = Math.abs(got[i] - wanted[i]);
    assert.ok(gap <= atol + rtol * Math.abs(wanted[i]), `${what}[${i}]: ${got[i]}, wanted ${wanted[i]}`);
  }
}

/** Compares a loss and its gradient with golden ones. */
function assertLoss(
  lossOf: (x: tf.Tensor) => tf.Scalar,
  at: Golden,
  loss: number,
  grad: Golden,
  what: string,
): void {
  const { value, grad: found } = tf.valueAndGrad(lossOf)(tensor(at));
  assertClose(value.dataSync(), [loss], what);
  assertClose(found.dataSync(), grad.data, `gradient of ${what}`);
}

Deno.test("the DINO loss with centering equals PyTorch's over three steps, gradient and center too", () => {
  let center = tf.zeros([7]);
  for (const { temperature, teacher, student, loss, grad, center: wanted } of golden.losses.centering) {
    const logits = tensor(teacher), targets = centeredSoftmax(logits, center, temperature);
    const lossOf = (x: tf.Tensor) => dinoLoss(targets, tf.slice(x, 0, 6), tf.slice(x, 6, 6), 0.1);
    assertLoss(lossOf, student, loss, grad, "DINO loss");
    center = tf.add(tf.mul(center, 0.9), tf.mul(tf.mean(logits, 0), 0.1));
    assertClose(center.dataSync(), wanted.data, "center");
  }
});

Deno.test("Sinkhorn-Knopp equals PyTorch's, with and without rows that only fill the shape", () => {
  const { logits, temperature, targets } = golden.losses.sinkhorn, rows = tensor(logits);
  assertClose(sinkhornKnopp(rows, temperature).dataSync(), targets.data, "assignments");
  const padded = tf.concat([tf.fill([1, 6], 3), rows, tf.zeros([2, 6])], 0);
  const presentM = tf.tensor1d([0, ...Array(8).fill(1), 0, 0]);
  const found = sinkhornKnopp(padded, temperature, { presentM }).dataSync();
  assertClose(
    found,
    [...Array(6).fill(0), ...targets.data, ...Array(12).fill(0)],
    "assignments of 8 among 11",
  );
});

Deno.test("the masked-patch loss equals PyTorch's, gradient too, and rows of weight 0 change nothing", () => {
  const { masks, teacher, student, temperature, targets, loss, grad } = golden.losses.ibot;
  const found = sinkhornKnopp(tensor(teacher), temperature);
  assertClose(found.dataSync(), targets.data, "targets");
  const counts = (masks as number[][]).map((row) => row.reduce((a, b) => a + b));
  const weights = counts.flatMap((count) => Array(count).fill(1 / (count * counts.length)));
  assertLoss((x) => patchLoss(found, x, tf.tensor1d(weights), 0.1), student, loss, grad, "patch loss");
  const fill = tf.ones([2, 6]);
  const lossOf = (x: tf.Tensor) =>
    patchLoss(tf.concat([found, fill]), tf.concat([x, fill]), tf.tensor1d([...weights, 0, 0]), 0.1);
  assertLoss(lossOf, student, loss, grad, "patch loss of more rows");
});

Deno.test("KoLeo equals PyTorch's, gradient too", () => {
  const { features, loss, grad } = golden.losses.koleo;
  assertLoss(koleoLoss, features, loss, grad, "KoLeo");
});

Deno.test("the Gram loss equals PyTorch's, gradient too, and feature maps shrink as PyTorch interpolates", () => {
  const { student, anchor, loss, grad, batchLoss, large, small } = golden.losses.gram,
    target = tensor(anchor);
  assertLoss((x) => gramLoss(x, target), student, loss, grad, "Gram loss");
  assertClose(gramLoss(tensor(student), target, false).dataSync(), [batchLoss], "Gram loss of the batch");
  assertClose(resizeFeatures(tensor(large), 4).dataSync(), small.data, "feature map");
});

Deno.test("schedules equal those of the published code at every step", () => {
  const cases = {
    dino: cosineSchedule({ base: 0.5, final: 0.01, steps: 40, warmupSteps: 8, ends: "dino" }),
    dinoWhole: cosineSchedule({ base: 0.04, final: 0.4, steps: 40, ends: "dino" }),
    dinov3: cosineSchedule({ base: 0.5, final: 0.01, steps: 40, warmupSteps: 8, ends: "dinov3" }),
    dinov3Short: cosineSchedule({ base: 0, final: 2, steps: 40, cosineSteps: 10, ends: "dinov3" }),
  };
  for (const [name, at] of Object.entries(cases)) {
    const values = Array.from({ length: 40 }, (_, step) => at(step));
    assertClose(values, golden.schedules[name].data, name, 1e-6, 1e-9);
  }
});

// ---- whole steps

interface StepCase {
  config: Record<string, unknown> & { prototypeRates: number[] };
  before: unknown;
  batches: Record<string, Golden | number>[];
  metrics: { loss: number; gradNorm: number }[];
  after: Record<string, unknown>;
}

const isGolden = (v: unknown): boolean => typeof v === "object" && v !== null && "data" in v && "shape" in v;

function host<T>(tree: unknown): T {
  return mapTree<T>(tree, isGolden, (leaf) => float32((leaf as Golden).data, (leaf as Golden).shape));
}

function leavesOf(tree: unknown): Map<string, HostTensor> {
  return new Map(flattenTree<HostTensor>(tree, isHostTensor).map(({ path, value }) => [path, value]));
}

function vitOf(config: StepCase["config"]): VitConfig {
  const { ropeTheta, ...tiny } = VIT_SIZES.tiny;
  return {
    ...tiny,
    width: 8,
    mlp: "geluErf",
    registers: config.registers ? 2 : 0,
    layerScaleInit: config.scale ? 1 : null,
    maskToken: config.mask as boolean,
    ...(config.learned ? { learnedPositions: "offset" } : { ropeTheta }),
  };
}

function objectiveOf(config: StepCase["config"]): DinoObjective {
  const {
    assignment,
    lastLayer,
    clipOver,
    clipNorm,
    layerDecay,
    patchEmbedRate,
    beta2,
    koleoWeight,
    maskWeight,
  } = config as unknown as DinoObjective & { lastLayer: "unit" | "gain" | "free" };
  const { recipe } = DINO_RECIPES.dino,
    head = { ...recipe.head, hidden: 12, bottleneck: 6, prototypes: 10, lastLayer };
  return {
    ...recipe,
    ...{ assignment, clipOver, clipNorm, layerDecay, patchEmbedRate, beta2, koleoWeight, maskWeight, head },
    patchHead: config.patchHead ? { ...head, prototypes: 9 } : null,
    localNorm: config.localNorm as boolean,
    gram: config.gram ? { perImage: true, antialias: false } : null,
  };
}

/** The inputs of a step: bytes of 256 levels, and masks as rows, weights and three rows that only fill the shape. */
function batchOf({ mask, ...given }: StepCase["batches"][number]): DinoBatch<HostTensor> {
  const batch: Record<string, HostTensor> = {};
  for (const [key, value] of Object.entries(given)) {
    const pixels = ["globals", "locals", "gramCrops"].includes(key);
    if (typeof value === "number") batch[key] = scalar(value);
    else batch[key] = float32(value.data.map((v) => pixels ? v / 256 : v), value.shape);
  }
  if (mask === undefined) return batch as unknown as DinoBatch<HostTensor>;
  const { shape, data } = mask as Golden, [crops, patches] = shape;
  const rows = data.flatMap((on, i) => on ? [i] : []);
  const counts = Array.from(
    { length: crops },
    (_, b) => rows.filter((row) => Math.floor(row / patches) === b).length,
  );
  const weights = rows.map((row) => 1 / (counts[Math.floor(row / patches)] * crops));
  batch.maskBN = float32(data, shape);
  batch.maskedRows = int32([...rows, 0, 0, 0], [rows.length + 3]);
  batch.maskedWeights = float32([...weights, 0, 0, 0], [rows.length + 3]);
  return batch as unknown as DinoBatch<HostTensor>;
}

for (const [name, given] of Object.entries(golden.steps as Record<string, StepCase>)) {
  Deno.test(`two training steps of ${name} equal PyTorch's: loss, gradients, weights, moments, teacher`, async () => {
    const vit = vitOf(given.config), objective = objectiveOf(given.config);
    const before = host<Omit<DinoState<HostTensor>, "step" | "adam">>(given.before);
    const zero = () =>
      mapTree<typeof before.student>(before.student, isHostTensor, (leaf) => {
        const { shape, data } = leaf as HostTensor;
        return float32(new Float32Array(data.length), shape);
      });
    let state: DinoState<HostTensor> = {
      ...before,
      step: scalar(0),
      adam: { first: zero(), second: zero() },
    };
    const step = jit(
      (s: DinoState, b: DinoBatch): [DinoState, DinoMetrics] => dinoStep(s, b, vit, objective),
      { device: "cpu" },
    );
    try {
      for (const [i, batch] of given.batches.entries()) {
        const [next, metrics] = await read(await step(state, batchOf(batch))) as unknown as [
          DinoState<HostTensor>,
          DinoMetrics<HostTensor>,
        ];
        for (const key of ["loss", "gradNorm"] as const) {
          assertClose(metrics[key].data, [given.metrics[i][key]], `${key} of step ${i}`);
        }
        state = next;
      }
    } finally {
      await step.dispose();
    }
    const { first, second, ...networks } = given.after;
    const found = leavesOf({ ...state, first: state.adam.first, second: state.adam.second });
    const wanted = leavesOf(host({ ...networks, first, second }));
    assert.ok(wanted.size > 100);
    for (const [path, value] of wanted) {
      // Mean squares have twice the relative error of gradients, whose sums cancel against the largest of them.
      const square = path.startsWith("second"), largest = Math.max(...value.data);
      const [rtol, atol] = square ? [2e-4, 1e-5 * largest] : [1e-4, path.startsWith("first") ? 1e-6 : 1e-5];
      assertClose(found.get(path)!.data, value.data, path, rtol, atol);
    }
  });
}
