import {
  BarDisplay,
  formatDuration,
  LineDisplay,
  type ProgressDisplay,
  RateClock,
} from "novae/experiment/mod.ts";
import type { DownloadProgress } from "novae/io/mod.ts";

/** A download on a display, which stays empty if nothing has to be downloaded. */
export class ShownDownload {
  readonly #label: string;
  readonly #display: ProgressDisplay = Deno.stderr.isTerminal() ? new BarDisplay() : new LineDisplay();
  readonly #clock = new RateClock(() => performance.now() / 1000);
  #start: number | null = null;

  constructor(repo: string) {
    this.#label = `Fetch ${repo}`;
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
