/** Transformers of all families against PyTorch, from weights under both naming schemes. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import * as tf from "@tensorflow/tfjs";
import { jit, read } from "novae/engine/mod.ts";
import {
  bicubicMatrix,
  DinoEncoder,
  fitPositions,
  IMAGENET_MEAN,
  IMAGENET_STD,
  type PositionFit,
  readPretrained,
  vit,
  VIT_SIZES,
  type VitConfig,
  vitConfigFromTransformers,
  type VitOptions,
  type VitParams,
  weightSource,
} from "novae/dino/mod.ts";
import { readSafetensors } from "novae/io/mod.ts";
import { float32, type HostTensor, isHostTensor, mapTree, rows } from "novae/tensor/mod.ts";
import { valueAndGrads } from "novae/nn/mod.ts";

await tf.setBackend("cpu");

const folder = fileURLToPath(new URL("golden/dino_families", import.meta.url));
const { cases } = JSON.parse(await Deno.readTextFile(`${folder}/cases.json`)) as {
  cases: Record<string, { family: string; fits: (PositionFit | "rope")[]; transformers: unknown }>;
};

const load = async (name: string) => (await readSafetensors(`${folder}/${name}.safetensors`)).tensors;

/** float32 against float64: the tolerance of the project. */
function assertClose(what: string, got: HostTensor, wanted: HostTensor): void {
  assert.deepEqual([...got.shape], [...wanted.shape], what);
  got.data.forEach((value, i) => {
    const limit = 1e-5 + 1e-4 * Math.abs(wanted.data[i]);
    assert.ok(
      Math.abs(value - wanted.data[i]) <= limit,
      `${what}[${i}]: wanted ${wanted.data[i]}, got ${value}`,
    );
  });
}

/** Everything that a transformer gives, in the layout of the golden file: tokens in sequence. */
function everything(image: tf.Tensor, params: VitParams, config: VitConfig) {
  const sequence = (tokens: { clsBD: tf.Tensor; registersBRD: tf.Tensor; patchesBND: tf.Tensor }) =>
    tf.concat([tf.expandDims(tokens.clsBD, 1), tokens.registersBRD, tokens.patchesBND], 1);
  const run = (options: VitOptions) => vit(image, params, config, options);
  const normed = run({ lastBlocks: 2, attention: "full" }),
    raw = run({ lastBlocks: 2, norm: false, attention: "cls" });
  return {
    tokens: sequence(normed),
    previous: sequence(normed.lastBlocks[0]),
    last: sequence(normed.lastBlocks[1]),
    raw: tf.concat(raw.lastBlocks.map(sequence), 0),
    attention: normed.attention!,
    clsAttention: raw.attention!,
  };
}

const toTf = <P>(tree: unknown): P =>
  mapTree<P>(tree, isHostTensor, (leaf) => {
    const { data, shape } = leaf as HostTensor;
    return tf.tensor(data, [...shape]);
  });
const toHost = (tree: unknown) =>
  mapTree<Record<string, HostTensor>>(tree, (v) => v instanceof tf.Tensor, (t) => {
    const tensor = t as tf.Tensor;
    return float32(tensor.dataSync().slice() as Float32Array, tensor.shape);
  });

for (const [name, { fits, transformers, family }] of Object.entries(cases)) {
  Deno.test(`${name}: weights under both names give PyTorch's tokens and attention, eager and compiled`, async () => {
    const golden = await load(`${name}.outputs`);
    const described = vitConfigFromTransformers(transformers).config;
    for (const naming of ["huggingface", "meta"] as const) {
      const source = weightSource(await load(`${name}.${naming}`));
      for (const fit of fits) {
        const config = fit === "rope" ? described : { ...described, learnedPositions: fit };
        const found = await readPretrained(source, { config });
        assert.deepEqual([found.naming, found.family], [naming, family]);
        const compiled = jit((image: tf.Tensor, params: VitParams) => everything(image, params, config), {
          device: "cpu",
        });
        for (const which of ["square", "other"]) {
          const image = golden.get(`image.${which}`)!;
          const plain = toHost(tf.tidy(() => everything(toTf(image), toTf(found.params), config)));
          const graph = await read(await compiled(image, found.params)) as Record<string, HostTensor>;
          for (const [how, got] of [["eager", plain], ["compiled", graph]] as const) {
            const check = (key: string, as = key) =>
              assertClose(
                `${naming} ${fit} ${which} ${how} ${key}`,
                got[key],
                golden.get(`${fit}.${which}.${as}`)!,
              );
            check("tokens");
            check("last", "tokens");
            if (which === "square") continue;
            for (const key of ["previous", "raw", "attention"]) check(key);
            const { shape: [, heads, tokens] } = got.attention;
            const ofCls = golden.get(`${fit}.${which}.attention`)!.data as Float32Array;
            const first = Float32Array.from(
              { length: heads * tokens },
              (_, i) => ofCls[Math.floor(i / tokens) * tokens * tokens + i % tokens],
            );
            assertClose(
              `${how} attention of the class token`,
              got.clsAttention,
              float32(first, [1, heads, tokens]),
            );
          }
        }
        await compiled.dispose();
      }
    }
  });
}

Deno.test("both namings of a transformer hold the same weights in our layout", async () => {
  for (const [name, { transformers }] of Object.entries(cases)) {
    const { config } = vitConfigFromTransformers(transformers);
    const [one, other] = await Promise.all(
      ["meta", "huggingface"].map(async (naming) =>
        (await readPretrained(weightSource(await load(`${name}.${naming}`)), { config })).params
      ),
    );
    assert.deepEqual(one, other);
  }
});

Deno.test("bicubic interpolation equals PyTorch's, by size, by scale factor with offset and antialiased", async () => {
  const golden = await load("positions");
  let checked = 0;
  for (const [key, wanted] of golden) {
    const [grid, rowCount, colCount, fit] = key.split(".");
    if (fit === undefined) continue;
    const side = Number(grid), config = configOfGrid(side, fit as PositionFit);
    const positions = tf.concat([
      tf.zeros([1, 1]),
      tf.reshape(toTf<tf.Tensor>(golden.get(grid)), [side * side, 1]),
    ]);
    const fitted = fitPositions(positions, Number(rowCount), Number(colCount), config);
    const got = tf.slice(fitted, [1, 0], [-1, 1]);
    // PyTorch's hub code leaves positions on their own grid alone, where its scale factor would move them.
    if (fit === "offset" && rowCount === grid && colCount === grid) continue;
    assertClose(key, float32(got.dataSync().slice() as Float32Array, wanted.shape), wanted);
    checked++;
  }
  assert.equal(checked, 26);
});

function configOfGrid(side: number, fit: PositionFit): VitConfig {
  return { ...VIT_SIZES["dinov2-vits14"], width: 1, heads: 1, imageSize: 14 * side, learnedPositions: fit };
}

Deno.test("rows of the interpolation sum to 1, and on the own grid they are the identity", () => {
  for (const fit of ["size", "offset", "antialias"] as const) {
    for (const [from, to] of [[14, 3], [14, 29], [37, 16], [5, 1]]) {
      const data = bicubicMatrix(from, to, fit).data as Float32Array;
      for (let i = 0; i < to; i++) {
        const sum = data.subarray(i * from, (i + 1) * from).reduce((total, weight) => total + weight, 0);
        assert.ok(Math.abs(sum - 1) < 1e-5, `${fit} ${from} to ${to}, row ${i}: ${sum}`);
      }
    }
  }
  for (const fit of ["size", "antialias"] as const) {
    bicubicMatrix(6, 6, fit).data.forEach((weight, i) => assert.equal(weight, i % 7 === 0 ? 1 : 0));
  }
});

Deno.test("gradients reach learned positions through the interpolation, eager and compiled", async () => {
  const { transformers } = cases.dino, { config } = vitConfigFromTransformers(transformers);
  const { params } = await readPretrained(weightSource(await load("dino.huggingface")), { config });
  const image = (await load("dino.outputs")).get("image.other")!;
  const loss = (all: VitParams, pixels: tf.Tensor) =>
    valueAndGrads((p: VitParams) => {
      const { clsBD, patchesBND } = vit(pixels, p, config);
      return { loss: tf.add(tf.sum(clsBD), tf.sum(tf.square(patchesBND))) as tf.Scalar, aux: {} };
    }, all);
  const compiled = jit(loss, { device: "cpu" });
  const { grads } = await read(await compiled(params, image)) as unknown as { grads: VitParams<HostTensor> };
  const plain = toHost(loss(toTf<VitParams>(params), toTf(image)).grads.positions);
  const [wanted, got] = [plain as unknown as HostTensor, grads.positions!];
  const scale = Math.max(...wanted.data.map(Math.abs));
  assert.ok(scale > 1e-2);
  got.data.forEach((value, i) => assert.ok(Math.abs(value - wanted.data[i]) <= 1e-4 * scale, `[${i}]`));
  // Central difference of one value.
  const at = 5 * config.width + 2, step = 1e-2;
  const lossAt = (change: number) => {
    const data = params.positions!.data.slice() as Float32Array;
    data[at] += change;
    const moved = { ...params, positions: float32(data, params.positions!.shape) };
    return loss(toTf<VitParams>(moved), toTf(image)).loss.dataSync()[0];
  };
  const slope = (lossAt(step) - lossAt(-step)) / (2 * step);
  assert.ok(
    Math.abs(slope - wanted.data[at]) <= 2e-2 * Math.max(1, Math.abs(slope)),
    `${slope}, ${wanted.data[at]}`,
  );
  await compiled.dispose();
});

Deno.test("an encoder gives the last blocks and attention of any number of images, weights constant or fed", async () => {
  const { transformers } = cases.dinov2_reg, transformersConfig = transformers;
  const golden = await load("dinov2_reg.outputs"), image = golden.get("image.other")!;
  const unit = float32(
    Float32Array.from(
      [...image.data, ...image.data],
      (v, i) => v * IMAGENET_STD[i % 3] + IMAGENET_MEAN[i % 3],
    ),
    [2, ...image.shape.slice(1)],
  );
  const source = weightSource(await load("dinov2_reg.huggingface"));
  for (const weights of ["constants", "fed"] as const) {
    const encoder = await DinoEncoder.fromPretrained(source, {
      transformersConfig,
      device: "cpu",
      batchSize: 1,
      weights,
    });
    const { clsBD, lastBlocks, attention, patchesBND } = await encoder.features(unit, {
      lastBlocks: 2,
      norm: false,
      attention: "full",
    });
    const row = (tensor: HostTensor, from: number, to: number) => {
      const flat = float32(tensor.data as Float32Array, [tensor.data.length / encoder.width, encoder.width]);
      return rows(flat, from, to);
    };
    const tokens = golden.get("antialias.other.tokens")!, raw = golden.get("antialias.other.raw")!;
    assert.deepEqual([clsBD.shape, patchesBND.shape], [[2, 24], [2, 21, 24]]);
    assert.equal(lastBlocks!.length, 2);
    assertClose("class token", rows(clsBD, 1, 2), row(tokens, 0, 1));
    assertClose("patches", row(patchesBND, 21, 42), row(tokens, 5, 26));
    assertClose("class token of the block before", rows(lastBlocks![0].clsBD, 1, 2), row(raw, 0, 1));
    assertClose("patches of the last block", row(lastBlocks![1].patchesBND, 21, 42), row(raw, 31, 52));
    assertClose("attention", rows(attention!, 1, 2), golden.get("antialias.other.attention")!);
    const plain = await encoder.features(unit);
    assert.deepEqual(Object.keys(plain), ["clsBD", "patchesBND"]);
    await assert.rejects(encoder.features(unit, { lastBlocks: 3 }), /number must be 0 to 2, got 3/);
    await encoder.dispose();
  }
});
