import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import { jit, read } from "novae/engine/mod.ts";
import {
  countVitParams,
  imageDinoFromUnit,
  initVit,
  parseVitConfig,
  vit,
  VIT_SIZES,
  type VitConfig,
  type VitParams,
} from "novae/dino/mod.ts";
import { valueAndGrads } from "novae/nn/mod.ts";
import {
  ConfigError,
  flattenTree,
  float32,
  type HostTensor,
  isHostTensor,
  mapTree,
  Rng,
} from "novae/tensor/mod.ts";

await tf.setBackend("cpu");

interface GoldenTensor {
  shape: number[];
  data: number[];
}
interface GoldenCase {
  config: VitConfig;
  images: GoldenTensor;
  probe: GoldenTensor;
  params: unknown;
  tokens: GoldenTensor;
  loss: number;
  grads: unknown;
}

const golden = JSON.parse(
  Deno.readTextFileSync(new URL("golden/dino_vit.json", import.meta.url)),
) as { cases: GoldenCase[] };

const isGolden = (v: unknown): boolean =>
  typeof v === "object" && v !== null && "data" in v && Array.isArray((v as GoldenTensor).shape);

function host<P>(tree: unknown): P {
  return mapTree<P>(
    tree,
    isGolden,
    (leaf) => float32((leaf as GoldenTensor).data, (leaf as GoldenTensor).shape),
  );
}

function eager<P>(tree: unknown): P {
  return mapTree<P>(tree, isHostTensor, (leaf) => {
    const { data, shape, dtype } = leaf as HostTensor;
    return tf.tensor(data, [...shape], dtype);
  });
}

/** float32 against float64 references: rtol 1e-4, and atol for sums that cancel. */
function assertClose(what: string, got: ArrayLike<number>, wanted: ArrayLike<number>, atol = 1e-4): void {
  assert.equal(got.length, wanted.length, what);
  for (let i = 0; i < got.length; i++) {
    const limit = atol + 1e-4 * Math.abs(wanted[i]);
    assert.ok(Math.abs(got[i] - wanted[i]) <= limit, `${what}[${i}]: wanted ${wanted[i]}, got ${got[i]}`);
  }
}

function probeLoss(config: VitConfig) {
  return (params: VitParams, images: tf.Tensor, probe: tf.Tensor) =>
    valueAndGrads((p: VitParams) => {
      const { clsBD, registersBRD, patchesBND } = vit(images, p, config);
      const tokens = tf.concat([tf.expandDims(clsBD, 1), registersBRD, patchesBND], 1);
      return { loss: tf.sum(tf.mul(tokens, probe)) as tf.Scalar, aux: { tokens } };
    }, params);
}

for (const golden_ of golden.cases) {
  const { config } = golden_;
  Deno.test(`the ${config.mlp} transformer equals PyTorch's, values and gradients, eager and compiled`, async () => {
    const params = host<VitParams<HostTensor>>(golden_.params);
    const images = host<HostTensor>(golden_.images), probe = host<HostTensor>(golden_.probe);
    const run = probeLoss(config);
    const compiled = jit(run, { device: "cpu" });
    const fromGraph = await read(await compiled(params, images, probe)) as unknown;
    const plain = run(eager(params), eager(images), eager(probe));
    const fromEager = mapTree(plain, (v) => v instanceof tf.Tensor, (t) => {
      const tensor = t as tf.Tensor;
      return float32(tensor.dataSync() as Float32Array, tensor.shape);
    });
    for (const [how, got] of [["eager", fromEager], ["compiled", fromGraph]] as const) {
      const { loss, aux, grads } = got as { loss: HostTensor; aux: { tokens: HostTensor }; grads: unknown };
      assertClose(`${how} tokens`, aux.tokens.data, golden_.tokens.data);
      assertClose(`${how} loss`, loss.data, [golden_.loss], 1e-3);
      const wanted = new Map(
        flattenTree<GoldenTensor>(golden_.grads, isGolden).map((leaf) => [leaf.path, leaf.value.data]),
      );
      for (const { path, value } of flattenTree<HostTensor>(grads, isHostTensor)) {
        assertClose(`${how} gradient of ${path}`, value.data, wanted.get(path)!, 1e-3);
      }
    }
    await compiled.dispose();
  });
}

Deno.test("published sizes have the published number of parameters", () => {
  assert.equal(countVitParams(VIT_SIZES.vits16), 21_596_544);
  assert.equal(countVitParams(VIT_SIZES.vits16plus), 28_692_864);
  assert.ok(countVitParams(VIT_SIZES.solids) <= 3_000_000);
});

Deno.test("the closed form of the parameter count agrees with the weights that are made", () => {
  const configs = [VIT_SIZES.tiny, VIT_SIZES.solids, VIT_SIZES.cifar10, {
    ...VIT_SIZES.tiny,
    mlp: "gatedSilu",
  }];
  for (const config of configs as VitConfig[]) {
    const leaves = flattenTree<HostTensor>(initVit(new Rng(0), config), isHostTensor);
    assert.equal(leaves.reduce((sum, leaf) => sum + leaf.value.data.length, 0), countVitParams(config));
  }
});

Deno.test("images of any multiple of the patch pass, others are refused", () => {
  const config = VIT_SIZES.tiny, params = eager<VitParams>(initVit(new Rng(1), config));
  assert.deepEqual(vit(tf.zeros([2, 8, 20, 3]), params, config).patchesBND.shape, [2, 10, 16]);
  assert.throws(() => vit(tf.zeros([2, 8, 18, 3]), params, config), /multiples of 4, got \[2,8,18,3\]/);
  assert.throws(() => vit(tf.zeros([2, 8, 8, 1]), params, config), TypeError);
});

Deno.test("taps hand out what each block adds, and the sum is the next stream", () => {
  const config = VIT_SIZES.tiny, params = eager<VitParams>(initVit(new Rng(1), config));
  const names = ["embed", "block00.attention", "block00.mlp", "block00", "block01"];
  const images = tf.tensor(new Rng(2).normal(768), [1, 16, 16, 3]);
  const { taps } = vit(images, params, config, { taps: names });
  assert.deepEqual(Object.keys(taps).sort(), names.toSorted());
  const sum = tf.addN([taps.embed, taps["block00.attention"], taps["block00.mlp"]]);
  assertClose("sum", sum.dataSync(), taps.block00.dataSync(), 1e-6);
  assert.throws(() => vit(images, params, config, { taps: ["block7"] }), /Cannot tap "block7"/);
});

Deno.test("a masked patch is replaced by the mask token before anything else sees it", () => {
  const config = VIT_SIZES.tiny, params = eager<VitParams>(initVit(new Rng(1), config));
  const pixels = new Rng(3).normal(2 * 8 * 8 * 3);
  const changed = pixels.slice();
  for (let row = 0; row < 4; row++) for (let i = 12; i < 24; i++) changed[row * 24 + i] += 1; // image 0, patch 1
  const maskBN = tf.tensor2d([[0, 1, 0, 0], [0, 0, 0, 0]]);
  const run = (data: Float32Array, options = {}) =>
    vit(tf.tensor(data, [2, 8, 8, 3]), params, config, options).clsBD.dataSync();
  assert.deepEqual(run(pixels, { maskBN }), run(changed, { maskBN }));
  assert.notDeepEqual(run(pixels), run(changed));
});

Deno.test("ImageNet normalisation maps mean to 0 and a deviation above it to 1", () => {
  const pixels = tf.tensor([0.485, 0.456, 0.406, 0.714, 0.68, 0.631], [1, 1, 2, 3]);
  assertClose("pixels", imageDinoFromUnit(pixels).dataSync(), [0, 0, 0, 1, 1, 1], 1e-5);
});

Deno.test("settings from outside are checked key by key", () => {
  const good = { ...VIT_SIZES.tiny };
  assert.deepEqual(parseVitConfig(good), good);
  const bad: [Record<string, unknown>, RegExp][] = [
    [{ ...good, widht: 3 }, /unknown key "widht"/],
    [{ ...good, depth: 1.5 }, /"depth" must be an integer, got 1.5/],
    [{ ...good, heads: 3 }, /"width" \/ "heads" must be a multiple of 4, got 16 \/ 3/],
    [{ ...good, imageSize: 18 }, /multiple of "patchSize"/],
    [{ ...good, mlp: "relu" }, /"mlp" must be gelu, geluErf or gatedSilu/],
    [{ ...good, registers: undefined }, /"registers" must be a positive number/],
  ];
  for (const [config, message] of bad) {
    assert.throws(
      () => parseVitConfig(config),
      (error) => error instanceof ConfigError && message.test(error.message),
    );
  }
});
