import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { loadAutoencoder } from "novae/autoencoder/mod.ts";
import { countParameters, loadDiffusion } from "novae/diffusion/mod.ts";
import { DinoEncoder } from "novae/dino/mod.ts";
import { hashFile } from "novae/io/mod.ts";

const file = (name: string) => fileURLToPath(new URL(`../data/models/${name}`, import.meta.url));

Deno.test("the shipped transformer is what its record describes and belongs to the shipped autoencoder", async () => {
  const path = file("dit-svg-solids.safetensors");
  const { sha256, config, parameters, record } = JSON.parse(
    await Deno.readTextFile(file("dit-svg-solids.json")),
  );
  assert.equal(await hashFile(path), sha256);
  assert.ok((await Deno.stat(path)).size < 3e6);
  const encoder = await DinoEncoder.load(file("encoder-solids.safetensors"), { device: "cpu" });
  const svg = await loadAutoencoder(file("ae-svg-solids.safetensors"), { encoder, device: "cpu" });
  assert.equal(svg.hash, record.autoencoder);
  const model = await loadDiffusion(path, { config, space: "svg", autoencoder: svg.hash });
  assert.equal(countParameters(model.config).learned, parameters);
  assert.equal(model.metadata.datasetHash, record.datasetHash);
  for (const key of ["mean", "std"] as const) {
    // Stored in float16, which keeps 11 bits.
    svg.stats[key].forEach((value, i) =>
      assert.ok(Math.abs(model.latents[key][i] - value) <= Math.abs(value) / 2 ** 11 + 1e-7)
    );
  }
  await svg.dispose();
  await encoder.dispose();
});
