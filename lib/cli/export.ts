/**
 * `novae export`: models as ONNX files for other programs.
 *
 * @module
 */
import type { Command } from "commander";
import { exportDecoder, readAutoencoder } from "novae/autoencoder/mod.ts";
import { exportTransformer, loadDiffusion } from "novae/diffusion/mod.ts";
import { exportEncoder, loadEncoder } from "novae/dino/mod.ts";
import type { ExportedModel } from "novae/engine/mod.ts";
import { readSafetensors, writeFileAtomic } from "novae/io/mod.ts";
import { WeightsError } from "novae/tensor/mod.ts";
import { parseCount } from "./_options.ts";

/** Adds the command to the program. */
export function registerExport(program: Command): void {
  program.command("export")
    .description(
      "write a model as an ONNX file of standard operators: an encoder, a decoder or a transformer",
    )
    .argument("<model>", "weights file of an encoder, an autoencoder or a diffusion transformer")
    .option("--batch <n>", "rows at a time; the shape is fixed", parseCount, 1)
    .option("--out <file>", "file to write; that of the model with .onnx if omitted")
    .action(async (path: string, { batch, out }: { batch: number; out?: string }) => {
      const { bytes, inputs, outputs, opset } = await exported(path, batch);
      const file = out ?? path.replace(/(\.safetensors)?$/, ".onnx");
      await writeFileAtomic(file, bytes);
      console.log(
        `${file}: ${(bytes.length / 1e6).toFixed(2)} MB, opset ${opset}, inputs ${
          inputs.join(", ")
        }, outputs ${outputs.join(", ")}`,
      );
    });
}

async function exported(path: string, batch: number): Promise<ExportedModel> {
  const { metadata: { format = "none" } } = await readSafetensors(path);
  if (format.startsWith("novae-encoder")) {
    const { config, params } = await loadEncoder(path);
    return exportEncoder(config, params, batch);
  }
  if (format.startsWith("novae-autoencoder")) return exportDecoder(await readAutoencoder(path), batch);
  if (format.startsWith("novae.diffusion")) return exportTransformer(await loadDiffusion(path), batch);
  throw new WeightsError(
    `Cannot export ${path}: it must hold an encoder, an autoencoder or a diffusion transformer, got format ${format}`,
  );
}
