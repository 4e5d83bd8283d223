/**
 * `novae train encoder`: trains a DINO encoder by self-distillation and writes it with its record and log.
 *
 * @module
 */
import { join } from "node:path";
import { type Command, Option } from "commander";
import { resolveDevice } from "novae/engine/mod.ts";
import { loadDataset, loadFurtherPictures } from "novae/data/mod.ts";
import { countVitParams, DINO_RECIPES, trainDino, VIT_SIZES } from "novae/dino/mod.ts";
import { CheckpointStore } from "novae/experiment/mod.ts";
import { parseCount, parseNatural } from "./_options.ts";
import { type EncoderOptions, resolveEncoderConfig, startingPoint } from "./_encoder_config.ts";
import { knnLine, knnOfEncoder, standardised } from "./_encoder_features.ts";
import { announcement, logLine, makeFolderOf, writeResult } from "./_encoder_record.ts";
import { openMetrics } from "./_metrics.ts";

/** Adds `encoder` to the `train` command. */
export function registerTrainEncoder(program: Command): void {
  const recipes = Object.entries(DINO_RECIPES).map(([name, { about }]) => `  ${name.padEnd(17)} ${about}`);
  program.command("encoder")
    .description(
      "train a DINO encoder by self-distillation; no labels are used, except to score it on the way",
    )
    .addOption(
      new Option("--data <name>", "data set").choices(["solids", "cifar10", "folder"]).default("solids"),
    )
    .option("--path <path>", "where the data set lies; not needed for solids")
    .option("--train <n>", "images to learn from", parseCount, 20_000)
    .option("--test <n>", "held-out images for the k-NN score", parseCount, 2_000)
    .option("--pictures <n>", "pictures of each solid, so that crops come from different ones", parseCount, 1)
    .addOption(
      new Option("--recipe <name>", "how to train").choices(Object.keys(DINO_RECIPES)).default("small"),
    )
    .addOption(
      new Option("--size <name>", "named size; that of the recipe if omitted").choices(
        Object.keys(VIT_SIZES),
      ),
    )
    .option("--seed <n>", "decides weights, crops and masks", Number, 0)
    .option("--device <name>", "where to train", "auto")
    .option(
      "--workers <n>",
      "threads for the crops; the cores that training leaves free if omitted",
      parseNatural,
    )
    .option("--evaluations <n>", "how often the k-NN accuracy is measured", parseCount, 8)
    .option("--checkpoint-every <steps>", "steps between checkpoints", parseCount, 100)
    .option("--run <folder>", "folder of checkpoints and metrics", "experiments/runs/encoder")
    .option("--from <folder>", "start with the networks of another run, e.g. for a Gram stage")
    .option("--gram-teacher <file>", "encoder to hold similarities to, instead of the teacher at the start")
    .option("--out <path>", "result without extension: .safetensors, .json and .log", "encoder")
    .option("--no-standardise", "keep the features as they were trained, instead of mean 0 and deviation 1")
    .option("--set <key=value...>", "change the recipe, e.g. recipe.steps=2000 or vit.depth=4", [])
    .option("--stop-on-collapse", "end the training when it collapses, instead of a warning alone", false)
    .option("--resume", "go on from the newest checkpoint of the run folder", false)
    .addHelpText("after", `\nRecipes:\n${recipes.join("\n")}`)
    .action((options: EncoderOptions) => trainEncoder(options));
}

async function trainEncoder(options: EncoderOptions): Promise<void> {
  const { data: name, path, train, test, stopOnCollapse } = options;
  const splits = await loadDataset({ name, path, train, test });
  const pictures = await loadFurtherPictures({ name, train }, options.pictures - 1);
  const config = resolveEncoderConfig(options, splits), { steps, batchSize } = config.recipe;
  const choice = await resolveDevice(options.device);
  const store = new CheckpointStore(join(options.run, "checkpoints"), { config });
  await makeFolderOf(options.out);
  const { state, progress, resumed } = await startingPoint(store, config, options);
  const metrics = await openMetrics(options.run, resumed, "knn");
  const started = performance.now() - 1000 * progress.wallSec;
  const takeTime = () => progress.wallSec = (performance.now() - started) / 1000;
  const say = (line: string) => {
    console.log(line);
    progress.log.push(line);
  };
  if (resumed !== null) console.log(`going on from step ${resumed} of ${steps}`);
  else for (const line of await announcement(config, options.recipe, splits, choice)) say(line);
  const { encoder } = await trainDino({
    dataset: splits.train,
    pictures,
    ...config,
    device: choice.device,
    state,
    workers: options.workers,
    stopOnCollapse,
    onCollapse: (reason, step) => {
      say(`warning at step ${step}: the training has collapsed: ${reason}`);
      metrics.append({ kind: "collapse", step, reason });
    },
    logEverySteps: Math.max(1, Math.round(steps / 40)),
    onLog: (entry) => {
      say(logLine(entry));
      metrics.append({ kind: "train", step: entry.step, imagesSeen: entry.imagesSeen, ...entry.metrics });
    },
    checkpointEverySteps: options.checkpointEvery,
    onCheckpoint: async (trained, step) => {
      takeTime();
      await store.save(step, { weights: trained.teacher.vit, state: trained, meta: { ...progress } });
    },
    evaluateAtSteps: evenSteps(steps, options.evaluations),
    onEvaluate: async (trained, step) => {
      if (progress.knn.some((point) => point.step === step)) return;
      const scores = await knnOfEncoder(config.vit, trained, splits, choice.device);
      const point = { step, imagesSeen: step * batchSize, ...scores };
      progress.knn.push(point);
      metrics.append({ kind: "knn", ...point });
      say(`step ${step}: ${knnLine(point)}`);
    },
  });
  takeTime();
  if (!options.standardise) await writeResult(options, config, progress, encoder, choice);
  else {
    const weights = await standardised(config.vit, encoder, splits, choice.device);
    const scores = await knnOfEncoder(config.vit, weights, splits, choice.device);
    say(`standardised features: ${knnLine(scores)}`);
    await writeResult(options, config, { ...progress, standardised: scores }, weights, choice);
  }
  console.log(
    `${options.out}.safetensors: ${countVitParams(config.vit)} parameters, ${Math.round(progress.wallSec)} s`,
  );
}

/** `count` steps at equal distances, the last one being the end of the training. */
function evenSteps(steps: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => Math.round(steps * (i + 1) / count));
}
