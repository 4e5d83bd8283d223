import { initAutoencoderState, SPACE_NAMES, trainAutoencoder } from "novae/autoencoder/mod.ts";
import { hashBytes } from "novae/io/mod.ts";
import { flattenTree, type HostTensor, isHostTensor } from "novae/tensor/mod.ts";
import { DiscImages, tinyConfig, tinyEncoder } from "./autoencoder_fixture.ts";
for (const space of SPACE_NAMES) {
  const encoder = space === "vae" ? undefined : tinyEncoder();
  const images = new DiscImages(20);
  let hash = "";
  const result = await trainAutoencoder({
    config: tinyConfig(space), schedule: { images: 48, batchSize: 8, warmupSteps: 1, seed: 3 }, train: images, heldOut: images, encoder,
    device: "cpu", threads: 1, evaluations: 1,
    onCheckpoint: (state) => { hash = hashBytes(...flattenTree<HostTensor>(state, isHostTensor).flatMap((l) => [l.path, l.value.data])); },
  });
  console.log(space, hash, result.curve[0].psnr);
  await encoder?.dispose();
}
