/** The encoding of `svg` as the benchmark runs it, and its frozen encoder alone. */
import { CompiledAutoencoder, initAutoencoder, loadAutoencoder, svgPreset } from "novae/autoencoder/mod.ts";
import { DinoEncoder, initVit, VIT_SIZES } from "novae/dino/mod.ts";
import type { DeviceName } from "novae/engine/mod.ts";
import { shippedModel } from "novae/study/mod.ts";
import { float32, type HostTensor, Rng } from "novae/tensor/mod.ts";
import type { Workload, WorkloadSpec } from "./workload.ts";

/** Networks of the paper, with random weights, or those shipped for `solids`. */
export type EncodingNetworks = "published" | "shipped";

interface Networks {
  readonly encoder: DinoEncoder;
  readonly autoencoder: CompiledAutoencoder;
}

/** Images to latents, from host memory to host memory, by both networks or by the frozen encoder alone. */
export function encode({ kind, networks, batch }: WorkloadSpec, device: DeviceName): Workload {
  const opened = networks === "published" ? published(device) : shipped(device);
  let images: HostTensor | undefined;
  return {
    async run() {
      const { encoder, autoencoder } = await opened, { imageSize } = autoencoder;
      images ??= float32(new Rng(1).uniform(batch * imageSize ** 2 * 3), [batch, imageSize, imageSize, 3]);
      const { data } = kind === "svg-encode"
        ? await autoencoder.encode(images)
        : (await encoder.features(images)).patchesBND;
      return data[0];
    },
    async dispose() {
      const { encoder, autoencoder } = await opened;
      await autoencoder.dispose();
      await encoder.dispose();
    },
  };
}

function published(device: DeviceName): Promise<Networks> {
  const { encoderSize, model } = svgPreset("svg-vits16plus-256"), size = VIT_SIZES[encoderSize];
  const encoder = new DinoEncoder(size, initVit(new Rng(0), size), { device });
  const alignment = { featureMean: 0, featureStd: 1, residualMean: 0, residualStd: 1 };
  const params = initAutoencoder(new Rng(0), model);
  return Promise.resolve({
    encoder,
    autoencoder: new CompiledAutoencoder(model, params, { encoder, alignment, device }),
  });
}

async function shipped(device: DeviceName): Promise<Networks> {
  const encoder = await DinoEncoder.load(shippedModel("encoder-solids.safetensors"), { device });
  const file = shippedModel("ae-svg-solids.safetensors");
  return { encoder, autoencoder: await loadAutoencoder(file, { encoder, device }) };
}
