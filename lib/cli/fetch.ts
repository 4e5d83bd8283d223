/**
 * `novae fetch`: pretrained weights from the model hub.
 *
 * @module
 */
import type { Command } from "commander";
import { fetchModelFiles, fetchModelWeights, type HubOptions, openWeights } from "novae/io/mod.ts";
import { sizeOf } from "novae/tensor/mod.ts";
import { ShownDownload } from "./_shown_download.ts";

interface FetchOptions {
  revision: string;
  cache?: string;
  offline?: true;
}

/** Adds the command to the program. */
export function registerFetch(program: Command): void {
  program.command("fetch")
    .description("bring the weights of a model on the Hugging Face hub, or other files of it, into the cache")
    .argument("<repository>", "e.g. facebook/dinov2-small")
    .argument("[files...]", "files of the repository; config.json and the weights if omitted")
    .option("--revision <name>", "branch, tag or commit", "main")
    .option("--cache <folder>", "folder of the cache; that of HF_HUB_CACHE or HF_HOME if omitted")
    .option("--offline", "use the cache alone, as with HF_HUB_OFFLINE=1")
    .action(fetchFiles);
}

async function fetchFiles(repo: string, names: string[], options: FetchOptions): Promise<void> {
  const shown = new ShownDownload(repo);
  const { revision, cache: cacheDir, offline } = options;
  const hub: HubOptions = { revision, cacheDir, offline, onProgress: (progress) => shown.update(progress) };
  try {
    const { commit, folder, files } = names.length > 0
      ? await fetchModelFiles(repo, names, hub)
      : await fetchModelWeights(repo, { ...hub, alongside: ["config.json"] });
    shown.finish();
    console.log(`${repo} at ${commit}`);
    for (const path of files.values()) console.log(path);
    if (names.length === 0) console.log(await weightsLine(folder));
  } finally {
    shown.clear();
  }
}

async function weightsLine(folder: string): Promise<string> {
  const tensors = [...(await openWeights(folder)).tensors.values()];
  const numbers = tensors.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  return `${tensors.length} tensors, ${(numbers / 1e6).toFixed(1)} M numbers`;
}
