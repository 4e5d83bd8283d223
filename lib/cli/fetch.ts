/**
 * `novae fetch`: pretrained weights from the model hub.
 *
 * @module
 */
import type { Command } from "commander";
import {
  BarDisplay,
  formatDuration,
  LineDisplay,
  type ProgressDisplay,
  RateClock,
} from "novae/experiment/mod.ts";
import {
  type DownloadProgress,
  fetchModelFiles,
  fetchModelWeights,
  type HubOptions,
  openWeights,
} from "novae/io/mod.ts";
import { sizeOf } from "novae/tensor/mod.ts";

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
  const shown = new ShownDownload(repo, Deno.stderr.isTerminal() ? new BarDisplay() : new LineDisplay());
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

/** A download on a display, which stays empty if nothing has to be downloaded. */
class ShownDownload {
  readonly #label: string;
  readonly #display: ProgressDisplay;
  readonly #clock = new RateClock(() => performance.now() / 1000);
  #start: number | null = null;

  constructor(repo: string, display: ProgressDisplay) {
    this.#label = `Fetch ${repo}`;
    this.#display = display;
  }

  update({ file, bytesDone, bytesTotal }: DownloadProgress): void {
    const begins = this.#start === null, start = this.#start ??= performance.now();
    const leftSec = this.#clock.leftSec(bytesDone, bytesTotal);
    const view = {
      label: this.#label,
      fraction: bytesTotal > 0 ? bytesDone / bytesTotal : 1,
      elapsedSec: (performance.now() - start) / 1000,
      leftSec,
      totalLeftSec: null,
      note: `${(bytesDone / 1e6).toFixed(1)} of ${(bytesTotal / 1e6).toFixed(1)} MB · ${file}`,
    };
    if (begins) this.#display.start(view);
    else this.#display.update(view);
  }

  finish(): void {
    if (this.#start === null) return;
    this.#display.finish(
      `${this.#label}: done in ${formatDuration((performance.now() - this.#start) / 1000)}`,
    );
  }

  clear(): void {
    this.#display.clear();
  }
}
