import type { EncodeProgress } from "novae/data/mod.ts";
import {
  BarDisplay,
  formatDuration,
  LineDisplay,
  type ProgressDisplay,
  RateClock,
} from "novae/experiment/mod.ts";

/** Work on images on a display: how far, at which rate, how long still. */
export class ShownImages {
  readonly #label: string;
  readonly #done: string;
  readonly #display: ProgressDisplay = Deno.stderr.isTerminal() ? new BarDisplay() : new LineDisplay();
  readonly #start = performance.now();
  readonly #clock = new RateClock(() => performance.now() / 1000);
  /** The first report with images that were encoded now. */
  #first: { readonly made: number; readonly at: number } | null = null;
  #begun = false;

  /** `label` says what is done to which images, e.g. "Extract solids/train", and `done` what they are then. */
  constructor(label: string, done = "encoded") {
    this.#label = label;
    this.#done = done;
  }

  update({ done, total, made, note }: EncodeProgress): void {
    const now = performance.now(), began = this.#begun;
    let leftSec: number | null = null, rate = "";
    if (made > 0) {
      this.#first ??= { made, at: now };
      // What was there before says nothing of the rate.
      leftSec = this.#clock.leftSec(made, made + total - done);
      const gained = made - this.#first.made;
      if (gained > 0) rate = ` · ${(1000 * gained / (now - this.#first.at)).toFixed(1)} images/s`;
    }
    const view = {
      label: this.#label,
      fraction: done / total,
      elapsedSec: (now - this.#start) / 1000,
      leftSec,
      totalLeftSec: null,
      note: `${done} of ${total}${rate}`,
    };
    this.#begun = true;
    if (!began) this.#display.start(view);
    if (note !== undefined) {
      this.#display.finish(`${this.#label}: ${note}`);
      this.#display.start(view);
    } else this.#display.update(view);
  }

  finish({ made, wallSec }: { readonly made: number; readonly wallSec: number }): void {
    this.#display.finish(`${this.#label}: ${made} images ${this.#done} in ${formatDuration(wallSec)}`);
  }

  clear(): void {
    this.#display.clear();
  }
}
