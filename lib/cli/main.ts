/**
 * The command line. Each command has a file of its own that parses, calls the library and reports; errors that a
 * person can mend are printed in one line with exit status 2.
 *
 * @module
 */
import { Command, CommanderError } from "commander";
import { NovaeError } from "novae/tensor/mod.ts";
import { registerCompareAutoencoders } from "./compare_autoencoders.ts";
import { registerCompareDiffusion } from "./compare_diffusion.ts";
import { registerData } from "./data.ts";
import { registerDevices } from "./devices.ts";
import { registerEncode } from "./encode.ts";
import { registerExport } from "./export.ts";
import { registerExtract } from "./extract.ts";
import { registerFetch } from "./fetch.ts";
import { registerReconstruct } from "./reconstruct.ts";
import { registerReproduce } from "./reproduce.ts";
import { registerRuns } from "./runs.ts";
import { registerSample } from "./sample.ts";
import { registerTrainAutoencoder } from "./train_autoencoder.ts";
import { registerTrainClassifier } from "./train_classifier.ts";
import { registerTrainDiffusion } from "./train_diffusion.ts";
import { registerTrainEncoder } from "./train_encoder.ts";

/** Exit status of a command that was given something it cannot use. */
const EXIT_USAGE = 2;

/** Builds the command tree. */
export function buildProgram(): Command {
  const program = new Command("novae")
    .description("Latent diffusion without a VAE: train, probe and score latent spaces.")
    .version("0.1.0")
    .showHelpAfterError("(--help lists what can be given)")
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
  registerReproduce(program);
  registerData(program);
  const train = program.command("train").description("train one model");
  registerTrainEncoder(train);
  registerTrainClassifier(train);
  registerTrainAutoencoder(train);
  registerTrainDiffusion(train);
  registerSample(program);
  registerExport(program);
  registerFetch(program);
  registerExtract(program);
  registerEncode(program);
  registerReconstruct(program);
  const compare = program.command("compare").description("compare models, each trained with several seeds");
  registerCompareAutoencoders(compare);
  registerCompareDiffusion(compare);
  registerRuns(program);
  registerDevices(program);
  return program;
}

/** Runs a command line and returns the exit status. */
export async function main(argv: readonly string[]): Promise<number> {
  try {
    await buildProgram().parseAsync([...argv], { from: "user" });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return reportUsage(error);
    if (!(error instanceof NovaeError)) throw error;
    console.error(`novae: ${error.message}`);
    return EXIT_USAGE;
  }
}

function reportUsage(error: CommanderError): number {
  if (error.exitCode === 0) return 0;
  if (error.code === "commander.help") return EXIT_USAGE;
  console.error(`novae: ${error.message.replace(/^error: /, "").replaceAll("\n", " ")}`);
  return EXIT_USAGE;
}

if (import.meta.main) Deno.exit(await main(Deno.args) || Deno.exitCode);
