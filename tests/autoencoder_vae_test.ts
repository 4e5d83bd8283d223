/** Variational autoencoders from others' weight files, against PyTorch. */
import assert from "node:assert/strict";
import { join } from "node:path";
import * as tf from "@tensorflow/tfjs";
import {
  type ConvEncoderParams,
  convEncoderTree,
  decodeLatents,
  type DecoderParams,
  decoderTree,
  encodePosterior,
  initAutoencoder,
  klDivergence,
  loadAutoencoder,
  loadPretrainedVae,
  measureLatents,
  namedAutoencoder,
  parseAutoencoderConfig,
  PUBLISHED_VAES,
  type PublishedVaeName,
  readPretrainedVae,
  saveAutoencoder,
} from "novae/autoencoder/mod.ts";
import { openWeights, readTensors, writeSafetensors } from "novae/io/mod.ts";
import {
  ConfigError,
  flattenTree,
  float32,
  type HostTensor,
  isHostTensor,
  NovaeError,
  Rng,
  sizeOf,
} from "novae/tensor/mod.ts";
import outputs from "./golden/kl_vae/outputs.json" with { type: "json" };
import { assertClose, assertSameBits, DiscImages, toTensors, wave } from "./autoencoder_fixture.ts";

await tf.setBackend("cpu");

const FOLDER = "tests/golden/kl_vae", LDM = `${FOLDER}/ldm.ckpt`, DIFFUSERS = `${FOLDER}/diffusers`;
/** float32 against the float64 of the golden files, a few dozen operations deep. */
const TOLERANCE = 1e-4;
const SMALL = { imageSize: 16, groups: 4 };

async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await run(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function refuses(load: Promise<unknown>, message: RegExp): Promise<void> {
  await assert.rejects(load, (error) => {
    assert.ok(error instanceof NovaeError, String(error));
    assert.match(error.message, message);
    assert.ok(!error.message.includes("\n"));
    return true;
  });
}

Deno.test("a checkpoint of latent diffusion gives PyTorch's posterior, divergence and reconstruction", async () => {
  const { config, params, naming, ignored } = await readPretrainedVae(LDM, SMALL);
  assert.equal(naming, "ldm");
  assert.deepEqual(ignored, [
    "state_dict.loss.logvar",
    "state_dict.loss.discriminator.main.0.weight",
    "optimizer_states.0.state.0.exp_avg",
  ]);
  assert.deepEqual(config, {
    space: "vae",
    imageSize: 16,
    patchSize: 2,
    featureChannels: 0,
    decoder: { channels: [16, 8], blocks: 2, midAttention: true, attentionLevels: 1, outPatch: 1, groups: 4 },
    vae: { channels: 3, klWeight: 1e-6, encoderBlocks: 1, quantConvs: true },
  });
  const x = toTensors<tf.Tensor>(wave([2, 16, 16, 3], "x"));
  const posterior = encodePosterior(x, toTensors<ConvEncoderParams>(params.encoder), 4);
  assertClose(posterior.meanBNZ.dataSync(), outputs.mean.data, TOLERANCE);
  assertClose(posterior.logVarianceBNZ.dataSync(), outputs.logVariance.data, TOLERANCE);
  assertClose(klDivergence(posterior).dataSync(), [outputs.kl], TOLERANCE);
  const z = tf.reshape(posterior.meanBNZ, outputs.mean.shape);
  const decoded = decodeLatents(z, toTensors<DecoderParams>(params.decoder), 4);
  assertClose(decoded.dataSync(), outputs.reconstruction.data, TOLERANCE);
});

Deno.test("the same weights in diffusers' names are the same autoencoder, and its settings tell the groups", async () => {
  const ldm = await readPretrainedVae(LDM, SMALL);
  const diffusers = await readPretrainedVae(DIFFUSERS, { imageSize: 16 });
  assert.equal(diffusers.naming, "diffusers");
  assert.deepEqual(diffusers.config, ldm.config);
  assertSameBits(diffusers.params, ldm.params);
  await inFolder(async (folder) => {
    // Names of attention maps before diffusers 0.17, and the autoencoder as a part of a larger model.
    const old: [RegExp, string][] = [["to_q", "query"], ["to_k", "key"], ["to_v", "value"], [
      "to_out\\.0",
      "proj_attn",
    ]]
      .map(([now, then]) => [new RegExp(`(attentions\\.0\\.)${now}`), `$1${then}`]);
    await renamed(
      DIFFUSERS,
      join(folder, "old.safetensors"),
      (name) => old.reduce((text, [pattern, then]) => text.replace(pattern, then), `vae.${name}`),
    );
    assertSameBits((await readPretrainedVae(join(folder, "old.safetensors"), SMALL)).params, ldm.params);
    await renamed(
      LDM,
      join(folder, "whole.safetensors"),
      (name) =>
        name.replace(/^state_dict\.(?!loss)/, "first_stage_model.").replace(
          /^state_dict\.loss/,
          "model.diffusion_model",
        ),
    );
    const whole = await readPretrainedVae(join(folder, "whole.safetensors"), SMALL);
    assertSameBits(whole.params, ldm.params);
    assert.ok(whole.ignored.includes("model.diffusion_model.logvar"));
  });
});

/** Copies weights under other names, and others beside them. */
async function renamed(
  from: string,
  to: string,
  rename: (name: string) => string | undefined,
  more: Record<string, HostTensor> = {},
): Promise<void> {
  const { tensors } = await openWeights(from), entries = [...await readTensors(tensors)];
  const kept = entries.flatMap(([name, tensor]): [string, HostTensor][] => {
    const changed = rename(name);
    return changed === undefined ? [] : [[changed, tensor]];
  });
  await writeSafetensors(to, new Map([...kept, ...Object.entries(more)]));
}

Deno.test("a loaded autoencoder encodes and decodes compiled as PyTorch does, and comes back from its own file", () =>
  inFolder(async (folder) => {
    const vae = await loadPretrainedVae(DIFFUSERS, { imageSize: 16, device: "cpu", batchSize: 1 });
    const path = join(folder, "vae.safetensors");
    try {
      assert.deepEqual([vae.name, vae.channels, vae.grid], ["vae", 3, 8]);
      const image = wave([2, 16, 16, 3], "x");
      const imageUnit = float32(image.data.map((v) => (v + 1) / 2) as Float32Array, image.shape);
      const z = await vae.encode(imageUnit), decoded = await vae.decode(z);
      assertClose(z.data, outputs.mean.data, TOLERANCE);
      const unit = outputs.reconstruction.data.map((v) => Math.min(Math.max((v + 1) / 2, 0), 1));
      assertClose(decoded.data, unit, TOLERANCE);
      assert.throws(() => vae.stats, ConfigError);
      const stats = await measureLatents(vae, [imageUnit]);
      await saveAutoencoder(path, { config: vae.config, params: vae.params, stats });
      const again = await loadAutoencoder(path, { device: "cpu" });
      assert.deepEqual(again.config, vae.config);
      assertSameBits(again.params, vae.params); // the golden weights fit 16-bit floats
      assertSameBits(again.stats, stats);
      assertClose((await again.encode(imageUnit)).data, z.data, 1e-6);
      await again.dispose();
    } finally {
      await vae.dispose();
    }
  }));

Deno.test("trees of weights are those of new parameters, for every kind of variational autoencoder", () => {
  const options = { imageSize: 16, patchSize: 4, featureChannels: 5 };
  const tiny = namedAutoencoder("tiny", { space: "va-vae", ...options });
  const configs = [
    tiny,
    namedAutoencoder("tiny", { space: "vae", ...options }),
    parseAutoencoderConfig({
      ...tiny,
      imageSize: 8,
      decoder: {
        ...tiny.decoder,
        channels: [12, 8, 8],
        blocks: 3,
        attentionLevels: 2,
        outPatch: 1,
        midAttention: false,
      },
      vae: { ...tiny.vae!, encoderBlocks: 2, quantConvs: true },
    }),
  ];
  for (const config of configs) {
    const leaves = flattenTree<HostTensor>(initAutoencoder(new Rng(0), config), isHostTensor)
      .filter(({ path }) => path !== "projection");
    const wanted = new Map(leaves.map(({ path, value }) => [path, [...value.shape]]));
    const found = new Map<string, number[]>(), { decoder, vae } = config;
    const note = (path: string, shape: readonly number[]) => void found.set(path, [...shape]);
    decoderTree(decoder, vae!.channels, vae!.quantConvs ?? false, note);
    convEncoderTree(decoder, vae!, note);
    assert.deepEqual([...found].sort(), [...wanted].sort());
  }
});

Deno.test("the published autoencoders have as many parameters as published", () => {
  const count = (name: PublishedVaeName) => {
    const { decoder, vae } = PUBLISHED_VAES[name];
    let sum = 0;
    const add = (_: string, shape: readonly number[]) => void (sum += sizeOf(shape));
    decoderTree(decoder, vae.channels, vae.quantConvs!, add);
    convEncoderTree(decoder, vae, add);
    return sum;
  };
  for (const [name, wanted] of Object.entries(outputs.counts)) {
    assert.equal(count(name as PublishedVaeName), wanted);
  }
  assert.equal(count("kl-f8d4"), 83_653_863);
  assert.equal(count("kl-f8d16"), 83_819_683);
  const f8 = namedAutoencoder("kl-f8d4", { space: "vae", imageSize: 256 });
  assert.deepEqual([f8.patchSize, f8.vae!.channels], [8, 4]);
  const f16 = namedAutoencoder("published", {
    space: "va-vae",
    imageSize: 256,
    patchSize: 16,
    featureChannels: 1024,
  });
  assert.deepEqual([f16.decoder, f16.vae!.channels, f16.vae!.encoderBlocks], [
    PUBLISHED_VAES["kl-f16d32"].decoder,
    32,
    2,
  ]);
  assert.throws(
    () => namedAutoencoder("kl-f8d4", { space: "vae", imageSize: 256, patchSize: 16 }),
    /size "kl-f8d4" has no decoder for patches of 16/,
  );
  assert.throws(
    () => namedAutoencoder("kl-f8d4", { space: "svg", imageSize: 256, featureChannels: 384 }),
    /size "kl-f8d4" is one of vae and va-vae, got svg/,
  );
});

Deno.test("checkpoints that lack weights, have others or other shapes are refused by name", () =>
  inFolder(async (folder) => {
    const path = join(folder, "changed.safetensors"), at = "state_dict.";
    const with1 = (name: string, shape: number[]) => ({
      [name]: float32(new Float32Array(sizeOf(shape)), shape),
    });
    const cases: [(name: string) => string | undefined, Record<string, HostTensor>, RegExp][] = [
      [without(`${at}encoder.mid.block_1.conv1.bias`), {}, /missing encoder\.mid\.block_1\.conv1\.bias$/],
      [without(/\.quant_conv\.bias$/), {}, /missing quant_conv\.bias$/],
      [without(/post_quant_conv/), {}, /missing post_quant_conv\.weight, post_quant_conv\.bias$/],
      [
        without(/decoder\.up\.1\.attn\.1/),
        {},
        /missing decoder\.up\.1\.attn\.1\.norm\.weight, .* and 6 more$/,
      ],
      [same, with1(`${at}encoder.down.0.attn.0.norm.weight`, [8]), /missing decoder\.up\.0\.attn\.0\./],
      [same, with1(`${at}decoder.up.0.extra`, [1]), /unexpected decoder\.up\.0\.extra$/],
      [
        same,
        with1("first_stage_model.encoder.conv_in.bias", [8]),
        /encoder\.conv_in\.bias must be there once, got/,
      ],
      [
        without(`${at}decoder.conv_out.weight`),
        with1(`${at}decoder.conv_out.weight`, [4, 8, 3, 3]),
        /misshapen decoder\.conv_out\.weight: wanted \[3,8,3,3\], got \[4,8,3,3\]$/,
      ],
      [without(/\.decoder\.conv_in/), {}, /decoder\.conv_in\.weight must be there with rank 4 .*, got none$/],
      [without(/\.encoder\.down\.0\.block/), {}, /got neither$/],
    ];
    for (const [rename, more, message] of cases) {
      await renamed(LDM, path, rename, more);
      await refuses(readPretrainedVae(path, SMALL), message);
    }
    await refuses(readPretrainedVae(LDM, { imageSize: 16 }), /groups must divide 16 channels, got 32$/);
    await refuses(readPretrainedVae(LDM, { imageSize: 15, groups: 4 }), /multiple of patchSize 2, got 15$/);
    await refuses(readPretrainedVae(join(folder, "none.ckpt")), /none\.ckpt: no such file/);
    const { tensors } = await openWeights(DIFFUSERS);
    await writeSafetensors(join(folder, "model.safetensors"), await readTensors(tensors));
    await Deno.remove(path);
    await Deno.writeTextFile(join(folder, "config.json"), '{"norm_num_groups": "4"}');
    await refuses(
      readPretrainedVae(folder, { imageSize: 16 }),
      /norm_num_groups .* must be a positive integer, got 4$/,
    );
  }));

const same = (name: string) => name;

function without(pattern: string | RegExp): (name: string) => string | undefined {
  const matches = (name: string) => typeof pattern === "string" ? name === pattern : pattern.test(name);
  return (name) => matches(name) ? undefined : name;
}

Deno.test("a file with VA-VAE's projection is a va-vae, which runs without an encoder", () =>
  inFolder(async (folder) => {
    const path = join(folder, "va.safetensors"), projection = wave([5, 3, 1, 1], "p");
    const more = {
      "linear_proj.weight": projection,
      "foundation_model.model.norm.weight": float32([1], [1]),
    };
    await renamed(LDM, path, same, more);
    const { config, params, ignored } = await readPretrainedVae(path, SMALL);
    assert.deepEqual([config.space, config.featureChannels], ["va-vae", 5]);
    assert.ok(ignored.includes("foundation_model.model.norm.weight"));
    assert.deepEqual(params.projection!.shape, [3, 5]);
    assert.equal(params.projection!.data[1 * 5 + 4], projection.data[4 * 3 + 1]);
    const vae = await loadPretrainedVae(path, { ...SMALL, device: "cpu" });
    assert.deepEqual((await vae.encode(new DiscImages(1).images([0]))).shape, [1, 64, 3]);
    await vae.dispose();
    // Projected the other way round, with a bias, it serves the training alone.
    await renamed(LDM, path, same, {
      "linear_proj.weight": wave([3, 5, 1, 1], "p"),
      "linear_proj.bias": wave([3], "b"),
    });
    const plain = await readPretrainedVae(path, SMALL);
    assert.equal(plain.config.space, "vae");
    assert.ok(plain.ignored.includes("linear_proj.bias"));
  }));
