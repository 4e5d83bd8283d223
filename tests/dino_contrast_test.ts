/** The contrast between images, pictures of the same things and the convolutional stem. */
import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import { jit, read } from "novae/engine/mod.ts";
import {
  loadFurtherPictures,
  loadSolids,
  multiCrop,
  packDataset,
  solidsFactors,
  solidsViewFactors,
} from "novae/data/mod.ts";
import {
  checkRecipe,
  contrastLoss,
  countVitParams,
  cropWork,
  dinoBatches,
  type DinoRecipe,
  initVit,
  loadEncoder,
  parseVitConfig,
  saveEncoder,
  SMALL_RECIPE,
  stem,
  type StemStageParams,
  trainDino,
  vit,
  VIT_SIZES,
  type VitConfig,
  type VitParams,
} from "novae/dino/mod.ts";
import {
  flattenTree,
  float32,
  type HostTensor,
  isHostTensor,
  mapTree,
  Rng,
  sizeOf,
} from "novae/tensor/mod.ts";

await tf.setBackend("cpu");

const golden = JSON.parse(await Deno.readTextFile(new URL("golden/dino_contrast.json", import.meta.url)));
const host = ({ shape, data }: { shape: number[]; data: number[] }) =>
  float32(Float32Array.from(data), shape);
const tensor = ({ shape, data }: { shape: number[]; data: number[] }) => tf.tensor(data, shape, "float32");

/** float32 against float64 at rtol 1e-4. */
function assertClose(got: ArrayLike<number>, wanted: ArrayLike<number>, what: string, atol = 1e-5): void {
  assert.equal(got.length, wanted.length, what);
  for (let i = 0; i < got.length; i++) {
    const gap = Math.abs(got[i] - wanted[i]);
    assert.ok(gap <= atol + 1e-4 * Math.abs(wanted[i]), `${what}[${i}]: ${got[i]}, wanted ${wanted[i]}`);
  }
}

Deno.test("the contrast between images and its gradient equal PyTorch's cross-entropies", () => {
  for (const { locals, temperature, crops, loss, grad } of golden.contrast) {
    const images = crops.shape[0] / (2 + locals);
    const { value, grad: found } = tf.valueAndGrad((x: tf.Tensor) =>
      contrastLoss(
        tf.slice(x, 0, 2 * images),
        locals > 0 ? tf.slice(x, 2 * images, locals * images) : null,
        temperature,
      )
    )(tensor(crops));
    assertClose(value.dataSync(), [loss], "loss");
    assertClose(found.dataSync(), grad.data, "gradient");
  }
});

Deno.test("embeddings that are all alike tell nothing apart", () => {
  const alike = tf.fill([12, 4], 0.5);
  assertClose(contrastLoss(alike, alike, 0.1).dataSync(), [Math.log(6)], "loss");
});

Deno.test("the stem and its gradient equal PyTorch's, eager and compiled", async () => {
  const { image, stages, tokens, along, grad } = golden.stem;
  const isGolden = (leaf: unknown) => Array.isArray((leaf as { data?: unknown }).data);
  const weights = mapTree<StemStageParams<HostTensor>[]>(stages, isGolden, (leaf) => host(leaf as never));
  const both = (x: tf.Tensor, params: StemStageParams[], y: tf.Tensor) => {
    const { value, grad } = tf.valueAndGrad((at: tf.Tensor) => tf.sum(tf.mul(stem(at, params), y)))(x);
    return { tokens: stem(x, params), value, grad };
  };
  const eager = both(
    tensor(image),
    mapTree<StemStageParams[]>(weights, isHostTensor, (leaf) => tensor(leaf as never)),
    tensor(along),
  );
  assertClose(eager.tokens.dataSync(), tokens.data, "tokens");
  assertClose(eager.grad.dataSync(), grad.data, "gradient");
  const compiled = jit(both, { device: "cpu" });
  const found = await read(await compiled(host(image), weights, host(along))) as Record<string, HostTensor>;
  assertClose(found.tokens.data, tokens.data, "compiled tokens");
  assertClose(found.grad.data, grad.data, "compiled gradient");
  await compiled.dispose();
});

const stemmed: VitConfig = { ...VIT_SIZES.tiny, stem: [8, 16] };

Deno.test("an encoder with a stem has its number of parameters, is saved, loaded and run", async () => {
  const params = initVit(new Rng(3), stemmed), path = await Deno.makeTempFile({ suffix: ".safetensors" });
  const count = flattenTree<HostTensor>(params, isHostTensor).reduce(
    (sum, { value }) => sum + sizeOf(value.shape),
    0,
  );
  assert.equal(countVitParams(stemmed), count);
  await saveEncoder(path, stemmed, params);
  const loaded = await loadEncoder(path);
  assert.deepEqual(loaded.config, stemmed);
  const run = jit((x: tf.Tensor, p: VitParams) => vit(x, p, stemmed).patchesBND, { device: "cpu" });
  const images = float32(new Rng(2).normal(2 * 8 * 12 * 3), [2, 8, 12, 3]);
  const patches = await (await run(images, loaded.params)).read();
  assert.deepEqual(patches.shape, [2, 6, 16]);
  const alone =
    await (await run(float32(Float32Array.from(images.data.slice(0, 288)), [1, 8, 12, 3]), loaded.params))
      .read();
  assertClose(alone.data, patches.data.subarray(0, 96), "one image alone");
  await run.dispose();
  await Deno.remove(path);
});

Deno.test("a stem that does not lead to the patches is refused", () => {
  for (const wrong of [[8], [8, 16, 32], [8, 12], [8, -8], [], "8,16", 8]) {
    assert.throws(
      () => parseVitConfig({ ...VIT_SIZES.tiny, stem: wrong }),
      /"stem" must be multiples of 8, one for each halving down to patches of 4, got /,
    );
  }
});

Deno.test("another picture of a solid has its kind and size, and all else drawn anew", async () => {
  const own = solidsFactors(5, "train", 13), other = solidsViewFactors(5, "train", 13, 2);
  assert.deepEqual(solidsViewFactors(5, "train", 13, 0), own);
  assert.deepEqual([other.kind, other.size], [own.kind, own.size]);
  const drawn = Object.keys(own).filter((key) => typeof own[key as "yaw"] === "number" && key !== "size");
  for (const key of drawn) assert.notEqual(other[key as "yaw"], own[key as "yaw"], key);
  assert.notDeepEqual(solidsViewFactors(5, "train", 13, 1), other);
  const options = { split: "train", count: 3, imageSize: 8, cacheDir: null } as const;
  const first = await loadSolids(options), second = await loadSolids({ ...options, view: 1 });
  assert.deepEqual([...second.labels([0, 1, 2])], [...first.labels([0, 1, 2])]);
  assert.notDeepEqual(second.images([0]).data, first.images([0]).data);
  assert.deepEqual(second.factors(2), solidsViewFactors(0, "train", 2, 1));
  await assert.rejects(
    loadSolids({ ...options, view: -1 }),
    /view must be a whole number of at least 0, got -1/,
  );
});

Deno.test("pictures of a solid are kept in a file of their own", async () => {
  const cacheDir = await Deno.makeTempDir();
  const options = { split: "train", count: 3, imageSize: 8, cacheDir } as const;
  const made = await loadSolids({ ...options, view: 1 }), plain = await loadSolids(options);
  const kept = await loadSolids({ ...options, view: 1, onProgress: () => assert.fail("rendered again") });
  assert.equal(kept.hash, made.hash);
  assert.notEqual(kept.hash, plain.hash);
  await Deno.remove(cacheDir, { recursive: true });
});

Deno.test("further pictures are those of the training images, and there are none beyond solids", async () => {
  const options = { name: "solids", train: 3, imageSize: 8, cacheDir: null } as const;
  const pictures = await loadFurtherPictures(options, 2);
  assert.deepEqual(pictures.map(({ name }) => name), ["solids/train view 1", "solids/train view 2"]);
  const alone = await loadSolids({ split: "train", count: 3, imageSize: 8, cacheDir: null, view: 2 });
  assert.equal(pictures[1].hash, alone.hash);
  assert.deepEqual(await loadFurtherPictures({ name: "cifar10", path: "x" }, 0), []);
  await assert.rejects(loadFurtherPictures({ name: "cifar10", path: "x" }, 1), /must be solids, got cifar10/);
});

const recipe: DinoRecipe = {
  ...SMALL_RECIPE,
  batchSize: 4,
  steps: 4,
  globalSize: 16,
  localSize: 8,
  localCrops: 2,
  head: { ...SMALL_RECIPE.head, hidden: 16, bottleneck: 8, prototypes: 24 },
  freezeShare: 0,
};

/** Pictures of one colour each: image i of picture p is `(i + 1) / 16 + p / 4`. */
function plainPictures(count: number) {
  return Array.from({ length: count }, (_, p) => {
    const pixels = Uint8Array.from({ length: 8 * 16 * 16 * 3 }, (_, i) => 16 * Math.floor(i / 768) + 64 * p);
    const labels = Uint8Array.from({ length: 8 }, (_, i) => i % 2);
    return packDataset({ name: `picture ${p}`, classes: ["a", "b"], imageSize: 16, pixels, labels });
  });
}

Deno.test("each crop of an image is of another of its pictures", () => {
  const [first, ...further] = plainPictures(4), work = cropWork(first, recipe, 0, further);
  const orders = new Set<string>();
  for (let step = 0; step < 4; step++) {
    const { images } = work(step);
    assert.equal(images.length, 4);
    for (let b = 0; b < 4; b++) {
      const bytes = images.map(({ data }) => Math.round(255 * data[b * 768]));
      const shown = new Set(bytes.map((byte) => Math.floor(byte / 64)));
      assert.equal(shown.size, 4, "four crops of four pictures");
      assert.equal(new Set(bytes.map((byte) => byte % 64)).size, 1, "of one thing");
      orders.add(bytes.map((byte) => Math.floor(byte / 64)).join());
    }
  }
  assert.ok(orders.size > 4, "in an order that is drawn");
  assert.throws(
    () => cropWork(first, recipe, 0, [further[0], { ...further[1], imageSize: 8, size: 8 } as never]),
    /further pictures must be 8 of 16 pixels, got 8 of 8/,
  );
});

Deno.test("views are taken from the images given for each of them", () => {
  const [a, b] = plainPictures(2).map((set) => set.images([1, 2]));
  const plain = {
    globalSize: 8,
    localSize: 4,
    globals: 1,
    locals: 1,
    blur: [0, 0, 0],
    jitter: { probability: 0, grayscale: 0 },
  } as const;
  const { globals, locals } = multiCrop([a, b], new Rng(0), plain);
  assertClose(globals[0].data.slice(0, 3), a.data.slice(0, 3), "global view");
  assertClose(locals[0].data.slice(0, 3), b.data.slice(0, 3), "local view");
  assert.throws(() => multiCrop([a, b, a], new Rng(0), plain), /for each of 2 views, got 3 times/);
});

Deno.test("a training with pictures and contrast resumes bit for bit", async () => {
  const [dataset, ...pictures] = plainPictures(3), config = { ...stemmed, imageSize: 16 };
  const options = { dataset, pictures, vit: config, recipe, seed: 2, device: "cpu" } as const;
  const metrics: number[] = [];
  const whole = await trainDino({
    ...options,
    logEverySteps: 1,
    onLog: (entry) => void metrics.push(entry.metrics.contrastLoss),
  });
  assert.ok(metrics.length === 4 && metrics.every((value) => value > 0 && value < 10));
  let half: Parameters<NonNullable<Parameters<typeof trainDino>[0]["onCheckpoint"]>>[0] | undefined;
  await trainDino({
    ...options,
    checkpointEverySteps: 2,
    onCheckpoint: (state, step) => void (half = step === 2 ? state : half),
  });
  const resumed = await trainDino({ ...options, state: half });
  const bits = (tree: unknown) => flattenTree<HostTensor>(tree, isHostTensor).map(({ value }) => value.data);
  assert.deepEqual(bits(resumed.state), bits(whole.state));
  const alone = dinoBatches(dataset, config, recipe, 2)(0),
    several = dinoBatches(dataset, config, recipe, 2, pictures)(0);
  assert.notDeepEqual(several.globals.data, alone.globals.data);
});

Deno.test("a contrast out of range is refused", () => {
  const check = (contrast: DinoRecipe["contrast"]) => () => checkRecipe({ ...recipe, contrast }, stemmed, 8);
  assert.throws(check({ weight: -1, temperature: 0.2 }), /contrast.weight must be at least 0, got -1/);
  assert.throws(check({ weight: 1, temperature: 0 }), /contrast.temperature must be above 0, got 0/);
});
