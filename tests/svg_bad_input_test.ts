/** Files, latents and images that do not fit SVG's autoencoder are refused with what was wanted and what came. */
import assert from "node:assert/strict";
import { join } from "node:path";
import {
  type AutoencoderConfig,
  CompiledAutoencoder,
  encodeResidual,
  initAutoencoder,
  initResidualEncoder,
  loadPublishedSvg,
  namedAutoencoder,
  parseAutoencoderConfig,
  PUBLISHED_RESIDUAL,
  readPublishedStats,
  readPublishedWeights,
} from "novae/autoencoder/mod.ts";
import { DinoEncoder, weightSource } from "novae/dino/mod.ts";
import { writeSafetensors } from "novae/io/mod.ts";
import { ConfigError, float32, type HostTensor, Rng, WeightsError, zeros } from "novae/tensor/mod.ts";
import * as tf from "@tensorflow/tfjs";
import { tinyConfig, tinyEncoder, toTensors } from "./autoencoder_fixture.ts";
import {
  checkpointTensors,
  NARROW_STATS,
  SMALL,
  SMALL_ENCODER,
  SMALL_OPTIONS,
  STATS,
} from "./svg_published_fixture.ts";

await tf.setBackend("cpu");

async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await run(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const refuses = async (load: Promise<unknown>, kind: new () => Error, message: RegExp) =>
  await assert.rejects(load, (error) => {
    assert.ok(error instanceof kind, String(error));
    assert.match(error.message, message);
    assert.ok(!error.message.includes("\n"));
    return true;
  });

/** The checkpoint's weights with some changed, read with settings. */
async function readChanged(
  change: (tensors: Map<string, HostTensor>) => void,
  config: AutoencoderConfig = SMALL,
) {
  const tensors = await checkpointTensors();
  change(tensors);
  return await readPublishedWeights(weightSource(tensors), config, "Cannot load autoencoder x.ckpt");
}

const without = (pattern: RegExp) => (tensors: Map<string, HostTensor>) => {
  for (const name of [...tensors.keys()]) if (pattern.test(name)) tensors.delete(name);
};

const FEATURES_ONLY: AutoencoderConfig = { ...SMALL, space: "dino", residual: undefined };

Deno.test("a checkpoint without its residual encoder is refused and never left random", async () => {
  await refuses(
    readChanged(without(/^extra_vit\./)),
    WeightsError,
    /x\.ckpt: space svg needs a residual encoder \(extra_vit\.…\), got none; a checkpoint of features alone needs/,
  );
  await refuses(
    readChanged(without(/^mask_token$/)),
    WeightsError,
    /missing mask_token$/,
  );
  await inFolder(async (folder) => {
    const path = join(folder, "half.safetensors"), tensors = await checkpointTensors();
    without(/^extra_vit\.|^mask_token|^loss\./)(tensors);
    await writeSafetensors(path, tensors, {});
    await refuses(
      loadPublishedSvg({ ...SMALL_OPTIONS, autoencoder: path }),
      WeightsError,
      /half\.safetensors: space svg needs a residual encoder/,
    );
  });
});

Deno.test("a residual encoder that the settings do not have is refused too", async () => {
  await refuses(
    readChanged(() => {}, FEATURES_ONLY),
    WeightsError,
    /space dino has no residual encoder, got 34 tensors/,
  );
  const narrow = { ...SMALL, featureChannels: 16 };
  await refuses(
    readChanged(() => {}, narrow),
    WeightsError,
    /misshapen decoder\.conv_in\.weight: wanted \[16,24,3,3\], got \[16,32,3,3\]$/,
  );
});

Deno.test("missing, unexpected and misshapen tensors are listed by their names in the file", () =>
  refuses(
    readChanged((tensors) => {
      tensors.delete("decoder.up.2.attn.1.proj_out.bias");
      tensors.delete("extra_vit.encoder.layers.encoder_layer_1.self_attention.in_proj_weight");
      tensors.set("decoder.up.0.upsample.conv.weight", zeros([1]));
      tensors.set("loss.other", zeros([1]));
      tensors.set("extra_vit.heads.2.weight", zeros([24, 8]));
    }),
    WeightsError,
    new RegExp(
      "missing decoder\\.up\\.2\\.attn\\.1\\.proj_out\\.bias, " +
        "extra_vit\\.encoder\\.layers\\.encoder_layer_1\\.self_attention\\.in_proj_weight; " +
        "unexpected (decoder\\.up\\.0\\.upsample\\.conv\\.weight, loss\\.other|loss\\.other, .*); " +
        "misshapen extra_vit\\.heads\\.2\\.weight: wanted \\[8,24\\], got \\[24,8\\]$",
    ),
  ));

Deno.test("weights that are no floating-point numbers are refused", () =>
  refuses(
    readChanged((tensors) => {
      const { shape } = tensors.get("decoder.norm_out.bias")!;
      tensors.set("decoder.norm_out.bias", { dtype: "int32", shape, data: new Int32Array(shape[0]) });
    }),
    WeightsError,
    /decoder\.norm_out\.bias must hold floating-point numbers, got int32/,
  ));

Deno.test("features alone, and a residual that is never masked, load without what they do not have", async () => {
  const features = await readChanged((tensors) => {
    without(/^extra_vit\.|^mask_token|^norm_vit/)(tensors);
    const { data } = tensors.get("decoder.conv_in.weight")!;
    const cut = Float32Array.from({ length: 16 * 24 * 9 }, (_, i) => {
      const [out, rest] = [Math.floor(i / (24 * 9)), i % (24 * 9)];
      return data[out * 32 * 9 + rest];
    });
    tensors.set("decoder.conv_in.weight", float32(cut, [16, 24, 3, 3]));
  }, FEATURES_ONLY);
  assert.equal(features.params.residual, undefined);
  const residual = { ...SMALL.residual!, maskProbability: 0 };
  const unmasked = await readChanged(without(/^mask_token$/), { ...SMALL, residual });
  assert.deepEqual(unmasked.params.residual!.maskToken, zeros([1, 1, 8]));
});

Deno.test("settings that the released code cannot make are refused", async () => {
  const { groups: _, ...decoder } = SMALL.decoder;
  const cases: [AutoencoderConfig, RegExp][] = [
    [
      { ...SMALL, decoder },
      /decoder\.groups must be given for 16 channels \(the released code has 32\), got none/,
    ],
    [{ ...SMALL, decoder: { ...SMALL.decoder, outPatch: 2 } }, /decoder\.outPatch must be 1, got 2/],
    [tinyConfig("vae"), /the space must be svg, svg-noalign or dino, got vae/],
    [tinyConfig("residual"), /got residual/],
  ];
  for (const [config, message] of cases) await refuses(readChanged(() => {}, config), ConfigError, message);
  await refuses(
    loadPublishedSvg({ ...SMALL_OPTIONS, alignment: undefined }),
    ConfigError,
    /autoencoder\.ckpt: its alignment must be "batch" \(as published\), images to measure it on, or statistics, got none/,
  );
});

Deno.test("another frozen encoder than the checkpoint's is refused, and one that nobody has", async () => {
  const { encoder, autoencoder } = await loadPublishedSvg(SMALL_OPTIONS);
  const last = encoder.params.norm.bias.data.slice() as Float32Array;
  last[0] += 1;
  const other = new DinoEncoder(
    SMALL_ENCODER,
    { ...encoder.params, norm: { ...encoder.params.norm, bias: float32(last, [24]) } },
    { device: "cpu" },
  );
  await refuses(
    loadPublishedSvg({ ...SMALL_OPTIONS, encoder: other }),
    WeightsError,
    new RegExp(`trained with encoder ${encoder.hash.slice(0, 12)}…, got ${other.hash.slice(0, 12)}…`),
  );
  await refuses(
    loadPublishedSvg({ ...SMALL_OPTIONS, encoder: tinyEncoder() }),
    WeightsError,
    /frozen encoder of .*autoencoder\.ckpt: weights must fit the settings/,
  );
  await inFolder(async (folder) => {
    const path = join(folder, "bare.safetensors"), tensors = await checkpointTensors();
    without(/^encoder\.|^loss\./)(tensors);
    await writeSafetensors(path, tensors, {});
    const bare = { ...SMALL_OPTIONS, autoencoder: path };
    await refuses(
      loadPublishedSvg(bare),
      WeightsError,
      /its frozen encoder must be in it \(encoder\.…\) or given, got neither/,
    );
    const opened = await loadPublishedSvg({ ...bare, encoder });
    assert.equal(opened.encoder, encoder);
    await opened.autoencoder.dispose();
  });
  for (const disposable of [autoencoder, encoder, other]) await disposable.dispose();
});

Deno.test("statistics of another width are refused with whose they are", async () => {
  const stats = await readPublishedStats(STATS, SMALL);
  assert.deepEqual([stats.mean.length, stats.std.length, stats.count], [32, 32, 0]);
  await refuses(
    readPublishedStats(NARROW_STATS, SMALL),
    WeightsError,
    /dinov3_sp_mean must have 32 channels \(24 of features and 8 of the residual\), got \[1, 1, 24\]; these are of features alone/,
  );
  await refuses(
    readPublishedStats(STATS, FEATURES_ONLY),
    WeightsError,
    /dinov3_sp_mean must have 24 channels, got \[1, 1, 32\]; these are of features and a residual/,
  );
  assert.equal((await readPublishedStats(NARROW_STATS, FEATURES_ONLY)).mean.length, 24);
});

Deno.test("statistics that normalise nothing, and files that hold none, are refused", () =>
  inFolder(async (folder) => {
    const path = join(folder, "stats.safetensors"), good = float32(new Float32Array(32).fill(1), [1, 1, 32]);
    const bad = (value: number) => float32(Float32Array.from(good.data, (v, i) => i === 5 ? value : v), [32]);
    const cases: [Record<string, HostTensor>, RegExp][] = [
      [{ mean: good, std: bad(0) }, /deviations must be positive, got 0 at 5/],
      [{ mean: good, std: bad(NaN) }, /deviations must be positive, got NaN at 5/],
      [{ mean: bad(Infinity), std: good }, /means must be finite, got Infinity at 5/],
      [{ mean: good }, /one tensor of deviations \(…std\) is needed, got mean/],
      [
        { "a.mean": good, "b.mean": good, std: good },
        /one tensor of means \(…mean\) is needed, got a\.mean, b\.mean/,
      ],
      [
        { mean: float32(good.data as Float32Array, [8, 4]), std: good },
        /mean must have 32 channels .*got \[8, 4\]/,
      ],
    ];
    for (const [tensors, message] of cases) {
      await writeSafetensors(path, tensors, {});
      await refuses(readPublishedStats(path, SMALL), WeightsError, message);
    }
    await refuses(readPublishedStats(join(folder, "none.pt"), SMALL), WeightsError, /none\.pt/);
  }));

Deno.test("image sizes that the grid does not divide are refused, in settings and in images", () => {
  const options = { space: "svg", patchSize: 16, featureChannels: 384 } as const;
  assert.throws(() => namedAutoencoder("published", { ...options, imageSize: 250 }), {
    name: "ConfigError",
    message: "Cannot use autoencoder settings: imageSize must be a multiple of patchSize 16, got 250",
  });
  const config = { ...PUBLISHED_RESIDUAL, width: 8, depth: 1, heads: 2 };
  const params = toTensors<Parameters<typeof encodeResidual>[1]>(
    initResidualEncoder(new Rng(0), config, 4, 16),
  );
  for (const side of [18, 20]) {
    assert.throws(() => encodeResidual(tf.zeros([1, side, side, 3]), params, config), {
      name: "TypeError",
      message: "Cannot encode a residual: images must have 4 × 4 patches of 4 pixels a side, " +
        `got shape [1, ${side}, ${side}, 3]`,
    });
  }
});

Deno.test("latents that are channels first, of another width or not finite are refused, and images that are not in [0, 1]", async () => {
  const config = tinyConfig("svg"), encoder = tinyEncoder();
  const autoencoder = new CompiledAutoencoder(config, initAutoencoder(new Rng(0), config), {
    encoder,
    device: "cpu",
  });
  try {
    const first =
      "Cannot decode latents (svg): shape must be [any, 16, 18], channels last, got channels first, ";
    await assert.rejects(autoencoder.decode(zeros([2, 18, 4, 4])), {
      name: "TypeError",
      message: `${first}[2, 18, 4, 4]`,
    });
    await assert.rejects(autoencoder.decode(zeros([2, 18, 16])), {
      name: "TypeError",
      message: `${first}[2, 18, 16]`,
    });
    await assert.rejects(autoencoder.decode(zeros([2, 16, 16])), {
      name: "TypeError",
      message: "Cannot decode latents (svg): shape must be [any, 16, 18], got [2, 16, 16]",
    });
    for (const value of [NaN, Infinity, -Infinity]) {
      const z = zeros([2, 16, 18]);
      z.data[16 * 18 + 3 * 18 + 7] = value;
      await assert.rejects(autoencoder.decode(z), {
        name: "RangeError",
        message: `Cannot decode latents (svg): values must be finite, got ${value} at [1, 3, 7]`,
      });
    }
    for (const value of [-1, 255, NaN]) {
      const images = zeros([2, 16, 16, 3]);
      images.data[700] = value;
      await assert.rejects(autoencoder.encode(images), {
        name: "RangeError",
        message: `Cannot encode images (svg): values must be in [0, 1], got ${value}`,
      });
    }
  } finally {
    await autoencoder.dispose();
    await encoder.dispose();
  }
});

Deno.test("settings of variants that contradict each other are refused", () => {
  const svg = tinyConfig("svg"), residual = tinyConfig("residual");
  const cases: [unknown, RegExp][] = [
    [{ ...residual, featureChannels: 16 }, /featureChannels must be 0 for residual, got 16/],
    [{ ...residual, residual: svg.residual }, /maskProbability must be 0 for residual, got 0\.1/],
    [{ ...svg, residual: { ...svg.residual, dropout: 1 } }, /residual\.dropout/],
    [{ ...svg, noiseTau: -1 }, /noiseTau/],
    [{ ...tinyConfig("vae"), noiseTau: 0.8 }, /"noiseTau" is not for the spaces vae and va-vae/],
    [{ ...svg, decoder: { ...svg.decoder, groups: 3 } }, /decoder\.groups must divide 8 channels, got 3/],
  ];
  for (const [input, message] of cases) {
    assert.throws(() => parseAutoencoderConfig(input), (error) => {
      assert.ok(error instanceof ConfigError);
      assert.match(error.message, message);
      return true;
    });
  }
});
