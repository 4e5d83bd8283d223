/**
 * `novae train classifier`: the classifier whose features the Fréchet distances use.
 *
 * @module
 */
import { type Command, Option } from "commander";
import { dirname } from "node:path";
import { type DatasetName, loadDataset } from "novae/data/mod.ts";
import { type DeviceName, resolveDevice } from "novae/engine/mod.ts";
import { countClassifierParams, saveClassifier, trainFeatureClassifier } from "novae/evaluation/mod.ts";
import { describeEnvironment } from "novae/experiment/mod.ts";
import { hashFile, writeFileAtomic, writeJson } from "novae/io/mod.ts";
import { ConfigError } from "novae/tensor/mod.ts";
import { parseCount } from "./_options.ts";

interface TrainClassifierFlags {
  data: DatasetName;
  path?: string;
  train?: number;
  test?: number;
  images: number;
  batchSize: number;
  learningRate: number;
  seed: number;
  device: DeviceName;
  out: string;
}

/** Adds `classifier` to the group of training commands. */
export function registerTrainClassifier(program: Command): void {
  program.command("classifier")
    .description("train the classifier whose features score samples; writes the weights, a .json and a .log")
    .addOption(
      new Option("--data <name>", "data set").choices(["solids", "cifar10", "folder"]).default("solids"),
    )
    .option("--path <path>", "where the data set lies; not needed for solids")
    .option("--train <n>", "training images to use", parseCount)
    .option("--test <n>", "held-out images to use", parseCount)
    .option("--images <n>", "images to train on, repeats counted", parseCount, 100_000)
    .option("--batch-size <n>", "images an update", parseCount, 64)
    .option("--learning-rate <x>", "highest learning rate", Number, 3e-3)
    .option("--seed <n>", "seed of weights, order and augmentation", Number, 0)
    .option("--device <name>", "where to train", "auto")
    .option("--out <file>", "weights to write", "data/models/classifier-solids.safetensors")
    .action(trainClassifier);
}

async function trainClassifier(flags: TrainClassifierFlags): Promise<void> {
  const { data: name, path, images, batchSize, learningRate, seed, out } = flags;
  if (!out.endsWith(".safetensors")) {
    throw new ConfigError(`Cannot train classifier: --out must end in .safetensors, got ${out}`);
  }
  await Deno.mkdir(dirname(out), { recursive: true });
  const lines: string[] = [], started = performance.now();
  const say = (line: string) => {
    lines.push(line);
    console.log(line);
  };
  const device = await resolveDevice(flags.device);
  const environment = await describeEnvironment(device, seed);
  const { train, test } = await loadDataset({ name, path, train: flags.train, test: flags.test, seed });
  say(
    `${train.size} training and ${test.size} held-out images of ${name}, on ${device.device} (${device.reason})`,
  );
  const trainingStarted = performance.now();
  const result = await trainFeatureClassifier({
    train,
    test,
    images,
    batchSize,
    learningRate,
    seed,
    device: flags.device,
    evaluations: 10,
    logEverySteps: 50,
    onLog: ({ imagesSeen, metrics, imagesPerSec, leftSec }) =>
      say(
        `${imagesSeen} images: loss ${metrics.loss.toFixed(3)}, accuracy ${
          percent(metrics.accuracy)
        } on augmented ` +
          `images, ${imagesPerSec.toFixed(0)} images/s, ${leftSec.toFixed(0)} s left`,
      ),
    onEvaluate: ({ imagesSeen, accuracy }) =>
      say(`${imagesSeen} images: held-out accuracy ${percent(accuracy)}`),
  });
  const trainingSec = (performance.now() - trainingStarted) / 1000;
  await saveClassifier(out, result.config, result.params, result.record);
  const sha256 = await hashFile(out), beside = out.replace(/\.safetensors$/, "");
  say(
    `${percent(result.record.accuracy)} of ${test.size} held-out images after ${
      trainingSec.toFixed(0)
    } s; ${out}`,
  );
  await writeFileAtomic(`${beside}.log`, lines.join("\n") + "\n");
  await writeJson(`${beside}.json`, {
    command: ["deno task novae", ...Deno.args].join(" "),
    config: result.config,
    parameters: countClassifierParams(result.params),
    training: { images, batchSize, learningRate, seed },
    record: result.record,
    curve: result.curve,
    hash: result.hash,
    sha256,
    trainingSec,
    wallSec: (performance.now() - started) / 1000,
    environment,
  });
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
